"""How the commands of the core are carried out on an event loop: all of them there, in the order of the core.

No mutex is needed: a step of the core and all that follows from it happen in one round of the loop. Requests and
timers are left to the `IoLoop`, signals to the `ObserverTask`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from ..core.calls import LockCall, ReleaseCall
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
)
from ..runtime.clock import Clock
from ..runtime.delivery import Sender, has_receivers
from ..runtime.fail_stop import FailStop
from ..runtime.io_loop import IoLoop
from ..runtime.locker import raisable
from .observers import ObserverTask, refuse_wait
from .state_waits import StateWaits

__all__ = ["AsyncRuntime"]

_LOGGER = logging.getLogger("consul_locker")

#: The pause before a new beginning that was broken off, too, is tried again, in seconds: if no chance was at work but a
#: fault, the loop must have time for others.
PAUSE = 0.1


class AsyncRuntime(Sender):
    """The runtime of one Locker.

    Args:
        make_core: makes a core of the Locker; cores are touched on the loop only.
        sender: the Locker, as the sender of its signals.
        clock: of the core.
        io_loop, delivery: the factory's.
    """

    def __init__(
        self,
        make_core: Callable[[], LockerCore],
        sender: Any,
        clock: Clock,
        io_loop: IoLoop,
        delivery: ObserverTask,
    ) -> None:
        self._fail_stop = FailStop(make_core, self.queue_for_observers)
        self.belong_to(sender)
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._io_loop = io_loop
        self._delivery = delivery
        self._receive: Callable[[Event], None] = self.step  # one object: the `IoLoop` tells Lockers apart by it
        self._events: deque[Event] = deque()
        self._stepping = False
        self._gathering = False  # whether a step is to come for what is gathered
        self._queued = 0  # the number of the last job that was queued for the observers
        self.state_waits = StateWaits()

    def begin(self) -> None:
        """The first step of the core."""
        self.core.begin(self._clock.now())
        self._run_steps()

    # ------------------------------------------------------------------------------------------ calls

    def submit(self, call: Call) -> None:
        """Submit a call without waiting for its answer."""
        try:
            self.step(call)
        except BaseException:  # a signal handler raised it, say
            self._events.append(Abandoned(call))
            raise

    async def ask(self, call: Call) -> Any:
        """Submit a call and wait for its answer. If its task is cancelled, it leaves nothing behind (rule 7).

        Raises:
            RuntimeError: inside an observer.
            ConsulLockerError: the call's answer.
        """
        refuse_wait()
        waiter: asyncio.Future[Settle] = self._loop.create_future()
        call.waiter = waiter
        queued = self._queued
        self.submit(call)
        try:
            answer = await waiter
            if self._queued != queued:
                await self._delivery.flush(self._queued)
        except asyncio.CancelledError:
            self.step(Abandoned(call))
            raise
        if answer.error is not None:
            raise raisable(answer.error)
        return answer.value

    def requests(self) -> list[asyncio.Future[None]]:
        """The requests of this Locker in flight, without those of its queries (`info` and the like)."""
        return self._io_loop.requests(self._receive)

    def ending(self) -> list[asyncio.Task[None]]:
        """The requests that were cancelled and end in the next rounds of the loop: watches close their connections."""
        return self._io_loop.ending()

    def step(self, event: Event) -> None:
        """Give the core an event and do what follows; during a step (from a finalizer, say) after its end."""
        self._events.append(event)
        if self._stepping:
            return
        if isinstance(event, (LockCall, ReleaseCall)) and self.core.batch.under_way:
            self._gather()
        else:
            self._run_steps()

    def _gather(self) -> None:
        """Take a step at the end of this round of the loop, or of the next: what comes until then goes together."""
        if not self._gathering:
            self._gathering = True
            self._loop.call_soon(self._gathered)

    def _gathered(self) -> None:
        self._gathering = False
        self.step(GATHERED)

    def _run_steps(self) -> None:
        """Take a step for each event, and carry out what is commanded.

        An exception, of a signal handler say, breaks a step off. Then another core comes in the place of this one, in
        the next round of the loop at the latest.
        """
        self._stepping = True
        fail_stop = self._fail_stop
        pause = 0.0
        try:
            if fail_stop.broken:
                pause = PAUSE
                fail_stop.replace(self._clock.now())
                self._carry_out()
                fail_stop.end()
                pause = 0.0
            elif self.core.commands:  # of the very first step
                self._carry_out()
            while self._events:
                event = self._events[0]
                fail_stop.begin(event)
                self._events.popleft()
                answer = isinstance(event, Answered) and self.core.batch.under_way > 1
                fail_stop.run(event, self._clock.now(), bool(self._events) or answer)
                self._carry_out()
                fail_stop.end()
                if answer:
                    self._gather()  # those whose locks it brought may come again
        except BaseException:
            self._loop.call_later(pause, self._run_steps)
            raise
        finally:
            self._stepping = False

    def queue_for_observers(self, job: Callable[[], object]) -> None:
        """Queue a job for the observers."""
        self._queued = self._delivery.put(job)

    # --------------------------------------------------------------------------------------- commands

    def _carry_out(self) -> None:
        commands = self.core.commands
        while commands:
            self._do(commands.popleft())

    def _do(self, command: Command) -> None:
        if isinstance(command, Settle):
            waiter = command.call.waiter
            if waiter is not None and not waiter.done():
                waiter.set_result(command)
            self._fail_stop.answered(command.call)
        elif isinstance(command, Emit):
            signal, facts, sender = command.signal, command.facts, self._sender
            job = partial(self._delivery.call, signal, sender, facts) if has_receivers(signal, sender) else None
            self._fail_stop.tell(command, job)
            if signal == "state_changed":
                self.state_waits.reached(facts["to_state"])
        elif isinstance(command, LeaseEnded):
            command.lease.wake()
        elif isinstance(command, Log):
            _LOGGER.log(command.level, "%s", command.text)
        else:
            self._io_loop.carry_out(self._receive, (command,))
