"""The one event loop that a factory and its Lockers belong to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from ..runtime.factory import BaseFactory, LockerT

__all__ = ["LoopFactory", "ends"]


async def ends(tasks: Collection[asyncio.Task[Any]], timeout: float | None = None) -> None:
    """Wait until tasks have ended, but no longer than so many seconds."""
    if tasks:
        await asyncio.wait(tasks, timeout=timeout)


class LoopFactory(BaseFactory[LockerT]):
    """The part of an asyncio factory that knows its event loop."""

    _loop: asyncio.AbstractEventLoop | None = None

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
