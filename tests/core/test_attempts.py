"""core/attempts.py: attempts at a session while calls wait for one, and what those calls are answered."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.core.messages import Log
from consul_locker.core.requests import CreateSession, Failed, ReadKey, SessionCreated, Transact
from consul_locker.errors import AccessDenied, ConsulUnavailable, LockTimeout, SessionUnavailable

from .helpers import PENDING, Driver, away

AWAY = ConsulUnavailable("session create: connection refused", operation="session create", outage=True)
UNREPLICATED = AccessDenied("session create", 403, "ACL not found")


def fail(driver: Driver, error: Any = AWAY, took: float = 0.0) -> None:
    driver.answer(driver.one(CreateSession), Failed(error, sent=False), driver.now + took)


def next_in(driver: Driver) -> float:
    return driver.timers["retry",] - driver.now


def down(*, retries: int = 6, **options: Any) -> Driver:
    """A Locker without a session for so long that its pauses are long."""
    driver = Driver(random=0.0, **options)
    fail(driver)
    for _ in range(retries):
        driver.fire("retry")
        fail(driver)
    assert driver.core.state == "paused"
    return driver


def warnings(driver: Driver) -> list[str]:
    return [command.text for command in driver.commands if isinstance(command, Log)]


# ---------------------------------------------------------------------------------------- early attempts


def test_without_calls_the_pauses_grow() -> None:
    assert next_in(down()) == 30.0


def test_a_call_in_a_long_pause_has_an_attempt_within_two_seconds() -> None:
    driver = down()
    driver.now += 1.0
    driver.call("lock", "a")
    assert next_in(driver) == 2.0
    driver.now += 1.0
    driver.call("lock", "b")
    assert next_in(driver) == 1.0  # it is soon enough


def test_a_pause_that_is_nearly_over_stays_as_it_is() -> None:
    driver = down()
    driver.now += 28.5
    driver.call("lock", "a")
    assert next_in(driver) == 1.5


def test_early_attempts_go_on_while_calls_wait_and_count_as_no_retries() -> None:
    driver = down(max_retries=7, outage_timeout=None)
    assert driver.core.attempts.retries == 7
    call = driver.call("lock", "a")
    due = driver.now + 30.0
    while driver.now + 2.0 < due:
        driver.fire("retry")
        assert driver.core.attempts.retries == 7
        fail(driver)
        assert next_in(driver) <= 2.0
    driver.fire("retry")
    assert driver.result(call) == PENDING
    fail(driver)  # this one is the retry: the last
    assert driver.core.state == "stopped"
    assert driver.result(call).retries == 7


def test_an_early_attempt_that_takes_past_the_retry_is_it() -> None:
    driver = down()
    driver.call("lock", "a")
    driver.fire("retry")
    fail(driver, took=29.0)
    assert driver.core.attempts.retries == 8


def test_once_nobody_waits_the_retry_keeps_its_time() -> None:
    driver = down()
    due = driver.timers["retry",]
    call = driver.call("lock", "a")
    driver.fire("retry")
    driver.abandon(call)
    fail(driver)
    assert driver.timers["retry",] == due
    assert driver.core.attempts.retries == 7


def test_an_attempt_after_a_start_counts() -> None:
    driver = down()
    driver.call("lock", "a")
    driver.fire("retry")
    fail(driver)
    driver.call("start")
    fail(driver)
    assert driver.core.attempts.retries == 8


def test_without_an_outage_timeout_calls_wait_for_the_retry() -> None:
    driver = down(outage_timeout=0)
    driver.call("lock", "a")
    assert next_in(driver) == 30.0
    driver.fire("retry")
    fail(driver)
    assert next_in(driver) == 30.0


def test_the_log_says_that_an_outage_began_and_that_it_is_over() -> None:
    driver = down(outage_timeout=60)
    call = driver.call("lock", "a")
    for _ in range(5):
        driver.fire("retry")
        fail(driver)
    driver.fire("retry")
    driver.ready()
    driver.grant()
    assert driver.result(call).valid
    began, over = warnings(driver)
    assert began == "Locker 'svc': Consul does not answer: session create: connection refused"
    assert over.startswith("Locker 'svc': Consul answers again, after ")


def test_what_is_no_outage_is_logged_once_for_each_retry() -> None:
    driver = Driver(random=0.0)
    for _ in range(7):
        fail(driver, UNREPLICATED)
        driver.fire("retry")
    fail(driver, UNREPLICATED)
    driver.call("lock", "a")
    driver.fire("retry")
    fail(driver, UNREPLICATED)  # an early one
    assert len(warnings(driver)) == 8
    assert "no session, attempt 8: Consul refused session create (403: ACL not found)" in warnings(driver)[-1]


# --------------------------------------------------------------------------------- what a call is answered


@pytest.mark.parametrize("verb", ["lock", "hold", "lock_many", "release"])
def test_a_call_rides_from_its_arrival(verb: str) -> None:
    driver = Driver()
    driver.call("lock", "a", wait=None)  # a release behind it waits, too
    driver.now += 5.0
    call = driver.call(verb, "a")
    fail(driver)
    assert driver.timers["outage", call] == driver.now + 20.0
    driver.fire("outage", call)
    error = driver.result(call)
    assert isinstance(error, SessionUnavailable)
    assert (error.cause, error.attempts, error.sent) == (AWAY, 1, False)
    driver.fire("retry")
    driver.ready()
    driver.grant()
    assert driver.emitted("lock_requested") == [("lock_requested", "a")]  # nothing is left of the call


def test_a_token_that_is_not_replicated_is_a_cause() -> None:
    driver = Driver()
    call = driver.call("lock", "a")
    fail(driver, UNREPLICATED)
    assert driver.core.state == "paused"
    assert driver.result(call) == PENDING
    driver.fire("outage", call)
    assert "ACL not found" in str(driver.result(call))
    assert driver.result(call).cause is UNREPLICATED
    assert driver.core.outage.since is None  # it was an answer


def test_a_new_session_does_not_restart_its_clock() -> None:
    driver = Driver()
    call = driver.call("lock", "a")
    due = driver.timers["outage", call]
    driver.ready()
    driver.now += 16.0  # past the deadline: no renewal was answered, nor the lock
    later = driver.call("lock", "b")
    assert driver.core.state == "acquiring"
    assert driver.timers["outage", call] == due
    driver.fire("outage", call)
    assert isinstance(driver.result(call), SessionUnavailable)
    assert driver.result(later) == PENDING


def test_its_own_timeout_wins_and_says_why() -> None:
    driver = Driver(default_timeout=5.0)
    call = driver.call("lock", "a", timeout=5.0)
    fail(driver)
    driver.fire("call", call)
    error = driver.result(call)
    assert isinstance(error, LockTimeout)
    assert error.cause is AWAY
    assert ("outage", call) not in driver.timers


@pytest.mark.parametrize("verb", ["lock", "hold", "lock_many", "release", "info", "holder"])
def test_in_ready_too_it_says_why(verb: str) -> None:
    driver = Driver().ready()
    driver.locked("a") if verb == "release" else None
    call = driver.call(verb, "a", timeout=5.0)
    (request,) = driver.all(ReadKey) or driver.all(Transact)
    driver.answer(request, away())
    assert driver.result(call) == PENDING
    driver.fire("call", call)
    error = driver.result(call)
    assert isinstance(error, LockTimeout)
    assert "connection refused" in str(error.cause)
    assert "connection refused" in str(error)


def test_an_abandoned_call_leaves_no_timer() -> None:
    driver = Driver()
    call = driver.call("lock", "a")
    driver.abandon(call)
    assert ("outage", call) not in driver.timers


def test_a_call_that_waits_for_a_start_after_a_stop_rides_as_well() -> None:
    driver = Driver().ready()
    driver.call("stop")
    driver.call("start")
    call = driver.call("lock", "a")
    driver.destroyed()
    assert driver.core.state == "acquiring"
    driver.fire("outage", call)
    assert isinstance(driver.result(call), SessionUnavailable)


def test_a_call_whose_time_is_over_is_answered_when_its_session_is_lost() -> None:
    driver = Driver()
    call = driver.call("lock", "a")
    driver.ready()
    driver.now += 21.0  # past the deadline of the session, and before the timer of the call has come
    other = driver.call("lock", "b")
    assert isinstance(driver.result(call), SessionUnavailable)
    assert driver.result(other) == PENDING


def test_a_session_that_comes_serves_all() -> None:
    driver = down()
    calls = [driver.call("lock", id) for id in "abc"]
    driver.fire("retry")
    driver.answer(driver.one(CreateSession), SessionCreated("S1"))
    driver.grant()
    assert all(driver.result(call).valid for call in calls)
    assert not [name for name in driver.timers if name[0] == "outage"]
