"""The entrance of the core: calls that are buffered for too long, and those that end while they are answered."""

from __future__ import annotations

from consul_locker.core.messages import TimerFired
from consul_locker.core.requests import (
    KeysRead,
    ReadSession,
    SessionRead,
    Transact,
    Verb,
    Watch,
    WatchKey,
)
from consul_locker.errors import (
    LockTimeout,
)

from .helpers import Driver, held


def test_a_call_that_is_buffered_for_too_long_leaves_the_buffer() -> None:
    driver = Driver()
    call = driver.call("lock", "a", timeout=2.0)
    driver.fire("call", call)
    error = driver.result(call)
    assert isinstance(error, LockTimeout)
    assert (error.id, error.timeout, error.state) == ("a", 2.0, "acquiring")
    assert driver.core.fsm.input_queue == ()
    driver.step(TimerFired(("call", call)))  # answered already
    driver.ready()
    assert driver.all(Transact) == []


def test_a_call_answered_in_time_has_no_timer_left() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", timeout=2.0)
    driver.grant()
    assert ("call", call) not in driver.timers


def test_a_read_that_takes_too_long() -> None:
    driver = Driver()
    call = driver.call("session_info", "S9", timeout=2.0)
    driver.fire("call", call)
    assert isinstance(driver.result(call), LockTimeout)
    driver.answer(driver.one(ReadSession), SessionRead(None, 1))


def test_a_call_that_waited_leaves_no_timer() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=600.0)
    driver.answer(driver.commit(), held())
    assert ("wait", call) in driver.timers
    key = next(watch for watch in driver.all(Watch) if isinstance(watch, WatchKey))
    driver.answer(key, KeysRead((), 7))
    driver.grant()
    assert driver.result(call).valid
    assert ("wait", call) not in driver.timers


def test_an_abandoned_call_of_the_buffer_is_not_asked() -> None:
    driver = Driver()
    driver.abandon(driver.call("lock", "a"))
    driver.ready()
    assert driver.all(Transact) == []


def test_an_answer_that_crosses_the_end_of_its_caller_leaves_no_lock_behind() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a")
    driver.grant()
    driver.abandon(call)
    assert not driver.result(call).valid
    assert driver.commit().operations[-1].verb is Verb.UNLOCK
    other = driver.call("lock", "b")
    driver.call("stop")
    driver.abandon(other)  # the stop has it in hand


def test_a_call_settled_in_the_very_replay_is_not_asked() -> None:
    driver = Driver()
    lock = driver.call("lock", "a")
    release = driver.call("release", "a")
    lock.settled = release.settled = True
    driver.ready()
    assert driver.all(Transact) == []
