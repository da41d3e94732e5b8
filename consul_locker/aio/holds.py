"""`hold` and `hold_many` of a Locker on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from ..core import calls
from ..core.calls import HoldMany, LockCall
from ..keys import LockId
from ..runtime.holding import AsyncHolding, check_no_function
from ..runtime.holds import BaseHolds, Hold
from .lease import Lease
from .loop import LoopFactory
from .losses import CancelOnLoss
from .runtime import AsyncRuntime

__all__ = ["Holds"]


class Holds(BaseHolds[Lease]):
    """The part of a Locker that holds."""

    _caller = "task"
    _factory: LoopFactory[Any]
    _runtime: AsyncRuntime

    def hold(
        self,
        id: LockId,
        *,
        wait: float | None = 0.0,
        timeout: float | None = None,
        cancel_on_loss: bool = False,
    ) -> AsyncHolding[Lease]:
        """Hold a lock while the body of an ``async with`` runs. As `consul_locker.Locker.hold`, but for the loss.

        Args:
            id, wait, timeout: as for `lock`.
            cancel_on_loss: cancel the body as soon as it is known that the lease is lost; the ``async with`` then
                raises `LockLost`. Without it the body runs to its end before that. A task that is cancelled from
                outside as well ends with its ``CancelledError`` (on Python 3.10 not if that comes in the same round of
                the event loop, after the loss).
        """
        check_no_function(id)
        return AsyncHolding(
            lambda: self._hold_one(id, wait, timeout, cancel_on_loss), f"locker.hold({id!r})", "async with"
        )

    @asynccontextmanager
    async def _hold_one(self, id: Any, wait: Any, timeout: Any, cancel_on_loss: bool) -> AsyncIterator[Lease]:
        async with self._holding(calls.Hold, (id,), wait, timeout, cancel_on_loss) as leases:
            yield leases[0]

    def hold_many(
        self,
        ids: Iterable[LockId],
        *,
        wait: float | None = 0.0,
        timeout: float | None = None,
        cancel_on_loss: bool = False,
    ) -> AsyncHolding[list[Lease]]:
        """Hold several locks, all or none. As `consul_locker.Locker.hold_many`; ``cancel_on_loss`` as for `hold`."""
        given = self._ids(ids)  # once: they may come from a generator
        return AsyncHolding(
            lambda: self._holding(HoldMany, given, wait, timeout, cancel_on_loss),
            f"locker.hold_many({given!r})",
            "async with",
        )

    @asynccontextmanager
    async def _holding(
        self, kind: type[LockCall], ids: Iterable[Any], wait: Any, timeout: Any, cancel_on_loss: bool
    ) -> AsyncIterator[list[Lease]]:
        hold = Hold(asyncio.current_task())
        call = self._hold_call(hold, kind, ids, wait, timeout)
        if not call.ids:
            yield []
            return
        leases = self._begin_hold(hold, await self._ask(call))
        loss = CancelOnLoss(leases if cancel_on_loss else ())
        try:
            yield leases
        except BaseException as error:
            ours = loss.end(error)
            if isinstance(error, GeneratorExit) and not self._factory._on_own_loop():
                self._factory._call_on_loop(self._runtime.step, self._end_hold(hold, leases))
            else:
                await self._leave(hold, leases, None if ours else error)  # ours: it raises LockLost
            raise
        else:
            loss.end(None)
            await self._leave(hold, leases, None)

    async def _leave(self, hold: Hold, leases: list[Lease], error: BaseException | None) -> None:
        if self._factory._forked:
            return  # it is the parent process's hold, and goes on there (rule 10)
        with self._leaving(hold, leases, error) as call:
            await self._ask(call)
