"""Leases: which calls one answers, as the strategy says, and how a new tenure ends the old."""

from __future__ import annotations

import pytest

from consul_locker.core.requests import (
    Transact,
)
from consul_locker.lease import BaseLease

from .helpers import PENDING, Driver


def test_callers_share_one_in_flight_and_then_the_cache() -> None:
    driver = Driver().ready()
    first, second = driver.call("lock", "a"), driver.call("lock", "a")
    driver.grant()
    third = driver.call("lock", "a")
    assert driver.result(first) is driver.result(second) is driver.result(third)
    assert len(driver.sent(Transact)) == 1
    assert driver.core.counters()["shared"] == driver.core.counters()["cached"] == 1


def test_a_set_that_is_held_is_answered_from_the_cache() -> None:
    driver = Driver().ready()
    leases = [driver.locked("a"), driver.locked("b")]
    assert driver.result(driver.call("lock_many", "a", "b")) == leases


def test_without_a_cache_each_call_is_a_new_tenure() -> None:
    driver = Driver(strategy=None).ready()
    old = driver.locked("a")
    call = driver.call("lock", "a")
    driver.grant()
    new = driver.result(call)
    assert new.fence > old.fence
    assert (old.reason, old.valid, new.valid) == ("taken again", False, True)
    assert driver.emitted("lock_lost") == [("lock_lost", "taken again")]


class Strategy:
    """A user's, which says what the test wants."""

    shares_in_flight = True

    def __init__(self, keeps: object, serves: object) -> None:
        self._keeps, self._serves = keeps, serves

    def keeps(self, lease: BaseLease) -> object:
        return _said(self._keeps)

    def serves(self, lease: BaseLease, now: float) -> object:
        return _said(self._serves)


def _said(answer: object) -> object:
    if isinstance(answer, Exception):
        raise answer
    return answer


@pytest.mark.parametrize(
    ("keeps", "serves", "cached"),
    [(True, True, True), (False, True, False), (True, False, False), (ValueError("x"), True, False),
     (True, ValueError("x"), False)],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["lock", "lock_many"])
def test_what_a_strategy_says_decides_what_is_cached(keeps: object, serves: object, cached: bool, verb: str) -> None:
    driver = Driver(strategy=Strategy(keeps, serves)).ready()
    lease = driver.locked("a")
    call = driver.call(verb, "a")
    assert (driver.result(call) == PENDING) is not cached
    if not cached:
        driver.grant()
        assert not lease.valid
    raises = any(isinstance(said, Exception) for said in (keeps, serves))
    assert ("raised ValueError('x')" in driver.logged()) is raises
