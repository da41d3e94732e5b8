"""The audit: when a lock counts as lost."""

from __future__ import annotations

from math import inf

import pytest

from consul_locker.core import audit as audit_module
from consul_locker.core.batch import MAX_OPS
from consul_locker.core.messages import TimerFired
from consul_locker.core.requests import (
    Committed,
    KeysRead,
    ReadKey,
    ReadSession,
    Refusal,
    Refused,
    RolledBack,
    SessionRead,
    Transact,
    Verb,
)

from .helpers import STRANGER, Driver, entry, failure, session_info

BAD = RolledBack((Refused(0, Refusal.INDEX, "failed index check"),))
ALIVE = SessionRead(session_info("S1"), 1)


def audit(driver: Driver) -> Transact:
    """The audit that is due is sent."""
    driver.fire("audit")
    return driver.all(Transact)[-1]


def suspected(**options: object) -> Driver:
    """A Locker that has one lock, of which an audit says something bad."""
    driver = Driver(**options).ready()
    driver.locked("a")
    driver.answer(audit(driver), BAD)
    return driver


def lost(driver: Driver) -> list[str]:
    return [reason for _, reason in driver.emitted("lock_lost")]


def test_everything_held_is_checked_once_in_each_period() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    request = audit(driver)
    assert [(op.verb, op.index) for op in request.operations] == [(Verb.CHECK_INDEX, lease.fence)]
    assert driver.answer(request, Committed(())) == []
    assert driver.timers["audit",] == driver.now + 5.0
    driver.call("release", "a")
    driver.answer(driver.commit(), failure())
    driver.fire("audit")
    assert driver.all(Transact) == []


@pytest.mark.parametrize(("ttl", "period"), [(15.0, 5.0), (180.0, 60.0), (86_400.0, 60.0)])
def test_a_long_ttl_does_not_mean_that_losses_go_unnoticed_as_long(ttl: float, period: float) -> None:
    driver = Driver(ttl=ttl).ready()
    assert driver.timers["audit",] == driver.now + period
    driver.fire("audit")
    assert driver.timers["audit",] == driver.now + period


def many(count: int, **options: object) -> Driver:
    """A Locker that has so many locks."""
    driver = Driver(**options).ready()
    for first in range(0, count, MAX_OPS):
        call = driver.call("lock_many", *map(str, range(first, min(first + MAX_OPS, count))))
        driver.grant()
        assert len(driver.result(call)) == min(MAX_OPS, count - first)
    return driver


def ids(request: Transact) -> list[str]:
    return [op.key.split("/")[1] for op in request.operations]


def test_many_locks_take_several_audits_evenly_spread() -> None:
    driver = many(100)
    began, found = driver.now, []
    driver.answer(audit(driver), Committed(()))
    for _ in range(2):
        request = audit(driver)
        found += ids(request)
        driver.answer(request, Committed(()))
    assert sorted(found, key=int) == [str(number) for number in range(100)]
    assert driver.now == pytest.approx(began + 2 * 5.0)


@pytest.mark.parametrize(("few", "ttl", "round"), [(64, 15.0, 25.0), (16, 15.0, 60.0), (16, 86_400.0, 60.0)])
def test_with_more_keys_each_is_checked_less_often_but_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, few: int, ttl: float, round: float
) -> None:
    monkeypatch.setattr(audit_module, "FEW", few)
    driver = many(5 * MAX_OPS, ttl=ttl)
    driver.core.session.current.deadline = inf  # nothing renews it here
    checked: dict[str, float] = {}
    gaps: list[float] = []
    for _ in range(3 * 5):
        request = audit(driver)
        gaps += [driver.now - checked[id] for id in ids(request) if id in checked]
        checked.update(dict.fromkeys(ids(request), driver.now))
        driver.answer(request, Committed(()))
    assert len(checked) == 5 * MAX_OPS
    assert gaps == pytest.approx([round] * len(gaps))


