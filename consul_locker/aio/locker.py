"""`Locker` for asyncio: the same names and meanings as in `consul_locker`, on one event loop.

What can wait is a coroutine; what cannot wait is a plain function (`create`, `held`, `state`, `stats`, `start`, and a
lease's `valid`, `check`, `guard`). The only threads are one while a host's name is looked up, and that of an embedded
agent. A factory belongs to the loop on which it makes its first Locker.

Observers of signals may be plain functions or coroutine functions. They run one after another, in a task of the
factory; a plain function blocks the loop while it runs, so it should be short.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

from ..config.options import LockerOptions
from ..core import calls
from ..core.calls import Holder, HoldMany, Info, Lock, LockCall, LockMany, Stop
from ..keys import LockId
from ..models import LockInfo, SessionInfo, StateName
from ..runtime.factory import CLOSED
from ..runtime.holding import AsyncHolding
from ..runtime.io_loop import IoLoop
from ..runtime.locker import BaseLocker, Hold
from .lease import Lease
from .loop import LoopFactory, ends
from .observers import ObserverTask, refuse_wait
from .runtime import AsyncRuntime

__all__ = [
    "Locker",
]


class Locker(BaseLocker[Lease]):
    """Hands out locks through one session of Consul; made by `LockerFactory.create`. Only for use on its event loop.

    See `consul_locker.Locker` for what everything means; here it is awaited. There is no ``submit_lock`` and
    no ``submit_release``: use a task, ``asyncio.create_task(locker.lock(id))``. Every method raises RuntimeError if no
    event loop runs, or another one than that of the factory.

    Attributes:
        fsm: the Locker as an `Fsm`, for embedding, inspection and drawing; see `consul_locker.runtime.locker_fsm`.
    """

    _full_name = "consul_locker.aio.Locker"
    _caller = "task"
    _factory: LoopFactory[Any]
    _runtime: AsyncRuntime

    def __init__(
        self, factory: LoopFactory[Any], options: LockerOptions, io_loop: IoLoop, delivery: ObserverTask
    ) -> None:
        super().__init__(factory, options, Lease)
        self._runtime = AsyncRuntime(self._make_core, self, factory._clock, io_loop, delivery)
        self.fsm = self._fsm_view(self._as_task(self.lock), self._as_task(self.release), self._as_task(self.stop))
        self._runtime.begin()

    @staticmethod
    def _as_task(method: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., asyncio.Task[Any]]:
        return lambda *args, **options: asyncio.get_running_loop().create_task(method(*args, **options))

    # ---------------------------------------------------------------------------------------- locking

    async def lock(self, id: LockId, *, wait: float | None = 0.0, timeout: float | None = None) -> Lease:
        """Get a lock, shared among the callers of this Locker. As `consul_locker.Locker.lock`."""
        found = self._cached(id)
        if found is not None:
            return found
        lease: Lease = await self._ask(self._lock_call(Lock, (id,), wait, timeout))
        return lease

    async def lock_many(
        self, ids: Iterable[LockId], *, wait: float | None = 0.0, timeout: float | None = None
    ) -> list[Lease]:
        """Get several locks, all or none. As `consul_locker.Locker.lock_many`."""
        given = self._ids(ids)
        if not given:
            return []
        return self._in_order(await self._ask(self._lock_call(LockMany, given, wait, timeout)), given)

    def hold(self, id: LockId, *, wait: float | None = 0.0, timeout: float | None = None) -> AsyncHolding[Lease]:
        """Hold a lock while the body of an ``async with`` runs. As `consul_locker.Locker.hold`."""
        return AsyncHolding(lambda: self._hold_one(id, wait, timeout), f"locker.hold({id!r})", "async with")

    @asynccontextmanager
    async def _hold_one(self, id: Any, wait: Any, timeout: Any) -> AsyncIterator[Lease]:
        async with self._holding(calls.Hold, (id,), wait, timeout) as leases:
            yield leases[0]

    def hold_many(
        self, ids: Iterable[LockId], *, wait: float | None = 0.0, timeout: float | None = None
    ) -> AsyncHolding[list[Lease]]:
        """Hold several locks, all or none. As `consul_locker.Locker.hold_many`."""
        given = self._ids(ids)  # once: they may come from a generator
        return AsyncHolding(
            lambda: self._holding(HoldMany, given, wait, timeout), f"locker.hold_many({given!r})", "async with"
        )

    @asynccontextmanager
    async def _holding(
        self, kind: type[LockCall], ids: Iterable[Any], wait: Any, timeout: Any
    ) -> AsyncIterator[list[Lease]]:
        hold = Hold(asyncio.current_task())
        call = self._hold_call(hold, kind, ids, wait, timeout)
        if not call.ids:
            yield []
            return
        leases = self._begin_hold(hold, await self._ask(call))
        try:
            yield leases
        except BaseException as error:
            if isinstance(error, GeneratorExit) and not self._factory._on_own_loop():
                self._factory._call_on_loop(self._runtime.step, self._end_hold(hold, leases))
            else:
                await self._leave(hold, leases, error)
            raise
        else:
            await self._leave(hold, leases, None)

    async def _leave(self, hold: Hold, leases: list[Lease], error: BaseException | None) -> None:
        if self._factory._forked:
            return  # it is the parent process's hold, and goes on there (rule 10)
        with self._leaving(hold, leases, error) as call:
            await self._ask(call)

    async def release(self, id: LockId) -> bool:
        """Give a lock back. As `consul_locker.Locker.release`."""
        released: bool = await self._ask(self._release_call(id))
        return released

    async def release_all(self) -> int:
        """Give back every lock that `lock` and `lock_many` got. As `consul_locker.Locker.release_all`."""
        released: int = await self._ask(self._release_all_call())
        return released

    async def guarded(self, lease: Lease, operations: Iterable[Mapping[str, Any]]) -> list[LockInfo]:
        """Run your own KV operations if the lease is still valid in Consul. As `consul_locker.Locker.guarded`."""
        return self._own_answers(lease, await self._ask(self._guarded_call(lease, operations)))

    # ------------------------------------------------------------------------------------------ life

    async def stop(self, timeout: float | None = None) -> None:
        """Destroy the session, and so free every lock. As `consul_locker.Locker.stop`.

        A session that could not be destroyed in time is tried again in the background until the factory is closed.
        """
        limit = self._factory._stop_limit(timeout)
        self._factory._check()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit
        await self._ask(Stop(timeout=limit))
        # A session that is being created, or whose destroy has no answer yet, must not be left behind.
        while self.state == "stopped" and loop.time() < deadline:
            requests = self._runtime.requests()
            if not requests:
                break
            await asyncio.wait(requests, timeout=deadline - loop.time())
        # After this all tasks have ended, so the loop may be closed.
        await ends(self._runtime.ending(), max(0.0, deadline - loop.time()))

    async def __aenter__(self) -> Locker:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._factory._forked and (kind is not GeneratorExit or self._factory._on_own_loop()):
            await self.stop()

    async def wait_for_state(self, state: StateName, timeout: float | None = None) -> bool:
        """Wait until the Locker is in a state, even if only for a moment. As `consul_locker.Locker.wait_for_state`.

        Raises:
            RuntimeError: the factory is closed, now or during the wait: the Locker stays stopped.
        """
        limit = self._wait_limit(state, timeout)
        if self.state == state:
            return True
        refuse_wait()
        if self._factory._over:
            raise RuntimeError(CLOSED)
        reached = await self._runtime.state_waits.wait(state, limit)
        if reached is False:
            raise RuntimeError(CLOSED)
        return reached is not None

    # ------------------------------------------------------------------------------------- questions

    async def info(self, id: LockId) -> LockInfo | None:
        """The key of a lock as Consul has it. As `consul_locker.Locker.info`."""
        info: LockInfo | None = await self._ask(self._question(Info, id))
        return info

    async def holder(self, id: LockId) -> LockInfo | None:
        """Who has a lock, with the holder's session. As `consul_locker.Locker.holder`."""
        info: LockInfo | None = await self._ask(self._question(Holder, id))
        return info

    async def session_info(self, session_id: str | None = None) -> SessionInfo | None:
        """A session as Consul has it. As `consul_locker.Locker.session_info`."""
        info: SessionInfo | None = await self._ask(self._session_question(session_id))
        return info
