"""LockerFactory and Locker for asyncio: the same names and meanings as in `consul_locker`, on one event loop.

What can wait is a coroutine; what cannot stays plain (`create`, `held`, `state`, `stats`, `start`, and a
lease's `valid`, `check`, `guard`). There is no thread but one while a host's name is looked up, and that of an
embedded agent. A factory belongs to the loop on which it makes its first Locker.

Observers of signals may be plain functions or coroutine functions. They run one after another, in a task
of the factory; a plain function blocks the loop while it runs, so it should be short.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from .aio_carrying import AsyncCarrying
from .aio_delivery import AsyncDelivery, refuse_inside
from .config import LockerOptions
from .core.messages import Call
from .delivery import PATIENCE
from .exchange import Exchange
from .face import BaseLocker, Hold
from .factory import CLOSED, BaseFactory
from .types import BaseLease, LockInfo, SessionInfo, StateName, no_context_manager, seconds

__all__ = ["Lease", "Locker", "LockerFactory"]


class Lease(BaseLease):
    """A lease of the asyncio Locker. See `BaseLease`."""

    __slots__ = ("_loop", "_waiters")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._loop = asyncio.get_running_loop()
        self._waiters: set[asyncio.Future[None]] = set()

    async def wait_lost(self, timeout: float | None = None) -> str | None:
        """Wait until the lease is over.

        Args:
            timeout: how long to wait, in seconds; None waits as long as it takes.

        Returns:
            The reason it ended, or None when the time was over first.

        Raises:
            ConfigurationError: ``timeout`` cannot be meant.
            RuntimeError: the lease is not over yet, and this is an observer or another event loop.
        """
        limit = seconds("timeout", timeout)
        if self.live:
            if asyncio.get_running_loop() is not self._loop:
                raise RuntimeError("a lease belongs to the event loop of its Locker; wait for its end there")
            refuse_inside()
            waiter = self._loop.create_future()
            self._waiters.add(waiter)
            try:
                await asyncio.wait({waiter}, timeout=limit)
            finally:
                self._waiters.discard(waiter)
        return self.reason

    if not TYPE_CHECKING:  # pragma: no branch - to a type checker it is no context manager, and its words are enough

        async def __aenter__(self, *_: object) -> NoReturn:
            raise TypeError(no_context_manager(self, "async with"))

        __aexit__ = __aenter__

    def wake(self) -> None:
        """For the runtime: set everyone going who waits in `wait_lost`."""
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            waiter.set_result(None)


class Locker(BaseLocker[Lease]):
    """Hands out locks through one session of Consul; made by `LockerFactory.create`. For its event loop only.

    See `consul_locker.Locker` for what everything means; here it is awaited. Only threads have ``submit_lock`` and
    ``submit_release``: here a task does it, ``asyncio.create_task(locker.lock(id))``. What is called without a running
    event loop, or on another one than before, raises RuntimeError.

    Attributes:
        fsm: the Locker as an `Fsm`, for embedding, inspection and drawing; see `consul_locker.view`.
    """

    _caller = "task"
    _factory: LockerFactory
    _runtime: AsyncCarrying

    def __init__(self, factory: LockerFactory, exchange: Exchange, options: LockerOptions) -> None:
        super().__init__(factory, options, Lease)
        self._runtime = AsyncCarrying(self._core, self, factory._clock, exchange, factory._delivery)
        self.fsm = self._view(self._as_task(self.lock), self._as_task(self.release), self._as_task(self.stop))
        self._runtime.begin()

    @staticmethod
    def _as_task(method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., asyncio.Task[Any]]:
        return lambda *args, **options: asyncio.get_running_loop().create_task(method(*args, **options))

    # ---------------------------------------------------------------------------------------- locking

    async def lock(self, id: str | int, *, wait: float | None = 0.0, timeout: float | None = None) -> Lease:
        """Get a lock, shared among the callers of this Locker. As `consul_locker.Locker.lock`."""
        found = self._cached(id)
        if found is not None:
            return found
        lease: Lease = await self._ask(self._lock_call("lock", (id,), wait, timeout))
        return lease

    async def lock_many(
        self, ids: Iterable[str | int], *, wait: float | None = 0.0, timeout: float | None = None
    ) -> list[Lease]:
        """Get several locks, all or none. As `consul_locker.Locker.lock_many`."""
        given = self._ids(ids)
        if not given:
            return []
        return self._in_order(await self._ask(self._lock_call("lock_many", given, wait, timeout)), given)

    @asynccontextmanager
    async def hold(
        self, id: str | int, *, wait: float | None = 0.0, timeout: float | None = None
    ) -> AsyncIterator[Lease]:
        """Hold a lock while the body of an ``async with`` runs. As `consul_locker.Locker.hold`."""
        async with self._holding("hold", (id,), wait, timeout) as leases:
            yield leases[0]

    @asynccontextmanager
    async def hold_many(
        self, ids: Iterable[str | int], *, wait: float | None = 0.0, timeout: float | None = None
    ) -> AsyncIterator[list[Lease]]:
        """Hold several locks, all or none. As `consul_locker.Locker.hold_many`."""
        async with self._holding("hold_many", self._ids(ids), wait, timeout) as leases:
            yield leases

    @asynccontextmanager
    async def _holding(self, verb: str, ids: Iterable[Any], wait: Any, timeout: Any) -> AsyncIterator[list[Lease]]:
        hold = Hold(asyncio.current_task())
        call = self._hold_call(hold, verb, ids, wait, timeout)
        if not call.ids:
            yield []
            return
        leases = self._begin_hold(hold, await self._ask(call))
        try:
            yield leases
        except BaseException as error:
            if isinstance(error, GeneratorExit) and not self._factory._runs_here():
                self._factory._later(self._runtime.step, self._end_hold(hold, leases))
            else:
                await self._leave(hold, leases, error)
            raise
        else:
            await self._leave(hold, leases, None)

    async def _leave(self, hold: Hold, leases: list[Lease], error: BaseException | None) -> None:
        if self._factory._poisoned:
            return  # the parent's hold, which goes on there (rule 10)
        with self._leaving(hold, leases, error) as call:
            await self._ask(call)

    async def release(self, id: str | int) -> bool:
        """Give a lock back. As `consul_locker.Locker.release`."""
        released: bool = await self._ask(self._release_call(id))
        return released

    async def release_all(self) -> int:
        """Give back every lock that `lock` and `lock_many` got. As `consul_locker.Locker.release_all`."""
        released: int = await self._ask(self._release_all_call())
        return released

    async def guarded(self, lease: Lease, operations: Iterable[Mapping[str, Any]]) -> list[LockInfo]:
        """Run KV operations of one's own while the lease stands. As `consul_locker.Locker.guarded`."""
        return self._own_answers(lease, await self._ask(self._guarded_call(lease, operations)))

    # ------------------------------------------------------------------------------------------ life

    async def stop(self, timeout: float | None = None) -> None:
        """Destroy the session, and so free every lock. As `consul_locker.Locker.stop`.

        What could not be destroyed in time is tried again in the background until the factory is closed.
        """
        limit = self._factory._stop_limit(timeout)
        self._factory._check()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit
        await self._ask(Call("stop", timeout=limit))
        # A session that is just being created, or whose destruction was not answered yet, must not be left behind.
        while self.state == "stopped" and loop.time() < deadline:
            requests = self._runtime.requests()
            if not requests:
                break
            await asyncio.wait(requests, timeout=deadline - loop.time())
        # A loop that is closed after this finds no task that has not ended.
        await _ends(self._runtime.ending(), max(0.0, deadline - loop.time()))

    async def __aenter__(self) -> Locker:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._factory._poisoned and (kind is not GeneratorExit or self._factory._runs_here()):
            await self.stop()

    async def wait_for_state(self, state: StateName, timeout: float | None = None) -> bool:
        """Wait until the Locker is in a state, be it for a moment; False when the time (in seconds) was over first.

        Raises:
            RuntimeError: the factory is closed, or was meanwhile: the Locker is stopped for good.
        """
        limit = self._wait_limit(state, timeout)
        if self.state == state:
            return True
        refuse_inside()
        if self._factory._over:
            raise RuntimeError(CLOSED)
        reached = await self._runtime.reach(state, limit)
        if reached is False:
            raise RuntimeError(CLOSED)
        return reached is not None

    # ------------------------------------------------------------------------------------- questions

    async def info(self, id: str | int) -> LockInfo | None:
        """The key of a lock as Consul has it. As `consul_locker.Locker.info`."""
        info: LockInfo | None = await self._ask(self._question("info", id))
        return info

    async def holder(self, id: str | int) -> LockInfo | None:
        """Who has a lock, with the holder's session. As `consul_locker.Locker.holder`."""
        info: LockInfo | None = await self._ask(self._question("holder", id))
        return info

    async def session_info(self, session_id: str | None = None) -> SessionInfo | None:
        """A session as Consul has it. As `consul_locker.Locker.session_info`."""
        info: SessionInfo | None = await self._ask(self._session_question(session_id))
        return info


