"""Releases ride over an outage: made again until they are answered, or the session ends."""

from __future__ import annotations

import pytest

from consul_locker.core.requests import (
    KeysRead,
    ReadKey,
    Refusal,
    Refused,
    RenewSession,
    RolledBack,
    Transact,
    Verb,
    WatchKey,
)
from consul_locker.errors import AlreadyLocked, ConsulUnavailable

from .fair import TAKEN, asked, fair, look, waiting
from .helpers import PENDING, STRANGER, Driver, away, failure

INDEX = RolledBack((Refused(0, Refusal.INDEX, "index is stale"),))


@pytest.mark.parametrize("sent", [True, False])
def test_a_release_is_made_again_with_the_same_index(sent: bool) -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    call = driver.call("release", "a")
    first = driver.commit()
    driver.answer(first, away(sent=sent))
    driver.fire("pause")
    assert driver.commit().operations == first.operations
    driver.grant()
    assert driver.result(call) is True
    assert driver.emitted("released", "lock_lost") == [("released", "a")]
    assert not lease.valid


@pytest.mark.parametrize("holder", [None, STRANGER])
def test_a_release_made_again_that_was_done_before_is_one(holder: str | None) -> None:
    """One that was made again answered False, and told a loss."""
    driver = Driver().ready()
    driver.locked("a")
    call = driver.call("release", "a")
    driver.answer(driver.commit(), away(sent=True))
    driver.fire("pause")
    driver.answer(driver.commit(), INDEX)
    driver.found(driver.one(ReadKey), holder)
    assert driver.result(call) is True
    assert driver.emitted("released", "lock_lost") == [("released", "a")]


def test_one_that_was_refused_before_it_was_done_is_none() -> None:
    driver = Driver().ready()
    driver.locked("a")
    call = driver.call("release", "a")
    driver.answer(driver.commit(), away(sent=False))
    driver.fire("pause")
    driver.answer(driver.commit(), INDEX)
    driver.found(driver.one(ReadKey), STRANGER)
    assert driver.result(call) is False
    assert driver.emitted("lock_lost") == [("lock_lost", "not held any more")]


def test_the_release_goes_on_when_the_time_of_its_call_is_over() -> None:
    driver = Driver(outage_timeout=3.0).ready()
    driver.locked("a")
    driver.locked("b")
    call, both = driver.call("release", "a"), driver.call("release_all")
    driver.answer(driver.commit(), away(sent=True), driver.now + 4.0)
    error = driver.result(call)
    assert isinstance(error, ConsulUnavailable)
    assert error.sent
    driver.fire("outage", both)
    assert isinstance(driver.result(both), ConsulUnavailable)
    driver.fire("pause")
    driver.grant()
    assert driver.emitted("released") == [("released", "a"), ("released", "b")]
    assert driver.core.ledger.slots == {}


def test_leaving_a_hold_returns_after_the_first_attempt_and_the_release_goes_on() -> None:
    driver = Driver().ready()
    hold = driver.call("hold_many", "a", "b")
    driver.grant()
    call = driver.call("leave", driver.result(hold))
    driver.answer(driver.commit(), away())
    assert driver.result(call) == 0
    driver.fire("pause")
    driver.grant()
    assert driver.emitted("released") == [("released", "a"), ("released", "b")]


@pytest.mark.parametrize("how", ["gone", "deadline"])
@pytest.mark.parametrize("verb", ["release", "release_all"])
def test_a_release_whose_session_ends_meanwhile_is_done(verb: str, how: str) -> None:
    driver = Driver(outage_timeout=None).ready()
    driver.locked("a")
    call = driver.call(verb, *(["a"] if verb == "release" else []))
    driver.answer(driver.commit(), away())
    if how == "deadline":
        driver.fire("deadline")
    else:
        driver.fire("renew")
        driver.gone()
    assert driver.result(call) == 1
    assert driver.emitted("released", "lock_lost") == [("released", "a")]


def test_the_read_of_a_release_is_made_again() -> None:
    driver = Driver(outage_timeout=5.0).ready()
    call = driver.call("release", "a")
    driver.answer(driver.one(ReadKey), away())
    other = driver.call("release", "b")
    assert driver.all(ReadKey) == []
    driver.fire("pause")
    read = driver.one(ReadKey)  # one at a time
    assert read.key == "svc/a/lock"
    driver.answer(read, away(), driver.now + 6.0)
    assert isinstance(driver.result(call), ConsulUnavailable)
    driver.fire("pause")
    driver.found(driver.one(ReadKey), STRANGER)
    driver.found(driver.one(ReadKey), "S1", 70)
    driver.grant()
    assert isinstance(driver.result(other), (bool, ConsulUnavailable))
    assert driver.core.ledger.slots == {}


