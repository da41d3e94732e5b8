"""What a factory does on an event loop: requests, watches and timers of its Lockers.

The threaded face runs one of these in its I/O thread, the asyncio face on the user's loop. It only waits
and reports; what to ask and when, and what an answer means, the core decides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, cast

from ..client.aio import AsyncTransport
from ..client.allowance import Allowance
from ..client.encode import Encoder
from ..config.options import ClientOptions
from ..core.messages import Answered, CancelRequest, CancelTimer, Command, Event, SetTimer, TimerFired
from ..core.requests import CreateSession, DestroySession, Failed, ReadSession, RenewSession, Request, Watch
from ..errors import ConsulLockerError, ConsulUnavailable
from .clock import Clock, Manual
from .watches import WATCH_SHARE, Watching

__all__ = [
    "Exchange",
    "closed",
    "destroys",
]


_LOGGER = logging.getLogger("consul_locker")

Receive = Callable[[Event], object]


def closed() -> Failed:
    """The answer to a request that a closed factory cannot send."""
    return Failed(ConsulUnavailable("the factory is closed"), False)


#: How long a renewal may wait for its turn, as a multiple of its time, which begins after that: with a sixth of the TTL
#: for an attempt it is begun within a third. Else, where they are too many, each would be given up when it is sent.
PATIENCE = 2.0


def _lingers(request: Request) -> bool:
    """Whether a request goes on when a factory is closed: a session that is being created is destroyed then."""
    return isinstance(request, CreateSession) or _destroys(request)


def _destroys(command: Command) -> bool:
    """Whether a request destroys a session, or confirms that."""
    return isinstance(command, DestroySession) or (isinstance(command, ReadSession) and command.confirms)


def destroys(command: Command) -> bool:
    """Whether a command serves to destroy a session: what a factory may go on with when it is closed."""
    return _destroys(command) or (isinstance(command, SetTimer) and _for_a_destroy(command.name))


def _keeps_alive(request: Request) -> bool:
    """Whether a session's life hangs on it: a renewal, or a read of it that neither a user nor a destroy asked for."""
    if isinstance(request, ReadSession):
        return request.call is None and not request.confirms
    return isinstance(request, RenewSession)


def _for_a_destroy(timer: tuple[Any, ...]) -> bool:
    """By the name that `consul_locker.core.session` gives to the timer of a failed destroy's next attempt."""
    return bool(timer[0] == "destroy")


class _Timer:
    """One timer of one Locker."""

    __slots__ = ("at", "fire", "handle")

    def __init__(self, at: float, fire: Callable[[], None]) -> None:
        self.at = at
        self.fire = fire
        self.handle: asyncio.TimerHandle | None = None


def _log(text: str, error: BaseException | None) -> None:
    _LOGGER.error("%s", text, exc_info=error)


