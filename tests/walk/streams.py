"""Planted bugs at the boundary of a core: they change what goes into `LockerCore.step` and what comes out of it.

They know events and commands only, no name inside the core, so they outlive any change of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from consul_locker.core.locker import LockerCore
from consul_locker.core.messages import Command, Event

__all__ = ["change_commands", "change_events"]


def change_commands(patch: pytest.MonkeyPatch, change: Callable[[Event, list[Command]], list[Command]]) -> None:
    """Put what `change` makes of them in place of the commands of each step."""
    take = LockerCore.step

    def step(self: Any, event: Event, now: float) -> None:
        before = len(self.commands)
        take(self, event, now)
        commands = list(self.commands)
        self.commands.clear()
        self.commands.extend([*commands[:before], *change(event, commands[before:])])

    patch.setattr(LockerCore, "step", step)


def change_events(patch: pytest.MonkeyPatch, change: Callable[[LockerCore, Event], Event]) -> None:
    """Put what `change` makes of it in place of each event."""
    take = LockerCore.step

    def step(self: Any, event: Event, now: float) -> None:
        take(self, change(self, event), now)

    patch.setattr(LockerCore, "step", step)
