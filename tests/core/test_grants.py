"""Grants: from a call to an operation, and from Consul's outcome to a grant, a denial, or a doubt."""

from __future__ import annotations

import json

import pytest

from consul_locker.core.messages import Call, Emit
from consul_locker.core.queries import lock_info
from consul_locker.core.requests import (
    Committed,
    KeysRead,
    ReadKey,
    Refusal,
    Refused,
    RolledBack,
    Transact,
    Verb,
    Watch,
)
from consul_locker.errors import AccessDenied, AlreadyLocked, ConsulUnavailable, SessionEnded
from consul_locker.lease import BaseLease

from .helpers import PENDING, STRANGER, Driver, entry, failure, held


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
    assert driver.one(ReadKey).purpose == "verdict"


@pytest.mark.parametrize("session", [None, STRANGER])
def test_an_answer_that_does_not_show_the_lock_is_an_unknown_outcome(session: str | None) -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a")
    entries = (entry("svc/a/lock", session, 9),) if session else ()
    driver.answer(driver.commit(), Committed(entries))
    assert isinstance(driver.result(call), ConsulUnavailable)
    assert driver.core.ledger.slots["a"].doubts == {1}


def test_another_refusal_is_no_denial() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), refused(Refusal.OTHER))
    assert isinstance(driver.result(call), ConsulUnavailable)
    assert "a" not in driver.core.ledger.slots


# ------------------------------------------------------------------------------------------ denials


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


# --------------------------------------------------------------------------------------- releasing


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


# ---------------------------------------------------------------------------------------- holds


def hold(driver: Driver, *ids: str) -> Call:
    call = driver.call("hold_many", *ids)
    driver.grant()
    return call


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
    call = driver.call("leave", "a", "b", argument=leases)
    driver.answer(driver.commit(), refused(Refusal.OTHER, 2))
    driver.grant()
    assert driver.result(call) == 1


def test_leaving_a_hold_that_is_half_lost() -> None:
    driver = Driver().ready()
    leases = driver.result(hold(driver, "a", "b"))
    driver.core._grants.lose(driver.core.ledger.slots["a"], "key deleted")
    call = driver.call("leave", "a", "b", argument=leases)
    driver.grant()
    assert driver.result(call) == 1
    lost = Call("leave", ("a",), argument=leases)
    driver.core._grants.leave(lost)
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
    assert driver.one(ReadKey).purpose == "verdict"
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
    slots = driver.core.ledger.slots
    assert (slots["a"].doubts, slots["b"].doubts) == (set(), {2})


def test_a_tenure_that_was_sent_twice_stays_in_doubt() -> None:
    driver = Driver().ready()
    driver.call("lock", "0")
    driver.call("lock", "a")
    driver.call("lock", "b")
    driver.grant()
    driver.answer(driver.commit(), held(0))
    driver.answer(driver.commit(), failure())
    slot = driver.core.ledger.slots["b"]
    assert all(tenure < 0 for tenure in slot.doubts)


# --------------------------------------------------------------------------------------- abandoning


def test_a_lock_that_comes_for_nobody_is_given_back() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a")
    driver.abandon(call)
    driver.grant()
    driver.grant()
    assert driver.core.ledger.slots == {}
    assert driver.emitted("lock_acquired", "lock_lost", "released") == []


def test_a_lock_that_comes_for_nobody_while_others_stand_in_line() -> None:
    driver = Driver(strategy=None).ready()
    old = driver.locked("a")
    first = driver.call("lock", "a")
    second = driver.call("lock", "a")
    driver.abandon(first)
    driver.grant()
    assert not old.live
    driver.grant()
    assert driver.result(second).valid


def test_an_abandoned_call_leaves_those_who_share_alone() -> None:
    driver = Driver().ready()
    first, second = driver.call("lock", "a"), driver.call("lock", "a")
    driver.abandon(first)
    driver.grant()
    assert driver.result(second).valid


def test_an_abandoned_call_is_not_sent_at_all() -> None:
    driver = Driver(strategy=None).ready()
    driver.call("lock", "0")
    packed = driver.call("lock", "a")
    behind = driver.call("lock", "a")
    driver.abandon(behind)
    driver.abandon(packed)
    driver.grant()
    assert driver.all(Transact) == []


def test_a_call_abandoned_in_line_is_skipped() -> None:
    driver = Driver(strategy=None).ready()
    driver.call("lock", "a")
    second, third = driver.call("lock_many", "a", "b"), driver.call("lock", "a")
    second.settled = True  # its answer came on another way
    driver.grant()
    driver.grant()
    assert driver.result(third).valid


def test_abandoning_what_nobody_knows_does_nothing() -> None:
    driver = Driver().ready()
    driver.core._grants.abandon(Call("lock", ("nothing",)))
    assert driver.core.ledger.slots == {}


def test_a_lease_whose_caller_was_gone_stays_with_those_who_took_it_too() -> None:
    driver = Driver().ready()
    first, second = driver.call("lock", "a"), driver.call("lock", "a")
    driver.grant()
    lease = driver.result(first)
    driver.abandon(first)
    assert lease.valid
    driver.abandon(second)
    assert not lease.valid
    driver.grant()
    assert driver.core.ledger.slots == {}


# ------------------------------------------------------------------------------------------- the end


def test_a_session_that_is_gone_leaves_no_doubt_about_a_release() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    driver.call("lock", "0")
    driver.call("release", "a")
    lock = driver.call("lock", "b")
    driver.grant()
    driver.answer(driver.commit(), refused(Refusal.INVALID_SESSION, 2))
    assert lease.reason == "released"
    assert driver.emitted("lock_lost") == [("lock_lost", "session destroyed")] * 2
    driver.ready("S2")
    driver.grant()
    assert driver.result(lock).session_id == "S2"


