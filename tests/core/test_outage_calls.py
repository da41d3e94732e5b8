"""Calls ride over an outage: what is asked for again, with which number, and who is answered when."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.core.messages import Call
from consul_locker.core.pace import Flow
from consul_locker.core.requests import (
    Committed,
    Failed,
    KeysRead,
    RawTransact,
    ReadKey,
    ReadPrefix,
    ReadSession,
    Refusal,
    Refused,
    Renewed,
    RenewSession,
    RolledBack,
    SessionRead,
    Transact,
    Verb,
    WatchKey,
)
from consul_locker.errors import AccessDenied, AlreadyLocked, ConsulUnavailable, LockTimeout

from .helpers import PENDING, STRANGER, Driver, away, entry, failure, held

INDEX = RolledBack((Refused(0, Refusal.INDEX, "index is stale"),))


def make(**options: Any) -> Driver:
    return Driver(**options).ready()


def after_pause(driver: Driver) -> Transact:
    """The attempt after the pause, which is all that goes out."""
    before = len(driver.commands)
    driver.fire("pause")
    sent = [one for one in driver.commands[before:] if isinstance(one, (Transact, ReadKey))]
    assert len(sent) == 1
    (request,) = sent
    assert isinstance(request, Transact)
    return request


def wake(driver: Driver) -> None:
    """The key that a call waits for is free."""
    (watch,) = driver.all(WatchKey)
    driver.answer(watch, KeysRead((), watch.index + 300))


def tenure(request: Transact) -> bytes:
    value = request.operations[0].value
    assert value is not None
    return value


# --------------------------------------------------------------------------------------- asked for again


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("verb", ["lock", "hold", "lock_many"])
def test_a_lock_is_asked_for_again_with_the_same_number(verb: str, sent: bool) -> None:
    driver = make()
    call = driver.call(verb, "a")
    first = driver.commit()
    for _ in range(4):
        driver.answer(driver.commit(), away(sent=sent))
        assert driver.result(call) is PENDING
        assert after_pause(driver).operations == first.operations
    driver.grant()
    leases = driver.result(call)
    assert (leases[0] if verb == "lock_many" else leases).valid
    assert [name for name, _ in driver.emitted("lock_requested", "lock_acquired", "lock_denied")] == [
        "lock_requested",
        "lock_acquired",
    ]
    assert driver.core.ledger.slot("a").doubts == ({1: 5} if sent else {})
    assert driver.core.pace.flow is Flow.OPEN


def test_what_stands_behind_goes_along_and_what_failed_is_first() -> None:
    driver = make()
    calls = [driver.call("lock", "a"), driver.call("lock", "b")]
    driver.answer(driver.commit(), away(sent=False))
    calls.append(driver.call("lock", "c"))
    again = after_pause(driver)
    assert [op.key for op in again.operations] == ["svc/a/lock", "svc/b/lock", "svc/c/lock"]
    driver.grant()
    assert all(driver.result(call).valid for call in calls)


def test_pauses_grow_and_begin_anew_after_an_answer() -> None:
    driver = make(outage_timeout=None, random=0.0)
    driver.call("lock", "a")
    lengths = []
    for _ in range(7):
        driver.answer(driver.commit(), away())
        lengths.append(driver.timers["pause",] - driver.now)
        driver.fire("pause")
    assert lengths == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])
    driver.grant()
    driver.call("lock", "b")
    driver.answer(driver.commit(), away())
    assert driver.timers["pause",] - driver.now == pytest.approx(0.1)


def test_while_the_attempt_is_under_way_nothing_else_is_sent() -> None:
    driver = Driver().ready()
    driver.core.batch._max_in_flight = None
    driver.call("lock", "a")
    driver.answer(driver.commit(), away())
    driver.call("lock", "b")
    attempt = after_pause(driver)
    driver.call("lock", "c")
    assert driver.all(Transact) == [attempt]
    driver.grant(attempt)
    assert [op.key for op in driver.commit().operations] == ["svc/c/lock"]


def test_the_answer_to_what_was_sent_before_ends_the_pause() -> None:
    driver = Driver().ready()
    driver.core.batch._max_in_flight = None
    driver.call("lock", "a")
    driver.call("lock", "b")
    one, two = driver.all(Transact)
    driver.answer(one, away())
    driver.grant(two)
    assert ("pause",) not in driver.timers
    assert driver.commit().operations == one.operations


def test_an_answered_renewal_ends_the_pause() -> None:
    driver = make(outage_timeout=None)
    driver.call("lock", "a")
    driver.fire("renew")
    driver.answer(driver.commit(), away())
    assert driver.all(Transact) == []
    driver.answer(driver.one(RenewSession), Renewed(15.0))
    assert ("pause",) not in driver.timers
    assert driver.commit()


def test_all_else_waits_for_a_renewal_that_was_refused() -> None:
    driver = make()
    driver.fire("renew")
    driver.answer(driver.one(RenewSession), away(sent=False))
    call = driver.call("lock", "a")
    assert driver.all(Transact) == []
    driver.fire("renew", "again")
    driver.answer(driver.one(RenewSession), Renewed(15.0))
    driver.grant()
    assert driver.result(call).valid


# ------------------------------------------------------------------------------------------ who is answered


def test_the_time_of_a_call_is_over() -> None:
    driver = make(outage_timeout=5.0)
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), away(sent=True), driver.now + 3.0)
    behind = driver.call("lock", "b")
    began = driver.timers["outage", call]
    assert began == 1005.0  # since its attempt began
    assert driver.timers["outage", behind] == 1008.0
    driver.fire("outage", call)
    error = driver.result(call)
    assert isinstance(error, ConsulUnavailable)
    assert (error.attempts, error.sent, error.outage) == (1, True, True)
    assert driver.emitted("lock_denied") == [("lock_denied", "a")]
    assert [op.key for op in after_pause(driver).operations] == ["svc/b/lock"]  # nobody wants the other one
    assert driver.core.ledger.slots["a"].doubts == {1: 1}


def test_an_attempt_that_took_too_long_is_the_last() -> None:
    driver = make(outage_timeout=5.0)
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), away(sent=False), driver.now + 9.0)
    assert isinstance(driver.result(call), ConsulUnavailable)
    assert driver.emitted("lock_denied") == [("lock_denied", "a")]
    assert driver.core.ledger.slots == {}


@pytest.mark.parametrize("wait", [30.0, None])
def test_an_outage_ends_no_call_whose_wait_still_runs(wait: float | None) -> None:
    """One with ``wait=None`` died in an outage."""
    driver = make(outage_timeout=0.0 if wait is None else 5.0, ttl=86_400.0)
    call = driver.call("lock", "a", wait=wait)
    behind = driver.call("hold", "b", wait=wait)
    for _ in range(8):
        driver.answer(driver.commit(), away(), driver.now + 2.0)
        assert driver.result(call) is PENDING
        driver.fire("pause")
    driver.grant()
    assert driver.result(call).valid
    assert driver.result(behind).valid


def test_a_call_that_was_refused_before_is_so_when_its_wait_is_over() -> None:
    driver = make(identify_holder=True)
    call = driver.call("lock", "a", wait=5.0)
    driver.answer(driver.commit(), held())
    wake(driver)
    driver.answer(driver.commit(), away())
    driver.fire("wait", call)
    assert driver.result(call).reason == "held"
    assert driver.core.ledger.slots["a"].doubts
    assert driver.all(Transact) == []


def test_a_wait_that_ends_during_the_attempt_is_decided_by_its_failure() -> None:
    driver = make()
    call = driver.call("lock", "a", wait=5.0)
    driver.answer(driver.commit(), held())
    wake(driver)
    driver.fire("wait", call)
    assert driver.result(call) is PENDING
    driver.answer(driver.commit(), away(sent=False))
    assert isinstance(driver.result(call), AlreadyLocked)
    assert driver.all(Transact) == []


def test_a_call_that_was_never_refused_rides_on_after_its_wait() -> None:
    driver = make(outage_timeout=20.0)
    call = driver.call("lock", "a", wait=5.0)
    driver.answer(driver.commit(), away())
    driver.fire("wait", call)
    assert driver.result(call) is PENDING
    driver.fire("pause")
    driver.answer(driver.commit(), held())
    assert isinstance(driver.result(call), AlreadyLocked)


def test_without_patience_nothing_is_repeated() -> None:
    driver = make(outage_timeout=0.0)
    call = driver.call("lock", "a")
    behind = driver.call("lock", "b")
    failed = away()
    driver.answer(driver.commit(), failed)
    driver.grant()
    assert driver.result(call) is failed.error
    assert driver.result(behind).valid
    release = driver.call("release", "b")
    driver.answer(driver.commit(), failed)
    assert driver.result(release) is failed.error
    assert driver.emitted("lock_lost") == [("lock_lost", "release failed")]
    read = driver.call("release", "c")
    driver.answer(driver.one(ReadKey), failed)
    assert driver.result(read) is failed.error
    assert ("pause",) not in driver.timers


@pytest.mark.parametrize(
    "failed",
    [Failed(AccessDenied("lock", 403, "Permission denied"), False), failure("not Consul's")],
)
def test_what_is_no_outage_is_told_at_once(failed: Failed) -> None:
    driver = make()
    call = driver.call("lock", "a", wait=None)
    driver.answer(driver.commit(), away())
    driver.fire("pause")
    driver.answer(driver.commit(), failed)
    assert driver.result(call) is failed.error
    assert driver.core.pace.flow is Flow.OPEN


# -------------------------------------------------------------------------------------- nothing is left behind


def gone(driver: Driver, call: Call, how: str) -> None:
    if how == "abandoned":
        driver.abandon(call)
    else:
        driver.fire("call", call)
        error = driver.result(call)
        assert isinstance(error, LockTimeout)
        assert isinstance(error.cause, ConsulUnavailable)


@pytest.mark.parametrize("how", ["abandoned", "timeout"])
def test_a_call_that_goes_during_the_pause_leaves_nothing(how: str) -> None:
    driver = make()
    call = driver.call("lock", "a", timeout=1.0, wait=None)
    driver.answer(driver.commit(), away(sent=False))
    gone(driver, call, how)
    assert driver.core.ledger.slots == {}
    assert not [name for name in driver.timers if call in name]
    driver.fire("pause")
    assert driver.all(Transact) == []
    driver.call("lock", "b")
    assert driver.commit()


@pytest.mark.parametrize("how", ["abandoned", "timeout"])
def test_a_call_that_goes_during_the_attempt_leaves_it(how: str) -> None:
    driver = make()
    call = driver.call("lock", "a", timeout=1.0)
    driver.answer(driver.commit(), away(sent=True))
    attempt = after_pause(driver)
    gone(driver, call, how)
    driver.answer(attempt, away(sent=True))
    assert driver.core.ledger.slots["a"].doubts == {1: 2}
    assert driver.emitted("lock_denied") == []


def test_of_those_who_share_an_operation_the_rest_rides_on() -> None:
    driver = make(outage_timeout=5.0)
    one, two = driver.call("lock", "a"), driver.call("lock", "a", wait=None)
    driver.answer(driver.commit(), away(), driver.now + 6.0)
    assert isinstance(driver.result(one), ConsulUnavailable)
    driver.fire("pause")
    three = driver.call("lock", "a")  # it shares the attempt under way
    driver.grant()
    assert driver.result(two) is driver.result(three)


def test_what_is_not_urgent_waits_for_the_end_of_the_pause() -> None:
    driver = make(outage_timeout=None)
    driver.locked("a")
    driver.call("lock", "b")
    driver.answer(driver.commit(), failure())  # a doubt
    driver.call("lock", "c")
    driver.answer(driver.commit(), away())
    driver.core.audit.sweep()
    driver.fire("audit")
    driver.fire("look")
    assert driver.all(Transact) == driver.all(ReadPrefix) == []
    driver.fire("pause")
    driver.grant()
    assert sorted(driver.purpose(one) for one in driver.all(Transact)) == ["audit", "look"]
    assert driver.one(ReadPrefix)


def test_after_a_pause_that_nobody_waits_for_the_rest_goes_on() -> None:
    driver = make(outage_timeout=None)
    call = driver.call("lock", "b")
    driver.answer(driver.commit(), away(sent=True))
    driver.abandon(call)
    driver.fire("look")
    assert driver.all(Transact) == []
    driver.fire("pause")
    assert [driver.purpose(one) for one in driver.all(Transact)] == ["look"]


def test_a_stop_repeats_nothing() -> None:
    driver = make(lock_delay=1.0)
    driver.locked("a")
    lost = driver.locked("b")
    call = driver.call("lock", "c")
    driver.answer(driver.commit(), away())
    release = driver.call("release", "b")
    driver.call("stop")
    assert driver.result(call) is not PENDING
    assert [op.key for op in driver.commit().operations if op.verb is Verb.UNLOCK] == ["svc/b/lock", "svc/a/lock"]
    driver.answer(driver.commit(), away())
    assert isinstance(driver.result(release), ConsulUnavailable)
    assert driver.all(Transact) == []
    assert not lost.valid


# ----------------------------------------------------------------------------------------------- questions


def test_a_guarded_is_made_again_only_if_it_was_not_sent() -> None:
    """One that was made again wrote an old value over a newer one."""
    driver = make()
    lease = driver.locked("a")
    call = driver.call("guarded", lease, lease.guard())
    driver.answer(driver.one(RawTransact), away(sent=False))
    assert driver.result(call) is PENDING
    assert driver.call("lock", "b") and driver.commit()  # it holds up nobody
    driver.fire("ask", call)
    again = driver.one(RawTransact)
    assert again.operations == call.operations  # type: ignore[attr-defined]
    failed = away(sent=True)
    driver.answer(again, failed)
    assert driver.result(call) is failed.error
    assert failed.error.sent  # type: ignore[attr-defined]
    assert driver.all(RawTransact) == []


def test_questions_ride_with_pauses_of_their_own() -> None:
    driver = make(outage_timeout=5.0, random=0.0)
    call, late = driver.call("info", "a"), driver.call("info", "b", timeout=1.0)
    one, two = driver.all(ReadKey)
    driver.answer(one, away())
    driver.answer(two, away())
    assert driver.timers["ask", call] - driver.now == pytest.approx(0.1)
    driver.fire("call", late)
    driver.fire("ask", late)
    driver.fire("ask", call)
    driver.answer(driver.one(ReadKey), KeysRead((entry("svc/a/lock", STRANGER, 7),), 7))
    assert driver.result(call).session_id == STRANGER
    again = driver.call("holder", "a")
    driver.answer(driver.one(ReadKey), away(), driver.now + 6.0)
    assert isinstance(driver.result(again), ConsulUnavailable)
    assert driver.core.pace.flow is Flow.OPEN


def test_a_question_that_gets_no_answer_without_a_session_is_told_of_its_own_attempts() -> None:
    """It needs none, so it is not told that there is none."""
    driver = Driver(outage_timeout=5.0)
    driver.no_session()
    call = driver.call("info", "a")
    driver.answer(driver.one(ReadKey), away())
    driver.fire("retry")
    driver.no_session()
    driver.fire("outage", call)
    error = driver.result(call)
    assert isinstance(error, ConsulUnavailable)
    assert error.attempts == 1


def test_the_session_of_a_holder_is_read_again() -> None:
    driver = make()
    call = driver.call("holder", "a")
    driver.answer(driver.one(ReadKey), KeysRead((entry("svc/a/lock", STRANGER, 7),), 7))
    driver.answer(driver.one(ReadSession), away())
    driver.fire("ask", call)
    driver.answer(driver.one(ReadSession), SessionRead(None, 8))
    assert driver.result(call).session_id == STRANGER


def test_one_call_with_several_works_in_a_transaction_has_one_attempt() -> None:
    driver = make(outage_timeout=5.0)
    driver.locked("a")
    driver.locked("b")
    call = driver.call("release_all")
    driver.answer(driver.commit(), away())
    driver.fire("pause")
    driver.answer(driver.commit(), away())  # both are in this one
    driver.fire("outage", call)
    assert driver.result(call).attempts == 2


def test_an_unanswered_lock_that_was_asked_for_again_is_in_doubt_after_its_grant() -> None:
    """A late copy of an attempt took the lease of the next tenure, whose number was another one."""
    driver = make()
    driver.call("lock", "a")
    first = driver.commit()
    driver.answer(first, away(sent=True))
    driver.fire("pause")
    driver.grant()
    driver.call("release", "a")
    driver.grant()
    driver.call("lock", "a")
    assert tenure(driver.commit()) == tenure(first)
    driver.grant()
    assert driver.core.ledger.slots["a"].doubts == {1: 3}
    driver.call("release", "a")
    driver.grant()
    driver.answer(driver.look(), Committed(()))
    driver.answer(driver.one(ReadKey), KeysRead((entry("svc/a/lock", "S1", 900, tenure(first)),), 900))
    driver.grant()
    assert driver.core.ledger.slots["a"].doubts == {1: 3}  # it does not tell which of them was seen


def test_a_new_number_after_a_release_of_unknown_outcome_and_for_what_is_held() -> None:
    driver = make(strategy=None)
    driver.call("lock", "a")
    driver.answer(driver.commit(), away(sent=True))
    first = after_pause(driver)
    driver.grant()
    driver.call("lock", "a")
    assert tenure(driver.commit()) != tenure(first)  # the session holds it still
    driver.grant()
    driver.call("release", "a")
    driver.answer(driver.commit(), failure())
    driver.call("lock", "a")
    assert tenure(driver.commit()) == b'{"pid":1,"tenure":3}'
    driver.answer(driver.commit(), failure())
    driver.call("lock", "a")
    assert tenure(driver.commit()) == b'{"pid":1,"tenure":3}'  # it came after that release


def test_a_release_whose_key_could_not_be_read_changes_no_number() -> None:
    """Nothing of it can come late, but a copy of the lock can, and took the lease of the next tenure (the walk)."""
    driver = make(outage_timeout=0.0)
    driver.call("lock", "a")
    first = driver.commit()
    driver.answer(first, away(sent=True))
    driver.call("release", "a")
    driver.answer(driver.one(ReadKey), away(sent=True))
    driver.call("lock", "a")
    assert tenure(driver.commit()) == tenure(first)
