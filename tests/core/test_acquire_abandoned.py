"""Locks whose callers have gone, and what the end of a session makes of what is under way."""

from __future__ import annotations

from consul_locker.core.calls import Lock
from consul_locker.core.queries import lock_info
from consul_locker.core.requests import (
    Refusal,
    Refused,
    RolledBack,
    Transact,
    Verb,
)
from consul_locker.errors import SessionEnded

from .helpers import PENDING, Driver, entry, held


def refused(refusal: Refusal, position: int = 0) -> RolledBack:
    return RolledBack((Refused(position, refusal, f"failed: {refusal.value}"),))


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
    driver.core.grants.abandon(Lock(("nothing",)))
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
