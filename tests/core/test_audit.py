"""The audit: when a lock counts as lost, and how one that nobody knows of is found."""

from __future__ import annotations

import pytest

from consul_locker.core import audit as audit_module
from consul_locker.core.audit import FORMER_FOR, LOOK_EVERY, LOOK_SOON
from consul_locker.core.messages import (
    Committed,
    KeysRead,
    Outcome,
    ReadKey,
    ReadPrefix,
    ReadSession,
    Refusal,
    Refused,
    RolledBack,
    SessionRead,
    TimerFired,
    Transact,
    Verb,
    Watch,
)

from .helpers import STRANGER, Driver, entry, failure, held, not_ours, session_info

BAD = RolledBack((Refused(0, Refusal.SESSION, "failed session check"), Refused(1, Refusal.INDEX, "failed index check")))
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
    assert [(op.verb, op.session or op.index) for op in request.operations] == [
        (Verb.CHECK_SESSION, "S1"),
        (Verb.CHECK_INDEX, lease.fence),
    ]
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


def test_many_locks_take_several_audits() -> None:
    driver = Driver().ready()
    for number in range(40):
        driver.locked(str(number))
    driver.fire("audit")
    assert [len(each.operations) for each in driver.all(Transact)] == [64, 16]


def test_an_audit_that_fails_says_nothing() -> None:
    driver = Driver().ready()
    driver.locked("a")
    assert driver.answer(audit(driver), failure()) == []


def test_a_verdict_is_confirmed_before_it_counts() -> None:
    driver = suspected()
    assert lost(driver) == []
    read = driver.one(ReadKey)
    assert read.purpose == "verdict"
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


# -------------------------------------------------------------------------------------------- doubts


def doubtful(**options: object) -> Driver:
    """A Locker that does not know whether it has a lock."""
    driver = Driver(**options).ready()
    driver.call("lock", "a")
    driver.answer(driver.commit(), failure())
    return driver


def test_a_doubt_is_looked_into_until_its_tenure_is_seen() -> None:
    driver = doubtful()
    driver.answer(driver.look(), not_ours(0))
    assert driver.core.ledger.slots["a"].state == "unknown"
    driver.answer(driver.look(), Committed(()))
    driver.answer(driver.one(ReadKey), KeysRead((entry("svc/a/lock", "S1", 300, b'{"pid":1,"tenure":1}'),), 300))
    driver.grant()
    assert driver.core.ledger.slots == {}


@pytest.mark.parametrize("value", [b'{"pid":1,"tenure":11}', b'{"job":{"tenure":1},"tenure":2}', None])
def test_another_tenure_does_not_clear_a_doubt(value: bytes | None) -> None:
    driver = doubtful()
    driver.answer(driver.look(), Committed(()))
    driver.answer(driver.one(ReadKey), KeysRead((entry("svc/a/lock", "S1", 300, value),), 300))
    driver.grant()
    assert driver.core.ledger.slots["a"].doubts == {1}


@pytest.mark.parametrize("ttl", [15.0, 86_400.0])
def test_a_doubt_is_looked_into_soon_and_again_and_again_whatever_the_ttl(ttl: float) -> None:
    driver = doubtful(ttl=ttl)
    assert driver.timers["look",] == driver.now + LOOK_SOON
    for _ in range(3):
        driver.answer(driver.look(), not_ours(0))
        assert driver.timers["look",] == driver.now + LOOK_EVERY


def test_doubts_that_go_on_arising_do_not_put_the_look_off() -> None:
    driver = doubtful()
    due = driver.timers["look",]
    driver.step(TimerFired(("nothing",)), driver.now + LOOK_SOON / 2)
    driver.call("lock", "b")
    driver.answer(driver.commit(), failure())
    assert driver.timers["look",] == due
    assert [op.key for op in driver.look().operations] == ["svc/a/lock", "svc/b/lock"]


def test_a_consul_that_does_not_answer_is_asked_once() -> None:
    driver = doubtful()
    request = driver.look()
    assert driver.look() is request
    driver.answer(request, failure())
    assert driver.look() is not request


