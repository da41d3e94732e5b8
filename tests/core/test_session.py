"""The session's life: pauses between attempts, renewal, the deadline, the watch on it, and its end."""

from __future__ import annotations

import math
from math import inf, nan
from typing import Any

import pytest

from consul_locker.core.messages import CancelRequest, TimerFired
from consul_locker.core.requests import (
    Committed,
    CreateSession,
    DestroySession,
    Done,
    Failed,
    Gone,
    KeysRead,
    RawTransact,
    ReadKey,
    ReadPrefix,
    ReadSession,
    Refusal,
    Refused,
    RefusedWhole,
    Renewed,
    RenewSession,
    RolledBack,
    SessionCreated,
    SessionRead,
    Transact,
    Verb,
    Watch,
)
from consul_locker.errors import (
    AlreadyLocked,
    ConsulUnavailable,
    LockLost,
    LockTimeout,
    SessionEnded,
    SessionUnavailable,
)

from .helpers import PENDING, STRANGER, TIMEOUT, Driver, entry, failure, held, not_ours, session_info

TTL = 15.0


def _pause(driver: Driver) -> float:
    """How long the Locker waits for its next attempt."""
    return driver.timers[("retry",)] - driver.now


def _watch(driver: Driver) -> Watch:
    return driver.one(Watch)


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
    driver.core.session.retries = 5000
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
    assert driver.core.session.retries == 200


def test_ready_sets_the_count_back() -> None:
    driver = Driver(max_retries=1)
    driver.no_session()
    driver.fire("retry")
    driver.ready()
    assert driver.core.session.retries == 0


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
    driver.answer(request, SessionCreated("S2"))  # a second one would only be in the way
    assert driver.one(DestroySession).session_id == "S2"
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


# -------------------------------------------------------------------------------------------------- the watch


def test_the_session_is_watched_from_the_present_state_on() -> None:
    driver = Driver().ready()
    first = _watch(driver)
    assert (first.target, first.name, first.index, first.wait) == ("session", "S1", 0, 300.0)
    driver.answer(first, SessionRead(session_info("S1"), 42))
    assert _watch(driver).index == 42
    assert driver.all(ReadPrefix) == []
    driver.answer(_watch(driver), SessionRead(session_info("S1"), 43))
    assert _watch(driver).index == 43


def test_an_index_that_falls_begins_at_nought() -> None:
    driver = Driver().ready()
    driver.answer(_watch(driver), SessionRead(session_info("S1"), 42))
    driver.answer(_watch(driver), SessionRead(session_info("S1"), 41))
    assert _watch(driver).index == 0


def test_a_watch_that_comes_back_with_nothing_new_is_followed_by_a_sweep() -> None:
    driver = Driver().ready()
    driver.answer(_watch(driver), SessionRead(session_info("S1"), 42))
    driver.answer(_watch(driver), SessionRead(session_info("S1"), 42))
    assert driver.one(ReadPrefix).prefix == "svc/"
    assert _watch(driver).index == 0  # the present index may be lower
    driver.answer(driver.one(ReadPrefix), KeysRead((), 42))


def test_a_session_that_seems_gone_is_read_before_it_is_believed() -> None:
    driver = Driver().ready()
    driver.answer(_watch(driver), SessionRead(None, 42))
    assert driver.core.state == "ready"
    request = driver.one(ReadSession)
    assert request.session_id == "S1"
    driver.answer(request, SessionRead(session_info("S1"), 43))  # a server that was behind
    assert driver.core.state == "ready"
    driver.fire("watch", "session")
    assert _watch(driver).index == 0
    driver.answer(_watch(driver), SessionRead(None, 44))
    driver.answer(driver.one(ReadSession), SessionRead(None, 44))
    assert driver.core.state == "ready"
    driver.gone()
    assert driver.core.state == "acquiring"


def test_a_confirmation_that_fails_confirms_nothing() -> None:
    driver = Driver().ready()
    driver.answer(_watch(driver), SessionRead(None, 42))
    driver.answer(driver.one(ReadSession), failure())
    assert driver.core.state == "ready"
    driver.fire("watch", "session")
    assert _watch(driver).index == 0


