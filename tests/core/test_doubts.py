"""Keys that we do not have, and may have all the same: when they are looked at, and what is made of what is seen."""

from __future__ import annotations

from itertools import pairwise

import pytest

from consul_locker.core import doubts as doubts_module
from consul_locker.core.batch import MAX_OPS
from consul_locker.core.doubts import FIRST_PAUSE, FORMER_FOR, LONGEST_PAUSE, LOOK_EVERY, PLACES_AT_ONCE, TOGETHER
from consul_locker.core.key import KeyState
from consul_locker.core.messages import TimerFired
from consul_locker.core.requests import (
    Committed,
    KeysRead,
    Outcome,
    ReadKey,
    Refusal,
    Refused,
    RolledBack,
    Transact,
    Verb,
)
from consul_locker.errors import ConsulUnavailable

from .helpers import Driver, away, entry, failure, held, not_ours

DENIED = RolledBack((Refused(0, Refusal.DENIED, "Permission denied"),))


def looked(driver: Driver) -> Transact:
    """The next look that is sent: its timer may fire before anything is due."""
    for _ in range(20):
        driver.fire("look")
        found = [each for each in driver.all(Transact) if driver.purpose(each) == "look"]
        if found:
            return found[0]
    raise AssertionError("no look")


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
    assert driver.core.ledger.slots["a"].state is KeyState.UNKNOWN
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
    assert driver.core.ledger.slots["a"].doubts == {1: 1}


def test_a_doubt_is_looked_into_soon_and_then_less_and_less_often() -> None:
    driver = doubtful(ttl=86_400.0)
    began, looks = driver.now, []
    for _ in range(9):
        driver.answer(looked(driver), not_ours(0))
        looks.append(driver.now - began)
        began = driver.now
    wanted = [FIRST_PAUSE, 2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    assert looks == pytest.approx(wanted, abs=TOGETHER)


def released_in_doubt(driver: Driver) -> int:
    """A lock of which an attempt went unanswered, and which was released again. Returns its fence."""
    driver.call("lock", "a")
    driver.answer(driver.commit(), away())
    driver.fire("pause")
    driver.grant()
    index: int = driver.core.ledger.slots["a"].fence
    driver.call("release", "a")
    driver.grant()
    return index


@pytest.mark.parametrize("wait", [0.0, None])
def test_a_lock_that_a_restored_snapshot_brought_back_gets_no_lease_with_its_old_fence(wait: float | None) -> None:
    driver = Driver().ready()
    index = released_in_doubt(driver)
    again = driver.call("lock", "a", wait=wait)
    request = driver.commit()
    (lock,) = request.operations
    assert lock.value == b'{"pid":1,"tenure":1}'  # the first copy may still come
    driver.answer(request, Committed((entry(lock.key, "S1", index, lock.value),)))
    assert len(driver.emitted("lock_acquired")) == 1
    if wait == 0.0:
        assert isinstance(driver.result(again), ConsulUnavailable)
        again = driver.call("lock", "a")
    else:
        driver.fire("pause", "a")
    assert driver.commit().operations[0].value == b'{"pid":1,"tenure":2}'
    driver.grant()
    assert driver.result(again).fence > index


def test_a_call_whose_wait_ends_behind_such_a_lock_is_told_why() -> None:
    driver = Driver().ready()
    index = released_in_doubt(driver)
    again = driver.call("lock", "a", wait=5.0)
    request = driver.commit()
    driver.answer(request, Committed((entry(request.operations[0].key, "S1", index, request.operations[0].value),)))
    driver.fire("wait", again)
    assert "restored snapshot" in str(driver.result(again))


def test_a_new_doubt_of_a_key_is_looked_into_soon() -> None:
    driver = doubtful(ttl=86_400.0)
    for _ in range(5):
        driver.answer(looked(driver), not_ours(0))
    driver.call("lock", "a")
    driver.answer(driver.commit(), failure())
    assert driver.timers["look",] == driver.now + FIRST_PAUSE


def test_a_release_that_failed_is_looked_into_as_often_as_ever_while_looks_are_not_answered() -> None:
    driver = Driver(ttl=86_400.0).ready()
    driver.locked("a")
    driver.call("release", "a")
    driver.answer(driver.commit(), failure())
    looks = []
    for _ in range(5):
        driver.answer(looked(driver), failure())
        looks.append(driver.now)
    pauses = [after - before for before, after in pairwise(looks)]
    assert pauses == pytest.approx([LOOK_EVERY] * 4, abs=TOGETHER)


def test_a_look_that_is_denied_clears_nothing() -> None:
    """It may be ours all the same: the release that failed is given back once it can be seen."""
    driver = Driver(ttl=86_400.0).ready()
    driver.locked("a")
    driver.call("release", "a")
    driver.answer(driver.commit(), failure())
    for _ in range(3):
        driver.answer(looked(driver), DENIED)
        slot = driver.core.ledger.slots["a"]
        assert slot.leftover
        assert slot.state is KeyState.UNKNOWN
    driver.answer(looked(driver), Committed(()))
    driver.found(driver.one(ReadKey), "S1", 700)
    assert driver.commit().operations[0].index == 700
    driver.grant()
    assert driver.core.ledger.slots == {}


def test_a_doubt_that_is_over_is_forgotten() -> None:
    driver = Driver(ttl=86_400.0).ready()
    driver.core.audit.doubts.former_for = 0.0
    driver.locked("a")
    driver.call("release", "a")
    driver.answer(driver.commit(), failure())
    driver.answer(driver.look(), Committed(()))
    driver.found(driver.one(ReadKey), "S1", 700)
    driver.grant()
    while ("look",) in driver.timers:
        driver.fire("look")
    assert driver.all(Transact) == []
    assert driver.core.audit.doubts._doubts == {}


def test_a_look_that_is_denied_leaves_the_tenure_in_doubt() -> None:
    driver = doubtful(ttl=86_400.0)
    driver.answer(looked(driver), RolledBack((*not_ours(0).refused, *DENIED.refused)))
    assert driver.core.ledger.slots["a"].doubts == {1: 1}
    assert driver.timers["look",] <= driver.now + LOOK_EVERY


def test_a_look_that_is_denied_is_repeated_less_and_less_often() -> None:
    driver = doubtful(ttl=86_400.0)
    looks = []
    for _ in range(9):
        driver.answer(looked(driver), DENIED)
        looks.append(driver.now)
    assert looks[-1] - looks[-2] == pytest.approx(LONGEST_PAUSE, abs=TOGETHER)


def test_an_answer_that_says_nothing_is_no_answer() -> None:
    driver = doubtful()
    driver.answer(driver.look(), RolledBack(()))
    assert driver.all(ReadKey) == []
    assert driver.core.ledger.slots["a"].doubts == {1: 1}


def test_the_oldest_doubts_are_given_up_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubts_module, "MAX_DOUBTS", 2)
    driver = Driver(ttl=86_400.0).ready()
    for id in ("a", "b", "a", "c"):
        driver.call("lock", id)
        driver.answer(driver.commit(), failure())
    assert [op.key for op in driver.look().operations] == ["svc/a/lock", "svc/c/lock"]
    assert set(driver.core.ledger.slots) == {"a", "c"}


