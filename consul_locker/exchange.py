"""What a factory does on an event loop: requests, watches and timers of its Lockers.

The threaded face runs one of these in its I/O thread, the asyncio face on the user's loop. It only waits
and reports; what to ask and when, and what an answer means, the core decides.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol, cast

from .client.aio_transport import AsyncTransport
from .client.requests import Encoder
from .config import ClientOptions
from .core.messages import (
    Answered,
    CancelRequest,
    CancelTimer,
    Command,
    Event,
    Failed,
    RenewSession,
    Request,
    SetTimer,
    TimerFired,
    Watch,
)
from .errors import ConsulLockerError, ConsulUnavailable
from .watching import Watching

__all__ = ["Clock", "Exchange", "Manual", "SystemClock", "closed"]

_LOGGER = logging.getLogger("consul_locker")

Receive = Callable[[Event], object]


class Clock(Protocol):
    """A clock, in seconds; it never goes back."""

    def now(self) -> float:
        """The time."""
        ...


class Manual(Clock, Protocol):
    """A clock that a test moves: `consul_locker.embedded.ManualClock`."""

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called after each move."""
        ...

    def unsubscribe(self, listener: Callable[[], None]) -> None:
        """No longer."""
        ...


class SystemClock:
    """A clock that goes on while the machine is suspended, where the system has one (rule 3).

    A lease must be over when the machine wakes up after its deadline; CLOCK_MONOTONIC stands still
    meanwhile on Linux.
    """

    def __init__(self) -> None:
        self._id = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def now(self) -> float:
        """Seconds since the system started."""
        return time.clock_gettime(self._id)


def closed() -> Failed:
    """The answer to a request that a closed factory cannot send."""
    return Failed(ConsulUnavailable("the factory is closed"), False)


class _Timer:
    """One timer of one Locker."""

    __slots__ = ("at", "fire", "handle")

    def __init__(self, at: float, fire: Callable[[], None]) -> None:
        self.at = at
        self.fire = fire
        self.handle: asyncio.TimerHandle | None = None


class Exchange:
    """Requests and timers of the Lockers of one factory, on the running event loop.

    Args:
        options: of the factory.
        encoder: makes HTTP requests of the core's.
        clock: of the timers.
        connections: how many connections at most, that for renewals besides.
    """

    def __init__(self, options: ClientOptions, encoder: Encoder, clock: Clock, connections: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._encoder = encoder
        self._clock = clock
        self._transport = AsyncTransport(options, max(1, connections - 1))
        self._lane = self._transport.reserve()
        self._tasks: dict[Request, tuple[asyncio.Task[None], Receive]] = {}
        self._ending: set[asyncio.Task[None]] = set()  # given up, but not ended yet
        self._timers: dict[tuple[Receive, tuple[Any, ...]], _Timer] = {}
        self._watching = Watching(options, encoder, self._transport, connections)
        self._closed = False
        self._manual: Manual | None = None
        if hasattr(clock, "subscribe"):
            self._manual = cast(Manual, clock)
            self._manual.subscribe(self._clock_moved)

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
                    found[0].cancel()
                    # It ends in the next rounds of the loop, which must not be closed before.
                    self._ending.add(found[0])
                    found[0].add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End everything: no timer fires, requests in flight fail, so that nobody waits for them for ever."""
        if self._manual is not None and not self._closed:
            self._manual.unsubscribe(self._clock_moved)
        self._closed = True
        for timer in self._timers.values():
            if timer.handle is not None:
                timer.handle.cancel()
        self._timers.clear()
        pending = list(self._tasks.items())
        for _, (task, _) in pending:
            task.cancel()
        await asyncio.gather(*(task for _, (task, _) in pending), *self._ending, return_exceptions=True)
        self._transport.close()
        await self._transport.wait_closed()
        for request, (_, receive) in pending:
            receive(Answered(request, closed()))
        self._tasks.clear()

    # --------------------------------------------------------------------------------------- requests

    async def _exchange(self, receive: Receive, request: Request) -> None:
        event = await self._answer(request)
        self._tasks.pop(request, None)
        receive(event)

    def _ended(self, receive: Receive, request: Request, task: asyncio.Task[None]) -> None:
        """A request whose task a stranger cancelled (as the end of a loop does with all) is answered, too (rule 7)."""
        # An eager task can have reported before it was known. What a close cancels it answers itself.
        if not self._closed and self._tasks.pop(request, None) is not None and task.cancelled():
            stranger = ConsulUnavailable("the request was cancelled with all tasks of its event loop", sent=True)
            receive(Answered(request, Failed(stranger, True)))

    async def _answer(self, request: Request) -> Answered:
        try:
            if isinstance(request, Watch):
                return Answered(request, await self._watching.watch(request))
            http = self._encoder.encode(request)
            transport = self._lane if isinstance(request, RenewSession) else self._transport
            fresh = isinstance(request, RenewSession) and request.fresh
            response = await transport.send(http, request.timeout, fresh=fresh)
            return Answered(request, http.decode(response))
        except ConsulUnavailable as error:
            return Answered(request, Failed(error, error.sent))
        except ConsulLockerError as error:  # it could not be encoded
            return Answered(request, Failed(error, False))
        except Exception as error:  # a fault of ours must not leave the call that waits for it hanging
            _LOGGER.exception("a request failed unexpectedly")
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