def test_a_stop_refuses_who_wants_a_lock_in_the_order_of_their_coming() -> None:
    driver = Driver().ready()
    flying = driver.call("lock", "a")
    wanted = driver.call("lock", "b")
    waiting = driver.call("hold", "b", wait=None)
    gone = driver.call("hold", "b", wait=None)
    gone.settled = True
    driver.call("release", "c")
    stop = driver.call("stop")
    for call in (flying, wanted, waiting):
        assert isinstance(driver.result(call), SessionEnded)
    driver.destroyed()
    assert driver.result(stop) is None
    assert driver.core.ledger.slots == {}


def test_a_lost_session_ends_what_is_under_way_and_asks_again() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    driver.locked("b")
    release, everything = driver.call("release", "a"), driver.call("release_all")
    never = driver.call("release", "c")
    lock, waiter = driver.call("lock", "d"), driver.call("hold", "d", wait=None)
    driver.call("reboot")
    assert (lease.reason, driver.result(release), driver.result(everything)) == ("released", False, 0)
    assert driver.result(never) is False
    assert driver.emitted("lock_lost") == [("lock_lost", "rebooted")] * 2
    driver.fire("retry")
    driver.ready("S2")
    driver.grant(driver.all(Transact)[-1])
    assert driver.result(lock).session_id == "S2"
    assert driver.result(waiter) is PENDING


def test_a_value_is_shown_as_it_is() -> None:
    assert lock_info("a", entry("svc/a/lock", None, 1)).value is None
    assert lock_info("a", entry("svc/a/lock", "S1", 1, b'{"pid": 3}')).value == {"pid": 3}
    assert lock_info("a", entry("svc/a/lock", "S1", 1, b"\xff no json")).value == "\ufffd no json"
    deep = b"[" * 100_000  # deeper than Python reads
    assert lock_info("a", entry("svc/a/lock", "S1", 1, deep)).value == deep.decode()


def test_a_lock_whose_taker_was_gone_is_given_back_when_nobody_else_gets_it() -> None:
    """Its answer and his end crossed, while another caller asked for the lock in a set that was refused then."""
    driver = Driver().ready()
    first = driver.call("lock", "a")
    driver.grant()
    driver.call("lock_many", "a", "b")
    driver.abandon(first)
    driver.answer(driver.commit(), held(1))
    assert [op.verb for op in driver.commit().operations] == [Verb.CHECK_INDEX, Verb.UNLOCK]
    driver.grant()
    assert driver.core.ledger.slots == {}
    assert driver.emitted("released") == [("released", "a")]


# ------------------------------------------------------------------- what stands in line behind what is in flight


def test_a_release_never_ends_a_hold_that_is_in_flight() -> None:
    driver = Driver().ready()
    hold = driver.call("hold", "a")
    release = driver.call("release", "a")
    assert driver.result(release) is False
    driver.grant()
    assert driver.result(hold).valid


def test_a_release_never_ends_the_next_hold() -> None:
    driver = Driver().ready()
    first = driver.call("hold", "a")
    driver.grant()
    driver.call("leave", "a", argument=[driver.result(first)])
    second = driver.call("hold", "a")
    assert driver.result(driver.call("release", "a")) is False
    driver.grant()
    driver.grant()
    assert driver.result(second).valid


def test_a_release_ends_what_is_shared_before_a_hold_that_stands_behind_another_release() -> None:
    driver = Driver().ready()
    driver.call("lock", "a")
    driver.call("lock_many", "b", "c")
    many = driver.call("lock_many", "a", "b")  # stands behind both
    driver.call("release", "a")
    hold = driver.call("hold", "a", wait=None)
    driver.grant()
    shared = driver.core.ledger.leases["a"]
    assert driver.result(driver.call("release", "a")) is False
    assert not shared.live
    for _ in range(4):
        driver.grant()
    assert driver.result(hold).valid
    assert driver.result(many) != PENDING


@pytest.mark.parametrize("first", ["lock", "lock_many"])
@pytest.mark.parametrize("second", ["lock", "lock_many"])
def test_a_lock_that_is_granted_while_another_call_stands_in_line_answers_it(first: str, second: str) -> None:
    """Locked anew, the first caller's lease would be lost."""
    driver = Driver().ready()
    one, two = driver.call(first, "a"), driver.call(second, "a")
    driver.grant()
    leases = [each[0] if isinstance(each, list) else each for each in map(driver.result, (one, two))]
    assert leases[0] is leases[1]
    assert leases[0].valid
    assert driver.emitted("lock_lost") == []
    assert driver.all(Transact) == []


def test_an_abandoned_call_in_line_takes_nothing_from_who_was_granted_the_lock() -> None:
    driver = Driver().ready()
    many = driver.call("lock_many", "a", "b")
    driver.abandon(driver.call("lock", "a"))
    driver.grant()
    assert all(lease.valid for lease in driver.result(many))
    assert driver.all(Transact) == []


def test_a_call_in_line_that_shares_a_grant_gives_its_place_in_the_queue_back() -> None:
    """With ``fair=True`` it may have waited before."""
    driver = Driver(fair=True).ready()
    waits = driver.call("hold_many", "a", "b", wait=None)
    reads = driver.all(Transact)
    assert [each.purpose for each in reads] == ["turn"]
    driver.abandon(waits)
    assert driver.core.ledger.slots == {}


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
