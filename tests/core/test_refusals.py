"""Sessions that Consul refuses for what time alone does not mend, and the node of a session."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consul_locker.core.requests import CreateSession, Failed, FindNode, NodesFound, SessionCreated
from consul_locker.errors import (
    AccessDenied,
    ConfigurationError,
    ConsulLockerError,
    ConsulUnavailable,
    SessionEnded,
    SessionUnavailable,
)

from .helpers import PENDING, Driver

DENIED = AccessDenied("session create", 403, "rpc error making call: Permission denied")
UNREPLICATED = AccessDenied("session create", 403, "ACL not found")


def unknown(option: str | None) -> ConsulUnavailable:
    """Consul does not know what the option names."""
    return ConsulUnavailable(f"{option} is unknown", operation="session create", status=500, option=option)


def refuse(driver: Driver, error: ConsulLockerError = DENIED) -> None:
    """Consul refuses the session."""
    driver.answer(driver.one(CreateSession), Failed(error, sent=False))
    assert driver.core.state in ("paused", "stopped")


# ------------------------------------------------------------------------------------------------ who is told


def test_calls_in_the_buffer_and_those_that_come_are_refused_at_once() -> None:
    driver = Driver()
    buffered = [driver.call("lock", "a"), driver.call("hold", "b", wait=None), driver.call("release", "a")]
    refuse(driver)
    assert driver.states() == ["paused"]
    later = [driver.call("lock", "a"), driver.call("release", "a"), driver.call("lock_many", "a", "b", wait=9.0)]
    driver.fire("retry")
    assert driver.core.state == "acquiring"
    under_way = driver.call("lock", "a", wait=9.0)
    for call in (*buffered, *later, under_way):
        error = driver.result(call)
        assert isinstance(error, AccessDenied)
        assert (error.status, error.detail) == (403, DENIED.detail)
        assert error is not DENIED  # each has its own
    assert driver.result(driver.call("release", "a")) is True  # there is nothing to release
    assert not driver.emitted("input_deferred")[3:]


def test_it_goes_on_trying_and_serves_once_it_has_a_session() -> None:
    driver = Driver()
    refuse(driver)
    driver.fire("retry")
    driver.no_session()  # an outage besides: what Consul said of the option still holds
    assert driver.result(driver.call("lock", "a")) != PENDING
    driver.fire("retry")
    driver.ready()
    assert driver.locked("a").valid


def test_a_session_lost_later_is_waited_for_as_ever() -> None:
    driver = Driver()
    refuse(driver)
    driver.fire("retry")
    driver.ready()
    driver.now += 3600.0  # past the deadline
    call = driver.call("lock", "a")
    assert driver.core.state == "acquiring"
    assert driver.result(call) == PENDING


@pytest.mark.parametrize("again", ["start", "stop, start"])
def test_calls_after_a_start_wait_for_its_attempt(again: str) -> None:
    driver = Driver()
    refuse(driver)
    for verb in again.split(", "):
        driver.call(verb)
    call = driver.call("lock", "a")
    assert driver.result(call) == PENDING
    refuse(driver, unknown("host"))
    assert driver.result(call).option == "host"


@pytest.mark.parametrize("verbs", ["reboot", "stop, reboot"])
def test_a_reboot_leaves_them_refused(verbs: str) -> None:
    driver = Driver()
    refuse(driver)
    for verb in verbs.split(", "):
        driver.call(verb)
    assert isinstance(driver.result(driver.call("lock", "a")), AccessDenied)


def test_the_retries_count_and_end() -> None:
    driver = Driver(max_retries=0)
    call = driver.call("lock", "a")
    refuse(driver)
    assert driver.core.state == "stopped"
    assert isinstance(driver.result(call), AccessDenied)
    ended = driver.result(driver.call("lock", "a"))
    assert isinstance(ended, SessionEnded)
    assert ended.cause is DENIED
    assert "no session, attempt 1 of at most 1: Consul refused session create" in driver.logged()


def test_refused_late_it_changes_nothing() -> None:
    driver = Driver()
    late = driver.one(CreateSession)
    driver.call("stop")
    driver.answer(late, Failed(DENIED, sent=False))
    driver.call("start")
    assert driver.result(driver.call("lock", "a")) == PENDING


# --------------------------------------------------------------------------------------- what time may mend


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (UNREPLICATED, {}),
        (AccessDenied("session create", 401, "a proxy's words"), {}),
        (unknown(None), {"node": "n", "dc": "dc2", "checks": ["c"]}),
        (unknown("checks"), {}),  # serfHealth, which Consul puts in: the agent has just started
        (unknown("checks"), {"checks": []}),
        (unknown("node"), {}),  # the agent's own, likewise
        (ConfigurationError("x", "y", "z"), {}),
    ],
    ids=str,
)
def test_a_failure_that_may_pass(error: ConsulLockerError, options: dict[str, Any]) -> None:
    driver = Driver(max_retries=1, **options)
    call = driver.call("lock", "a")
    refuse(driver, error)
    assert driver.result(call) == PENDING
    driver.fire("retry")
    refuse(driver, error)
    told = driver.result(call)
    assert isinstance(told, SessionUnavailable)
    assert told.cause is error
    assert str(error) in str(told)


@pytest.mark.parametrize(
    ("option", "options"),
    [("checks", {"checks": ["c"]}), ("node", {"node": "n"}), ("node", {"node": "n", "dc": "d"}), ("dc", {"dc": "d"})],
)
def test_an_option_that_names_what_consul_does_not_know(option: str, options: dict[str, Any]) -> None:
    driver = Driver(**options)
    call = driver.call("lock", "a")
    refuse(driver, unknown(option))
    assert driver.result(call).option == option
    assert not driver.sent(FindNode)


# ------------------------------------------------------------------------------------------------- the node


def missing(driver: Driver) -> None:
    """Consul does not know the node that the session is to belong to."""
    driver.answer(driver.one(CreateSession), Failed(unknown("node"), sent=True))


def test_without_a_datacenter_no_node_is_named() -> None:
    assert Driver().one(CreateSession).node is None


def test_a_node_that_is_named_goes_with_every_attempt() -> None:
    driver = Driver(node="n", dc="dc2")
    driver.no_session()
    driver.fire("retry")
    assert [request.node for request in driver.sent(CreateSession)] == ["n", "n"]


def test_another_datacenter_has_a_server_looked_up_once() -> None:
    driver = Driver(dc="dc2", random=0.6)
    call = driver.call("lock", "a")
    assert driver.one(CreateSession).node is None  # it may be the agent's own
    missing(driver)
    find = driver.one(FindNode)
    assert (find.dc, driver.core.state) == ("dc2", "acquiring")
    driver.now += 5.0
    driver.answer(find, NodesFound(("s1", "s2", "s3")))
    create = driver.one(CreateSession)
    assert create.node == "s2"
    driver.ready()
    assert driver.timers[("deadline",)] == driver.now + 15.0  # from the beginning of the attempt that made it
    assert driver.result(call) == PENDING
    driver.grant()
    assert driver.result(call).valid
    driver.now += 3600.0
    driver.call("lock", "a")
    assert driver.one(CreateSession).node == "s2"  # remembered
    assert len(driver.sent(FindNode)) == 1


def test_a_server_that_is_gone_is_replaced() -> None:
    driver = Driver(dc="dc2", random=0.0)
    missing(driver)
    driver.answer(driver.one(FindNode), NodesFound(("s1",)))
    driver.ready()
    driver.now += 3600.0
    call = driver.call("lock", "a")
    missing(driver)
    driver.answer(driver.one(FindNode), NodesFound(("s2",)))
    assert driver.one(CreateSession).node == "s2"
    assert driver.result(call) == PENDING


def test_a_server_with_which_an_attempt_failed_is_looked_up_again() -> None:
    driver = Driver(dc="dc2", random=0.0)
    missing(driver)
    driver.answer(driver.one(FindNode), NodesFound(("ill",)))
    driver.no_session("Check 'serfHealth' is in critical state")
    driver.fire("retry")
    assert driver.one(CreateSession).node is None


def test_a_server_that_is_gone_as_soon_as_it_was_found_ends_the_attempt() -> None:
    driver = Driver(dc="dc2")
    call = driver.call("lock", "a")
    missing(driver)
    driver.answer(driver.one(FindNode), NodesFound(("s1",)))
    missing(driver)
    assert driver.core.state == "paused"  # no endless round
    assert driver.result(call).option == "node"


def test_a_datacenter_that_shows_no_server() -> None:
    driver = Driver(dc="dc2")
    call = driver.call("lock", "a")
    missing(driver)
    driver.answer(driver.one(FindNode), NodesFound(()))
    error = driver.result(call)
    assert isinstance(error, ConsulUnavailable)
    assert error.option == "node"
    for words in ("'dc2'", "service:read", "node:read", "option 'node'"):
        assert words in str(error)
    assert driver.core.state == "paused"


def test_a_look_up_that_fails_is_a_failed_attempt() -> None:
    driver = Driver(dc="dc2")
    call = driver.call("lock", "a")
    missing(driver)
    driver.answer(driver.one(FindNode), Failed(ConsulUnavailable("No cluster leader")))
    assert driver.core.state == "paused"
    assert driver.result(call) == PENDING
    driver.fire("retry")
    missing(driver)
    driver.answer(driver.one(FindNode), Failed(DENIED, sent=False))
    assert isinstance(driver.result(call), AccessDenied)


def test_a_look_up_that_nobody_wants_any_more() -> None:
    driver = Driver(dc="dc2")
    missing(driver)
    find = driver.one(FindNode)
    driver.call("stop")
    driver.answer(find, NodesFound(("s1",)))
    assert not driver.all(CreateSession)
    driver.call("start")
    driver.answer(driver.one(CreateSession), SessionCreated("S1"))
    assert driver.core.state == "ready"


def test_a_call_that_is_out_of_time_is_told_why_there_is_no_session() -> None:
    driver = Driver()
    call = driver.call("lock", "a", timeout=5.0)
    refuse(driver, UNREPLICATED)
    driver.fire("call", call)
    assert driver.result(call).cause is UNREPLICATED
    driver.fire("retry")
    driver.ready()
    driver.now += 3600.0
    later = driver.call("lock", "a", timeout=5.0)
    driver.fire("call", later)
    assert driver.result(later).cause is None  # that failure is mended


# --------------------------------------------------------------------------------------------- in any order

ACTIONS = ("lock", "release", "refused", "failed", "created", "retry", "lost", "reboot", "stop", "start")


@example(["refused", "stop", "reboot", "lock"])
@given(st.lists(st.sampled_from(ACTIONS), max_size=30))
def test_nobody_waits_for_a_session_that_is_refused(actions: list[str]) -> None:
    driver, refused, calls = Driver(), False, []
    for action in actions:
        creates, state = driver.all(CreateSession), driver.core.state
        if action in ("lock", "release"):
            calls.append(driver.call(action, "a", **({"wait": None} if action == "lock" else {})))
        elif action in ("reboot", "stop", "start"):
            driver.call(action)
            refused = refused and action != "start"
        elif action == "retry" and state == "paused":
            driver.fire("retry")
        elif action == "lost" and state == "ready":
            driver.now += 3600.0
            driver.call("release", "another")
        elif action == "created" and state == "acquiring":
            driver.answer(creates[-1], SessionCreated(f"S{len(driver.commands)}"))
            refused = False
        elif action in ("refused", "failed") and state == "acquiring":
            driver.answer(creates[-1], Failed(DENIED if action == "refused" else UNREPLICATED, sent=False))
            refused = refused or action == "refused"
        if refused:
            assert all(driver.result(call) != PENDING for call in calls)