class Exchange:
    """Requests and timers of the Lockers of one factory, on the running event loop.

    Attributes:
        report: writes to the log what went wrong: in words, and the exception. A thread that nothing may delay has it
            written by another one.

    Args:
        options: of the factory.
        encoder: makes HTTP requests of the core's.
        clock: of the timers.
        connections: how many connections at most, those for renewals among them; 2 at least.
        allowance: the factory's; None for one of its own.
    """

    def __init__(
        self,
        options: ClientOptions,
        encoder: Encoder,
        clock: Clock,
        connections: int,
        allowance: Allowance | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._encoder = encoder
        self._clock = clock
        allowance = Allowance(connections) if allowance is None else allowance
        self._transport = AsyncTransport(options, connections, allowance)
        self._lanes = self._transport.reserve()
        self._tasks: dict[Request, tuple[asyncio.Task[None], Receive]] = {}
        self._ending: set[asyncio.Task[None]] = set()  # given up, but not ended yet
        self._timers: dict[tuple[Receive, tuple[Any, ...]], _Timer] = {}
        self._watching = Watching(options, encoder, self._transport, self._for_watches)
        allowance.on_lowered(self._refused)
        self._closed = False
        self.report: Callable[[str, BaseException | None], None] = _log
        self._on_answer: Callable[[], None] | None = None  # while destroys alone go on: who waits for the last
        self._manual: Manual | None = None
        if hasattr(clock, "subscribe"):
            self._manual = cast(Manual, clock)
            self._manual.subscribe(self._clock_moved)

    def _for_watches(self) -> int:
        """How many connections watches may keep now: a part of all, and never the last that is not for renewals."""
        return max(0, min(int(self._transport.limit * WATCH_SHARE), self._transport.most - 1))

    def _refused(self) -> None:
        """Consul refuses connections; in any thread. Renewals go on with those that watches give up."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._use_fewer)

    def _use_fewer(self) -> None:
        self._transport.close_idle()
        self._watching.give_way()

    def carry_out(self, receive: Receive, commands: Iterable[Command]) -> None:
        """Do what these commands say; what comes of it is given to ``receive``, on the loop.

        Args:
            receive: the Locker's; always the same object for one Locker.
            commands: requests, timers, and their ends.
        """
        if self._closed:
            return
        for command in commands:
            if isinstance(command, Request):
                if command in self._tasks:
                    continue  # it came twice: whoever gave it was interrupted before he knew that he had
                task = self._loop.create_task(self._exchange(receive, command))
                self._tasks[command] = task, receive
                task.add_done_callback(partial(self._ended, receive, command))
            elif isinstance(command, SetTimer):
                self._set(receive, command)
            elif isinstance(command, CancelTimer):
                self._unset((receive, command.name))
            else:
                assert isinstance(command, CancelRequest)  # no other command is for the loop
                found = self._tasks.pop(command.request, None)
                if found is not None:
                    self._give_up(found[0])

    def _give_up(self, task: asyncio.Task[None]) -> None:
        """Cancel a task. It ends in the next rounds of the loop, which must not be closed before."""
        task.cancel()
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    @property
    def destroying(self) -> bool:
        """Whether a session is being destroyed, will be tried again, or is being created only to be destroyed."""
        return any(_lingers(request) for request in self._tasks) or any(
            _for_a_destroy(name) for _, name in self._timers
        )

    async def keep_destroys(self, answered: Callable[[], None]) -> None:
        """End everything, as `close` does, but what destroys sessions.

        Args:
            answered: called, on the loop, whenever one of these requests was answered and its Locker told.
        """
        self._on_answer = answered
        await self._end(keep_destroys=True)

    async def close(self) -> None:
        """End everything: no timer fires, requests in flight fail, so that nobody waits for them for ever."""
        if self._manual is not None and not self._closed:
            self._manual.unsubscribe(self._clock_moved)
        self._closed = True
        await self._end(keep_destroys=False)
        self._transport.close()
        await self._transport.wait_closed()

    async def _end(self, keep_destroys: bool) -> None:
        for receive, name in list(self._timers):
            if not (keep_destroys and _for_a_destroy(name)):
                self._unset((receive, name))
        pending = {
            request: found
            for request, found in self._tasks.items()
            if not (keep_destroys and _lingers(request))
        }
        for request, (task, _) in pending.items():
            del self._tasks[request]  # one that has not begun yet cannot do it itself
            self._give_up(task)
        try:
            await asyncio.gather(*self._ending, return_exceptions=True)
        finally:  # a stranger may cancel this, too
            for request, (_, receive) in pending.items():
                receive(Answered(request, closed()))

    # --------------------------------------------------------------------------------------- requests

    async def _exchange(self, receive: Receive, request: Request) -> None:
        receive(await self._answer(request))
        self._tasks.pop(request, None)
        if self._on_answer is not None:
            self._on_answer()

    def _ended(self, receive: Receive, request: Request, task: asyncio.Task[None]) -> None:
        """A request whose task did not end by itself is answered, too (rule 7).

        A stranger may cancel it, as the end of a loop does with all tasks, or a signal handler raise in it.
        """
        # What was given up here is not known any more. (An eager task that has reported can be known all the same.)
        if self._tasks.pop(request, None) is not None and (task.cancelled() or task.exception() is not None):
            what = "cancelled with all tasks of its event loop" if task.cancelled() else "interrupted"
            receive(Answered(request, Failed(ConsulUnavailable(f"the request was {what}", sent=True), True)))

    async def _answer(self, request: Request) -> Answered:
        try:
            if isinstance(request, Watch):
                return Answered(request, await self._watching.watch(request))
            http = self._encoder.encode(request)
            if not _keeps_alive(request):
                response = await self._transport.send(http, request.timeout)
            else:
                fresh = isinstance(request, RenewSession) and request.fresh
                patience = PATIENCE * (request.timeout or 0.0)
                response = await self._lanes.send(http, request.timeout, fresh=fresh, patience=patience)
            return Answered(request, http.decode(response))
        except ConsulUnavailable as error:
            return Answered(request, Failed(error, error.sent))
        except ConsulLockerError as error:  # it could not be encoded
            return Answered(request, Failed(error, False))
        except Exception as error:  # a fault of ours must not leave the call that waits for it hanging
            self.report("a request failed unexpectedly", error)
            unexpected = ConsulUnavailable(f"unexpected failure: {error!r}", cause=error, sent=True)
            return Answered(request, Failed(unexpected, True))

    # ----------------------------------------------------------------------------------------- timers

    def _set(self, receive: Receive, command: SetTimer) -> None:
        key = (receive, command.name)
        self._unset(key)

        def fire() -> None:
            if self._timers.get(key) is timer:
                if self._clock.now() < timer.at:  # the loop has another clock, and rounds
                    self._schedule(timer)
                    return
                del self._timers[key]
                receive(TimerFired(command.name))

        timer = self._timers[key] = _Timer(command.at, fire)
        self._schedule(timer)

    def _schedule(self, timer: _Timer) -> None:
        if self._manual is not None:
            if timer.at <= self._clock.now():
                timer.handle = self._loop.call_later(0, timer.fire)
        else:
            timer.handle = self._loop.call_later(max(0.0, timer.at - self._clock.now()), timer.fire)

    def _unset(self, key: tuple[Receive, tuple[Any, ...]]) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None and timer.handle is not None:
            timer.handle.cancel()

    def _clock_moved(self) -> None:
        self._loop.call_soon_threadsafe(self._fire_due)

    def _fire_due(self) -> None:
        """The manual clock moved."""
        now = self._clock.now()
        for timer in sorted((timer for timer in self._timers.values() if timer.at <= now), key=lambda one: one.at):
            timer.fire()
