"""What stands in line behind what is in flight."""

from __future__ import annotations

import pytest

from consul_locker.core.calls import Lock
from consul_locker.core.messages import Call, TimerFired
from consul_locker.core.requests import Committed, ReadPrefix, Transact

from .helpers import PENDING, Driver, entry


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


def test_two_transactions_are_in_flight_and_a_third_gathers() -> None:
    driver = Driver(max_in_flight=2).ready()
    for id in "abcd":
        driver.call("lock", id)
    first, second = driver.all(Transact)
    assert [len(request.operations) for request in (first, second)] == [1, 1]
    driver.grant(first)
    (third,) = (request for request in driver.all(Transact) if request is not second)
    assert [op.key for op in third.operations] == ["svc/c/lock", "svc/d/lock"]


def test_of_two_transactions_the_later_one_may_be_answered_first() -> None:
    """That is no index that falls: no snapshot was restored, and no sweep is needed."""
    driver = Driver(max_in_flight=2).ready()
    one, two = driver.call("lock", "a"), driver.call("lock", "b")
    first, second = driver.all(Transact)
    answers = {request: driver.committed(request) for request in (first, second)}
    driver.answer(second, answers[second])
    driver.answer(first, answers[first])
    assert driver.results[one].fence < driver.results[two].fence
    assert driver.all(ReadPrefix) == []
    third = driver.call("lock", "c")
    (request,) = driver.all(Transact)
    driver.answer(request, Committed((entry("svc/c/lock", "S1", driver.results[one].fence),)))
    assert driver.results[third].valid
    assert driver.all(ReadPrefix) != []  # this one was sent when a higher index had been seen



def test_nothing_is_sent_while_more_events_are_there() -> None:
    driver = Driver().ready()
    for id, more in (("a", True), ("b", False)):
        driver.core.step(Lock((id,)), driver.now, more)
    driver.step(TimerFired(("nothing",)))
    assert [op.key for op in driver.commit().operations] == ["svc/a/lock", "svc/b/lock"]
