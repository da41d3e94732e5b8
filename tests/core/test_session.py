"""The session's life: pauses between attempts, renewal, and the deadline."""

from __future__ import annotations

import math
from math import inf, nan
from typing import Any

import pytest

from consul_locker.core.messages import TimerFired
from consul_locker.core.requests import (
    CreateSession,
    DestroySession,
    Gone,
    ReadSession,
    Renewed,
    RenewSession,
    SessionCreated,
    SessionRead,
)
from consul_locker.errors import (
    SessionUnavailable,
)

from .helpers import PENDING, TIMEOUT, Driver, failure, held, session_info

TTL = 15.0


def _pause(driver: Driver) -> float:
    """How long the Locker waits for its next attempt."""
    return driver.timers[("retry",)] - driver.now


# ------------------------------------------------------------------------------------------------ creation


def test_it_asks_for_a_session_with_its_options() -> None:
    request = Driver(lock_delay=2.0, behavior="delete").one(CreateSession)
    assert (request.name, request.ttl, request.lock_delay, request.behavior) == ("svc", TTL, 2.0, "delete")
    assert request.checks == ()  # no health check: a cut-off agent's would end the session before the TTL
    assert request.timeout == TIMEOUT
    assert Driver(ttl=None).one(CreateSession).checks is None  # Consul's own choice
    assert Driver(checks=["serfHealth"]).one(CreateSession).checks == ("serfHealth",)


def test_created_it_is_ready() -> None:
    driver = Driver().ready("S1")
    assert driver.emitted() == [("session_created", "S1"), ("state_changed", "ready")]
    assert driver.core.counters() == {}


