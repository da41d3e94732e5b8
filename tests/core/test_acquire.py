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
from consul_locker.lease import BaseLease

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
    assert list(driver.core.ledger.slots) == ["common"]