def test_many_doubts_are_few_requests() -> None:
    driver = Driver(max_ops=1000).ready()
    for number in range(100):
        driver.call("lock", str(number))
    while driver.all(Transact):
        driver.answer(driver.commit(), failure())
    driver.fire("look")
    assert [len(each.operations) for each in driver.all(Transact)] == [64, 36]


def test_a_doubt_outlives_the_next_grant() -> None:
    driver = doubtful()
    driver.locked("a")
    driver.call("release", "a")
    driver.grant()
    assert driver.core.ledger.slots["a"].doubts == {1}


def test_a_release_that_did_commit_clears_itself() -> None:
    driver = Driver().ready()
    driver.locked("a")
    driver.call("release", "a")
    driver.answer(driver.commit(), failure())
    driver.answer(driver.look(), not_ours(0))
    assert driver.core.ledger.slots == {}


def test_a_look_that_crosses_an_operation_means_nothing() -> None:
    driver = doubtful()
    request = driver.look()
    driver.answer(request, Committed(()))
    read = driver.one(ReadKey)
    driver.call("lock", "a")
    driver.answer(read, KeysRead((entry("svc/a/lock", "S1", 300),), 300))
    driver.answer(request, Committed(()))  # once more
    assert driver.all(ReadKey) == []
    assert len(driver.all(Transact)) == 1
    assert driver.commit().operations[0].verb is Verb.LOCK


def test_a_read_that_fails_is_repeated_after_the_next_look() -> None:
    driver = doubtful()
    for _ in range(2):
        driver.answer(driver.look(), Committed(()))
        assert driver.answer(driver.one(ReadKey), failure()) == []


# ---------------------------------------------------------------------------------- restored snapshots


def sweeping() -> Driver:
    """A Locker that has the lock a, and whose watch on the session came back with nothing new."""
    driver = Driver().ready()
    driver.locked("a")
    driver.answer(driver.one(Watch), SessionRead(session_info("S1"), 50))
    driver.answer(driver.one(Watch), SessionRead(session_info("S1"), 50))
    return driver


def swept(driver: Driver, *entries: tuple[str, str | None, int]) -> None:
    found = tuple(entry(key, session, index) for key, session, index in entries)
    driver.answer(driver.one(ReadPrefix), KeysRead(found, 60))


def test_a_sweep_gives_back_what_nobody_knows_of() -> None:
    driver = sweeping()
    ours = ("svc/a/lock", "S1", 101), ("svc/b/lock", "S1", 40)
    swept(driver, *ours, ("svc/c/lock", STRANGER, 41), ("svc/x", "S1", 42))
    request = driver.commit()
    assert [(op.verb, op.key) for op in request.operations] == [
        (Verb.CHECK_INDEX, "svc/b/lock"),
        (Verb.UNLOCK, "svc/b/lock"),
    ]
    driver.grant()
    assert driver.all(ReadKey) == []
    assert list(driver.core.ledger.slots) == ["a"]


@pytest.mark.parametrize("entries", [[], [("svc/a/lock", STRANGER, 101)], [("svc/a/lock", "S1", 40)]])
def test_what_a_sweep_says_against_a_lease_is_read_again(entries: list[tuple[str, str | None, int]]) -> None:
    driver = sweeping()
    swept(driver, *entries)
    assert driver.one(ReadKey).key == "svc/a/lock"


def test_a_sweep_that_fails_is_repeated_with_the_next_audit() -> None:
    driver = sweeping()
    driver.answer(driver.one(ReadPrefix), failure())
    driver.fire("audit")
    swept(driver)
    driver.fire("audit")
    assert driver.all(ReadPrefix) == []


def test_a_sweep_that_crosses_an_operation_looks_again_after_it() -> None:
    driver = sweeping()
    driver.call("lock", "b")
    swept(driver, ("svc/b/lock", "S1", 40))
    driver.answer(driver.commit(), failure(sent=False))
    assert [op.key for op in driver.look().operations] == ["svc/b/lock"]


def test_an_index_of_a_grant_that_falls_is_followed_by_a_sweep() -> None:
    driver = Driver().ready()
    driver.locked("a")
    driver._index = 10
    driver.locked("b")
    assert len(driver.all(ReadPrefix)) == 1
    driver.locked("c")
    assert len(driver.all(ReadPrefix)) == 1


