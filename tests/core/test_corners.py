"""The corners of the original that the port decides otherwise: each has a test of its own, under its name.

The corners are those of the recorded traces (tests/conformance); docs/differences.rst has the list, with
what the original does and why the port does not.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from consul_locker.client.encode import Encoder, HttpResponse
from consul_locker.config.options import ClientOptions, LockerOptions
from consul_locker.core.key import KeyState
from consul_locker.core.requests import (
    CreateSession,
    DestroySession,
    Failed,
    ReadKey,
    Refusal,
    Refused,
    RolledBack,
    SessionCreated,
    Transact,
    Verb,
)
from consul_locker.errors import ConsulUnavailable, InvalidLockId, SessionEnded, SessionUnavailable
from consul_locker.keys import check_id, lock_key

from .helpers import PENDING, STRANGER, Driver, failure

TRACES = Path(__file__).resolve().parents[1] / "conformance" / "locker.jsonl"


def _stopped() -> Driver:
    driver = Driver().ready()
    driver.call("stop")
    driver.destroyed()
    return driver


def test_every_corner_of_the_traces_has_its_test() -> None:
    traces = map(json.loads, TRACES.read_text(encoding="utf-8").splitlines())
    corners = {corner for trace in traces for corner in trace["touches"]}
    tests = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {corner.replace("-", "_") for corner in corners} <= tests


# ------------------------------------------------------------------------------------ the end, and what is buffered


def test_gave_up_with_buffer() -> None:
    driver = Driver(max_retries=1)
    calls = [driver.call("lock", "a"), driver.call("lock", "b"), driver.call("release", "a")]
    driver.no_session("no leader")
    driver.fire("retry")
    driver.no_session("no leader")
    assert driver.core.state == "stopped"
    for call in calls:
        error = driver.result(call)
        assert isinstance(error, SessionUnavailable)
        assert "no leader" in str(error.cause)
    later = driver.call("lock", "a")
    assert isinstance(driver.result(later), SessionEnded)  # as in the original
    driver.call("start")
    driver.ready("S2")
    assert driver.all(Transact) == []  # nothing of the old buffer is taken up


def test_session_refused() -> None:
    """No corner of the traces: the original treats it as any failure. tests/core/test_refusals.py has the rest."""
    driver = Driver(checks=["nothing"])
    buffered = driver.call("lock", "a")
    unknown = ConsulUnavailable("Missing check 'nothing' registration", option="checks")
    driver.answer(driver.one(CreateSession), Failed(unknown, sent=True))
    for call in (buffered, driver.call("lock", "a")):
        assert str(driver.result(call)) == str(unknown)
    driver.fire("retry")
    driver.ready()
    assert driver.locked("a").valid


@pytest.mark.parametrize("state", ["acquiring", "paused"])
def test_stop_midway(state: str) -> None:
    driver = Driver()
    attempt = driver.one(CreateSession)
    if state == "paused":
        driver.no_session()
    buffered = driver.call("lock", "a")
    stop = driver.call("stop")
    assert driver.core.state == "stopped"
    assert driver.result(stop) is None
    assert isinstance(driver.result(buffered), SessionEnded)
    assert driver.timers == {}
    if state == "acquiring":
        driver.answer(attempt, SessionCreated("S1"))
    refused = driver.call("lock", "a")
    assert isinstance(driver.result(refused), SessionEnded)
    assert driver.core.state == "stopped"


def test_late_session() -> None:
    driver = Driver()
    late = driver.one(CreateSession)
    driver.call("stop")
    driver.call("start")
    driver.answer(late, SessionCreated("S-late"))
    assert driver.core.state == "acquiring"
    assert driver.one(DestroySession).session_id == "S-late"
    driver.answer(late, SessionCreated("S-late"))  # the same once more
    assert len(driver.all(DestroySession)) == 1
    driver.ready("S2")
    assert driver.emitted("session_created") == [("session_created", "S2")]


def test_late_timer() -> None:
    driver = Driver()
    driver.no_session()
    driver.call("stop")
    assert ("retry",) not in driver.timers
    driver.call("start")
    driver.no_session()
    driver.call("start")  # tries at once
    assert ("retry",) not in driver.timers
    assert driver.core.state == "acquiring"


def test_destroy_undefined() -> None:
    driver = Driver()
    driver.call("stop")
    driver.call("stop")
    assert driver.sent(DestroySession) == []


def test_destroy_fails() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    stop = driver.call("stop")
    driver.answer(driver.one(DestroySession), failure())
    assert driver.core.state == "stopped"
    assert driver.result(stop) is None
    assert lease.reason == "stopped"
    assert driver.core.session.life is None
    assert driver.core.ledger.slots == {}
    ended = driver.emitted("lock_lost", "released", "session_ended")
    assert ended == [("lock_lost", "stopped"), ("session_ended", "stopped")]
    driver.call("start")
    driver.ready("S2")
    call = driver.call("lock", "a")
    assert driver.result(call) is PENDING  # not from a cache of the session before
    assert driver.commit().operations[0].session == "S2"


def test_late_answer() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a")
    in_flight = driver.commit()
    driver.call("stop")
    driver.destroyed()
    assert isinstance(driver.result(call), SessionEnded)
    driver.grant(in_flight)
    assert driver.core.ledger.slots == {}
    assert driver.emitted("lock_acquired") == []
    driver.call("start")
    driver.ready("S2")
    driver.grant(in_flight)
    assert driver.core.ledger.slots == {}


def test_call_during_stop() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    driver.call("stop")
    calls = [driver.call("lock", "a"), driver.call("lock", "b"), driver.call("release", "a")]
    for call in [*calls, driver.call("release_all")]:
        assert isinstance(driver.result(call), SessionEnded)
    assert not lease.valid
    driver.call("reboot")  # a stop is final until start
    assert driver.core.state == "ready"
    driver.destroyed()
    assert driver.core.state == "stopped"


# ----------------------------------------------------------------------------------------------- order on one key


def test_release_during_operation() -> None:
    driver = Driver().ready()
    lock = driver.call("lock", "a")
    in_flight = driver.commit()
    release = driver.call("release", "a")
    assert driver.all(Transact) == [in_flight]  # the release waits for its turn
    driver.grant()
    assert not driver.result(lock).valid  # it was given back before it came
    assert [op.verb for op in driver.commit().operations] == [Verb.CHECK_INDEX, Verb.UNLOCK]
    driver.grant()
    assert driver.result(release) is True
    assert driver.core.ledger.slots == {}


def test_lock_during_release() -> None:
    driver = Driver().ready()
    driver.locked("a")
    release = driver.call("release", "a")
    in_flight = driver.commit()
    lock = driver.call("lock", "a")
    assert driver.all(Transact) == [in_flight]
    driver.grant()
    assert driver.result(release) is True
    driver.grant()
    assert driver.result(lock).valid
    assert driver.core.ledger.slot("a").state is KeyState.HELD


def test_release_overtakes_buffer() -> None:
    driver = Driver()
    lock = driver.call("lock", "a")
    release = driver.call("release", "a")
    other = driver.call("release", "b")
    assert driver.result(other) is True  # nothing of its id stands before it
    assert driver.result(release) is PENDING
    driver.ready()
    driver.grant()
    driver.grant()
    assert not driver.result(lock).valid
    assert driver.result(release) is True
    assert driver.core.ledger.slots == {}


def test_release_buffered() -> None:
    driver = Driver()
    alone = driver.call("release", "a")
    assert driver.result(alone) is True  # as in the original
    driver.no_session()
    paused = driver.call("release", "a")
    assert driver.result(paused) is PENDING
    driver.fire("retry")
    behind = driver.call("release", "a")  # behind the one that was deferred
    assert driver.result(behind) is PENDING
    driver.ready()
    driver.found(driver.one(ReadKey), None)
    assert driver.result(paused) is False
    driver.found(driver.one(ReadKey), None)
    assert driver.result(behind) is False


def test_release_declined() -> None:
    driver = Driver().ready()
    call = driver.call("release", "a")
    driver.found(driver.one(ReadKey), STRANGER)
    assert driver.result(call) is False
    lease = driver.locked("b")
    call = driver.call("release", "b")
    driver.answer(driver.commit(), RolledBack((Refused(0, Refusal.INDEX, "failed index check"),)))
    driver.found(driver.one(ReadKey), STRANGER)
    assert driver.result(call) is False
    assert not lease.valid


# -------------------------------------------------------------------------------------------------- start, reboot


def test_start_midway() -> None:
    driver = Driver()
    driver.call("start")
    assert len(driver.all(CreateSession)) == 1  # in acquiring nothing
    driver.no_session()
    driver.call("start")  # in paused it tries now
    assert driver.core.state == "acquiring"
    driver.ready("S1")
    lease = driver.locked("a")
    driver.call("start")  # in ready nothing
    assert driver.all(CreateSession) == []
    assert lease.valid
    driver.call("stop")
    driver.destroyed()
    driver.call("start")  # in stopped it begins anew
    driver.ready("S2")
    assert driver.core.ledger.slots == {}


def test_two_sessions() -> None:
    driver = Driver()
    first = driver.one(CreateSession)
    driver.call("reboot")
    driver.fire("retry")
    second = driver.all(CreateSession)[-1]
    driver.answer(second, SessionCreated("S2"))
    driver.answer(first, SessionCreated("S1"))
    assert driver.one(DestroySession).session_id == "S1"
    assert driver.core.session.life is not None
    assert driver.core.session.life.session_id == "S2"


def test_reboot() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    wanted = driver.call("lock", "b")
    driver.call("reboot")
    assert driver.core.state == "paused"
    assert driver.core.attempts.retries == 1
    assert driver.one(DestroySession).session_id == "S1"
    assert lease.reason == "rebooted"
    assert driver.emitted("lock_lost", "session_ended") == [("lock_lost", "rebooted"), ("session_ended", "rebooted")]
    due = driver.timers[("retry",)]
    driver.call("reboot")  # in paused: counted, with the one timer set anew
    assert driver.core.attempts.retries == 2
    assert driver.timers[("retry",)] > due
    driver.fire("retry")
    driver.call("reboot")  # in acquiring: the attempt under way is given up
    assert driver.core.attempts.retries == 3
    driver.fire("retry")
    driver.answer(driver.all(CreateSession)[-1], SessionCreated("S2"))
    driver.grant(driver.all(Transact)[-1])
    assert driver.result(wanted).session_id == "S2"
    driver = _stopped()
    driver.call("reboot")  # in stopped it starts over
    assert driver.core.state == "paused"
    driver.fire("retry")
    driver.ready("S2")


def test_start_after_failures() -> None:
    driver = Driver(max_retries=1)
    for _ in range(2):
        driver.no_session()
        if driver.core.state == "paused":
            driver.fire("retry")
    assert driver.core.state == "stopped"
    driver.call("start")
    driver.no_session()
    assert driver.core.state == "paused"  # the retries count from nought
    assert driver.core.attempts.retries == 1
    driver.call("stop")
    refused = driver.call("lock", "a")
    assert isinstance(driver.result(refused), SessionEnded)


# --------------------------------------------------------------------------------------------- answers of Consul's


def test_session_lost() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    call = driver.call("lock", "b")
    driver.answer(driver.commit(), RolledBack((Refused(0, Refusal.INVALID_SESSION, 'invalid session "S1"'),)))
    assert driver.core.state == "acquiring"
    assert lease.reason == "session destroyed"
    assert driver.result(call) is PENDING
    driver.ready("S2")
    driver.grant()
    assert driver.result(call).session_id == "S2"


@pytest.mark.parametrize("body", [b"null", b"true", b"[]", b"{}", b'{"Results": [{"KV": null}]}', b"<html>", b""])
def test_odd_answer(body: bytes) -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a")
    request = driver.commit()
    driver.answer(request, Encoder(ClientOptions.build(environ={})).encode(request).decode(HttpResponse(200, {}, body)))
    assert isinstance(driver.result(call), ConsulUnavailable)
    assert driver.core.ledger.leases == {}


def test_language_error() -> None:
    # An answer without a session is a failure with a reason, not an error of the language.
    driver = Driver()
    request = driver.one(CreateSession)
    outcome = Encoder(ClientOptions.build(environ={})).encode(request).decode(HttpResponse(200, {}, b"null"))
    assert isinstance(outcome, Failed)
    driver.answer(request, outcome)
    assert driver.core.state == "paused"
    assert isinstance(driver.core.session.cause, ConsulUnavailable)


def test_unhandled_rejection() -> None:
    # A destroy that fails again is nobody's error: it is tried again, and whoever stopped has its answer.
    driver = Driver().ready()
    stop = driver.call("stop")
    driver.answer(driver.one(DestroySession), failure())
    assert driver.result(stop) is None
    driver.answer(driver.one(DestroySession), failure())
    driver.fire("destroy", "S1")
    driver.destroyed()
    assert driver.open == []
    assert driver.timers == {}


# ------------------------------------------------------------------------------------------------ options and ids


def test_zero_or_default_options() -> None:
    driver = Driver(max_retries=1, retry_interval=0.0)
    driver.no_session()
    assert driver.timers[("retry",)] == driver.now
    driver = Driver(max_retries=0, retry_interval=0.0)
    driver.no_session()
    assert driver.core.state == "stopped"


def test_key_format() -> None:
    assert lock_key("svc%s", "a%d") == "svc%s/a%d/lock"
    assert lock_key("100%%", "%") == "100%%/%/lock"
    assert LockerOptions.build("100%%").name == "100%%"


def test_no_id() -> None:
    with pytest.raises(InvalidLockId):
        check_id(None)


def test_no_strategy() -> None:
    driver = Driver(strategy=None).ready()
    first, second = driver.call("lock", "a"), driver.call("lock", "a")
    in_flight = driver.commit()
    assert len(in_flight.operations) == 1  # order per key still holds
    driver.grant()
    assert driver.result(first).valid
    assert driver.result(second) is PENDING
    driver.grant()
    assert driver.result(second).fence > driver.result(first).fence
    third = driver.call("lock", "a")
    assert driver.result(third) is PENDING  # nothing is cached


def test_initial_state() -> None:
    with pytest.raises(TypeError):
        LockerOptions.build("svc", initial_state="stopped")
    assert Driver().core.state == "acquiring"