async def _ends(tasks: Collection[asyncio.Task[Any]], timeout: float | None = None) -> None:
    """Wait until tasks have ended, but no longer than so many seconds."""
    if tasks:
        await asyncio.wait(tasks, timeout=timeout)


class LockerFactory(BaseFactory[Locker]):
    """Makes Lockers that use one Consul agent; an async context manager.

    Its arguments are those of `consul_locker.LockerFactory`.
    """

    _full_name = "consul_locker.aio.LockerFactory"

    def _prepare(self) -> None:
        self._delivery = AsyncDelivery()
        self._exchange: Exchange | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing: asyncio.Task[None] | None = None

    _awaits_observers = True

    def _make(self, options: LockerOptions) -> Locker:
        self._check(open=True)
        if self._exchange is None:
            self._exchange = Exchange(self._client, self._encoder, self._clock, self._client.max_connections)
        locker = Locker(self, self._exchange, options)
        self._lockers.add(locker)
        return locker

    async def close(self, timeout: float | None = None) -> None:
        """Stop the Lockers and close the connections. Twice does no harm.

        Nothing is left on the loop: a session that could not be destroyed until then expires by its TTL.

        Args:
            timeout: the limit on the stops together, in seconds; None: twice the limit of a request.

        Raises:
            ConfigurationError: ``timeout`` cannot be meant.
            RuntimeError: it was called inside an observer, or on another event loop than the factory's.
        """
        limit = self._stop_limit(timeout)
        if self._poisoned:  # it is the parent's (rule 10)
            return
        refuse_inside()
        while not self._over:
            self._check()
            if self._closing is None or self._closing.done():
                self._closed = True
                # A task of its own: a close that is cancelled goes on, so that no session and no socket is left behind.
                self._closing = asyncio.get_running_loop().create_task(self._close(limit), name="consul_locker-close")
            await asyncio.wait({self._closing})
            if not self._closing.cancelled():  # a stranger who cancels it before it begins is no reason to leave it so
                self._closing.result()

    async def _close(self, limit: float) -> None:
        lockers = list(self._lockers)
        stops = [asyncio.get_running_loop().create_task(locker.stop(limit)) for locker in lockers]
        try:
            await _ends(stops, limit + PATIENCE)
        finally:
            for stop in stops:
                stop.cancel()  # one that goes on has its limit on a clock that stands still, or this was cancelled
            await _ends(stops)
            if self._exchange is not None:
                await self._exchange.close()
            await self._delivery.close()
            if self._own_agent is not None:
                self._own_agent.close()
            self._over = True
            for locker in lockers:
                locker._runtime.end()

    def _check(self, open: bool = False) -> None:
        """Refuse also what comes from outside an event loop, or from another loop than before."""
        super()._check(open)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "no event loop is running; call this inside a coroutine, or use consul_locker without .aio"
            ) from None
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("a factory and its Lockers belong to one event loop; make a factory for each loop")

    def _runs_here(self) -> bool:
        """Whether its loop runs this code. It does not when a coroutine is thrown away (GeneratorExit) because its
        loop was closed under it, in a forked child, or by the garbage collector in some thread: nothing can be
        waited for there, and an exception would reach nobody."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _later(self, step: Callable[..., object], *args: object) -> None:
        """Have the loop do something, from whatever thread, unless it was closed or is the parent's."""
        if self._loop is not None and not self._loop.is_closed() and not self._poisoned:
            self._loop.call_soon_threadsafe(step, *args)

    async def __aenter__(self) -> LockerFactory:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not GeneratorExit or self._runs_here():
            await self.close()

    def __del__(self) -> None:
        if getattr(self, "_exchange", None) is not None and not self._over and not self._poisoned:
            text = f"{self!r} was not closed; use 'async with' or await close()"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)
