"""What stands in line behind what is in flight."""

from __future__ import annotations

import pytest

from consul_locker.core.messages import Call
from consul_locker.core.requests import (
    Transact,
)

from .helpers import PENDING, Driver


def hold(driver: Driver, *ids: str) -> Call:
    call = driver.call("hold_many", *ids)
    driver.grant()
    return call


def test_a_release_never_ends_a_hold_that_is_in_flight() -> None:
    driver = Driver().ready()
    hold = driver.call("hold", "a")
    release = driver.call("release", "a")
    assert driver.result(release) is False
    driver.grant()
    assert driver.result(hold).valid


def test_a_release_never_ends_the_next_hold() -> None:
    driver = Driver().ready()
    first = driver.call("hold", "a")
    driver.grant()
    driver.call("leave", [driver.result(first)])
    second = driver.call("hold", "a")
    assert driver.result(driver.call("release", "a")) is False
    driver.grant()
    driver.grant()
    assert driver.result(second).valid


def test_a_release_ends_what_is_shared_before_a_hold_that_stands_behind_another_release() -> None:
    driver = Driver().ready()
    driver.call("lock", "a")
    driver.call("lock_many", "b", "c")
    many = driver.call("lock_many", "a", "b")  # stands behind both
    driver.call("release", "a")
    hold = driver.call("hold", "a", wait=None)
    driver.grant()
    shared = driver.core.ledger.leases["a"]
    assert driver.result(driver.call("release", "a")) is False
    assert not shared.live
    for _ in range(4):
        driver.grant()
    assert driver.result(hold).valid
    assert driver.result(many) != PENDING


@pytest.mark.parametrize("first", ["lock", "lock_many"])
@pytest.mark.parametrize("second", ["lock", "lock_many"])
def test_a_lock_that_is_granted_while_another_call_stands_in_line_answers_it(first: str, second: str) -> None:
    """Locked anew, the first caller's lease would be lost."""
    driver = Driver().ready()
    one, two = driver.call(first, "a"), driver.call(second, "a")
    driver.grant()
    leases = [each[0] if isinstance(each, list) else each for each in map(driver.result, (one, two))]
    assert leases[0] is leases[1]
    assert leases[0].valid
    assert driver.emitted("lock_lost") == []
    assert driver.all(Transact) == []


def test_an_abandoned_call_in_line_takes_nothing_from_who_was_granted_the_lock() -> None:
    driver = Driver().ready()
    many = driver.call("lock_many", "a", "b")
    driver.abandon(driver.call("lock", "a"))
    driver.grant()
    assert all(lease.valid for lease in driver.result(many))
    assert driver.all(Transact) == []


def test_a_call_in_line_that_shares_a_grant_gives_its_place_in_the_queue_back() -> None:
    """With ``fair=True`` it may have waited before."""
    driver = Driver(fair=True).ready()
    waits = driver.call("hold_many", "a", "b", wait=None)
    reads = driver.all(Transact)
    assert [driver.purpose(each) for each in reads] == ["turn"]
    driver.abandon(waits)
    assert driver.core.ledger.slots == {}
