"""The end of sessions: a destroy counts once a read confirms it, and a former session is in nobody's way for long."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.core.destroys import PREDECESSOR_WAIT
from consul_locker.core.messages import TimerFired
from consul_locker.core.requests import (
    Committed,
    CreateSession,
    DestroySession,
    Done,
    KeysRead,
    Outcome,
    ReadSession,
    SessionCreated,
    SessionRead,
    Transact,
    Watch,
    WatchKey,
)
from consul_locker.core.stop import STOP_PAUSE
from consul_locker.errors import AlreadyLocked, LockTimeout

from .helpers import PENDING, STRANGER, TIMEOUT, Driver, entry, failure, held, session_info

TTL = 15.0
NOTHING = SessionRead(None, 42)
ALIVE = SessionRead(session_info("S1"), 42)


def _confirming(driver: Driver) -> ReadSession:
    (read,) = (read for read in driver.all(ReadSession) if read.confirms)
    return read


# ----------------------------------------------------------------------------------------------------- a stop


def test_a_stop_is_confirmed_by_a_read() -> None:
    driver = Driver().ready()
    driver.locked("a")
    call = driver.call("stop")
    driver.answer(driver.one(DestroySession), Done())
    assert driver.result(call) is PENDING and driver.emitted("released") == []
    driver.answer(_confirming(driver), NOTHING)
    assert driver.result(call) is None
    assert driver.emitted("released", "lock_lost") == [("released", "a")]
    assert driver.all(DestroySession) == [] and driver.timers == {}


@pytest.mark.parametrize("read", [ALIVE, failure("500")])
def test_a_stop_destroys_again_what_a_read_still_finds(read: Outcome) -> None:
    driver = Driver().ready()
    driver.locked("a")
    call = driver.call("stop")
    for _ in range(3):
        driver.answer(driver.one(DestroySession), Done())
        driver.answer(_confirming(driver), read)
        assert driver.timers[("stop", "again")] == driver.now + STOP_PAUSE
        assert driver.result(call) is PENDING
        driver.fire("stop", "again")
    driver.destroyed()
    assert driver.result(call) is None
    assert driver.emitted("released", "lock_lost") == [("released", "a")]


def test_a_stop_that_is_never_confirmed_ends_at_its_limit_and_goes_on_in_the_background() -> None:
    driver = Driver(ttl=60.0).ready()
    driver.locked("a")
    call = driver.call("stop")
    driver.answer(driver.one(DestroySession), Done())
    driver.answer(_confirming(driver), ALIVE)
    driver.fire("stop")
    assert driver.result(call) is None and driver.core.state == "stopped"
    assert driver.emitted("released", "lock_lost") == [("lock_lost", "stopped")]
    assert ("stop", "again") not in driver.timers
    driver.step(TimerFired(("stop", "again")))  # it was due already when it was cancelled
    driver.destroyed()
    assert driver.core.session.destroys.pending == frozenset()


# --------------------------------------------------------------------------------------------- in the background


def test_a_destroy_in_the_background_is_confirmed_by_a_read() -> None:
    driver = Driver().ready()
    driver.call("reboot")
    driver.answer(driver.one(DestroySession), Done())
    assert driver.core.session.destroys.pending == {"S1"}
    read = _confirming(driver)
    driver.answer(read, ALIVE)  # a server that had just started said yes
    driver.answer(read, NOTHING)  # its answer again counts no more
    driver.fire("destroy", "S1")
    driver.answer(driver.one(DestroySession), Done())
    driver.answer(_confirming(driver), failure("500"))
    driver.fire("destroy", "S1")
    driver.destroyed()
    assert driver.core.session.destroys.pending == frozenset()
    driver.step(TimerFired(("destroy", "S1")))
    assert driver.all(DestroySession) == []


def test_what_was_not_destroyed_is_tried_again_at_once_when_a_session_is_created() -> None:
    driver = Driver().ready()
    driver.call("reboot")
    for _ in range(5):
        driver.answer(driver.one(DestroySession), failure())
        driver.fire("destroy", "S1")
    driver.answer(driver.one(DestroySession), failure())
    assert driver.timers[("destroy", "S1")] > driver.now + 10
    driver.fire("retry")
    driver.ready("S2")
    assert driver.one(DestroySession).session_id == "S1"
    assert ("destroy", "S1") not in driver.timers


def test_one_that_hangs_is_sent_once_more_but_not_one_sent_with_the_creation() -> None:
    driver = Driver().ready()
    driver.fire("deadline")  # destroyed and created in one step
    driver.ready("S2")
    assert len(driver.all(DestroySession)) == 1
    driver.fire("deadline")
    driver.no_session()
    driver.fire("retry")
    driver.ready("S3")
    assert [request.session_id for request in driver.all(DestroySession)] == ["S1", "S2", "S1", "S2"]


# ----------------------------------------------------------------------------- a create that is answered too late


def test_a_session_that_is_over_before_it_begins_is_a_failed_attempt() -> None:
    driver = Driver(max_retries=1)
    for attempt in range(2):
        request = driver.one(CreateSession)
        driver.answer(request, SessionCreated(f"S{attempt}"), now=driver.now + TTL)
        assert driver.one(DestroySession).session_id == f"S{attempt}"
        driver.destroyed()
        if attempt == 0:
            assert (driver.core.state, driver.core.attempts.retries) == ("paused", 1)
            driver.fire("retry")
    assert driver.core.state == "stopped"  # it gave up, and does not go round for ever
    assert "took longer than the 15 s" in driver.logged()
    assert driver.emitted("session_created") == []


# ------------------------------------------------------------------------------- refused by one's own predecessor


def _successor(**options: Any) -> Driver:
    """A Locker whose first session could not be destroyed yet."""
    driver = Driver(**options).ready()
    driver.locked("a")
    driver.fire("deadline")
    driver.ready("S2")
    assert driver.core.session.destroys.pending == {"S1"}
    return driver


def _named(driver: Driver, session: str | None) -> None:
    read = next(each for each in driver.all(Transact) if driver.purpose(each) == "holder")
    driver.answer(read, Committed((entry("svc/a/lock", session, 7),)))


def _key_watch(driver: Driver) -> Watch:
    return next(watch for watch in driver.all(Watch) if isinstance(watch, WatchKey))


@pytest.mark.parametrize("identify", [True, False])
@pytest.mark.parametrize("wait", [0.0, 0.5])
def test_a_call_waits_for_the_end_of_its_own_former_session(identify: bool, wait: float) -> None:
    driver = _successor(identify_holder=identify)
    call = driver.call("lock", "a", wait=wait)
    driver.answer(driver.commit(), held())
    if wait:
        driver.fire("wait", call)
    _named(driver, "S1")
    assert driver.result(call) is PENDING
    assert driver.timers[("wait", call)] == driver.now + PREDECESSOR_WAIT
    driver.destroyed()
    driver.answer(_key_watch(driver), KeysRead((), 8))
    driver.grant()
    assert driver.result(call).session_id == "S2"
    assert ("wait", call) not in driver.timers


def test_it_waits_no_longer_than_a_moment() -> None:
    driver = _successor()
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), held())
    _named(driver, "S1")
    driver.fire("wait", call)
    _named(driver, "S1")
    assert isinstance(driver.result(call), AlreadyLocked)
    assert driver.result(call).holder is None  # it was not asked to name one


def test_refused_by_it_once_more_it_waits_for_the_rest_of_that_moment() -> None:
    driver = _successor()
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), held())
    _named(driver, "S1")
    until = driver.timers[("wait", call)]
    driver.answer(_key_watch(driver), KeysRead((), 8), now=driver.now + 0.5)  # of a server that is behind
    driver.answer(driver.commit(), held())
    _named(driver, "S1")
    assert driver.result(call) is PENDING
    assert driver.timers[("wait", call)] == until
    driver.answer(_key_watch(driver), KeysRead((), 9))
    driver.grant()
    assert driver.result(call).valid


def test_a_key_that_is_free_by_now_is_tried_again() -> None:
    driver = _successor(identify_holder=True)
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), held())
    driver.destroyed()
    _named(driver, None)
    driver.answer(_key_watch(driver), KeysRead((), 8))
    driver.grant()
    assert driver.result(call).session_id == "S2"


def test_a_stranger_is_not_waited_for() -> None:
    driver = _successor(identify_holder=True)
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), held())
    _named(driver, "S1")
    driver.answer(_key_watch(driver), KeysRead((), 8))
    driver.answer(driver.commit(), held())  # somebody was faster
    _named(driver, STRANGER)
    assert driver.result(call).holder.session_id == STRANGER


def test_a_read_that_fails_names_no_former_session() -> None:
    driver = _successor()
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), held())
    driver.answer(next(each for each in driver.all(Transact) if driver.purpose(each) == "holder"), failure())
    assert isinstance(driver.result(call), AlreadyLocked)


def test_a_moment_after_its_end_a_former_session_is_forgotten() -> None:
    driver = _successor()
    driver.destroyed()
    driver.now += PREDECESSOR_WAIT + 0.1
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), held())
    assert isinstance(driver.result(call), AlreadyLocked)  # nothing is read for it


def test_its_own_timeout_ends_the_wait() -> None:
    driver = _successor()
    call = driver.call("lock", "a", timeout=0.5 + TIMEOUT / 10)
    driver.answer(driver.commit(), held(), now=driver.now + 0.4)
    _named(driver, "S1")
    driver.fire("call", call)
    assert isinstance(driver.result(call), LockTimeout)


@pytest.mark.parametrize("holder", ["S1", STRANGER])
def test_a_call_of_a_fair_locker_waits_for_it_too(holder: str) -> None:
    driver = Driver(fair=True).ready()
    driver.fire("deadline")
    driver.ready("S2")
    call = driver.call("lock", "a")
    driver.answer(driver.one(Transact), Committed((entry("svc/a/lock", holder, 7),)))
    if holder == STRANGER:
        assert isinstance(driver.result(call), AlreadyLocked)
        return
    assert driver.timers[("wait", call)] == driver.now + PREDECESSOR_WAIT
    driver.grant()  # a place in the queue, in which nobody is before it
    driver.fire("wait", call)
    driver.answer(driver.commit(), held())
    _named(driver, holder)
    assert isinstance(driver.result(call), AlreadyLocked)
