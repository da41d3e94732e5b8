"""How the commands of the core are carried out on threads.

Under a Locker's mutex the core takes a step. Commands whose order matters (signals, timers, requests) are put into
queues there, and a put never waits. All other commands are carried out after the mutex is released.

A blocked call can be the carrier of a transaction (see `consul_locker.threads.carriers`).
A call that sleeps can be interrupted by a signal handler that calls the Locker: it carries nothing until that call is
over. `consul_locker.may_wait` says what else can interrupt a call, and what may not wait then.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import TYPE_CHECKING, Any

from ..core.calls import LeaveHold, Lock, LockCall, Release, ReleaseCall, Stop
from ..core.locker import LockerCore
from ..core.messages import (
    GATHERED,
    Abandoned,
    Answered,
    Call,
    Command,
    Emit,
    Event,
    LeaseEnded,
    Log,
    Settle,
    TimerFired,
)
from ..core.requests import Failed, Transact
from ..errors import ConsulUnavailable
from ..may_wait import THIS_THREAD
from ..runtime.clock import Clock
from ..runtime.delivery import Sender, has_receivers
from ..runtime.fail_stop import FailStop
from ..runtime.holds import as_list
from ..runtime.locker import raisable
from .carriers import Carriers, gather
from .observers import ObserverThread, write
from .state_waits import StateWaits
from .waiter import Waiter

if TYPE_CHECKING:
    from ..client.blocking import BlockingTransport
    from ..client.encode import Encoder
    from .io_thread import IoThread

__all__ = ["ThreadRuntime"]

_LOGGER = logging.getLogger("consul_locker")

#: The calls that wait for a transaction of the batch. While this thread sends one, no other goes out.
BATCHED = (LockCall, ReleaseCall)
#: Calls that end something. They raise nothing when Consul cannot be reached.
ENDS = (LeaveHold, Stop)


class ThreadRuntime(Sender):
    """The runtime of one Locker.

    Args:
        make_core: makes a core of the Locker; cores are touched under the mutex only.
        sender: the Locker, as the sender of its signals.
        clock: of the core.
        encoder, transport, io_thread, delivery: the factory's.
        timeout: the limit on one request, in seconds.
    """

    def __init__(
        self,
        make_core: Callable[[], LockerCore],
        sender: Any,
        clock: Clock,
        encoder: Encoder,
        transport: BlockingTransport,
        io_thread: IoThread,
        delivery: ObserverThread,
        timeout: float,
    ) -> None:
        self._fail_stop = FailStop(make_core, self.queue_for_observers)
        self.belong_to(sender)
        self._clock = clock
        self._io_thread = io_thread
        self._delivery = delivery
        self._mutex = threading.Lock()
        self._receive: Callable[[Event], object] = self.step  # one object: the `IoLoop` tells Lockers apart by it
        self._carriers = Carriers(self._receive, clock, encoder, transport, io_thread, timeout)
        self.state_waits = StateWaits()
        self._dead: ConsulUnavailable | None = None  # the error of every call after the I/O thread has died
        self._gathering = False  # whether a caller waits a moment for others, before what they want is sent
        self._queued = 0  # how many jobs were queued for the observers,
        self._delivered = 0  # and how many of them are done

    def begin(self) -> None:
        """The first step of the core."""
        with self._mutex:
            self.core.begin(self._clock.now())
            rest = self._sort()
        self._carry_out(rest, None)

    def refuse_wait(self, call: Call | None = None) -> None:
        """Refuse a call that would wait while the library itself waits for this thread.

        Args:
            call: that would wait; None for one that may wait for anything.

        Raises:
            RuntimeError: it must not wait here.
        """
        if not (THIS_THREAD.must_not_wait or self._delivery.here):
            return
        submitted = isinstance(call, (Lock, Release))
        advice = f"use submit_{call.verb} there" if call is not None and submitted else "let another thread do it"
        THIS_THREAD.refuse_wait(self._delivery.here, advice, batched=call is None or isinstance(call, BATCHED))

    # ------------------------------------------------------------------------------------------ calls

    def submit(self, call: Call) -> Future[Any]:
        """Submit a call.

        Returns:
            A future of its answer.
        """
        future: Future[Any] = Future()
        call.waiter = future

        def cancelled(future: Future[Any]) -> None:
            if future.cancelled():
                self.step(Abandoned(call))

        future.add_done_callback(cancelled)
        try:
            self.step(call)
        except BaseException:  # a signal handler raised it, say; no caller gets the future
            self._io_thread.do(future.cancel)
            raise
        return future

    def ask(self, call: Call) -> Any:
        """Submit a call and wait for its answer, carrying transactions meanwhile.

        Raises:
            RuntimeError: it would wait for its own thread.
            ConsulLockerError: the call's answer.
        """
        if isinstance(call, LeaveHold) and (THIS_THREAD.must_not_wait or self._delivery.here):
            self.step(call)  # the garbage collector closes a generator, say: leaving a hold must not raise there
            return None
        self.refuse_wait(call)
        waiter = call.waiter = Waiter()
        below, in_call = THIS_THREAD.sleeps_in, THIS_THREAD.in_call
        try:
            THIS_THREAD.sleeps_in, THIS_THREAD.in_call = None, True
            if below is not None:
                self._carriers.take_back(below)
            self._wait_for(call, waiter, in_call)
            self._carriers.take_back(waiter)
            THIS_THREAD.sleeps_in, THIS_THREAD.in_call = below, in_call
            if below is not None:
                below.reopen()
            if waiter.error is None:
                return waiter.value
        except BaseException as error:
            # Interrupted by a KeyboardInterrupt, or a signal handler that raises: leave nothing behind.
            THIS_THREAD.sleeps_in, THIS_THREAD.in_call = below, in_call
            clean_up = partial(self._clean_up, call, below, error)
            try:
                clean_up()
            except BaseException:  # it is interrupted again, or the stack is too deep
                self._io_thread.do(clean_up)
            raise
        raise raisable(waiter.error)

    def _wait_for(self, call: Call, waiter: Waiter, in_call: bool) -> None:
        """Submit a call, and wait until it is answered and its signals are delivered."""
        if self.step(call, call, gathers=isinstance(call, BATCHED)):
            gather(self.core.batch)
            self.step(GATHERED, call)
        while True:
            request = waiter.take()
            if request is not None:
                self.step(Answered(request, self._carriers.send(request)), call)
            elif waiter.done:
                break
            else:
                THIS_THREAD.sleeps_in, THIS_THREAD.in_call = waiter, False
                waiter.sleep()
                THIS_THREAD.sleeps_in, THIS_THREAD.in_call = None, True
        if self._delivered != self._queued:
            THIS_THREAD.in_call = in_call  # there is no transaction to send any more
            self._delivery.flush()

    def _clean_up(self, call: Call, below: Waiter | None, error: BaseException) -> None:
        """Leave nothing behind of a blocked call that was interrupted, wherever that was. May be done twice.

        Args:
            call: the call.
            below: the waiter of the call that this one had interrupted.
            error: what interrupted it.
        """
        waiter: Waiter = call.waiter
        self._carriers.take_back(waiter)
        if below is not None:
            self._carriers.take_back(below)
            below.reopen()
        if waiter.carries is not None:  # the other calls that are in it must not wait for ever
            unknown = ConsulUnavailable(f"the request was interrupted: {error!r}", sent=True)
            self.step(Answered(waiter.carries, Failed(unknown, True)))
        self.step(Abandoned(call))
        if isinstance(call, LockCall) and call.exclusive and waiter.value:  # granted, but its body will never run
            self.step(LeaveHold(as_list(waiter.value)))
        elif isinstance(call, LeaveHold):
            self.step(LeaveHold(call.leases))
        elif isinstance(call, Stop):
            self.step(Stop())  # a stop is final

    def leave_later(self, leases: list[Any]) -> None:
        """End a hold whose caller was interrupted before it could; the I/O thread does it."""
        self._io_thread.do(partial(self.step, LeaveHold(leases)))

    def wait_until(self, call: Call, deadline: float) -> None:
        """Wait for a call of `submit` until a moment of the monotonic clock; cancel it then."""
        future: Future[Any] = call.waiter
        try:
            future.exception(max(0.0, deadline - time.monotonic()))
        except FutureTimeout:
            future.cancel()  # its own limit is on the factory's clock, which a test may never move

    def step(self, event: Event | None, me: Call | None = None, *, gathers: bool = False) -> bool:
        """Give the core an event and do what follows.

        If an exception breaks it off, another core comes with the next step, or on the I/O thread.

        Args:
            event: what happened; None: nothing but that a step was broken off.
            me: the call of this thread, if it is blocked and can carry.
            gathers: whether what is wanted may be sent a little later, together with what others want.

        Returns:
            Whether it was not sent: the step `GATHERED` of this thread must follow, whatever comes between.
        """
        if THIS_THREAD.in_step:
            THIS_THREAD.after_step.append(partial(self.step, event))
            return False
        begins = False
        begun = False
        core: LockerCore | None = None  # that of this step, as long as it can be broken off
        try:
            THIS_THREAD.in_step = True
            with self._mutex:
                now = self._clock.now()
                if self._fail_stop.broken:
                    self._fail_stop.replace(now)
                core, begun = self.core, True
                begins = gathers and not self._gathering and self.core.batch.expects
                self._gathering = gathers and (begins or self._gathering)
                rest = self._take_step(event, now, self._gathering)
            THIS_THREAD.in_step = False
            self._carry_out(rest, me)
            core = None
            while THIS_THREAD.after_step:
                THIS_THREAD.after_step.popleft()()
            return begins
        except BaseException:
            THIS_THREAD.in_step = False
            later, THIS_THREAD.after_step = THIS_THREAD.after_step, deque()
            if core is not None:
                self._fail_stop.break_off(core)
            elif not (begun or event is None or (isinstance(event, Call) and event.waiter is not None)):
                later.appendleft(partial(self.step, event))  # who waits for a call reports itself that it is abandoned
            if event is not None:  # else it would be tried for ever
                later.appendleft(partial(self.step, None))
            for job in later:
                self._io_thread.do(job)
            raise

    def _take_step(self, event: Event | None, now: float, more: bool) -> deque[Command]:
        """Under the mutex: a step of the core. Returns what is to be done outside. ``more``: as for the core."""
        dead: Settle | None = None
        if event is not None:
            if self._dead is not None and isinstance(event, Call) and not isinstance(event, ENDS):
                dead = Settle(event, None, self._dead)
            else:
                self._fail_stop.begin(event)
                self._fail_stop.run(event, now, more)
        rest = self._sort()
        if dead is not None:
            rest.append(dead)
        self._fail_stop.end()
        return rest

    def io_thread_died(self, error: ConsulUnavailable) -> None:
        """The I/O thread has died: from now on no timer fires, and no session is renewed.

        Every call that waits, and every later one, ends with an error (rule 7); the Locker is stopped.
        """
        THIS_THREAD.in_step = True
        try:
            with self._mutex:
                now = self._clock.now()
                if self._fail_stop.broken:
                    self._fail_stop.replace(now)
                self._dead = error
                calls = [call for call in self._fail_stop.open() if not isinstance(call, ENDS)]
                # No answer to the destroy of the stop will come.
                events: list[Event] = [*map(Abandoned, calls), Stop(), TimerFired(("stop",))]
                for event in events:
                    self._fail_stop.begin(event)
                    self._fail_stop.run(event, now)
                rest = self._sort()
                self._fail_stop.end()
        finally:
            THIS_THREAD.in_step = False
        rest.extend(Settle(call, None, error) for call in calls)
        self._carry_out(rest, None)
        self.state_waits.end()

    def queue_for_observers(self, job: Callable[[], object]) -> None:
        """Queue a job for the thread of the observers. Only under the mutex, where the core takes its steps."""
        self._queued += 1
        self._delivery.put(partial(self._deliver, job, self._queued))

    def _deliver(self, job: Callable[[], object], number: int) -> None:
        try:
            job()
        finally:
            self._delivered = number

    # --------------------------------------------------------------------------------------- commands

    def _sort(self) -> deque[Command]:
        """Under the mutex: queue the commands whose order matters. Returns the others, to be carried out outside."""
        rest: deque[Command] = deque()
        commands, sender = self.core.commands, self._sender
        while commands:
            command = commands.popleft()
            kind = type(command)  # of the two that each call has, and of most others: `isinstance` takes longer
            if kind is Settle or kind is LeaseEnded or (isinstance(command, Transact) and command.calls):
                rest.append(command)
            elif isinstance(command, Emit):
                job = None
                if has_receivers(command.signal, sender):
                    job = partial(self._delivery.tell, command.signal, sender, command.facts)
                self._fail_stop.tell(command, job)
                if command.signal == "state_changed":
                    rest.append(command)
            elif isinstance(command, Log):
                self._delivery.log(command.level, command.text)
            else:
                self._io_thread.put(self._receive, command)
        return rest

    def _carry_out(self, commands: deque[Command], me: Call | None) -> None:
        """Outside the mutex: answer calls, choose carriers, wake the threads that wait. ``me`` as for `step`."""
        futures: list[Settle] = []
        for command in commands:
            if isinstance(command, Settle):
                waiter = command.call.waiter
                if isinstance(waiter, Waiter):
                    waiter.settle(command.value, command.error)
                    if command.call is not me:
                        waiter.wake()
                elif isinstance(waiter, Future):
                    futures.append(command)
                    continue
                self._fail_stop.answered(command.call)
            elif isinstance(command, Transact):
                self._carriers.choose(command, me)
            elif isinstance(command, LeaseEnded):
                command.lease.wake()
            else:
                assert isinstance(command, Emit)  # of state-changed, the only signal that comes here
                self.state_waits.reached(command.facts["to_state"])
        if futures:
            self._delivery.settle(partial(self._resolve, futures))
            for command in futures:
                self._fail_stop.answered(command.call)
        self._io_thread.wake()
        self._delivery.wake()

    def _resolve(self, settled: list[Settle]) -> None:
        """Set futures in the thread of the observers, after the signals: their callbacks are the user's code, too."""
        for command in settled:
            future: Future[Any] = command.call.waiter
            try:
                if future.done() and not future.cancelled():
                    continue  # it was set before: the step after which this follows was broken off
                if not future.set_running_or_notify_cancel():
                    self.step(Abandoned(command.call))  # its canceller may have been interrupted
                elif command.error is not None:
                    future.set_exception(command.error)
                else:
                    future.set_result(command.value)
            except BaseException:  # of a callback: SystemExit, say. The other futures must be set all the same.
                write(_LOGGER.exception, "a callback of a future failed")
