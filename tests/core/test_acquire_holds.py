"""Holds, and sets of locks."""

from __future__ import annotations

from consul_locker.core.calls import LeaveHold
from consul_locker.core.messages import Call
from consul_locker.core.requests import (
    KeysRead,
    ReadKey,
    Refusal,
    Refused,
    RolledBack,
    Verb,
    Watch,
)

from .helpers import PENDING, Driver, failure, held


def refused(refusal: Refusal, position: int = 0) -> RolledBack:
    return RolledBack((Refused(position, refusal, f"failed: {refusal.value}"),))


def hold(driver: Driver, *ids: str) -> Call:
    call = driver.call("hold_many", *ids)
    driver.grant()
    return call


# ---------------------------------------------------------------------------------------- holds


def test_a_hold_is_exclusive_among_the_callers() -> None:
    driver = Driver().ready()
    held_by = hold(driver, "a")
    for verb in ("lock", "hold", "lock_many", "hold_many"):
        assert driver.result(driver.call(verb, "a")).reason == "local"
    assert driver.result(driver.call("release", "a")) is False
    assert driver.result(held_by)[0].valid


def test_a_lock_keeps_a_hold_out() -> None:
    driver = Driver().ready()
    driver.call("lock", "a")
    assert driver.result(driver.call("hold", "a")).reason == "local"
    driver.grant()
    assert driver.result(driver.call("hold", "a")).reason == "local"


def test_a_hold_behind_a_release_is_not_in_the_way() -> None:
    driver = Driver().ready()
    driver.locked("a")
    driver.call("release", "a")
    call = driver.call("hold", "a")
    driver.grant()
    driver.grant()
    assert driver.result(call).exclusive


def test_leaving_a_hold_releases_each_and_never_raises() -> None:
    driver = Driver().ready()
    leases = driver.result(hold(driver, "a", "b"))
    call = driver.call("leave", leases)
    driver.answer(driver.commit(), refused(Refusal.OTHER, 2))
    driver.grant()
    assert driver.result(call) == 1


def test_leaving_a_hold_that_is_half_lost() -> None:
    driver = Driver().ready()
    leases = driver.result(hold(driver, "a", "b"))
    driver.core.releases.lose(driver.core.ledger.slot("a"), "key deleted")
    call = driver.call("leave", leases)
    driver.grant()
    assert driver.result(call) == 1
    lost = LeaveHold(leases)
    driver.core.releases.leave(lost)
    assert lost.settled


# ------------------------------------------------------------------------------------------ sets


def test_a_set_whose_held_lock_is_gone_is_looked_into_and_tried_again() -> None:
    driver = Driver().ready()
    driver.locked("a")
    lease = driver.core.ledger.leases["a"]
    call = driver.call("lock_many", "a", "b", wait=5.0)
    driver.answer(driver.commit(), held(1))
    driver.answer(driver.all(Watch)[-1], KeysRead((), 300))
    driver.answer(driver.commit(), refused(Refusal.INDEX))
    assert driver.result(call) is PENDING
    assert driver.purpose(driver.one(ReadKey)) == "verdict"
    assert lease.live  # until it is confirmed
    driver.fire("pause", "a")
    assert driver.commit().operations[0].verb is Verb.CHECK_INDEX


def test_a_set_whose_held_lock_is_gone_fails_without_time_to_wait() -> None:
    driver = Driver().ready()
    driver.locked("a")
    call = driver.call("lock_many", "a", "b")
    driver.answer(driver.commit(), refused(Refusal.INDEX))
    assert "may be lost" in str(driver.result(call))


def test_an_unknown_outcome_of_a_set_is_a_doubt_of_what_it_locks() -> None:
    driver = Driver().ready()
    driver.locked("a")
    driver.call("lock_many", "a", "b")
    driver.answer(driver.commit(), failure())
    assert {id: slot.doubts for id, slot in driver.core.ledger.slots.items()} == {"b": {2: 1}}


def test_a_tenure_that_was_sent_twice_stays_in_doubt() -> None:
    driver = Driver().ready()
    driver.call("lock", "0")
    driver.call("lock", "a")
    driver.call("lock", "b")
    driver.grant()
    driver.answer(driver.commit(), held(0))
    driver.answer(driver.commit(), failure())
    slot = driver.core.ledger.slots["b"]
    ((number, times),) = slot.doubts.items()
    assert times == 2
    slot.saw(f'{{"tenure":{number}}}'.encode())
    assert slot.doubts
