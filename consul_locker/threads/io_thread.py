"""The I/O thread of a threaded factory: an event loop with the factory's `Exchange`."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from ..core.messages import Answered, Command, Event
from ..core.requests import Failed, Request
from ..errors import ConsulUnavailable
from ..may_wait import INSIDE
from ..runtime.io_loop import Exchange, closed, destroys

__all__ = ["IoThread"]

#: How long a thread that has died may take to close its connections, in seconds. It is a daemon, and nobody waits.
TIDY_LIMIT = 1.0


def _tell_nobody(*_: object) -> None:
    """Where nobody asks."""


class IoThread:
    """Carries out the commands put into it, in their order.

    Closed, it may linger: sessions that could not be destroyed yet are tried again and again, and nothing else is
    done. Without that such a session would go on refusing its locks to others until its TTL is over. The thread is
    a daemon, so it never keeps the process.

    Nothing that strangers raise on it ends it. Should it die all the same, that is told, so that no call waits for it.

    Args:
        exchange: makes the exchange, on the thread's loop.
        report: is told what went wrong on the thread without ending it: in words, and the exception if there is one.
        died: is told, on the thread, that it ends otherwise than by `close`.

    Attributes:
        dead: why it has died, once it has.
    """

    def __init__(
        self,
        exchange: Callable[[], Exchange],
        report: Callable[[str, BaseException | None], None] = _tell_nobody,
        died: Callable[[ConsulUnavailable], None] = _tell_nobody,
    ) -> None:
        self._make_exchange = exchange
        self._report = report
        self._told_of_death = died
        self.dead: ConsulUnavailable | None = None
        self._inbox: deque[tuple[Callable[[Event], None], Command]] = deque()
        self._jobs: deque[Callable[[], object]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._exchange: Exchange | None = None
        self._woken = False
        self._open = True
        self._lingers = False  # closed, but for the destroys of sessions
        self._left_behind = False  # lingering, with something left to do
        self._retired = threading.Event()  # all else has ended

    def start(self) -> None:
        """Start the thread, once; not for several threads at a time."""
        if self._thread is None:
            self._loop = asyncio.new_event_loop()
            self._stir = asyncio.Event()  # for the thread's own look: it was closed, or a destroy was answered
            self._thread = threading.Thread(target=self._run, args=(self._loop,), name="consul_locker-io", daemon=True)
            self._thread.start()

    def put(self, receive: Callable[[Event], None], command: Command) -> None:
        """Add a command of a Locker. Never waits, so it may be under a mutex; `wake` has to follow."""
        self._inbox.append((receive, command))

    def wake(self) -> None:
        """Have the thread look, if there is anything to do and it is not about to look already."""
        if not self._inbox or self._woken or self._loop is None:
            return
        try:
            self._woken = True
            if not self._soon(self._drain):
                self._refuse()
        except BaseException:  # out of nowhere; whoever wakes next must not believe that it was done
            self._woken = False
            raise

    def do(self, job: Callable[[], object]) -> None:
        """Have something done on the thread, soon; here and now when the thread has ended."""
        self._jobs.append(job)
        if not self._soon(self._work):
            self._work()

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.popleft()
            except IndexError:  # another thread may be at it too
                return
            job()

    def _soon(self, job: Callable[[], object]) -> bool:
        """Have something done on the loop. False: there is none, or it has ended."""
        if self._loop is None:
            return False
        try:
            self._loop.call_soon_threadsafe(job)
        except RuntimeError:
            if not self._loop.is_closed():
                raise  # a RecursionError is one, too
            return False
        return True

    def close(self, linger: bool = False) -> None:
        """End the thread: what is under way fails, and so does all that is put into it from now on.

        Args:
            linger: but what destroys sessions goes on. As long as there is any the thread lives on, and this
                returns without it; another close ends that, too.
        """
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            with suppress(RuntimeError):  # the loop is closed: it had nothing left to do, and the thread is ending
                self._loop.call_soon_threadsafe(self._retire, linger)
            self._retired.wait()
            if not (linger and self._left_behind):
                self._thread.join()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        INSIDE.serves = True
        loop.set_exception_handler(lambda loop, context: self._report(context["message"], context.get("exception")))
        try:
            self._work_off(loop)
        except BaseException as error:
            what = f"the I/O thread of this factory has died: {error!r}; close the factory and make another one"
            self.dead = ConsulUnavailable(what, cause=error, sent=True)
            self._told_of_death(self.dead)
            with suppress(BaseException):  # nobody waits for it; it closes the connections, if the loop can yet
                loop.run_until_complete(asyncio.wait_for(self._leave(), TIDY_LIMIT))
            raise
        finally:
            loop.close()
            self._retired.set()
            while self._jobs or self._inbox:
                try:
                    self._work()
                    self._refuse()
                except BaseException as error:  # the rest is to be done all the same
                    self._report("what was left for the I/O thread failed", error)

    def _work_off(self, loop: asyncio.AbstractEventLoop) -> None:
        serving = loop.create_task(self._serve())
        while True:
            try:
                loop.run_until_complete(serving)
                return
            except (SystemExit, KeyboardInterrupt) as error:  # asyncio lets these through, out of whatever callback
                if serving.done():
                    raise
                self._report("something on the I/O thread tried to end it", error)

    async def _serve(self) -> None:
        exchange = self._exchange = self._make_exchange()
        exchange.report = self._report
        self._drain()
        await self._stir.wait()
        await exchange.keep_destroys(self._stir.set)
        self._drain()
        while self._lingers and exchange.destroying:
            self._left_behind = True
            self._retired.set()
            self._stir.clear()
            await self._stir.wait()
            self._drain()
        self._lingers = False
        await exchange.close()

    async def _leave(self) -> None:
        """The thread has died: leave nothing behind."""
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        if self._exchange is not None:
            await self._exchange.close()

    def _retire(self, linger: bool) -> None:
        self._open, self._lingers = False, linger
        self._stir.set()

    def _refuse(self) -> None:
        """Nothing is sent any more: whoever waits for an answer is told so (rule 7)."""
        self._woken = False  # before the look, as in _drain
        while True:
            try:
                receive, command = self._inbox.popleft()
            except IndexError:  # another thread may be at it too
                return
            self._decline(receive, command)

    def _drain(self) -> None:
        if self._exchange is None:
            return  # the loop runs to make it; everything is drained after that
        self._woken = False  # before the look: what comes after it wakes again
        while self._inbox:
            receive, command = self._inbox.popleft()
            if self._open or (self._lingers and destroys(command)):
                self._exchange.carry_out(receive, (command,))
            else:
                self._decline(receive, command)

    def _decline(self, receive: Callable[[Event], None], command: Command) -> None:
        if isinstance(command, Request):
            receive(Answered(command, closed() if self.dead is None else Failed(self.dead, False)))
