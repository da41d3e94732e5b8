"""All ends at once: what a stop takes out and gives back, and what becomes of calls when the session ends."""

from __future__ import annotations

from consul_locker.core.requests import (
    Refusal,
    Refused,
    RolledBack,
    Watch,
)
from consul_locker.errors import (
    SessionEnded,
    SessionUnavailable,
)

from .helpers import Driver, held


def test_a_stop_begins_a_release_that_stood_behind_a_lock_it_took_out() -> None:
    driver = Driver(lock_delay=5.0, strategy=None).ready()
    driver.locked("a")
    driver.call("lock_many", "b", "c")
    behind = driver.call("lock", "a")  # not sent yet
    release = driver.call("release", "a")
    call = driver.call("stop")
    driver.grant()
    driver.grant()
    assert driver.result(release) is True
    assert isinstance(driver.result(behind), SessionEnded)
    driver.destroyed()
    assert driver.result(call) is None


def test_stop_takes_waiting_calls_out_and_refuses_them() -> None:
    driver = Driver().ready()
    waits = driver.call("lock", "a", wait=None)
    driver.answer(driver.commit(), held())
    in_flight = driver.call("lock", "b")
    driver.call("stop")
    assert isinstance(driver.result(waits), SessionEnded)
    assert isinstance(driver.result(in_flight), SessionEnded)
    assert len(driver.all(Watch)) == 1  # on the session


def test_a_lost_session_shown_by_a_transaction() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), RolledBack((Refused(0, Refusal.INVALID_SESSION, "invalid session"),)))
    assert driver.core.state == "acquiring"
    driver.ready("S2")
    driver.grant()
    assert driver.result(call).session_id == "S2"
    assert driver.result(driver.call("lock", "a")).session_id == "S2"


def test_calls_of_a_session_that_was_given_up_are_refused_when_the_locker_gives_up() -> None:
    driver = Driver(max_retries=0).ready()
    call = driver.call("lock", "a")
    driver.call("reboot")
    assert driver.core.state == "stopped"
    assert isinstance(driver.result(call), SessionUnavailable)
