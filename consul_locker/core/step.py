"""Outbox: the commands of one step of the core, its time, and who waits for which answer and which timer.

Whoever asks gets the answer: a request is sent with the method that takes its answer, a timer is set with what it does.
Here alone is checked whether an answer still counts. When a generation ends, its requests are forgotten, so answers
that come later reach nobody. A request that must outlive its generation is asked as ``lasting``.
"""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, cast

from ..lease import BaseLease
from .messages import Call, CancelRequest, CancelTimer, Command, Emit, LeaseEnded, Log, SetTimer, Settle, TimerName
from .requests import AnswerT, Outcome, Request, RequestFor, Watch

__all__ = ["Outbox"]


class Outbox:
    """What all parts of the core share: the commands, the time of the step under way, and random numbers.

    Attributes:
        commands: the commands that were not carried out yet.
        now: the time of the step, in seconds.
        random: gives floats in [0, 1), for jitter; passed in, so that a test decides it.
        counters: the counters that `Locker.stats` returns.
        limited: order -> call, of the calls with a ``timeout`` that have no answer yet (core/deadlines.py).
    """

    __slots__ = ("_asked", "_lasting", "_timers", "commands", "counters", "limited", "now", "random")

    def __init__(self, random: Callable[[], float]) -> None:
        self.commands: deque[Command] = deque()
        self.now = 0.0
        self.random = random
        self.counters: defaultdict[str, int] = defaultdict(int)
        self.limited: dict[int, Call] = {}
        # Who takes the answers to requests in flight: those of the generation in use, and those that outlive one.
        self._asked: dict[Request, Callable[[Outcome], None]] = {}
        self._lasting: dict[Request, Callable[[Outcome], None]] = {}
        self._timers: dict[TimerName, Callable[[], None]] = {}

    # ------------------------------------------------------------------------------------ requests

    def ask(self, request: RequestFor[AnswerT], then: Callable[[AnswerT], None], *, lasting: bool = False) -> None:
        """Send a request.

        Args:
            request: to be sent.
            then: takes the answer, unless the generation has ended before.
            lasting: whether the answer is taken all the same after the end of the generation.
        """
        asked = self._lasting if lasting else self._asked
        asked[request] = cast("Callable[[Outcome], None]", then)  # the type of a request says what answers it
        self.commands.append(request)

    def answered(self, request: Request, outcome: Outcome) -> bool:
        """Give an answer to who asked. Returns False if nobody waits for it any more."""
        then = self._asked.pop(request, None) or self._lasting.pop(request, None)
        if then is None:
            return False
        then(outcome)
        return True

    def forget(self, request: Request) -> None:
        """The answer is wanted no more; the request goes on."""
        self._asked.pop(request, None)
        self._lasting.pop(request, None)

    def give_up(self, watch: Watch) -> None:
        """A watch is wanted no more."""
        self.forget(watch)
        self.commands.append(CancelRequest(watch))

    def end_generation(self) -> None:
        """From now on no answer to a request of this generation is taken; its watches are given up."""
        self.commands.extend(CancelRequest(request) for request in self._asked if isinstance(request, Watch))
        self._asked.clear()

    # ------------------------------------------------------------------------------------- timers

    def timer(self, name: TimerName, at: float, then: Callable[[], None]) -> None:
        """Set a timer, in place of an earlier one of that name; ``then`` is called when it is due."""
        self._timers[name] = then
        self.commands.append(SetTimer(name, at))

    def fired(self, name: TimerName) -> None:
        """A timer is due; nothing happens if it was cancelled in the meantime."""
        then = self._timers.pop(name, None)
        if then is not None:
            then()

    def cancel(self, name: TimerName) -> None:
        """Cancel a timer, if it is set."""
        if self._timers.pop(name, None) is not None:
            self.commands.append(CancelTimer(name))

    # ------------------------------------------------------------------------------- other commands

    def send(self, command: Command) -> None:
        """Add a command."""
        self.commands.append(command)

    def count(self, name: str, by: int = 1) -> None:
        """Raise a counter."""
        self.counters[name] += by

    def emit(self, signal: str, **facts: Any) -> None:
        """A signal for the observers."""
        self.commands.append(Emit(signal, facts))

    def settle(self, call: Call, value: Any = None, error: BaseException | None = None) -> None:
        """Answer a call, unless it was answered already: each is settled exactly once (rule 7)."""
        if call.settled:
            return
        call.settled = True
        if call.deadline is not None:
            self.limited.pop(call.order, None)
        if call.waiting is not None:
            self.cancel(("wait", call))
        if call.riding is not None:
            self.cancel(("outage", call))
        self.commands.append(Settle(call, value, error))

    def end(self, lease: BaseLease, reason: str) -> None:
        """The lease is over from now on; the calls that wait for its end are woken."""
        # In this order: a call that begins to wait meanwhile sees that it is over.
        if lease.end(reason) and lease.awaited:
            self.commands.append(LeaseEnded(lease))

    def warn(self, text: str) -> None:
        """A line for the log that an operator should see."""
        self.commands.append(Log(logging.WARNING, text))