def test_a_key_in_doubt_that_is_in_use_is_looked_at_once_it_is_idle() -> None:
    driver = doubtful(ttl=86_400.0)
    driver.locked("a")
    for _ in range(3):
        driver.fire("look")
        assert driver.all(Transact) == []
    driver.call("release", "a")
    driver.grant()
    assert [op.key for op in driver.look().operations] == ["svc/a/lock"]


def test_what_consul_refused_before_doing_it_leaves_no_doubt_and_is_not_looked_at() -> None:
    driver = Driver().ready()
    driver.call("lock", "a")
    driver.answer(driver.commit(), failure("rate limit exceeded", sent=False))
    assert driver.core.ledger.slots == {}
    assert ("look",) not in driver.timers


def test_what_was_sent_before_it_was_refused_is_in_doubt_all_the_same() -> None:
    driver = Driver().ready()
    for id in ("0", "a", "b"):
        driver.call("lock", id)
    driver.grant()
    driver.answer(driver.commit(), held(0))
    driver.answer(driver.commit(), failure("rate limit exceeded", sent=False))
    assert driver.core.ledger.slots["b"].state is KeyState.UNKNOWN
    assert [op.key for op in driver.look().operations] == ["svc/b/lock"]


def test_a_release_refused_before_it_was_done_is_found_and_repeated() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    driver.call("release", "a")
    driver.answer(driver.commit(), failure("No cluster leader", sent=False))
    driver.answer(driver.look(), Committed(()))
    driver.found(driver.one(ReadKey), "S1", lease.fence)
    assert driver.commit().operations[0].index == lease.fence


def test_doubts_that_go_on_arising_do_not_put_the_look_off() -> None:
    driver = doubtful()
    due = driver.timers["look",]
    driver.step(TimerFired(("nothing",)), driver.now + FIRST_PAUSE / 2)
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
    assert driver.core.ledger.slots["a"].doubts == {1: 2}  # its number was kept


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


# ------------------------------------------------------------------- keys that were refused or given back


def given_back(*ids: str, former_for: float = FORMER_FOR) -> Driver:
    """A Locker that had these locks and gave them back."""
    driver = Driver().ready()
    driver.core.audit.doubts.former_for = former_for
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
    assert [driver.purpose(each) for each in driver.all(Transact)] == ["audit"]


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
    monkeypatch.setattr(doubts_module, "MAX_FORMER", 2)
    driver = given_back("a", "b", "a", "c")
    assert [op.key for op in driver.look().operations] == ["svc/a/lock", "svc/c/lock"]


def test_of_many_former_keys_a_look_checks_one_transaction_of_them_in_turn() -> None:
    driver = Driver(delete_on_release=True).ready()
    many = [str(number) for number in range(2 * MAX_OPS - 1)]
    for id in many:
        driver.locked(id)
        driver.call("release", id)
        driver.grant()
    looked_at = []
    for _ in range(2):
        request = driver.look()  # no other is under way
        looked_at += [op.key for op in request.operations]
        driver.answer(request, not_ours(*range(len(request.operations))))
    assert looked_at == [f"svc/{id}/lock" for id in [*many, many[0]]]


def test_former_places_leave_room_for_former_locks() -> None:
    driver = Driver().ready()
    doubts, ledger = driver.core.audit.doubts, driver.core.ledger
    driver.locked("kept")  # so that a step sets the timer
    lock = ledger.slot("a")
    for _ in range(PLACES_AT_ONCE + 1):
        doubts.add_former(ledger.place(lock, "S1"))
    for number in range(MAX_OPS):
        doubts.add_former(ledger.slot(str(number)))
    driver.step(TimerFired(("nothing",)))
    keys = [op.key for op in driver.look().operations]
    assert len(keys) == MAX_OPS
    assert sum("S1" in key for key in keys) == PLACES_AT_ONCE
