"""The requests, watches and timers of a factory's Lockers, on an event loop.

The threaded face runs one `IoLoop` in its I/O thread, the asyncio face one on the user's loop. It only waits and
reports: the core decides what to ask and when, and what an answer means.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import cast

from ..client.addresses import Addresses
from ..client.aio import AsyncTransport
from ..client.aio_exchange import Exchange, Exchanges, Told
from ..client.allowance import Allowance
from ..client.credentials import Credentials
from ..client.encode import Encoder, HttpRequest, HttpResponse
from ..config.options import ClientOptions
from ..core.messages import (
    Answered,
    CancelRequest,
    CancelTimer,
    Command,
    Event,
    Forget,
    SetTimer,
    TimerFired,
    TimerName,
)
from ..core.requests import CreateSession, DestroySession, Failed, ReadSession, RenewSession, Request, Transact, Watch
from ..errors import ConsulLockerError, ConsulUnavailable
from .clock import Clock, Manual
from .watches import WATCH_SHARE, Watches

__all__ = [
    "IoLoop",
    "closed",
    "destroys",
]


_LOGGER = logging.getLogger("consul_locker")

Receive = Callable[[Event], object]


def closed() -> Failed:
    """The answer to a request that is not sent, since the factory is closed."""
    return Failed(ConsulUnavailable("the factory is closed"), False)


#: How long a renewal may wait for its turn, as a multiple of its time limit, which begins after that. An attempt has a
#: sixth of the TTL, so it begins within a third of the TTL. Without the wait, if there are too many renewals, the time
#: of each would be over when its turn comes.
RENEWAL_WAIT = 2.0


def _lingers(request: Request) -> bool:
    """Whether a request goes on when a factory is closed: a session that is being created must be destroyed then."""
    return isinstance(request, CreateSession) or _destroys(request)


def _destroys(command: Command) -> bool:
    """Whether a request destroys a session, or confirms that."""
    return isinstance(command, DestroySession) or (isinstance(command, ReadSession) and command.confirms)


def destroys(command: Command) -> bool:
    """Whether a command serves to destroy a session: a closed factory goes on with these."""
    return _destroys(command) or (isinstance(command, SetTimer) and _for_a_destroy(command.name))


def _keeps_alive(request: Request) -> bool:
    """Whether a session's life depends on a request: its renewal, or a read of it by the core (not for a destroy)."""
    if isinstance(request, ReadSession):
        return not (request.question or request.confirms)
    return isinstance(request, RenewSession)


def _for_a_destroy(timer: TimerName) -> bool:
    """Whether it is the timer for the next attempt of a failed destroy (`consul_locker.core.session` names it)."""
    return timer[0] == "destroy"


def _broken_off(request: Request, what: str) -> Answered:
    """The answer to a request of which nothing more will come, though it may take effect."""
    return Answered(request, Failed(ConsulUnavailable(f"the request was {what}", sent=True), True))


class _Timer:
    """One timer of one Locker."""

    __slots__ = ("at", "fire", "handle")

    def __init__(self, at: float, fire: Callable[[], None]) -> None:
        self.at = at
        self.fire = fire
        self.handle: asyncio.TimerHandle | None = None


def _log(text: str, error: BaseException | None) -> None:
    _LOGGER.error("%s", text, exc_info=error)


