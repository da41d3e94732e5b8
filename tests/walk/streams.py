"""Planted bugs at the boundary of a core: they change what goes into `LockerCore.step` and what comes out of it.

They know events, commands and what the runtimes read of a core, no private name, so they outlive any change of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from consul_locker.core.locker import LockerCore
from consul_locker.core.messages import Answered, Call, Command, Emit, Event
from consul_locker.core.requests import Outcome, Request

__all__ = ["Step", "answer_at_once", "callers", "change_commands", "change_events", "change_steps", "ended_sessions"]

#: Takes an event into a core, without the bug, and returns the commands of that step.
Step = Callable[[Event], list[Command]]


def change_steps(patch: pytest.MonkeyPatch, change: Callable[[LockerCore, Event, Step], list[Command]]) -> None:
    """Put `change` in place of each step: it may take the event, another one, several or none."""
    take = LockerCore.step

    def step(self: Any, event: Event, now: float, more: bool = False) -> None:
        def really(event: Event) -> list[Command]:
            before = len(self.commands)
            take(self, event, now, more)
            commands = list(self.commands)
            self.commands.clear()
            self.commands.extend(commands[:before])
            return commands[before:]

        self.commands.extend(change(self, event, really))

    patch.setattr(LockerCore, "step", step)


def change_commands(patch: pytest.MonkeyPatch, change: Callable[[Event, list[Command]], list[Command]]) -> None:
    """Put what `change` makes of them in place of the commands of each step."""
    change_steps(patch, lambda core, event, take: change(event, take(event)))


def change_events(patch: pytest.MonkeyPatch, change: Callable[[LockerCore, Event], Event]) -> None:
    """Put what `change` makes of it in place of each event."""
    change_steps(patch, lambda core, event, take: take(change(core, event)))


def answer_at_once(patch: pytest.MonkeyPatch, answer: Callable[[LockerCore, Event, Request], Outcome | None]) -> None:
    """Do not send the requests for which `answer` has an outcome: they are answered with it in the same step."""

    def change(core: LockerCore, event: Event, take: Step) -> list[Command]:
        commands: list[Command] = []
        for command in take(event):
            outcome = answer(core, event, command) if isinstance(command, Request) else None
            if isinstance(command, Request) and outcome is not None:
                commands += change(core, Answered(command, outcome), take)
            else:
                commands.append(command)
        return commands

    change_steps(patch, change)


def callers() -> Callable[[LockerCore, Event], list[Call]]:
    """Made once for a planted bug and called before each step: the calls that came until then and were not answered."""
    came: dict[LockerCore, list[Call]] = defaultdict(list)

    def unanswered(core: LockerCore, event: Event) -> list[Call]:
        came[core] = [call for call in came[core] if not call.settled]
        if isinstance(event, Call):
            came[core].append(event)
        return came[core]

    return unanswered


def ended_sessions(commands: list[Command]) -> Iterator[str]:
    """The sessions whose end is told, except by a stop."""
    for command in commands:
        if isinstance(command, Emit) and command.signal == "session_ended" and command.facts["reason"] != "stopped":
            yield command.facts["session_id"]