def test_a_watch_that_fails_is_tried_again_after_growing_pauses() -> None:
    driver = Driver(random=0.0).ready()
    pauses = []
    for _ in range(6):
        driver.answer(_watch(driver), failure())
        pauses.append(driver.timers[("watch", "session")] - driver.now)
        driver.step(TimerFired(("watch", "session")))
    assert pauses == pytest.approx([0.25, 0.5, 1.0, 2.0, 2.5, 2.5])  # half of 0.5, 1, 2, 4, 5, 5
    driver.answer(_watch(driver), SessionRead(session_info("S1"), 42))
    driver.answer(_watch(driver), failure())
    assert driver.timers[("watch", "session")] - driver.now == pytest.approx(0.25)


def test_one_watch_at_a_time() -> None:
    driver = Driver().ready()
    driver.step(TimerFired(("watch", "session")))
    assert len(driver.all(Watch)) == 1


def test_the_watch_ends_with_the_session() -> None:
    driver = Driver().ready()
    watch = _watch(driver)
    driver.call("reboot")
    assert CancelRequest(watch) in driver.commands
    driver.answer(watch, SessionRead(None, 42))
    assert driver.core.state == "paused"


def test_an_answer_to_a_watch_that_was_given_up_changes_nothing() -> None:
    driver = Driver().ready()
    first = _watch(driver)
    driver.answer(first, SessionRead(session_info("S1"), 42))
    driver.answer(first, SessionRead(None, 43))
    assert driver.all(ReadSession) == []


def test_a_session_that_ends_between_two_watches_has_none_to_cancel() -> None:
    driver = Driver().ready()
    driver.answer(_watch(driver), failure())
    driver.call("reboot")
    assert not any(isinstance(command, CancelRequest) for command in driver.commands)


# --------------------------------------------------------------------------------------- destroyed in the background


def test_a_destroy_in_the_background_is_tried_again_after_growing_pauses() -> None:
    driver = Driver().ready()
    driver.call("reboot")
    pauses = []
    for _ in range(8):
        driver.answer(driver.one(DestroySession), failure())
        pauses.append(driver.timers[("destroy", "S1")] - driver.now)
        driver.fire("destroy", "S1")
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    request = driver.one(DestroySession)
    driver.destroyed()
    assert ("destroy", "S1") not in driver.timers
    driver.answer(request, failure())  # its end is known by now
    assert ("destroy", "S1") not in driver.timers


# ------------------------------------------------------------------------------------------------------- stop


def test_stop_destroys_the_session_and_so_frees_every_lock() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    call = driver.call("stop")
    assert driver.core.ended
    assert not lease.valid
    assert driver.result(call) is PENDING
    driver.destroyed()
    assert driver.core.state == "stopped"
    assert driver.result(call) is None
    assert driver.emitted("released", "lock_lost", "session_ended") == [("released", "a"), ("session_ended", "stopped")]
    assert {name[0] for name in driver.timers} == set()


@pytest.mark.parametrize("options", [{"lock_delay": 5.0}, {"delete_on_release": True}])
def test_a_stop_gives_the_locks_back_first_where_a_destroy_would_leave_something(options: dict[str, Any]) -> None:
    driver = Driver(**options).ready()
    first, second = driver.locked("a"), driver.locked("b")
    call = driver.call("stop")
    assert driver.all(DestroySession) == []
    assert not first.valid and not second.valid
    request = driver.commit()
    freeing = Verb.DELETE_CAS if "delete_on_release" in options else Verb.UNLOCK
    assert [op.key for op in request.operations if op.verb is freeing] == ["svc/a/lock", "svc/b/lock"]
    driver.grant()
    driver.destroyed()
    assert driver.result(call) is None
    assert driver.emitted("released", "lock_lost", "session_ended") == [
        ("released", "a"),
        ("released", "b"),
        ("session_ended", "stopped"),
    ]


def test_a_stop_with_nothing_to_give_back_destroys_at_once() -> None:
    driver = Driver(lock_delay=5.0).ready()
    driver.call("stop")
    assert len(driver.all(DestroySession)) == 1