def test_a_key_that_is_granted_during_a_round_comes_first_in_the_next_one() -> None:
    driver = many(100)
    driver.answer(audit(driver), Committed(()))
    driver.locked("new")
    request = audit(driver)
    assert "new" not in ids(request)
    driver.answer(request, Committed(()))
    assert "new" in ids(audit(driver))


def test_an_audit_that_is_due_waits_for_the_answer_to_the_one_before() -> None:
    driver = many(100)
    driver.answer(audit(driver), Committed(()))
    request = audit(driver)
    assert audit(driver) is request
    driver.answer(request, Committed(()))
    following = driver.one(Transact)
    assert not set(ids(following)) & set(ids(request))
    driver.answer(following, Committed(()))
    assert driver.all(Transact) == []


def test_an_audit_that_is_due_waits_for_verdicts() -> None:
    driver = many(100)
    driver.answer(audit(driver), BAD)
    driver.fire("audit")
    assert driver.all(Transact) == []
    driver.answer(driver.one(ReadKey), failure())
    assert len(driver.all(Transact)) == 1


def test_after_a_restored_snapshot_all_keys_are_audited_without_a_pause() -> None:
    driver = many(100)
    driver.core.audit.sweep()
    driver.step(TimerFired(("nothing",)))
    found = []
    for _ in range(2):
        (request,) = driver.all(Transact)
        found += ids(request)
        driver.answer(request, Committed(()))
    assert len(found) == 100
    assert driver.all(Transact) == []


def test_an_audit_that_fails_is_made_again_after_all_others() -> None:
    driver = many(100)
    failed = audit(driver)
    driver.answer(failed, failure())
    others = audit(driver)
    driver.answer(others, Committed(()))
    assert ids(others)[: 100 - MAX_OPS] == [str(number) for number in reversed(range(100 - MAX_OPS))]
    assert set(ids(others) + ids(audit(driver))) == set(map(str, range(100)))


def test_an_audit_that_fails_says_nothing() -> None:
    driver = Driver().ready()
    driver.locked("a")
    assert driver.answer(audit(driver), failure()) == []


def test_a_verdict_is_confirmed_before_it_counts() -> None:
    driver = suspected()
    assert lost(driver) == []
    read = driver.one(ReadKey)
    assert driver.purpose(read) == "verdict"
    driver.answer(read, KeysRead((), 300))
    assert lost(driver) == ["key deleted"]
    assert driver.core.state == "ready"


def test_a_verdict_that_is_not_confirmed_changes_nothing() -> None:
    driver = suspected()
    lease = driver.core.ledger.leases["a"]
    driver.found(driver.one(ReadKey), "S1", lease.fence)
    assert lease.valid
    assert lost(driver) == []


def test_a_confirmation_that_fails_leaves_it_to_the_next_audit() -> None:
    driver = suspected()
    driver.answer(driver.one(ReadKey), failure())
    assert lost(driver) == []


def test_an_overwritten_key_is_lost_and_given_back() -> None:
    driver = suspected()
    driver.found(driver.one(ReadKey), "S1", 999)
    assert lost(driver) == ["key overwritten"]
    assert driver.commit().operations[0].index == 999
    driver.grant()
    assert driver.core.ledger.slots == {}


def test_an_overwritten_key_with_a_waiter_is_the_waiter_s() -> None:
    driver = Driver().ready()
    driver.locked("a")
    hold = driver.call("hold", "a", wait=None)
    driver.answer(audit(driver), BAD)
    driver.found(driver.one(ReadKey), "S1", 999)
    driver.grant()
    assert driver.result(hold).valid


@pytest.mark.parametrize(("session", "reason"), [(STRANGER, "key taken over"), (None, "released by a stranger")])
def test_a_key_that_is_not_ours_is_lost_when_the_session_lives(session: str | None, reason: str) -> None:
    driver = suspected()
    driver.answer(driver.one(ReadKey), KeysRead((entry("svc/a/lock", session, 300),), 300))
    assert lost(driver) == []
    driver.answer(driver.one(ReadSession), ALIVE)
    assert lost(driver) == [reason]


