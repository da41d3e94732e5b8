"""Outbox: collects the commands of one step of the core, and knows the time of that step."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any

from ..lease import BaseLease
from .messages import Call, CancelTimer, Command, Emit, LeaseEnded, Log, SetTimer, Settle

__all__ = ["Outbox"]


class Outbox:
    """What all parts of the core share: the commands, the time of the step under way, and random numbers.

    Attributes:
        commands: the commands that were not carried out yet.
        now: the time of the step, in seconds.
        random: gives floats in [0, 1), for jitter; passed in, so that a test decides it.
        counters: the counters that `Locker.stats` returns.
    """

    __slots__ = ("commands", "counters", "now", "random")

    def __init__(self, random: Callable[[], float]) -> None:
        self.commands: deque[Command] = deque()
        self.now = 0.0
        self.random = random
        self.counters: dict[str, int] = {}

    def send(self, command: Command) -> None:
        """Add a command."""
        self.commands.append(command)

    def count(self, name: str, by: int = 1) -> None:
        """Raise a counter."""
        self.counters[name] = self.counters.get(name, 0) + by

    def emit(self, signal: str, **facts: Any) -> None:
        """A signal for the observers."""
        self.commands.append(Emit(signal, facts))

    def settle(self, call: Call, value: Any = None, error: BaseException | None = None) -> None:
        """Answer a call, unless it was answered already: each is settled exactly once (rule 7)."""
        if call.settled:
            return
        call.settled = True
        if call.deadline is not None:
            self.commands.append(CancelTimer(("call", call)))
        if call.wait_until is not None and call.wait_until < inf:
            self.commands.append(CancelTimer(("wait", call)))
        self.commands.append(Settle(call, value, error))

    def limit(self, call: Call) -> None:
        """Set the timers of a call's limits; `settle` cancels them."""
        if call.deadline is not None:
            self.timer(("call", call), call.deadline)
        if call.wait_until is not None and call.wait_until < inf:
            self.timer(("wait", call), call.wait_until)

    def end(self, lease: BaseLease, reason: str) -> None:
        """The lease is over from now on; the calls that wait for its end are woken."""
        if lease.live:
            self.commands.append(LeaseEnded(lease))
            lease.end(reason)

    def timer(self, name: tuple[Any, ...], at: float) -> None:
        """Set a timer, in place of an earlier one of that name."""
        self.commands.append(SetTimer(name, at))

    def cancel(self, name: tuple[Any, ...]) -> None:
        """Cancel a timer, if it is set."""
        self.commands.append(CancelTimer(name))

    def warn(self, text: str) -> None:
        """A line for the log that an operator should see."""
        self.commands.append(Log(logging.WARNING, text))
