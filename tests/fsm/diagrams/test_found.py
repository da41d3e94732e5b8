"""A machine is found by its place, ``module:name``, and what is not one is told."""

from __future__ import annotations

import pytest

from consul_locker.fsm import Behavior, Fsm
from consul_locker.fsm.diagrams.found import found

from .drawn_machines import LAMP, NESTED

LIVING = Fsm(LAMP)
BEHAVIOR = Behavior(LAMP)


class Lamp:
    """Has a machine, as a Locker does."""

    fsm = LIVING


@pytest.mark.parametrize(
    ("name", "machine"),
    [("NESTED", NESTED), ("LIVING", LIVING), ("BEHAVIOR", LAMP), ("Lamp", LIVING), ("Lamp.fsm", LIVING)],
)
def test_what_is_found(name: str, machine: object) -> None:
    assert found(f"{__name__}:{name}") is machine


@pytest.mark.parametrize("place", ["", ":", "module", "module:", ":NAME"])
def test_what_is_no_place(place: str) -> None:
    with pytest.raises(ValueError, match="MODULE:NAME is needed"):
        found(place)


def test_what_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"there is no 'off' in"):
        found(f"{__name__}:Lamp.off")
    with pytest.raises(ValueError, match="neither a Table nor a machine"):
        found(f"{__name__}:found")
