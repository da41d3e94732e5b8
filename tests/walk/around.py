"""What the Lockers of the walk need of the world around them, and what is raised when an invariant does not hold."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from consul_locker.core.requests import Request
from consul_locker.lease import BaseLease

from .consul import SimConsul

if TYPE_CHECKING:
    from .player import Player

__all__ = ["Around", "Violation"]


class Violation(AssertionError):
    """An invariant does not hold. ``invariant`` names it in a few words."""

    def __init__(self, invariant: str, text: str) -> None:
        self.invariant = invariant
        super().__init__(f"{invariant}: {text}")


class Around(Protocol):
    """What a player needs of the world around it."""

    now: float
    sim: SimConsul
    log: list[str]
    players: list[Player]
    fences: dict[tuple[str, int], BaseLease]

    def ask(self, player: Player, request: Request) -> None:
        """A request goes out."""

    def cancel(self, player: Player, request: Request | None) -> None:
        """A watch is given up; None: all that the player has."""

    def random(self) -> float:
        """A float in [0, 1)."""

    def breaks(self) -> AbstractContextManager[None]:
        """Around a step, which it may break off."""

    def soon(self, player: Player, action: Callable[[], object]) -> None:
        """Do something at this time, after what is due already."""

    def awake(self, player: Player) -> float:
        """Until when its process stands still, or stood still last."""