def test_pauses_double_up_to_the_interval_with_up_to_half_of_jitter() -> None:
    expected = [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    for random, part in ((0.0, 1.0), (0.5, 0.75), (math.nextafter(1.0, 0.0), 0.5)):
        driver = Driver(random=random, retry_interval=5.0)
        seen = []
        for _ in expected:
            driver.no_session()
            assert driver.core.state == "paused"
            seen.append(_pause(driver))
            driver.fire("retry")
        assert seen == pytest.approx([longest * part for longest in expected])


def test_a_pause_after_very_many_failures_is_still_a_number() -> None:
    driver = Driver(max_retries=None, retry_interval=30.0, random=0.0)
    driver.core.attempts.retries = 5000
    driver.no_session()
    assert _pause(driver) == 30.0


def test_an_interval_of_nought_is_no_pause() -> None:
    driver = Driver(retry_interval=0.0)
    driver.no_session()
    assert _pause(driver) == 0.0


def test_a_callable_decides_the_pause_by_the_number_of_the_retry() -> None:
    driver = Driver(retry_interval=lambda retry: 10.0 * retry)
    seen = []
    for _ in range(3):
        driver.no_session()
        seen.append(_pause(driver))
        driver.fire("retry")
    assert seen == [10.0, 20.0, 30.0]


def _no_interval(retry: int) -> float:
    raise KeyError("interval")


@pytest.mark.parametrize(
    "interval",
    [_no_interval, *(lambda retry, answer=answer: answer for answer in ("5", [1], None, nan, inf, -1.0, True))],
)
def test_a_callable_that_says_no_time_ends_in_giving_up_not_in_hanging(interval: Any) -> None:
    driver = Driver(retry_interval=interval)
    call = driver.call("lock", "a")
    driver.no_session("refused")
    assert driver.core.state == "stopped"
    assert isinstance(driver.result(call), SessionUnavailable)
    assert "retry_interval " in driver.logged()
    assert "; giving up" in driver.logged()
    assert "fix the option 'retry_interval'" in str(driver.result(call))  # whatever Consul said last
    driver.call("start")
    assert driver.core.attempts.fault is None


def test_past_max_retries_it_gives_up() -> None:
    driver = Driver(max_retries=2)
    buffered = driver.call("lock", "a")
    for _ in range(2):
        driver.no_session()
        driver.fire("retry")
    driver.no_session("no leader")
    assert driver.core.state == "stopped"
    assert driver.core.ended
    error = driver.result(buffered)
    assert isinstance(error, SessionUnavailable)
    assert error.retries == 2
    assert "no leader" in str(error.cause)
    assert "retry limit exceeded" in driver.logged()


def test_no_retry_at_all() -> None:
    driver = Driver(max_retries=0)
    call = driver.call("lock", "a")
    driver.no_session()
    assert driver.core.state == "stopped"
    assert driver.result(call).retries == 0


def test_retries_without_limit() -> None:
    driver = Driver(max_retries=None)
    for _ in range(200):
        driver.no_session()
        driver.fire("retry")
    assert driver.core.state == "acquiring"
    assert driver.core.attempts.retries == 200


def test_ready_sets_the_count_back() -> None:
    driver = Driver(max_retries=1)
    driver.no_session()
    driver.fire("retry")
    driver.ready()
    assert driver.core.attempts.retries == 0


def test_a_session_that_comes_after_a_stop_is_destroyed() -> None:
    driver = Driver()
    late = driver.one(CreateSession)
    driver.call("stop")
    driver.answer(late, SessionCreated("S-late"))
    assert driver.core.state == "stopped"
    assert driver.one(DestroySession).session_id == "S-late"
    driver.destroyed()
    assert driver.emitted("session_created") == []


def test_an_attempt_that_fails_after_a_stop_changes_nothing() -> None:
    driver = Driver()
    late = driver.one(CreateSession)
    driver.call("stop")
    driver.answer(late, failure())
    assert (driver.core.state, driver.timers) == ("stopped", {})


def test_the_same_answer_twice_leaves_the_session_alone() -> None:
    driver = Driver()
    request = driver.one(CreateSession)
    driver.answer(request, SessionCreated("S1"))
    driver.answer(request, SessionCreated("S1"))
    assert driver.all(DestroySession) == []
    assert driver.core.state == "ready"


# ------------------------------------------------------------------------------------------------- renewal


def test_it_is_renewed_after_a_third_of_the_ttl_from_the_start_of_the_last_renewal() -> None:
    driver = Driver()
    asked = driver.now
    driver.answer(driver.one(CreateSession), SessionCreated("S1"), now=asked + 2.0)
    assert driver.timers[("renew",)] == asked + TTL / 3
    assert driver.timers[("deadline",)] == asked + TTL
    driver.fire("renew")
    started = driver.now
    request = driver.one(RenewSession)
    assert (request.session_id, request.fresh, request.timeout) == ("S1", False, TTL / 6)
    driver.answer(request, Renewed(TTL), now=started + 2.0)
    assert driver.timers[("renew",)] == started + TTL / 3
    assert driver.timers[("deadline",)] == started + TTL
    assert driver.core.counters() == {"renewals": 1}


def test_an_attempt_takes_no_longer_than_the_timeout() -> None:
    driver = Driver(ttl=600.0).ready()
    driver.fire("renew")
    assert driver.one(RenewSession).timeout == TIMEOUT


def test_one_renewal_at_a_time() -> None:
    driver = Driver().ready()
    driver.fire("renew")
    driver.step(TimerFired(("renew",)))
    assert len(driver.all(RenewSession)) == 1


def test_the_ttl_that_consul_answers_is_kept_to() -> None:
    driver = Driver().ready()
    driver.fire("renew")
    driver.answer(driver.one(RenewSession), Renewed(60.0))
    assert driver.timers[("deadline",)] == driver.now + 60.0
    driver.fire("renew")
    assert driver.one(RenewSession).timeout == 60.0 / 6
    driver.answer(driver.one(RenewSession), Renewed(None))  # without one it stays as it is
    assert driver.timers[("deadline",)] == driver.now + 60.0
    driver.fire("deadline")
    assert driver.one(CreateSession).ttl == TTL  # the next session is asked for as the options say
    driver.ready("S2")
    assert driver.timers[("deadline",)] == driver.now + TTL


def test_failing_renewals_are_unknown_until_the_deadline() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    deadline = driver.timers[("deadline",)]
    driver.fire("renew")
    attempts = 0
    while driver.now + TTL / 30 < deadline:
        request = driver.one(RenewSession)
        assert request.fresh is (attempts > 0)  # after a failure on a connection of its own
        before = driver.now
        driver.answer(request, failure())
        attempts += 1
        assert driver.timers[("renew", "again")] == pytest.approx(before + TTL / 30)
        assert driver.timers[("deadline",)] == deadline
        assert lease.valid
        driver.fire("renew", "again")
    assert driver.core.state == "ready"
    assert driver.core.counters()["renewals_failed"] == attempts > 3
    driver.fire("deadline")
    assert driver.core.state == "acquiring"
    assert not lease.valid


def test_a_renewal_that_succeeds_at_last_saves_the_session() -> None:
    driver = Driver().ready()
    driver.fire("renew")
    driver.answer(driver.one(RenewSession), failure())
    driver.fire("renew", "again")
    driver.answer(driver.one(RenewSession), Renewed(TTL))
    assert driver.timers[("deadline",)] == driver.now + TTL
    driver.step(TimerFired(("deadline",)))  # it was due already when it was moved
    assert driver.core.state == "ready"


def test_404_and_a_read_that_does_not_find_it_are_loss() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    driver.fire("renew")
    driver.gone()
    assert driver.core.state == "acquiring"
    assert lease.reason == "session destroyed"
    assert driver.emitted("lock_lost", "session_ended") == [
        ("lock_lost", "session destroyed"),
        ("session_ended", "session destroyed"),
    ]
    assert driver.one(DestroySession).session_id == "S1"  # both may err


def test_an_answer_to_a_renewal_that_is_not_under_way_changes_nothing() -> None:
    driver = Driver().ready()
    driver.fire("renew")
    request = driver.one(RenewSession)
    driver.answer(request, Renewed(TTL))
    driver.answer(request, Gone())
    assert driver.core.state == "ready"


def test_an_answer_of_an_older_generation_changes_nothing() -> None:
    driver = Driver().ready()
    driver.fire("renew")
    old = driver.one(RenewSession)
    driver.call("reboot")
    driver.fire("retry")
    driver.ready("S2")
    driver.answer(old, Gone())
    assert driver.core.state == "ready"


def test_timers_of_a_session_that_is_over_do_nothing() -> None:
    driver = Driver()
    for name in ("renew", "audit", "look", "deadline"):
        assert driver.step(TimerFired((name,))) == []
    assert driver.step(TimerFired(("watch", "session"))) == []
    assert driver.step(TimerFired(("stop",))) == []


def test_without_a_ttl_it_is_read_every_five_seconds_and_trusted_for_fifteen() -> None:
    driver = Driver(ttl=None).ready()
    lease = driver.locked("a")
    assert driver.timers[("renew",)] == driver.now + 5.0
    assert driver.timers[("deadline",)] == driver.now + 15.0
    driver.fire("renew")
    request = driver.one(ReadSession)
    assert (request.session_id, request.timeout) == ("S1", 2.5)
    driver.answer(request, SessionRead(session_info("S1"), 7), now=driver.now + 1.0)
    assert driver.timers[("renew",)] == driver.now - 1.0 + 5.0
    assert driver.timers[("deadline",)] == driver.now - 1.0 + 15.0
    driver.fire("renew")
    driver.answer(driver.one(ReadSession), failure())
    assert driver.timers[("renew", "again")] == pytest.approx(driver.now + 5.0 / 30)
    driver.fire("renew", "again")
    assert lease.valid
    driver.answer(driver.one(ReadSession), SessionRead(None, 8))
    assert lease.valid  # the token may have lost its right to read sessions: a renewal is to say so, too
    driver.gone()
    assert driver.core.state == "acquiring"
    assert lease.reason == "session destroyed"


# ---------------------------------------------------------------------------------------------- the deadline


def test_past_the_deadline_the_next_session_serves_the_calls_that_wait() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    in_flight = driver.call("lock", "b", wait=None)
    waits = driver.call("lock", "a2", wait=60.0)
    driver.answer(driver.commit(), held())
    driver.grant()
    driver.fire("deadline")
    assert (lease.reason, lease.valid) == ("deadline passed", False)
    assert driver.states() == ["ready", "acquiring"]
    assert driver.one(DestroySession).session_id == "S1"  # or it would refuse its successor
    assert driver.result(in_flight) is PENDING
    driver.destroyed()
    driver.ready("S2")
    request = driver.commit()
    assert [op.session for op in request.operations] == ["S2"]
    driver.grant()
    assert driver.result(in_flight).session_id == "S2"
    assert driver.result(waits).session_id == "S1"  # granted before the end
    assert driver.result(waits).reason == "deadline passed"


def test_any_event_past_the_deadline_ends_the_session_first() -> None:
    driver = Driver().ready()
    driver.locked("a")
    driver.now += TTL
    call = driver.call("lock", "a")
    assert driver.result(call) is PENDING  # not from the cache
    assert driver.core.state == "acquiring"