def test_leaving_a_hold_whose_key_is_read_returns_when_that_fails() -> None:
    driver = Driver().ready()
    hold = driver.call("hold", "a")
    driver.grant()
    call = driver.call("leave", [driver.result(hold)])
    driver.answer(driver.commit(), INDEX)
    driver.answer(driver.one(ReadKey), away())
    assert driver.result(call) == 0
    driver.fire("pause")
    driver.found(driver.one(ReadKey), "S1", 70)
    driver.grant()
    assert driver.emitted("released") == [("released", "a")]


# ----------------------------------------------------------------------------------------- a fair Locker


def test_a_turn_read_is_made_again_and_its_call_rides() -> None:
    driver = fair(outage_timeout=5.0)
    call, waits = driver.call("lock", "a"), driver.call("hold", "b", wait=None)
    one, two = [each for each in driver.all(Transact) if driver.purpose(each) == "turn"]
    driver.answer(one, away())
    assert driver.result(call) is PENDING
    driver.answer(two, away(), driver.now + 6.0)
    driver.fire("pause")
    driver.answer(asked(driver, "turn"), away(), driver.now + 6.0)
    assert isinstance(driver.result(call), ConsulUnavailable)
    assert driver.emitted("lock_denied") == [("lock_denied", "a")]
    driver.fire("pause")
    assert driver.result(waits) is PENDING
    assert asked(driver, "turn")


def test_the_time_of_a_call_runs_whose_turn_read_is_never_sent() -> None:
    """It came in the outage, and renewals that were refused held its read up: it waited until the session ended."""
    driver = fair(outage_timeout=5.0)
    driver.call("lock", "b")
    look(driver)
    driver.answer(driver.commit(), away(sent=False))
    call = driver.call("hold", "a")
    driver.fire("renew")
    driver.answer(driver.one(RenewSession), away(sent=False))
    driver.fire("outage", call)
    assert isinstance(driver.result(call), ConsulUnavailable)
    assert driver.result(call).attempts == 0


def test_a_call_whose_wait_ended_during_the_outage_is_refused_by_the_first_answer() -> None:
    driver = fair()
    call = driver.call("hold", "a", wait=1.0)
    driver.answer(asked(driver, "turn"), away())
    driver.fire("wait", call)
    assert driver.result(call) is PENDING
    driver.fire("pause")
    look(driver, TAKEN)
    assert isinstance(driver.result(call), AlreadyLocked)
    assert driver.core.ledger.slots == {}


def test_a_call_in_its_place_whose_wait_ends_in_the_outage_is_refused() -> None:
    driver = fair()
    call, _ = waiting(driver, TAKEN, wait=1.0)
    driver.answer(driver.one(WatchKey), KeysRead((), 310))
    driver.answer(driver.commit(), away())
    driver.fire("wait", call)
    assert isinstance(driver.result(call), AlreadyLocked)
    driver.fire("pause")
    assert [op.verb for op in driver.commit().operations] == [Verb.CHECK_SESSION, Verb.DELETE_CAS]


def test_a_place_that_cannot_be_taken_in_time() -> None:
    driver = fair()
    call = driver.call("hold", "a", wait=1.0)
    look(driver, TAKEN)
    driver.answer(driver.commit(), away(sent=False), driver.now + 2.0)
    assert isinstance(driver.result(call), AlreadyLocked)
    assert driver.core.ledger.slots == {}


def test_a_call_that_has_its_turn_leaves_no_place_behind() -> None:
    driver = fair(outage_timeout=5.0)
    call, own = waiting(driver, TAKEN, wait=7.0)
    driver.answer(driver.all(WatchKey)[-1], KeysRead((), 310))
    driver.answer(driver.commit(), away(sent=False), driver.now + 9.0)
    assert isinstance(driver.result(call), AlreadyLocked)
    driver.fire("pause")
    assert [op.key for op in driver.commit().operations] == [own.key, own.key]
    driver.grant()
    assert driver.core.ledger.slots == {}


def test_a_place_that_failed_for_good_is_told_although_the_wait_is_over() -> None:
    driver = fair()
    call = driver.call("hold", "a", wait=1.0)
    look(driver, TAKEN)
    driver.answer(driver.commit(), failure("not Consul's"), driver.now + 2.0)
    assert isinstance(driver.result(call), ConsulUnavailable)


def test_turn_reads_that_need_several_requests_go_out_one_at_a_time_after_a_pause() -> None:
    driver = fair()
    for lock in range(70):
        driver.call("hold", f"lock-{lock}", wait=None)
    for request in list(driver.all(Transact)):
        driver.answer(request, away())
    driver.fire("pause")
    assert [len(request.operations) for request in driver.all(Transact)] == [64]
    look(driver)
    assert sorted(len(request.operations) for request in driver.all(Transact)) == [6, 64]