def test_a_stop_with_a_lock_delay_waits_for_what_is_on_its_way() -> None:
    """A destroy that overtakes a release leaves the key in its lock-delay (measured)."""
    driver = Driver(lock_delay=5.0).ready()
    driver.locked("a")
    lock = driver.call("lock", "b")
    first = driver.commit()
    release = driver.call("release", "a")
    call = driver.call("stop")
    assert driver.all(DestroySession) == []
    driver.grant(first)  # for nobody any more
    assert [op.key for op in driver.commit().operations if op.verb is Verb.UNLOCK] == ["svc/a/lock", "svc/b/lock"]
    driver.grant()
    assert driver.result(release) is True
    assert isinstance(driver.result(lock), SessionEnded)
    driver.destroyed()
    assert driver.result(call) is None
    assert driver.emitted("released", "lock_lost") == [("released", "a")]


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


def test_a_lock_after_a_start_during_a_stop_waits_for_it() -> None:
    driver = Driver().ready()
    driver.call("stop")
    refused = driver.call("lock", "a")
    driver.call("start")
    lock, release = driver.call("lock", "a"), driver.call("release", "b")
    assert isinstance(driver.result(refused), SessionEnded)
    driver.destroyed()
    driver.ready("S2")
    driver.grant()
    assert driver.result(lock).session_id == "S2"
    driver.answer(driver.one(ReadKey), KeysRead((), 5))
    assert driver.result(release) is False


def test_a_stop_after_the_start_has_the_last_word() -> None:
    driver = Driver().ready()
    driver.call("stop")
    driver.call("start")
    lock = driver.call("lock", "a")
    driver.call("stop")
    assert isinstance(driver.result(lock), SessionEnded)
    driver.destroyed()
    assert driver.core.state == "stopped"
    assert driver.all(CreateSession) == []


def test_a_stop_that_waits_for_its_releases_is_not_hurried_by_other_answers() -> None:
    driver = Driver(lock_delay=5.0).ready()
    driver.locked("a")
    driver.call("stop")
    driver.answer(_watch(driver), SessionRead(session_info("S1"), 42))
    assert driver.all(DestroySession) == []
    driver.answer(driver.commit(), failure())
    assert len(driver.all(DestroySession)) == 1


def test_a_stop_takes_at_most_twice_the_timeout() -> None:
    driver = Driver().ready()
    driver.locked("a")
    call = driver.call("stop")
    stopping = driver.one(DestroySession)
    assert driver.timers[("stop",)] == driver.now + 2 * TIMEOUT
    driver.now += TTL / 2
    driver.core.session.life.deadline = math.inf
    driver.fire("stop")
    assert driver.core.state == "stopped"
    assert driver.result(call) is None
    assert driver.emitted("lock_lost", "released") == [("lock_lost", "stopped")]  # nobody confirmed it
    assert len(driver.all(DestroySession)) == 2  # it goes on in the background
    driver.answer(stopping, Done())
    assert driver.core.state == "stopped"


def test_a_stop_with_a_timeout_of_its_own() -> None:
    driver = Driver().ready()
    call = driver.call("stop", timeout=1.0)
    driver.fire("call", call)
    assert driver.core.state == "stopped"
    assert driver.result(call) is None


def test_a_stop_whose_caller_is_gone_is_final_all_the_same() -> None:
    driver = Driver().ready()
    call, other = driver.call("stop", timeout=5.0), driver.call("stop")
    driver.abandon(call)
    assert ("call", call) not in driver.timers
    assert driver.core.state == "ready"  # the other one still waits
    driver.abandon(other)
    assert driver.core.state == "stopped"
    driver.abandon(other)
    assert driver.result(other) is PENDING  # nobody is there to be answered


def test_the_deadline_ends_a_stop() -> None:
    driver = Driver().ready()
    call = driver.call("stop")
    driver.fire("deadline")
    assert driver.core.state == "stopped"
    assert driver.result(call) is None
    assert driver.all(CreateSession) == []


