"""lockers: checks, strategies and values of a Locker."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.config.options import LockerOptions
from consul_locker.errors import ConfigurationError
from consul_locker.strategies import PermanentStrategy

NAN = float("nan")
ENDLESS: dict[str, Any] = {}
ENDLESS["self"] = ENDLESS


def test_a_value_is_copied() -> None:
    value: dict[str, Any] = {"role": ["writer"], "é": None}
    options = LockerOptions.build("a", value=value)
    value["role"].append("reader")
    assert options.value == {"role": ["writer"], "é": None}
    with pytest.raises(TypeError):
        options.value["x"] = 1


@pytest.mark.parametrize(
    ("option", "value"),
    [("checks", value) for value in ("serfHealth", b"x", {"a": 1}, 5, [""], [5], [None])]
    + [("strategy", value) for value in (PermanentStrategy, "permanent", 5)]
    + [("value", value) for value in ([], "x", {5: 1}, {"a": object()}, {"a": NAN}, ENDLESS, {"a": "x" * 300_000})]
    + [("value", {entry: 1}) for entry in ("pid", "host", "name", "tenure")],
)
def test_what_a_locker_cannot_be_given(option: str, value: Any) -> None:
    options: dict[str, Any] = {"name": "a", option: value}
    with pytest.raises(ConfigurationError) as caught:
        LockerOptions.build(**options)
    assert caught.value.option == option
    assert len(str(caught.value)) < 1_000


def test_a_strategy_of_ones_own() -> None:
    class Own:
        shares_in_flight = False

        def keeps(self, lease: Any) -> bool:
            return False

        def serves(self, lease: Any, now: float) -> bool:
            return False

    own = Own()
    assert LockerOptions.build("a", strategy=own).strategy is own
