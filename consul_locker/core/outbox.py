"""Outbox: collects the commands of one step of the core, and knows the time of that step."""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf
from typing import Any

from .messages import Call, CancelTimer, Command, Emit, LeaseEnded, Log, Settle, SetTimer
from ..types import BaseLease

__all__ = ["Outbox"]


class Outbox:
    """What the parts of the core share: the commands of the step under way, its time, and chance.

    Attributes:
        now: the time of the step, in seconds.
        random: gives floats in [0, 1), for jitter; passed in, so that a test decides it.
        counters: what `Locker.stats` shows.
    """

    __slots__ = ("_commands", "counters", "now", "random")

    def __init__(self, random: Callable[[], float]) -> None:
        self._commands: list[Command] = []
        self.now = 0.0
        self.random = random
        self.counters: dict[str, int] = {}

    def take(self) -> list[Command]:
        """The commands so far; the outbox is empty afterwards."""
        commands, self._commands = self._commands, []
        return commands

    def send(self, command: Command) -> None:
        """Add a command."""
        self._commands.append(command)

    def count(self, name: str, by: int = 1) -> None:
        """Raise a counter."""
        self.counters[name] = self.counters.get(name, 0) + by

    def emit(self, signal: str, **facts: Any) -> None:
        """A signal for the observers."""
        self._commands.append(Emit(signal, facts))

    def settle(self, call: Call, value: Any = None, error: BaseException | None = None) -> None:
        """Answer a call, unless it was answered already: each is settled exactly once (rule 7)."""
        if call.settled:
            return
        call.settled = True
        if call.deadline is not None:
            self._commands.append(CancelTimer(("call", call)))
        if call.wait_until is not None and call.wait_until < inf:
            self._commands.append(CancelTimer(("wait", call)))
        self._commands.append(Settle(call, value, error))

    def end(self, lease: BaseLease, reason: str) -> None:
        """The lease is over from now on; those who wait for its end are woken."""
        if lease.end(reason):
            self._commands.append(LeaseEnded(lease))

    def timer(self, name: tuple[Any, ...], at: float) -> None:
        """Set a timer, in place of an earlier one of that name."""
        self._commands.append(SetTimer(name, at))

    def cancel(self, name: tuple[Any, ...]) -> None:
        """Cancel a timer, if it is set."""
        self._commands.append(CancelTimer(name))

    def warn(self, text: str) -> None:
        """A line for the log that an operator should see."""
        self._commands.append(Log(logging.WARNING, text))