def test_a_session_found_destroyed_ends_a_stop_in_good_order() -> None:
    driver = Driver().ready()
    driver.locked("a")
    driver.fire("renew")
    driver.call("stop")
    driver.gone()
    assert driver.core.state == "stopped"
    assert driver.emitted("released", "lock_lost") == [("released", "a")]


def test_two_stops_are_one_and_both_are_answered() -> None:
    driver = Driver().ready()
    calls = [driver.call("stop"), driver.call("stop")]
    driver.destroyed()
    assert [driver.result(call) for call in calls] == [None, None]
    assert len(driver.sent(DestroySession)) == 1
    assert driver.result(driver.call("stop")) is None  # stopped already


def test_a_start_during_a_stop_begins_anew_after_it_unless_another_stop_follows() -> None:
    driver = Driver().ready()
    driver.call("stop")
    driver.call("start")
    driver.destroyed()
    assert driver.states()[-2:] == ["stopped", "acquiring"]
    driver.ready("S2")
    driver.call("stop")
    driver.call("start")
    driver.call("stop")
    driver.destroyed()
    assert driver.core.state == "stopped"


def test_stop_takes_waiting_calls_out_and_refuses_them() -> None:
    driver = Driver().ready()
    waits = driver.call("lock", "a", wait=None)
    driver.answer(driver.commit(), held())
    in_flight = driver.call("lock", "b")
    driver.call("stop")
    assert isinstance(driver.result(waits), SessionEnded)
    assert isinstance(driver.result(in_flight), SessionEnded)
    assert len(driver.all(Watch)) == 1  # on the session


# -------------------------------------------------------------------------------------------- limits of calls


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
    call = driver.call("session_info", argument="S9", timeout=2.0)
    driver.fire("call", call)
    assert isinstance(driver.result(call), LockTimeout)
    driver.answer(driver.one(ReadSession), SessionRead(None, 1))


def test_a_call_that_waited_leaves_no_timer() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=600.0)
    driver.answer(driver.commit(), held())
    assert ("wait", call) in driver.timers
    key = next(watch for watch in driver.all(Watch) if watch.target == "key")
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


# ----------------------------------------------------------------------------------------------- other calls


def test_release_all_and_leave() -> None:
    driver = Driver()
    assert driver.result(driver.call("release_all")) == 0
    lock = driver.call("lock", "a")
    behind = driver.call("release_all")
    assert driver.result(behind) is PENDING
    driver.ready()
    driver.grant()
    assert driver.result(lock) is not PENDING
    while driver.result(behind) is PENDING:
        driver.grant()
    hold = driver.call("hold", "h")
    driver.grant()
    leave = driver.call("leave", argument=[driver.result(hold)])
    driver.grant()
    assert driver.result(leave) == 1
    assert driver.result(driver.call("leave", argument=[driver.result(hold)])) == 0


def test_questions_are_answered_in_every_state() -> None:
    driver = Driver()
    info, holder, nobody, none = (
        driver.call("info", "a"),
        driver.call("holder", "a"),
        driver.call("holder", "b"),
        driver.call("session_info", argument=None),
    )
    assert driver.result(none) is None
    reads = driver.all(ReadKey)
    driver.answer(reads[0], KeysRead((entry("svc/a/lock", STRANGER, 7),), 7))
    assert (driver.result(info).session_id, driver.result(info).fence) == (STRANGER, 7)
    driver.answer(reads[1], KeysRead((entry("svc/a/lock", STRANGER, 7),), 7))
    assert driver.result(holder) is PENDING  # its session is read as well
    driver.answer(driver.one(ReadSession), SessionRead(session_info(STRANGER), 8))
    assert driver.result(holder).session.id == STRANGER
    driver.answer(reads[2], KeysRead((entry("svc/b/lock", None, 7),), 7))
    assert driver.result(nobody) is None
    missing = driver.call("info", "c")
    driver.answer(driver.one(ReadKey), KeysRead((), 7))
    assert driver.result(missing) is None
    session = driver.call("session_info", argument="S9")
    driver.answer(driver.one(ReadSession), SessionRead(session_info("S9"), 8))
    assert driver.result(session).id == "S9"
    failed = driver.call("info", "d")
    driver.answer(driver.one(ReadKey), failure())
    assert isinstance(driver.result(failed), ConsulUnavailable)