class IoLoop:
    """Requests and timers of the Lockers of one factory, on the running event loop.

    Attributes:
        report: logs what went wrong: a text, and the exception. The I/O thread lets another thread write it, so that a
            slow log handler does not delay it.

    Args:
        options: of the factory.
        encoder: makes HTTP requests of the core's.
        clock: of the timers.
        connections: the most connections, including those for renewals; at least 2.
        allowance, addresses, credentials: the factory's; None: its own.
    """

    def __init__(
        self,
        options: ClientOptions,
        encoder: Encoder,
        clock: Clock,
        connections: int,
        allowance: Allowance | None = None,
        addresses: Addresses | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._encoder = encoder
        self._timeout = options.timeout
        self._clock = clock
        allowance = Allowance(connections) if allowance is None else allowance
        self._transport = AsyncTransport(options, connections, allowance, addresses, credentials)
        self._lanes = self._transport.reserve()
        self._tasks: dict[Request, tuple[asyncio.Task[None], Receive]] = {}
        self._exchanges = Exchanges(self._transport)
        self._without_task: dict[Request, tuple[Exchange, Receive]] = {}
        self._ending: set[asyncio.Task[None]] = set()  # cancelled, but not ended yet
        self._timers: dict[tuple[Receive, TimerName], _Timer] = {}
        self._watches = Watches(options, encoder, self._transport, self._watch_limit)
        allowance.on_lowered(self._refused)
        self._closed = False
        self.report: Callable[[str, BaseException | None], None] = _log
        self._on_answer: Callable[[], None] | None = None  # after `keep_destroys`: to be called after each answer
        self._manual: Manual | None = None
        if hasattr(clock, "subscribe"):
            self._manual = cast(Manual, clock)
            self._manual.subscribe(self._clock_moved)

    def _watch_limit(self) -> int:
        """How many connections watches may use now: a part of all, and never the last one that is not for renewals."""
        return max(0, min(int(self._transport.limit * WATCH_SHARE), self._transport.most - 1))

    def _refused(self) -> None:
        """Consul refuses connections; called in any thread. Those that are idle are closed."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._use_fewer)

    def _use_fewer(self) -> None:
        self._transport.close_idle()
        self._watches.give_way()

    def carry_out(self, receive: Receive, commands: Iterable[Command]) -> None:
        """Carry out commands; the events that follow are given to ``receive``, on the loop.

        Args:
            receive: the Locker's; always the same object for one Locker.
            commands: to send a request, to set a timer, to cancel one of these.
        """
        if self._closed:
            return
        for command in commands:
            if isinstance(command, Request):
                if command in self._tasks or command in self._without_task:
                    continue  # it came twice: the thread that gave it was interrupted
                if not (isinstance(command, Transact) and self._begin(receive, command)):
                    self._start(receive, command, command.timeout)
            elif isinstance(command, SetTimer):
                self._set(receive, command)
            elif isinstance(command, CancelTimer):
                self._unset((receive, command.name))
            elif isinstance(command, Forget):
                self._forget(receive)
            else:
                assert isinstance(command, CancelRequest)  # no other command is for the loop
                found = self._tasks.pop(command.request, None)
                if found is not None:
                    self._give_up(found[0])

    def _forget(self, receive: Receive) -> None:
        """Another core has come: nothing may reach it that was for the one before, but for a session to destroy."""
        for key in [key for key in self._timers if key[0] is receive]:
            self._unset(key)
        for request, (task, whose) in list(self._tasks.items()):
            if whose is receive and isinstance(request, Watch):
                del self._tasks[request]
                self._give_up(task)

    def _give_up(self, task: asyncio.Task[None]) -> None:
        """Cancel a task. It ends in the next rounds of the loop: the loop must not be closed before that."""
        task.cancel()
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    @property
    def destroying(self) -> bool:
        """Whether the destroy of a session is in flight or will be tried again, or a session is still being created."""
        return any(_lingers(request) for request in self._tasks) or any(
            _for_a_destroy(name) for _, name in self._timers
        )

    async def keep_destroys(self, answered: Callable[[], None]) -> None:
        """End everything as `close` does, except for what destroys sessions.

        Args:
            answered: called on the loop after the answer of each such request.
        """
        self._on_answer = answered
        await self._end(keep_destroys=True)

    async def close(self) -> None:
        """End everything: no timer fires any more, and requests in flight fail, so that no call waits for ever."""
        if self._manual is not None and not self._closed:
            self._manual.unsubscribe(self._clock_moved)
        self._closed = True
        await self._end(keep_destroys=False)
        await self._watches.close()
        self._transport.close()
        await self._transport.wait_closed()

    async def _end(self, keep_destroys: bool) -> None:
        for receive, name in list(self._timers):
            if not (keep_destroys and _for_a_destroy(name)):
                self._unset((receive, name))
        pending: list[tuple[Request, Receive]] = []
        for request, (task, receive) in list(self._tasks.items()):
            if not (keep_destroys and _lingers(request)):
                del self._tasks[request]  # a task that has not begun cannot do it itself
                self._give_up(task)
                pending.append((request, receive))
        for request, (exchange, receive) in self._without_task.items():
            exchange.cancel()
            pending.append((request, receive))
        self._without_task.clear()
        self.ending()
        try:
            await asyncio.gather(*self._ending, return_exceptions=True)
        finally:  # other code may cancel this, too
            for request, receive in pending:
                receive(Answered(request, closed()))

    def ending(self) -> list[asyncio.Task[None]]:
        """Tasks that were cancelled and end in the next rounds of the loop: watches close their connections."""
        for task in self._exchanges.rest():
            self._give_up(task)
        return list(self._ending)

    def requests(self, receive: Receive) -> list[asyncio.Future[None]]:
        """The requests of a Locker in flight, without those of its queries (`info` and the like)."""
        with_task = [each for each in self._tasks.items() if each[1][1] is receive]
        without = [each for each in self._without_task.items() if each[1][1] is receive]
        return [
            *(task for request, (task, _) in with_task if not request.question),
            *(exchange.ended() for request, (exchange, _) in without if not request.question),
        ]

    # --------------------------------------------------------------------------------------- requests

    def _begin(self, receive: Receive, request: Transact) -> bool:
        """Send a transaction without a task. False: it needs one."""
        try:
            http = self._encoder.encode(request)
        except Exception:  # it comes again there, where it is reported
            return False
        told = partial(self._told, receive, request, http)
        exchange = self._exchanges.begin(http, self._timeout if request.timeout is None else request.timeout, told)
        if exchange is None:
            return False
        self._without_task[request] = exchange, receive
        return True

    def _told(self, receive: Receive, request: Request, http: HttpRequest, told: Told) -> None:
        """What came of it."""
        if told is None:
            exchange, _ = self._without_task.pop(request)
            self._start(receive, request, max(0.0, exchange.deadline - self._loop.time()))
            return
        try:
            outcome = http.decode(told) if isinstance(told, HttpResponse) else Failed(told, told.sent)
            receive(Answered(request, outcome))
        except BaseException:  # a signal handler raised it, say
            self._loop.call_soon(self._interrupted, receive, request)
            raise
        self._without_task.pop(request, None)

    def _interrupted(self, receive: Receive, request: Request) -> None:
        """The receiver of an answer was: it may not have it."""
        found = self._without_task.pop(request, None)
        if found is not None:
            found[0].cancel()
            receive(_broken_off(request, "interrupted"))

    def _start(self, receive: Receive, request: Request, timeout: float | None) -> None:
        """Send a request by a task."""
        task = self._loop.create_task(self._send_and_report(receive, request, timeout))
        self._tasks[request] = task, receive
        task.add_done_callback(partial(self._ended, receive, request))

    async def _send_and_report(self, receive: Receive, request: Request, timeout: float | None) -> None:
        receive(await self._answer(request, timeout))
        self._tasks.pop(request, None)
        if self._on_answer is not None:
            self._on_answer()

    def _ended(self, receive: Receive, request: Request, task: asyncio.Task[None]) -> None:
        """A request is answered also if its task was cancelled or interrupted (rule 7).

        The end of a loop cancels all tasks, and a signal handler may raise an exception in one.
        """
        # A request that a command cancelled is not in `_tasks` any more. (An eager task that has reported may be.)
        if self._tasks.pop(request, None) is not None and (task.cancelled() or task.exception() is not None):
            what = "cancelled with all tasks of its event loop" if task.cancelled() else "interrupted"
            receive(_broken_off(request, what))

    async def _answer(self, request: Request, timeout: float | None) -> Answered:
        try:
            if isinstance(request, Watch):
                return Answered(request, await self._watches.watch(request))
            http = self._encoder.encode(request)
            if not _keeps_alive(request):
                response = await self._transport.send(http, timeout)
            else:
                fresh = isinstance(request, RenewSession) and request.fresh
                patience = RENEWAL_WAIT * (timeout or 0.0)
                response = await self._lanes.send(http, timeout, fresh=fresh, patience=patience)
            return Answered(request, http.decode(response))
        except ConsulUnavailable as error:
            return Answered(request, Failed(error, error.sent))
        except ConsulLockerError as error:  # it could not be encoded
            return Answered(request, Failed(error, False))
        except Exception as error:  # even for a fault of ours: the call that waits must end
            self.report("a request failed unexpectedly", error)
            unexpected = ConsulUnavailable(f"unexpected failure: {error!r}", cause=error, sent=True)
            return Answered(request, Failed(unexpected, True))

    # ----------------------------------------------------------------------------------------- timers

    def _set(self, receive: Receive, command: SetTimer) -> None:
        key = (receive, command.name)
        self._unset(key)

        def fire() -> None:
            if self._timers.get(key) is timer:
                if self._clock.now() < timer.at:  # the loop's clock is another one, and rounds
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

    def _unset(self, key: tuple[Receive, TimerName]) -> None:
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
