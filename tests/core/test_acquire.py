"""From a call to an operation, and from Consul's outcome to a grant, or a doubt."""

from __future__ import annotations

import json

import pytest

from consul_locker.core.requests import (
    Committed,
    KeysRead,
    ReadKey,
    Refusal,
    Refused,
    RolledBack,
    Transact,
    Watch,
)
from consul_locker.errors import AccessDenied, AlreadyLocked, ConsulUnavailable

from .helpers import PENDING, STRANGER, Driver, entry, held


def refused(refusal: Refusal, position: int = 0) -> RolledBack:
    return RolledBack((Refused(position, refusal, f"failed: {refusal.value}"),))


# ------------------------------------------------------------------------------------------ locking


def test_a_lock_carries_its_tenure_in_its_value() -> None:
    driver = Driver(value={"job": "x"}).ready()
    values = []
    for _ in range(2):
        driver.call("lock", "a")
        (op,) = driver.commit().operations
        assert op.value is not None
        values.append(json.loads(op.value))
        driver.grant()
        driver.call("release", "a")
        driver.grant()
    assert values == [{"pid": 1, "job": "x", "tenure": 1}, {"pid": 1, "job": "x", "tenure": 2}]


def test_without_a_cache_calls_go_one_after_another() -> None:
    driver = Driver(strategy=None).ready()
    first, second = driver.call("lock", "a"), driver.call("lock", "a")
    assert len(driver.all(Transact)) == 1
    driver.grant()
    assert driver.result(second) is PENDING
    driver.grant()
    assert driver.result(first) is not driver.result(second)


def test_a_denied_lock_that_we_believed_to_have_is_looked_into() -> None:
    driver = Driver(strategy=None).ready()
    driver.locked("a")
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), held())
    assert isinstance(driver.result(call), AlreadyLocked)
    assert driver.purpose(driver.one(ReadKey)) == "verdict"


@pytest.mark.parametrize("session", [None, STRANGER])
def test_an_answer_that_does_not_show_the_lock_is_an_unknown_outcome(session: str | None) -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a")
    entries = (entry("svc/a/lock", session, 9),) if session else ()
    driver.answer(driver.commit(), Committed(entries))
    assert isinstance(driver.result(call), ConsulUnavailable)
    assert driver.core.ledger.slots["a"].doubts == {1: 1}


def test_another_refusal_is_no_denial() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), refused(Refusal.OTHER))
    assert isinstance(driver.result(call), ConsulUnavailable)
    assert "a" not in driver.core.ledger.slots


# ------------------------------------------------------------------- what stands in line behind what is in flight


def test_a_token_without_rights_ends_a_wait() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=None)
    driver.answer(driver.commit(), held())
    driver.answer(driver.all(Watch)[-1], KeysRead((), 400))
    driver.answer(driver.commit(), refused(Refusal.DENIED))
    error = driver.result(call)
    assert isinstance(error, AccessDenied)
    assert (error.operation, error.status) == ("lock", 403)


def test_a_lock_whose_callers_have_gone_is_not_sent_again() -> None:
    driver = Driver().ready()
    blocker = driver.call("lock_many", "x", "y")
    first, gone, last = driver.call("lock", "a"), driver.call("lock", "b"), driver.call("lock", "c")
    driver.grant()
    driver.abandon(gone)
    driver.answer(driver.commit(), held())
    assert [op.key for op in driver.commit().operations] == ["svc/c/lock"]
    driver.grant()
    assert isinstance(driver.result(first), AlreadyLocked)
    assert driver.result(last).valid
    assert driver.result(blocker)


def test_what_a_refused_set_asked_for_besides_is_forgotten() -> None:
    driver = Driver().ready()
    driver.call("hold", "common")
    driver.grant()
    for number in range(5):
        driver.call("lock_many", "common", str(number))
    assert list(driver.core.ledger.leases) == ["common"]
    assert not driver.core.ledger.slots
