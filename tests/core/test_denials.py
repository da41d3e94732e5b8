"""What a denied call is told: who holds the lock, and which of a set."""

from __future__ import annotations

import pytest

from consul_locker.core.messages import Call, Emit
from consul_locker.core.requests import (
    Committed,
    Refusal,
    Refused,
    RolledBack,
    Transact,
    Verb,
)
from consul_locker.errors import AlreadyLocked

from .helpers import PENDING, STRANGER, Driver, entry, failure, held


def test_a_denial_names_the_holder() -> None:
    driver = Driver(identify_holder=True).ready()
    calls = [driver.call("lock", "a"), driver.call("lock", "a")]
    driver.answer(driver.commit(), held())
    read = driver.one(Transact)
    assert [(op.verb, op.key) for op in read.operations] == [(Verb.GET, "svc/a/lock")]
    driver.answer(read, Committed((entry("svc/a/lock", STRANGER, 9, b'{"pid": 7, "host": "h"}'),)))
    for call in calls:
        error = driver.result(call)
        assert error.reason == "held"
        assert error.holder.session_id == STRANGER
        assert "process 7 on h" in str(error)


@pytest.mark.parametrize("outcome", [failure(), Committed((entry("svc/a/lock", None, 9),)), Committed(())])
def test_a_holder_that_cannot_be_read_is_left_out(outcome: Committed) -> None:
    driver = Driver(identify_holder=True).ready()
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), held())
    driver.answer(driver.one(Transact), outcome)
    assert driver.result(call).holder is None


def _naming_three(**limits: float) -> tuple[Driver, list[Call]]:
    """Three calls that were refused; one read of their holders is under way."""
    driver = Driver(identify_holder=True).ready()
    driver.call("lock", "busy")  # so that the three go together
    calls = [driver.call("lock", id, **limits) for id in "abc"]
    driver.grant()
    driver.answer(driver.commit(), RolledBack(tuple(Refused(at, Refusal.HELD, "held") for at in range(3))))
    assert len(driver.one(Transact).operations) == 3
    return driver, calls


def _missing(*positions: int) -> RolledBack:
    return RolledBack(tuple(Refused(at, Refusal.MISSING, "key doesn't exist") for at in positions))


def test_a_key_that_is_gone_hides_no_holder_of_another() -> None:
    driver, (a, b, c) = _naming_three()
    driver.answer(driver.one(Transact), _missing(1))
    assert driver.result(b).holder is None
    assert (driver.result(a), driver.result(c)) == (PENDING, PENDING)
    again = driver.one(Transact)
    assert [op.key for op in again.operations] == ["svc/a/lock", "svc/c/lock"]
    driver.answer(again, _missing(0))
    assert driver.result(a).holder is None
    driver.answer(driver.one(Transact), Committed((entry("svc/c/lock", STRANGER, 9),)))
    assert driver.result(c).holder.session_id == STRANGER
    assert driver.emitted("lock_denied") == [("lock_denied", id) for id in "bac"]


def test_a_read_of_holders_that_is_refused_without_a_reason_is_not_repeated() -> None:
    driver, calls = _naming_three()
    driver.answer(driver.one(Transact), RolledBack(()))
    assert [driver.result(call).holder for call in calls] == [None, None, None]


def test_a_holder_is_not_asked_for_again_when_time_is_nearly_up() -> None:
    driver, (a, b, c) = _naming_three(timeout=5.0)
    driver.answer(driver.one(Transact), _missing(1), driver.now + 4.5)
    assert [driver.result(call).holder for call in (a, b, c)] == [None, None, None]
    assert driver.all(Transact) == []


def test_nobody_is_named_when_time_is_nearly_up() -> None:
    driver = Driver(identify_holder=True).ready()
    call = driver.call("lock", "a", timeout=0.5)
    driver.answer(driver.commit(), held())
    assert driver.result(call).holder is None


def test_a_lost_session_does_not_leave_the_denied_hanging() -> None:
    driver = Driver(identify_holder=True).ready()
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), held())
    driver.call("reboot")
    assert isinstance(driver.result(call), AlreadyLocked)


def test_a_denied_set_tells_which() -> None:
    driver = Driver().ready()
    call = driver.call("lock_many", "a", "b", "c")
    found = (Refused(0, Refusal.HELD, "held"), Refused(2, Refusal.LOCK_DELAY, "lock delay"))
    driver.answer(driver.commit(), RolledBack(found))
    assert driver.result(call).ids == ("a", "c")


@pytest.mark.parametrize("wait", [0.0, 5.0])
@pytest.mark.parametrize("named", [True, False])
def test_each_refused_id_of_a_set_is_told_and_counted_once(named: bool, wait: float) -> None:
    driver = Driver(identify_holder=named).ready()
    call = driver.call("lock_many", "a", "b", "c", wait=wait)
    driver.answer(driver.commit(), RolledBack((*held(0).refused, *held(2).refused)))
    if named and not wait:
        driver.answer(driver.one(Transact), Committed((entry("svc/a/lock", STRANGER, 9),)))
    told = [each.facts for each in driver.commands if isinstance(each, Emit) and each.signal == "lock_denied"]
    assert [(facts["id"], facts["key"]) for facts in told] == [("a", "svc/a/lock"), ("c", "svc/c/lock")]
    assert [(facts["error"].id, facts["error"].ids) for facts in told] == [("a", ("a", "c")), ("c", ("a", "c"))]
    assert driver.core.counters()["denied"] == 2
    if not wait:
        assert driver.result(call) is told[0]["error"]
        assert (driver.result(call).holder is not None) is named


def test_a_denial_is_announced_also_when_all_go_on_waiting() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=5.0)
    driver.answer(driver.commit(), held())
    assert driver.emitted("lock_denied") == [("lock_denied", "a")]
    assert driver.result(call) is PENDING
