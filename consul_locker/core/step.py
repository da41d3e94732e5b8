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


#: Signals for the beginning and the end of leases and sessions, and the fact that names the lease or session.
_BEGINNINGS = {"session_created": "session_id", "lock_acquired": "lease"}
_ENDS = {"session_ended": "session_id", "lock_lost": "lease", "released": "lease"}


class Outbox:
    """What all parts of the core share: the commands, the time of the step under way, and random numbers.

    Attributes:
        commands: the commands that were not carried out yet.
        now: the time of the step, in seconds.
        random: gives floats in [0, 1), for jitter; passed in, so that a test decides it.
        counters: the counters that `Locker.stats` returns.
        open: the calls of users that have no answer yet.
    """

    __slots__ = ("_begun", "commands", "counters", "now", "open", "random")

    def __init__(self, random: Callable[[], float]) -> None:
        self.commands: deque[Command] = deque()
        self._begun: dict[Any, None] = {}  # leases and session ids, begun and not ended as far as signals say
        self.now = 0.0
        self.random = random
        self.counters: dict[str, int] = {}
        self.open: set[Call] = set()

    def send(self, command: Command) -> None:
        """Add a command."""
        self.commands.append(command)

    def count(self, name: str, by: int = 1) -> None:
        """Raise a counter."""
        self.counters[name] = self.counters.get(name, 0) + by

    def emit(self, signal: str, **facts: Any) -> None:
        """A signal for the observers."""
        self.commands.append(Emit(signal, facts))
        self._note(signal, facts)

    def _note(self, signal: str, facts: dict[str, Any]) -> None:
        if signal in _BEGINNINGS:
            self._begun[facts[_BEGINNINGS[signal]]] = None
        elif signal in _ENDS:
            self._begun.pop(facts[_ENDS[signal]], None)

    def begun(self) -> tuple[list[BaseLease], list[str]]:
        """The leases, and the sessions (at most one), with a signal for their beginning and none for their end.

        A step may have been broken off between a command and its note, so the commands are read again.
        """
        for command in self.commands:
            if isinstance(command, Emit):
                self._note(command.signal, command.facts)
        begun = list(self._begun)
        return [one for one in begun if isinstance(one, BaseLease)], [one for one in begun if isinstance(one, str)]

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
        self.open.discard(call)

    def unanswered(self) -> list[Call]:
        """The calls of users that have no answer yet, in the order in which they came. As `begun`."""
        self.open -= {command.call for command in self.commands if isinstance(command, Settle)}
        return sorted(self.open, key=lambda call: call.order)

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
