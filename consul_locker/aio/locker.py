"""`Locker` for asyncio: the same names and meanings as in `consul_locker`, on one event loop.

What can wait is a coroutine; what cannot wait is a plain function (`create`, `held`, `state`, `stats`, `start`, and a
lease's `valid`, `check`, `guard`). The only threads are one while a host's name is looked up, and that of an embedded
agent. A factory belongs to the loop on which it makes its first Locker.

Observers of signals may be plain functions or coroutine functions. They run one after another, in a task of the
factory; a plain function blocks the loop while it runs, so it should be short.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import Any

from ..arguments import seconds
from ..config.options import LockerOptions
from ..core.calls import Holder, Info, Lock, LockMany, Stop, Waiters
from ..keys import LockId
from ..models import LockInfo, SessionInfo, StateName
from ..runtime.factory import CLOSED
from ..runtime.io_loop import IoLoop
from .holds import Holds
from .lease import Lease
from .loop import LoopFactory, ends
from .observers import ObserverTask, refuse_wait
from .runtime import AsyncRuntime

__all__ = [
    "Locker",
]


class Locker(Holds):
    """Hands out locks through one session of Consul; made by `LockerFactory.create`. Only for use on its event loop.

    See `consul_locker.Locker` for what everything means; here it is awaited. There is no ``submit_lock`` and
    no ``submit_release``: use a task, ``asyncio.create_task(locker.lock(id))``. Every method raises RuntimeError if no
    event loop runs, or another one than that of the factory.
    """

    _full_name = "consul_locker.aio.Locker"
    #: While Consul works on one, the other is encoded, sent and read: with 10 and 100 tasks 1.6 times the locks
    #: (measured). Threads do that by themselves, and two would only make their transactions smaller.
    _max_in_flight = 2

    def __init__(
        self, factory: LoopFactory[Any], options: LockerOptions, io_loop: IoLoop, delivery: ObserverTask
    ) -> None:
        super().__init__(factory, options, Lease)
        self._runtime = AsyncRuntime(self._core_maker(), self, factory._clock, io_loop, delivery)
        self._factory._attach(self)
        self._runtime.begin()

    def _inputs(self) -> dict[str, Callable[..., Any]]:
        task = self._as_task
        return {"lock": task(self.lock), "release": task(self.release), "stop": task(self.stop)}

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

    async def drain(self, timeout: float | None = None) -> bool:
        """Wait until every lock is given back, then stop. As `consul_locker.Locker.drain`."""
        limit = seconds("timeout", timeout)
        self._use()
        refuse_wait()
        loop = asyncio.get_running_loop()
        end = None if limit is None else loop.time() + limit
        with self._no_new_locks():
            while (lease := self._held_one()) is not None:
                if await lease.wait_lost(None if end is None else max(0.0, end - loop.time())) is None:
                    break
            await self.stop()
        return lease is None

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

    async def waiters(self, id: LockId) -> list[LockInfo]:
        """Who waits for a lock in the queue of ``fair=True`` Lockers. As `consul_locker.Locker.waiters`."""
        queue: list[LockInfo] = await self._ask(self._question(Waiters, id))
        return queue

    async def session_info(self, session_id: str | None = None) -> SessionInfo | None:
        """A session as Consul has it. As `consul_locker.Locker.session_info`."""
        info: SessionInfo | None = await self._ask(self._session_question(session_id))
        return info
