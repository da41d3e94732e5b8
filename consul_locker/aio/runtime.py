"""How the commands of the core are carried out on an event loop: all of them there, in the order of the core.

No mutex is needed: a step of the core and all that follows from it happen in one round of the loop. Requests and
timers are left to the `IoLoop`, signals to the `ObserverTask`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from ..core.locker import LockerCore
from ..core.messages import Abandoned, Call, Command, Emit, Event, LeaseEnded, Log, Settle
from ..runtime.clock import Clock
from ..runtime.delivery import Sender
from ..runtime.io_loop import IoLoop
from ..runtime.locker import raisable
from .observers import ObserverTask, refuse_wait
from .state_waits import StateWaits

__all__ = ["AsyncRuntime"]

_LOGGER = logging.getLogger("consul_locker")


class AsyncRuntime(Sender):
    """The runtime of one Locker.

    Args:
        core: the Locker's; touched on the loop only.
        sender: the Locker, as the sender of its signals.
        clock: of the core.
        io_loop, delivery: the factory's.
    """

    def __init__(
        self, core: LockerCore, sender: Any, clock: Clock, io_loop: IoLoop, delivery: ObserverTask
    ) -> None:
        self._core = core
        self.belong_to(sender)
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._io_loop = io_loop
        self._delivery = delivery
        self._receive: Callable[[Event], None] = self.step  # one object: the `IoLoop` tells Lockers apart by it
        self._events: deque[Event] = deque()
        self._commands = core.commands
        self._interrupted: Event | Command | None = None  # what was interrupted last, and is tried once more
        self._stepping = False
        self._queued = 0  # the number of the last job that was queued for the observers
        self.state_waits = StateWaits()

    def begin(self) -> None:
        """The first step of the core."""
        self._core.begin(self._clock.now())
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
        waiter: asyncio.Future[Settle] = asyncio.get_running_loop().create_future()
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

    def requests(self) -> list[asyncio.Task[None]]:
        """The requests of this Locker in flight, without those of its queries (`info` and the like)."""
        return [
            task
            for request, (task, receive) in self._io_loop._tasks.items()
            if receive is self._receive and getattr(request, "call", None) is None
        ]

    def ending(self) -> list[asyncio.Task[None]]:
        """The requests that were cancelled and end in the next rounds of the loop: watches close their connections."""
        return list(self._io_loop._ending)

    def step(self, event: Event) -> None:
        """Give the core an event and do what follows; during a step (from a finalizer, say) after its end."""
        self._events.append(event)
        if not self._stepping:
            self._run_steps()

    def _run_steps(self) -> None:
        """Take a step for each event, and carry out what is commanded; first what an exception interrupted before."""
        self._stepping = True
        try:
            self._carry_out()
            while self._events:
                self._take_step(self._events[0])
                self._events.popleft()
                self._carry_out()
        except BaseException:
            self._loop.call_soon(self._run_steps)
            raise
        finally:
            self._stepping = False

    def _take_step(self, event: Event) -> None:
        try:
            self._core.step(event, self._clock.now())
        except BaseException:
            if isinstance(event, Call) or event is self._interrupted:
                self._events.popleft()  # a call: `submit` reports it; else: it was interrupted twice, so it is dropped
            else:
                self._interrupted = event
            raise

    def queue_for_observers(self, job: Callable[[], object]) -> None:
        """Queue a job for the observers."""
        self._queued = self._delivery.put(job)

    # --------------------------------------------------------------------------------------- commands

    def _carry_out(self) -> None:
        """Carry out the commands. Each is taken out after it is done, so an interrupted one is done again."""
        while self._commands:
            command = self._commands[0]
            try:
                self._do(command)
            except BaseException:
                if command is self._interrupted:
                    self._commands.popleft()  # interrupted twice: it is dropped
                self._interrupted = command
                raise
            self._commands.popleft()

    def _do(self, command: Command) -> None:
        if isinstance(command, Emit):
            self._queued = self._delivery.emit(command.signal, self._sender, command.facts) or self._queued
            if command.signal == "state_changed":
                self.state_waits.reached(command.facts["to_state"])
        elif isinstance(command, Settle):
            waiter = command.call.waiter
            if waiter is not None and not waiter.done():
                waiter.set_result(command)
        elif isinstance(command, LeaseEnded):
            command.lease.wake()
        elif isinstance(command, Log):
            _LOGGER.log(command.level, "%s", command.text)
        else:
            self._io_loop.carry_out(self._receive, (command,))