def test_a_key_that_is_not_ours_since_the_session_is_gone() -> None:
    driver = suspected()
    driver.found(driver.one(ReadKey), STRANGER)
    driver.answer(driver.one(ReadSession), SessionRead(None, 1))
    assert lost(driver) == []
    driver.gone()
    assert lost(driver) == ["session destroyed"]
    assert driver.core.state == "acquiring"


def test_a_session_that_cannot_be_read_says_nothing() -> None:
    driver = suspected()
    driver.found(driver.one(ReadKey), STRANGER)
    driver.answer(driver.one(ReadSession), failure())
    assert lost(driver) == []


def test_a_verdict_does_not_count_during_an_operation() -> None:
    driver = Driver().ready()
    driver.locked("a")
    request = audit(driver)
    driver.call("release", "a")
    assert driver.answer(request, BAD) == []


def test_a_verdict_on_an_older_tenure_does_not_count() -> None:
    driver = suspected()
    read = driver.one(ReadKey)
    driver.call("release", "a")
    driver.grant()
    driver.locked("a")
    assert driver.answer(read, KeysRead((), 300)) == []
    request = audit(driver)
    driver.call("release", "a")
    driver.grant()
    assert driver.answer(request, BAD) == []


def test_a_release_during_the_last_question_wins() -> None:
    driver = suspected()
    driver.found(driver.one(ReadKey), STRANGER)
    driver.call("release", "a")
    driver.answer(driver.one(ReadSession), ALIVE)
    assert lost(driver) == []


# ------------------------------------------------- what crosses an operation on the key, whose tenure is the same


def taken_again() -> Driver:
    """A Locker that has a lock of which an audit says something bad; without a cache it asks anew for it."""
    return suspected(strategy=None)


def test_a_verdict_does_not_count_with_an_operation_in_flight() -> None:
    driver = taken_again()
    lease = driver.core.ledger.leases["a"]
    read = driver.one(ReadKey)
    call = driver.call("lock", "a")
    assert driver.core.ledger.slots["a"].lease is lease  # the tenure is the same, until the answer
    assert driver.answer(read, KeysRead((), 300)) == []
    assert lease.live
    driver.grant()
    assert driver.result(call).valid
    assert lost(driver) == ["taken again"]


def test_a_confirmation_does_not_count_with_an_operation_in_flight() -> None:
    driver = taken_again()
    lease = driver.core.ledger.leases["a"]
    driver.found(driver.one(ReadKey), STRANGER)
    call = driver.call("lock", "a")
    assert driver.core.ledger.slots["a"].lease is lease
    driver.answer(driver.one(ReadSession), ALIVE)
    assert lease.live
    assert lost(driver) == []
    driver.grant()
    assert driver.result(call).valid
    assert lost(driver) == ["taken again"]


def test_an_audit_s_answer_asks_nothing_with_an_operation_in_flight() -> None:
    driver = Driver(strategy=None).ready()
    driver.locked("a")
    request = audit(driver)
    driver.call("lock", "a")
    assert driver.answer(request, BAD) == []


def test_a_denied_verdict_is_no_verdict() -> None:
    driver = suspected()
    assert driver.answer(driver.one(ReadKey), failure("Permission denied", sent=False)) == []
    assert lost(driver) == []


def test_without_a_session_nothing_is_asked() -> None:
    driver = Driver()
    so_far = list(driver.core.commands)
    driver.core.audit.sweep()
    assert list(driver.core.commands) == so_far


def test_a_locker_without_a_ttl_audits_as_often_as_it_reads_its_session() -> None:
    driver = Driver(ttl=None).ready()
    assert driver.timers["audit",] == driver.now + 5.0