def test_a_session_that_is_back_again_is_followed_by_a_sweep() -> None:
    driver = Driver().ready()
    driver.answer(driver.one(Watch), SessionRead(None, 50))
    driver.answer(driver.one(ReadSession), ALIVE)
    assert len(driver.all(ReadPrefix)) == 1


def test_without_a_session_nothing_is_asked() -> None:
    driver = Driver()
    core = driver.core._audit
    so_far = list(driver.core.commands)
    core.audit()
    core.look()
    core.look_soon()
    core.sweep()
    assert list(driver.core.commands) == so_far


def test_a_locker_without_a_ttl_audits_as_often_as_it_reads_its_session() -> None:
    driver = Driver(ttl=None).ready()
    assert driver.timers["audit",] == driver.now + 5.0


# ------------------------------------------------------------------- keys that were refused or given back


def given_back(*ids: str, former_for: float = FORMER_FOR) -> Driver:
    """A Locker that had these locks and gave them back."""
    driver = Driver().ready()
    driver.core._audit.former_for = former_for
    for id in ids:
        driver.locked(id)
        driver.call("release", id)
        driver.grant()
    return driver


def test_a_lock_whose_acquire_is_delivered_again_is_given_back() -> None:
    driver = given_back("a", "b")
    request = driver.look()
    assert [(op.verb, op.key, op.session) for op in request.operations] == [
        (Verb.CHECK_SESSION, "svc/a/lock", "S1"),
        (Verb.CHECK_SESSION, "svc/b/lock", "S1"),
    ]
    driver.answer(request, not_ours(0))
    driver.found(driver.one(ReadKey), "S1", 700)
    assert [(op.verb, op.key, op.index) for op in driver.commit().operations] == [
        (Verb.CHECK_INDEX, "svc/b/lock", 700),
        (Verb.UNLOCK, "svc/b/lock", None),
    ]
    driver.grant()
    assert driver.emitted("released") == [("released", "a"), ("released", "b")]  # nobody had this one


def test_all_former_keys_may_be_ours_again() -> None:
    driver = given_back("a")
    driver.answer(driver.look(), Committed(()))
    driver.found(driver.one(ReadKey), None)
    assert driver.core.ledger.slots == {}


def test_former_keys_that_are_not_ours_cost_nothing_more() -> None:
    driver = given_back("a")
    assert driver.answer(driver.look(), not_ours(0)) == []
    assert driver.core.ledger.slots == {}


@pytest.mark.parametrize("outcome", [failure(), RolledBack((Refused(0, Refusal.OTHER, "denied"),))])
def test_a_look_that_fails_says_nothing(outcome: Outcome) -> None:
    driver = given_back("a")
    assert driver.answer(driver.look(), outcome) == []
    assert driver.look().operations[0].key == "svc/a/lock"


def test_a_refused_lock_is_looked_at_too() -> None:
    driver = Driver().ready()
    driver.call("lock", "a")
    driver.answer(driver.commit(), held())
    assert driver.look().operations[0].key == "svc/a/lock"


def test_former_keys_that_are_in_use_again_are_left_to_the_audit() -> None:
    driver = given_back("a")
    driver.locked("a")
    driver.fire("look")
    assert driver.all(Transact) == []
    driver.fire("audit")
    assert [each.purpose for each in driver.all(Transact)] == ["audit"]


def test_former_keys_are_forgotten_in_time() -> None:
    driver = given_back("a", former_for=LOOK_EVERY)  # when the look is due
    driver.step(TimerFired(("nothing",)), driver.now + 1.0)
    driver.locked("b")
    driver.call("release", "b")
    driver.grant()
    assert [op.key for op in driver.look().operations] == ["svc/b/lock"]
    driver.answer(driver.all(Transact)[0], not_ours(0))
    driver.fire("look")
    assert driver.all(Transact) == []
    assert ("look",) not in driver.timers  # nothing is left to be looked at


def test_the_oldest_former_keys_are_forgotten_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "MAX_FORMER", 2)
    driver = given_back("a", "b", "a", "c")
    assert [op.key for op in driver.look().operations] == ["svc/a/lock", "svc/c/lock"]
