"""How the asyncio face carries out what the core says: on one loop, in the order in which it says it.

Nothing is done on another thread and no mutex is needed: a step of the core and all that follows from it happen
between two looks of the loop. Requests and timers are the `Exchange`'s, signals the `AsyncDelivery`'s.
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
from ..runtime.io_loop import Exchange
from ..runtime.locker import to_raise
from .observers import AsyncDelivery, refuse_inside

__all__ = ["AsyncCarrying"]

_LOGGER = logging.getLogger("consul_locker")


class AsyncCarrying:
    """The runtime of one Locker.

    Args:
        core: the Locker's; touched on the loop only.
        sender: the Locker, as the sender of its signals.
        clock: of the core.
        exchange, delivery: the factory's.
    """

    def __init__(
        self, core: LockerCore, sender: Any, clock: Clock, exchange: Exchange, delivery: AsyncDelivery
    ) -> None:
        self._core = core
        self._sender = sender
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._exchange = exchange
        self._delivery = delivery
        self._receive: Callable[[Event], None] = self.step  # one bound method: the exchange knows the Locker by it
        self._events: deque[Event] = deque()
        self._commands = core.commands
        self._broken: Event | Command | None = None  # what was broken off last, and is tried once more
        self._stepping = False
        self._told = 0  # the number of its last signal
        self._state_waiters: set[tuple[str, asyncio.Future[bool]]] = set()  # True: it is reached; False: it never will

    def begin(self) -> None:
        """The first step of the core."""
        self._core.begin(self._clock.now())
        self._go_on()

    # ------------------------------------------------------------------------------------------ calls

    def submit(self, call: Call) -> None:
        """Submit a call; one that has no waiter is answered in its own step."""
        try:
            self.step(call)
        except BaseException:  # out of nowhere
            self._events.append(Abandoned(call))
            raise

    async def ask(self, call: Call) -> Any:
        """Submit a call and wait for its answer; cancelled, it leaves nothing behind (rule 7).

        Raises:
            RuntimeError: inside an observer.
            ConsulLockerError: the call's answer.
        """
        refuse_inside()
        waiter: asyncio.Future[Settle] = asyncio.get_running_loop().create_future()
        call.waiter = waiter
        told = self._told
        self.submit(call)
        try:
            answer = await waiter
            if self._told != told:
                await self._delivery.flush(self._told)
        except asyncio.CancelledError:
            self.step(Abandoned(call))
            raise
        if answer.error is not None:
            raise to_raise(answer.error)
        return answer.value

    async def reach(self, state: str, limit: float | None) -> bool | None:
        """Wait for a state that the Locker is not in, be it there for a moment.

        Returns:
            True; False when no state will come any more; None when the time (in seconds) was over first.
        """
        entry = state, asyncio.get_running_loop().create_future()
        self._state_waiters.add(entry)
        try:
            done, _ = await asyncio.wait({entry[1]}, timeout=limit)
        finally:
            self._state_waiters.discard(entry)
        return entry[1].result() if done else None

    def end(self) -> None:
        """Set those going who wait for a state: none will come any more."""
        self._reached(None)

    def requests(self) -> list[asyncio.Task[None]]:
        """What this Locker has in flight, but for the questions of users."""
        return [
            task
            for request, (task, receive) in self._exchange._tasks.items()
            if receive is self._receive and getattr(request, "call", None) is None
        ]

    def ending(self) -> list[asyncio.Task[None]]:
        """What was given up, and ends in the next rounds of the loop: watches, whose connections are closed."""
        return list(self._exchange._ending)

    def step(self, event: Event) -> None:
        """Give the core an event and do what follows; one that comes in between, from a finalizer say, after that."""
        self._events.append(event)
        if not self._stepping:
            self._go_on()

    def _go_on(self) -> None:
        """Do all that is to be done, also what an exception out of nowhere broke off: a signal handler's, say."""
        self._stepping = True
        try:
            self._carry_out()
            while self._events:
                self._take_step(self._events[0])
                self._events.popleft()
                self._carry_out()
        except BaseException:
            self._loop.call_soon(self._go_on)
            raise
        finally:
            self._stepping = False

    def _take_step(self, event: Event) -> None:
        try:
            self._core.step(event, self._clock.now())
        except BaseException:
            if isinstance(event, Call) or event is self._broken:
                self._events.popleft()  # a call's own caller says that it is abandoned; and twice is no chance
            else:
                self._broken = event
            raise

    def have_heard(self, job: Callable[[], object]) -> None:
        """Put something before the observers."""
        self._told = self._delivery.put(job)

    # --------------------------------------------------------------------------------------- commands

    def _carry_out(self) -> None:
        """Each command is taken out once it is done: after an exception out of nowhere it may be done again."""
        while self._commands:
            command = self._commands[0]
            try:
                self._do(command)
            except BaseException:
                if command is self._broken:
                    self._commands.popleft()  # twice is no chance
                self._broken = command
                raise
            self._commands.popleft()

    def _do(self, command: Command) -> None:
        if isinstance(command, Emit):
            self._told = self._delivery.emit(command.signal, self._sender, command.facts) or self._told
            if command.signal == "state_changed":
                self._reached(command.facts["to_state"])
        elif isinstance(command, Settle):
            waiter = command.call.waiter
            if waiter is not None and not waiter.done():
                waiter.set_result(command)
        elif isinstance(command, LeaseEnded):
            command.lease.wake()
        elif isinstance(command, Log):
            _LOGGER.log(command.level, "%s", command.text)
        else:
            self._exchange.carry_out(self._receive, (command,))

    def _reached(self, state: str | None) -> None:
        """Set those going who wait for a state; everyone, when no state will come any more."""
        for wanted, waiting in self._state_waiters:
            if state in (wanted, None) and not waiting.done():
                waiting.set_result(state is not None)
