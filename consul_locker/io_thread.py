"""The I/O thread of a threaded factory: an event loop with the factory's `Exchange`."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable

from .core.messages import Answered, Command, Event, Request
from .exchange import Exchange, closed

__all__ = ["IoThread"]


class IoThread:
    """Carries out the commands put into it, in their order.

    Args:
        exchange: makes the exchange, on the thread's loop.
    """

    def __init__(self, exchange: Callable[[], Exchange]) -> None:
        self._make_exchange = exchange
        self._inbox: deque[tuple[Callable[[Event], None], Command]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._exchange: Exchange | None = None
        self._woken = False

    def start(self) -> None:
        """Start the thread, once; not for several threads at a time."""
        if self._thread is None:
            self._loop = asyncio.new_event_loop()
            self._end = self._loop.create_future()
            self._thread = threading.Thread(target=self._run, args=(self._loop,), name="consul_locker-io", daemon=True)
            self._thread.start()

    def put(self, receive: Callable[[Event], None], command: Command) -> None:
        """Add a command of a Locker. Never waits, so it may be under a mutex; `wake` has to follow."""
        self._inbox.append((receive, command))

    def wake(self) -> None:
        """Have the thread look, if there is anything to do and it is not about to look already."""
        if not self._inbox or self._woken or self._loop is None:
            return
        self._woken = True
        try:
            self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:  # the loop is closed
            self._refuse()

    def close(self) -> None:
        """End the thread: what is under way fails, and so does all that is put into it from now on."""
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set_result, None)
            self._thread.join()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(self._serve())
        finally:
            loop.close()
            self._refuse()

    async def _serve(self) -> None:
        self._exchange = self._make_exchange()
        self._drain()
        await self._end
        await self._exchange.close()

    def _refuse(self) -> None:
        """Nothing is sent any more: whoever waits for an answer is told so (rule 7)."""
        self._woken = False  # before the look, as in _drain
        while True:
            try:
                receive, command = self._inbox.popleft()
            except IndexError:  # another thread may be at it too
                return
            if isinstance(command, Request):
                receive(Answered(command, closed()))

    def _drain(self) -> None:
        if self._exchange is None:
            return  # the loop runs to make it; everything is drained after that
        self._woken = False  # before the look: what comes after it wakes again
        while self._inbox:
            receive, command = self._inbox.popleft()
            self._exchange.carry_out(receive, (command,))
