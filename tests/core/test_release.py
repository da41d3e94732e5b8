"""Releases: what is given back, and what becomes of a release that fails or finds nothing."""

from __future__ import annotations

import pytest

from consul_locker.core.messages import Emit
from consul_locker.core.requests import (
    Committed,
    KeysRead,
    ReadKey,
    Refusal,
    Refused,
    RolledBack,
    Transact,
    Verb,
)
from consul_locker.errors import AccessDenied, ConsulUnavailable

from .helpers import PENDING, STRANGER, Driver, entry, failure


def refused(refusal: Refusal, position: int = 0) -> RolledBack:
    return RolledBack((Refused(position, refusal, f"failed: {refusal.value}"),))


def test_a_release_frees_its_tenure_only() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    call = driver.call("release", "a")
    assert not lease.valid
    check, unlock = driver.commit().operations
    assert (check.verb, check.index, unlock.verb) == (Verb.CHECK_INDEX, lease.fence, Verb.UNLOCK)
    driver.grant()
    assert driver.result(call) is True
    assert driver.emitted("released", "lock_lost") == [("released", "a")]


def test_a_release_of_an_unknown_tenure_reads_the_key() -> None:
    driver = Driver().ready()
    call = driver.call("release", "a")
    driver.found(driver.one(ReadKey), "S1", 77)
    assert driver.commit().operations[0].index == 77
    driver.grant()
    assert driver.result(call) is True
    (told,) = [each for each in driver.commands if isinstance(each, Emit) and each.signal == "released"]
    assert told.facts["lease"] is None


@pytest.mark.parametrize("session", [None, STRANGER])
def test_a_release_of_what_is_not_ours_is_false(session: str | None) -> None:
    driver = Driver().ready()
    call = driver.call("release", "a")
    driver.found(driver.one(ReadKey), session)
    assert driver.result(call) is False
    assert driver.emitted("released") == []


def test_a_read_for_a_release_that_fails_is_an_error() -> None:
    driver = Driver().ready()
    call = driver.call("release", "a")
    driver.answer(driver.one(ReadKey), failure())
    assert isinstance(driver.result(call), ConsulUnavailable)


def test_an_answer_that_comes_twice_is_taken_once() -> None:
    driver = Driver().ready()
    driver.call("release", "a")
    read = driver.one(ReadKey)
    driver.found(read, "S1", 77)
    assert driver.answer(read, KeysRead((entry("svc/a/lock", "S1", 78),), 78)) == []
    driver.grant()
    assert driver.answer(read, KeysRead((), 79)) == []


def test_a_lock_overwritten_by_a_stranger_is_released_at_the_new_index() -> None:
    driver = Driver().ready()
    driver.locked("a")
    call = driver.call("release", "a")
    driver.answer(driver.commit(), refused(Refusal.INDEX))
    driver.found(driver.one(ReadKey), "S1", 88)
    assert driver.commit().operations[0].index == 88
    driver.grant()
    assert driver.result(call) is True


def test_a_release_finds_the_lock_gone() -> None:
    driver = Driver().ready()
    driver.locked("a")
    call = driver.call("release", "a")
    driver.answer(driver.commit(), refused(Refusal.NOT_HELD, 1))
    driver.found(driver.one(ReadKey), STRANGER)
    assert driver.result(call) is False
    assert driver.emitted("released", "lock_lost") == [("lock_lost", "not held any more")]


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (failure(), ConsulUnavailable),
        (refused(Refusal.OTHER), ConsulUnavailable),
        (refused(Refusal.DENIED), AccessDenied),
    ],
)
def test_a_release_that_failed_goes_on_in_the_background(outcome: RolledBack, error: type[Exception]) -> None:
    driver = Driver().ready()
    driver.locked("a")
    call = driver.call("release", "a")
    driver.answer(driver.commit(), outcome)
    assert isinstance(driver.result(call), error)
    assert driver.emitted("lock_lost") == [("lock_lost", "release failed")]
    driver.answer(driver.look(), Committed(()))
    driver.found(driver.one(ReadKey), "S1", 90)
    driver.grant()
    assert driver.core.ledger.slots == {}


def test_a_release_behind_a_lock_gives_it_back_at_once() -> None:
    driver = Driver().ready()
    lock, release = driver.call("lock", "a"), driver.call("release", "a")
    driver.grant()
    lease = driver.result(lock)
    assert not lease.valid
    driver.grant()
    assert driver.result(release) is True
    assert driver.emitted("released") == [("released", "a")]


def test_release_all_gives_back_what_is_shared() -> None:
    driver = Driver().ready()
    driver.locked("a")
    driver.call("hold", "h")
    driver.grant()
    driver.call("lock", "b")
    call = driver.call("release_all")
    driver.grant()  # the lock of b, and with it the release of a is sent
    while driver.all(Transact):
        driver.grant()
    assert driver.result(call) == 2
    assert list(driver.core.ledger.leases) == ["h"] or driver.core.ledger.slots["h"].lease is not None
    assert driver.result(driver.call("release_all")) == 0


def test_release_all_tells_the_first_error() -> None:
    driver = Driver().ready()
    driver.locked("a")
    driver.locked("b")
    call = driver.call("release_all")
    driver.answer(driver.commit(), refused(Refusal.OTHER, 2))
    assert driver.result(call) is PENDING
    driver.grant()
    assert isinstance(driver.result(call), ConsulUnavailable)
