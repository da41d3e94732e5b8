"""face: arguments and properties that both faces share."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from consul_locker.config import LockerOptions
from consul_locker.errors import ConfigurationError, InvalidLockId
from consul_locker.face import MAX_MANY, MAX_MANY_FAIR, BaseLocker, note, seconds


@pytest.mark.parametrize(("given", "limit"), [(None, None), (math.inf, None), (0, 0.0), (1, 1.0), (2.5, 2.5)])
def test_seconds(given: Any, limit: float | None) -> None:
    assert seconds("wait", given) == limit


@pytest.mark.parametrize("given", [-1, -0.1, math.nan, True, "1", b"1", -math.inf])
def test_no_seconds(given: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        seconds("wait", given)
    assert refused.value.option == "wait"


@pytest.mark.parametrize(("fair", "most"), [(False, MAX_MANY), (True, MAX_MANY_FAIR)])
def test_ids(fair: bool, most: int) -> None:
    def ids(given: Any) -> list[Any]:
        locker: Any = SimpleNamespace(_options=LockerOptions.build("svc", fair=fair))
        return BaseLocker._ids(locker, given)

    assert ids(iter([1, "1", "a"])) == [1, "1", "a"]
    assert len(ids([str(n % most) for n in range(1000)])) == 1000
    for given in ("text", b"bytes", range(most + 1)):
        with pytest.raises(ConfigurationError):
            ids(given)
    with pytest.raises(InvalidLockId):
        ids([".."])


def test_states() -> None:
    assert BaseLocker._check_state("ready") == "ready"
    with pytest.raises(ConfigurationError, match="acquiring"):
        BaseLocker._check_state("asleep")


def test_a_note_on_an_error() -> None:
    error = KeyError("a")
    note(error, "first")
    note(error, "second")
    assert error.__notes__ == ["first", "second"]