def _guarded(driver: Driver, lease: Any) -> tuple[Any, RawTransact]:
    call = driver.call("guarded", argument=(lease, [*lease.guard(), {"KV": {"Verb": "set", "Key": "row"}}]))
    return call, driver.one(RawTransact)


def _refused(position: int, refusal: Refusal) -> RolledBack:
    return RolledBack((Refused(position, refusal, "words of Consul's"),))


def test_guarded_operations_that_are_done() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    call, request = _guarded(driver, lease)
    assert len(request.operations) == 3
    driver.answer(request, Committed((entry("svc/a/lock", "S1", 7), entry("row", None, 8))))
    assert [info.key for info in driver.result(call)] == ["svc/a/lock", "row"]


@pytest.mark.parametrize(("position", "refusal"), [(0, Refusal.SESSION), (1, Refusal.INDEX)])
def test_guarded_operations_refused_for_the_lock(position: int, refusal: Refusal) -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    call, request = _guarded(driver, lease)
    driver.answer(request, _refused(position, refusal))
    assert isinstance(driver.result(call), LockLost)
    assert driver.one(ReadKey).purpose == "verdict"  # a loss is not believed before it is confirmed
    assert lease.valid


def test_guarded_operations_refused_for_a_lock_that_was_released() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    driver.call("release", "a")
    driver.grant()
    call, request = _guarded(driver, lease)
    driver.answer(request, _refused(0, Refusal.SESSION))
    assert driver.result(call).reason == "released"
    assert driver.all(ReadKey) == []


@pytest.mark.parametrize("outcome", [_refused(2, Refusal.OTHER), RefusedWhole(413, ""), failure()])
def test_guarded_operations_refused_for_themselves(outcome: RolledBack | RefusedWhole | Failed) -> None:
    driver = Driver().ready()
    call, request = _guarded(driver, driver.locked("a"))
    driver.answer(request, outcome)
    assert isinstance(driver.result(call), ConsulUnavailable)


def test_a_denied_call_with_a_name_for_its_holder() -> None:
    driver = Driver(identify_holder=True).ready()
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), held())
    read = driver.one(Transact)
    assert read.purpose == "holder"
    driver.answer(read, Committed((entry("svc/a/lock", STRANGER, 7),)))
    error = driver.result(call)
    assert isinstance(error, AlreadyLocked)
    assert error.holder is not None and error.holder.session_id == STRANGER


def test_the_audit_and_what_it_looks_into() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    unknown = driver.call("lock", "b")
    driver.answer(driver.commit(), failure("timed out"))
    assert isinstance(driver.result(unknown), ConsulUnavailable)
    driver.answer(driver.look(), not_ours(0))
    driver.fire("audit")
    audit = next(each for each in driver.all(Transact) if each.purpose == "audit")
    driver.answer(audit, _refused(0, Refusal.SESSION))
    verdict = next(each for each in driver.all(ReadKey) if each.purpose == "verdict")
    driver.found(verdict, STRANGER)
    driver.answer(driver.one(ReadSession), SessionRead(session_info("S1"), 8))
    assert lease.reason == "key taken over"


def test_pauses_at_a_key_in_its_lock_delay() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=5.0)
    driver.answer(driver.commit(), _refused(0, Refusal.LOCK_DELAY))
    driver.fire("pause", "a")
    driver.answer(driver.commit(), _refused(0, Refusal.LOCK_DELAY))
    driver.fire("wait", call)
    assert isinstance(driver.result(call), AlreadyLocked)
    assert driver.result(call).reason == "lock-delay"


def test_a_lost_session_shown_by_a_transaction() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a")
    driver.answer(driver.commit(), _refused(0, Refusal.INVALID_SESSION))
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


def test_messages_say_what_they_are() -> None:
    driver = Driver()
    call = driver.call("lock", "a")
    assert repr(call) == "<Call lock a>"
    driver.call("stop")
    assert repr(call) == "<Call lock a settled>"
