"""The one event loop that a factory and its Lockers belong to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from ..runtime.factory import BaseFactory, LockerT

__all__ = ["LoopFactory", "ends"]


async def ends(tasks: Collection[asyncio.Task[Any]], timeout: float | None = None) -> None:
    """Wait until tasks have ended, but no longer than ``timeout`` seconds (None: without a limit)."""
    if tasks:
        await asyncio.wait(tasks, timeout=timeout)


class LoopFactory(BaseFactory[LockerT]):
    """The part of an asyncio factory that knows its event loop."""

    _loop: asyncio.AbstractEventLoop | None = None

    def _check(self, open: bool = False) -> None:
        """Refuse a call also if no event loop runs, or another one than that of the factory."""
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

    def _on_own_loop(self) -> bool:
        """Whether the factory's event loop runs this code.

        It does not when a coroutine is closed (GeneratorExit) after its loop, in a forked child, or by the garbage
        collector in any thread. There nothing can be waited for, and an exception would reach no caller.
        """
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _call_on_loop(self, step: Callable[..., object], *args: object) -> None:
        """Let the loop do something, from any thread, unless it is closed or the parent process's."""
        if self._loop is not None and not self._loop.is_closed() and not self._forked:
            self._loop.call_soon_threadsafe(step, *args)
