"""How the threaded face carries out what the core says: who sends, who waits, who is woken.

A blocked caller who owns an operation of a transaction *carries* it: he sends it himself, for all who are in
it, so that one caller alone pays no thread switch (as the leader of a write group does in RocksDB). After
his own outcome he carries at most one more, then hands over to a caller who still waits; when none is
blocked, the I/O thread carries.

A caller who sleeps can be interrupted by a signal handler that calls the Locker: he carries nothing until that call is
over. What else may come in between, and may not wait then, is in `consul_locker.may_wait`.

The order of things: under a Locker's mutex the core takes a step, and what must stay in order (signals,
timers, requests) is put into queues that never wait; everything else happens outside.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import TYPE_CHECKING, Any

from ..core.calls import LOCKS, RELEASES
from ..core.locker import LockerCore
from ..core.messages import (
    Abandoned,
    Answered,
    Call,
    CancelRequest,
    CancelTimer,
    Command,
    Emit,
    Event,
    LeaseEnded,
    Log,
    SetTimer,
    Settle,
    TimerFired,
)
from ..core.requests import Failed, Outcome, Request, Transact
from ..errors import ConsulLockerError, ConsulUnavailable
from ..may_wait import INSIDE
from ..runtime.clock import Clock
from ..runtime.delivery import heard
from ..runtime.locker import listed, to_raise
from .observers import Delivery, write
from .state_waits import StateWaits
from .waiter import Waiter

if TYPE_CHECKING:
    from ..client.blocking import BlockingTransport
    from ..client.encode import Encoder
    from .io_thread import IoThread

__all__ = ["Carrying"]

_LOGGER = logging.getLogger("consul_locker")

#: What waits for a transaction of the batch. While this thread carries one, no other goes out.
BATCHED = LOCKS | RELEASES
#: How many transactions a caller carries past his own outcome, before he hands over.
EXTRA_CARRIES = 1
#: Calls that end something, and raise nothing because Consul cannot be reached.
ENDS = frozenset(("leave", "stop"))


class Carrying:
    """The runtime of one Locker.

    Args:
        core: the Locker's; touched under the mutex only.
        sender: the Locker, as the sender of its signals.
        clock: of the core.
        encoder, transport, io_thread, delivery: the factory's.
        timeout: the limit on one request, in seconds.
    """

    def __init__(
        self,
        core: LockerCore,
        sender: Any,
        clock: Clock,
        encoder: Encoder,
        transport: BlockingTransport,
        io_thread: IoThread,
        delivery: Delivery,
        timeout: float,
    ) -> None:
        self._core = core
        self._sender = sender
        self._clock = clock
        self._encoder = encoder
        self._transport = transport
        self._io_thread = io_thread
        self._delivery = delivery
        self._timeout = timeout
        self._mutex = threading.Lock()
        self._receive: Callable[[Event], None] = self.step  # one bound method: the exchange knows the Locker by it
        self.state_waits = StateWaits()
        self._dead: ConsulUnavailable | None = None  # what every call is told, once the I/O thread has died
        self._told = 0  # how much was put before the observers,
        self._heard = 0  # and how much of it they have heard

    def begin(self) -> None:
        """The first step of the core."""
        rest: deque[Command] = deque()
        with self._mutex:
            self._core.begin(self._clock.now())
            self._sort(rest)
        self._carry_out(rest, deque(), None)

    def refuse_inside(self, verb: str = "") -> None:
        """Refuse what would wait where the library itself waits for this thread.

        Args:
            verb: what is called; empty for what may wait for anything.

        Raises:
            RuntimeError: this is such a place.
        """
        advice = f"use submit_{verb} there" if verb in ("lock", "release") else "let another thread do it"
        INSIDE.refuse(self._delivery.here, advice, batched=verb in BATCHED or not verb)

    # ------------------------------------------------------------------------------------------ calls

    def submit(self, call: Call) -> Future[Any]:
        """Submit a call; its answer comes as a future."""
        future: Future[Any] = Future()
        call.waiter = future

        def cancelled(future: Future[Any]) -> None:
            if future.cancelled():
                self.step(Abandoned(call))

        future.add_done_callback(cancelled)
        try:
            self.step(call)
        except BaseException:  # out of nowhere; nobody gets the future
            self._io_thread.do(future.cancel)
            raise
        return future

    def ask(self, call: Call) -> Any:
        """Submit a call and wait for its answer, carrying transactions meanwhile.

        Raises:
            RuntimeError: it would wait for this very thread.
            ConsulLockerError: the call's answer.
        """
        leases = call.argument if call.verb == "leave" else None  # the core puts something else in their place
        if call.verb == "leave" and (INSIDE.busy or self._delivery.here):
            self.step(call)  # of a generator, say, that the collector throws away: leaving a hold raises nothing
            return None
        self.refuse_inside(call.verb)
        waiter = call.waiter = Waiter()
        beneath, carrying = INSIDE.asleep, INSIDE.carrying
        try:
            INSIDE.asleep, INSIDE.carrying = None, True
            if beneath is not None:
                self._pass_on(beneath)
            self._wait_for(call, waiter, carrying)
            self._pass_on(waiter)
            INSIDE.asleep, INSIDE.carrying = beneath, carrying
            if beneath is not None:
                beneath.reopen()
            if waiter.error is None:
                return waiter.value
        except BaseException as error:
            # Interrupted (KeyboardInterrupt, a signal handler that raises): leave nothing behind.
            INSIDE.asleep, INSIDE.carrying = beneath, carrying
            clean_up = partial(self._clean_up, call, leases, beneath, error)
            try:
                clean_up()
            except BaseException:  # once more, or for want of stack
                self._io_thread.do(clean_up)
            raise
        raise to_raise(waiter.error)

    def _wait_for(self, call: Call, waiter: Waiter, carrying: bool) -> None:
        """Submit a call and wait until it is answered, and what the observers are to hear of it is heard."""
        self.step(call, call)
        while True:
            request = waiter.take()
            if request is not None:
                self.step(Answered(request, self._carry(request)), call)
            elif waiter.done:
                break
            else:
                INSIDE.asleep, INSIDE.carrying = waiter, False
                waiter.sleep()
                INSIDE.asleep, INSIDE.carrying = None, True
        if self._heard != self._told:
            INSIDE.carrying = carrying  # there is nothing more to carry
            self._delivery.flush()

    def _clean_up(self, call: Call, leases: Any, beneath: Waiter | None, error: BaseException) -> None:
        """A blocked caller was interrupted, anywhere. It may come twice.

        Args:
            call: what it asked.
            leases: those that it gives back; None for other calls.
            beneath: whom the call itself had interrupted.
            error: what interrupted it.
        """
        waiter: Waiter = call.waiter
        self._pass_on(waiter)
        if beneath is not None:
            self._pass_on(beneath)
            beneath.reopen()
        if waiter.carries is not None:  # the others who are in it must not hang for it
            unknown = ConsulUnavailable(f"the request was interrupted: {error!r}", sent=True)
            self.step(Answered(waiter.carries, Failed(unknown, True)))
        self.step(Abandoned(call))
        if waiter.value and call.verb in ("hold", "hold_many"):  # granted, for a body that will never run
            leases = listed(waiter.value)
        if leases:
            self.step(Call("leave", call.ids, argument=leases))
        elif call.verb == "stop":
            self.step(Call("stop"))  # a stop is final

    def let_go(self, leases: list[Any]) -> None:
        """End a hold that its caller was kept from ending."""
        self._io_thread.do(partial(self.step, Call("leave", tuple(lease.id for lease in leases), argument=leases)))

    def give_up(self, call: Call, deadline: float) -> None:
        """Wait for a call submitted by `submit` until a moment of the monotonic clock, then let it go."""
        future: Future[Any] = call.waiter
        try:
            future.exception(max(0.0, deadline - time.monotonic()))
        except FutureTimeout:
            future.cancel()  # its limit is on a clock that may stand still

    def step(self, event: Event, me: Call | None = None, again: bool = True) -> None:
        """Give the core an event and do what follows.

        Args:
            event: what happened.
            me: the call of this thread, when it is blocked and can carry.
            again: whether an event that could not be given is given once more, by the I/O thread.
        """
        if INSIDE.stepping:
            INSIDE.later.append(partial(self.step, event))
            return
        given = False
        rest: deque[Command] = deque()
        futures: deque[Settle] = deque()
        try:
            INSIDE.stepping = True
            with self._mutex:
                if self._dead is not None and isinstance(event, Call) and event.verb not in ENDS:
                    rest.append(Settle(event, None, self._dead))
                else:
                    self._core.step(event, self._clock.now())
                given = True
                self._sort(rest)
            INSIDE.stepping = False
            self._carry_out(rest, futures, me)
            while INSIDE.later:
                INSIDE.later.popleft()()
        except BaseException:  # out of nowhere: a signal handler raised it, or the stack is too deep
            INSIDE.stepping = False
            if again:
                # Of a call that somebody waits for, he says himself that it is abandoned.
                anew = None if given or (isinstance(event, Call) and event.waiter is not None) else event
                self._io_thread.do(partial(self._go_on, anew, rest, futures, INSIDE.later.copy()))
                INSIDE.later.clear()
            raise

    def _go_on(
        self,
        event: Event | None,
        rest: deque[Command],
        futures: deque[Settle],
        later: Iterable[Callable[[], None]],
    ) -> None:
        """Do the rest of a step that broke off, elsewhere.

        Args:
            event: what happened, unless the core has been told.
            rest: what is to be done yet.
            futures: what is to be set yet.
            later: what waited for the end of the step.
        """
        if event is not None:
            self.step(event, again=False)
        with self._mutex:
            self._sort(rest)
        self._carry_out(rest, futures, None)
        for job in later:
            job()

    def io_died(self, error: ConsulUnavailable) -> None:
        """The I/O thread has ended otherwise than by `IoThread.close`: no timer fires, nothing is renewed any more.

        Every call that waits is answered with an error, and so is every later one (rule 7); the Locker is stopped.
        """
        rest: deque[Command] = deque()
        INSIDE.stepping = True
        try:
            with self._mutex:
                self._dead = error
                for call in self._core.unanswered():
                    if call.verb not in ENDS:
                        self._core.step(Abandoned(call), self._clock.now())
                        rest.append(Settle(call, None, error))
                self._core.step(Call("stop"), self._clock.now())
                self._core.step(TimerFired(("stop",)), self._clock.now())  # nobody answers the destroy of the session
                self._sort(rest)
        finally:
            INSIDE.stepping = False
        self._carry_out(rest, deque(), None)
        self.state_waits.end()

    def have_heard(self, job: Callable[[], None]) -> None:
        """Put something before the observers. Only under the mutex, where the core is at work."""
        self._told += 1
        self._delivery.put(partial(self._hear, job, self._told))

    def _hear(self, job: Callable[[], None], number: int) -> None:
        try:
            job()
        finally:
            self._heard = number

    # --------------------------------------------------------------------------------------- commands

    # Each command is taken out of its queue once it is done. So after an exception out of nowhere none is lost; the one
    # that was being done may be done again.

    def _sort(self, rest: deque[Command]) -> None:
        """Under the mutex: queue what must stay in order; the ``rest`` is to be done outside."""
        commands = self._core.commands
        while commands:
            command = commands[0]
            if isinstance(command, Emit):
                if heard(command.signal, self._sender):
                    self.have_heard(partial(self._delivery.tell, command.signal, self._sender, command.facts))
                if command.signal == "state_changed":
                    rest.append(command)
            elif isinstance(command, Log):
                self._delivery.log(command.level, command.text)
            elif isinstance(command, (SetTimer, CancelTimer, CancelRequest)) or (
                isinstance(command, Request) and not (isinstance(command, Transact) and command.calls)
            ):
                self._io_thread.put(self._receive, command)
            else:
                rest.append(command)
            commands.popleft()

    def _carry_out(self, commands: deque[Command], futures: deque[Settle], me: Call | None) -> None:
        """Outside the mutex: answer calls, find carriers, wake whoever waits.

        Args:
            commands: what is to be done; empty afterwards.
            futures: what is to be set is put there, until it is.
            me: the call of this thread, when it is blocked and can carry.
        """
        while commands:
            command = commands[0]
            if isinstance(command, Settle):
                waiter = command.call.waiter
                if isinstance(waiter, Waiter):
                    waiter.value, waiter.error = command.value, command.error
                    waiter.done = True
                    if command.call is not me:
                        waiter.wake()
                elif isinstance(waiter, Future):
                    futures.append(command)
            elif isinstance(command, Transact):
                self._find_carrier(command, me)
            elif isinstance(command, LeaseEnded):
                command.lease.wake()
            else:
                assert isinstance(command, Emit)  # of state-changed; no other comes here
                self.state_waits.reached(command.facts["to_state"])
            commands.popleft()
        if futures:
            self._delivery.settle(partial(self._resolve, futures))
        self._io_thread.wake()
        self._delivery.wake()

    def _resolve(self, settled: deque[Settle]) -> None:
        """Set futures, in the thread of the observers and after the signals: their callbacks are strangers too."""
        while True:
            try:
                command = settled.popleft()
            except IndexError:  # another thread may be at it too
                return
            future: Future[Any] = command.call.waiter
            try:
                if future.done() and not future.cancelled():
                    continue  # to set it may be done again, as any command may
                if not future.set_running_or_notify_cancel():
                    self.step(Abandoned(command.call))  # he who cancelled it may have been kept from saying so
                elif command.error is not None:
                    future.set_exception(command.error)
                else:
                    future.set_result(command.value)
            except BaseException:  # of a callback: a SystemExit, say. The other futures are to be done all the same.
                write(_LOGGER.exception, "a callback of a future failed")

    def _find_carrier(self, request: Transact, me: Call | None) -> None:
        """Give a transaction to a blocked caller who owns an operation of it, else to the I/O thread."""
        if me is not None:
            mine: Waiter = me.waiter
            if not mine.done and me in request.calls and self._has_time(me):
                mine.offer(request)
                return
            if mine.done and mine.extra < EXTRA_CARRIES:
                mine.extra += 1
                mine.offer(request)
                return
        for call in request.calls:
            waiter = call.waiter
            if isinstance(waiter, Waiter) and not waiter.done and self._has_time(call) and waiter.offer(request):
                waiter.wake()
                return
        self._hand_to_io(request)

    def _pass_on(self, waiter: Waiter) -> None:
        """A caller leaves, or is interrupted: what he was offered goes to the I/O thread."""
        waiter.closed = True
        while waiter.offers:
            for request in tuple(waiter.offers):
                self._hand_to_io(request)  # before it is taken out: nothing is lost, and the exchange sends it once
                waiter.withdraw(request)

    def _hand_to_io(self, request: Transact) -> None:
        self._io_thread.put(self._receive, request)
        self._io_thread.wake()

    def _has_time(self, call: Call) -> bool:
        """Whether a caller can wait for a whole request without missing his own limit."""
        limit = call.deadline
        if call.wait_until is not None and (limit is None or call.wait_until < limit):
            limit = call.wait_until
        return limit is None or limit - self._clock.now() >= self._timeout

    def _carry(self, request: Transact) -> Outcome:
        """Send a transaction from this thread."""
        try:
            http = self._encoder.encode(request)
            return http.decode(self._transport.send(http, request.timeout))
        except ConsulUnavailable as error:
            return Failed(error, error.sent)
        except ConsulLockerError as error:
            return Failed(error, False)
