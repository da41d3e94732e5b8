"""The I/O thread of a threaded factory: an event loop on which the factory's `IoLoop` works."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from ..core.messages import Answered, Command, Event
from ..core.requests import Failed, Request
from ..errors import ConsulUnavailable
from ..may_wait import THIS_THREAD
from ..runtime.io_loop import IoLoop, closed, destroys

__all__ = ["IoThread"]

#: How long a thread that has died may take to close its connections, in seconds. No call waits for it; it is a
#: daemon thread.
TIDY_LIMIT = 1.0


def _tell_nobody(*_: object) -> None:
    """For an `IoThread` without `report` or `died`."""


class IoThread:
    """Carries out commands in the order in which they are put.

    After `close` it may linger: it tries again and again to destroy the sessions that could not be destroyed yet, and
    does nothing else. Without that such a session would keep its locks from others until its TTL is over. The thread
    is a daemon, so it never keeps the process alive.

    No exception of a user's code ends the thread. If it dies all the same, this is reported, so that no call waits.

    Args:
        io_loop: makes the `IoLoop`; called on the thread's event loop.
        report: called with what went wrong on the thread without ending it: a text, and the exception or None.
        died: called on the thread, when it ends otherwise than by `close`.

    Attributes:
        dead: why it has died; None as long as it has not.
    """

    def __init__(
        self,
        io_loop: Callable[[], IoLoop],
        report: Callable[[str, BaseException | None], None] = _tell_nobody,
        died: Callable[[ConsulUnavailable], None] = _tell_nobody,
    ) -> None:
        self._make_io_loop = io_loop
        self._report = report
        self._on_death = died
        self.dead: ConsulUnavailable | None = None
        self._inbox: deque[tuple[Callable[[Event], object], Command]] = deque()
        self._jobs: deque[Callable[[], object]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._io_loop: IoLoop | None = None
        self._woken = False
        self._open = True
        self._lingers = False  # closed, but it still destroys sessions
        self._left_behind = False  # lingers, and has something left to do
        self._retired = threading.Event()  # set when all but the destroys has ended

    @property
    def started(self) -> bool:
        """Whether `start` was called."""
        return self._thread is not None

    def start(self) -> None:
        """Start the thread, if that is not done yet. Two threads must not call it at the same time."""
        if self._thread is None:
            self._loop = asyncio.new_event_loop()
            self._changed = asyncio.Event()  # set when the thread was closed, or a destroy was answered
            self._thread = threading.Thread(target=self._run, args=(self._loop,), name="consul_locker-io", daemon=True)
            self._thread.start()

    def put(self, receive: Callable[[Event], object], command: Command) -> None:
        """Add a command of a Locker. Never waits, so it may be called under a mutex; `wake` must follow."""
        self._inbox.append((receive, command))

    def wake(self) -> None:
        """Let the thread carry out what was put, unless it is about to do so already."""
        if not self._inbox or self._woken or self._loop is None:
            return
        try:
            self._woken = True
            if not self._call_soon(self._drain):
                self._refuse()
        except BaseException:  # a signal handler raised it, say; the next call must not take the flag for true
            self._woken = False
            raise

    def do(self, job: Callable[[], object]) -> None:
        """Do something on the thread, soon; if the thread has ended, do it here and now."""
        self._jobs.append(job)
        if not self._call_soon(self._work):
            self._work()

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.popleft()
            except IndexError:  # another thread takes from it, too
                return
            job()

    def _call_soon(self, job: Callable[[], object]) -> bool:
        """Do something on the loop, soon. False: there is no loop, or it has ended."""
        if self._loop is None:
            return False
        try:
            self._loop.call_soon_threadsafe(job)
        except RuntimeError:
            if not self._loop.is_closed():
                raise  # RecursionError is a RuntimeError, too
            return False
        return True

    def close(self, linger: bool = False) -> None:
        """End the thread: requests in flight fail, and so do all that are put from now on.

        Args:
            linger: go on with what destroys sessions. As long as there is any of it the thread lives on, and this
                call returns without waiting for it; another `close` ends that, too.
        """
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            with suppress(RuntimeError):  # the loop is closed: the thread has nothing left to do and ends by itself
                self._loop.call_soon_threadsafe(self._retire, linger)
            self._retired.wait()
            if not (linger and self._left_behind):
                self._thread.join()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        THIS_THREAD.is_internal = True
        loop.set_exception_handler(lambda loop, context: self._report(context["message"], context.get("exception")))
        try:
            self._run_loop(loop)
        except BaseException as error:
            what = f"the I/O thread of this factory has died: {error!r}; close the factory and make another one"
            self.dead = ConsulUnavailable(what, cause=error, sent=True)
            self._on_death(self.dead)
            with suppress(BaseException):  # close the connections, if the loop still works
                loop.run_until_complete(asyncio.wait_for(self._leave(), TIDY_LIMIT))
            raise
        finally:
            loop.close()
            self._retired.set()
            while self._jobs or self._inbox:
                try:
                    self._work()
                    self._refuse()
                except BaseException as error:  # the rest must be done all the same
                    self._report("a job that was left when the I/O thread ended has failed", error)

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        serving = loop.create_task(self._serve())
        while True:
            try:
                loop.run_until_complete(serving)
                return
            except (SystemExit, KeyboardInterrupt) as error:  # asyncio lets these pass from any callback
                if serving.done():
                    raise
                self._report("something on the I/O thread tried to end it", error)

    async def _serve(self) -> None:
        io_loop = self._io_loop = self._make_io_loop()
        io_loop.report = self._report
        self._drain()
        await self._changed.wait()
        await io_loop.keep_destroys(self._changed.set)
        self._drain()
        while self._lingers and io_loop.destroying:
            self._left_behind = True
            self._retired.set()
            self._changed.clear()
            await self._changed.wait()
            self._drain()
        self._lingers = False
        await io_loop.close()

    async def _leave(self) -> None:
        """The thread has died: end its tasks and close its connections."""
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        if self._io_loop is not None:
            await self._io_loop.close()

    def _retire(self, linger: bool) -> None:
        self._open, self._lingers = False, linger
        self._changed.set()

    def _refuse(self) -> None:
        """Answer all requests that were put with a failure: nothing is sent any more (rule 7)."""
        self._woken = False  # before the queue is read, as in _drain
        while True:
            try:
                receive, command = self._inbox.popleft()
            except IndexError:  # another thread takes from it, too
                return
            self._decline(receive, command)

    def _drain(self) -> None:
        if self._io_loop is None:
            return  # it is about to be made; `_serve` drains the queue after that
        self._woken = False  # before the queue is read: a command that comes later wakes the thread again
        while self._inbox:
            receive, command = self._inbox.popleft()
            if self._open or (self._lingers and destroys(command)):
                self._io_loop.carry_out(receive, (command,))
            else:
                self._decline(receive, command)

    def _decline(self, receive: Callable[[Event], object], command: Command) -> None:
        if isinstance(command, Request):
            receive(Answered(command, closed() if self.dead is None else Failed(self.dead, False)))
