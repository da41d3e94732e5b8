"""What an outage costs the calls that are made in it, on both faces, behind a proxy with a plan: time, no more."""

from __future__ import annotations

import base64
import concurrent.futures  # its TimeoutError is the builtin one from 3.11 on
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker import AccessDenied, ConsulUnavailable

from ..behaviour.tools import WAIT, Consul, Ear
from .proxy import ACQUIRE, NO_LEADER, OVER_WRITE_RATE, RELEASE, Answer, Fate, Proxy, Request, to

pytestmark = pytest.mark.usefixtures("soon")

GUARDED = to("PUT", "/v1/txn", b'"check-session"', b'"set"', without=(b'"lock"', b'"unlock"'))
QUESTION = to("PUT", "/v1/txn", b'"get"', without=(b'"lock"', b'"unlock"'))
BAD_GATEWAY = Answer(502, (), b"Bad Gateway")

each_refusal = pytest.mark.parametrize("answer", [OVER_WRITE_RATE, NO_LEADER], ids=["over the rate", "no leader"])


@pytest.fixture
def locker(face: Any, proxy: Proxy, name: str) -> Iterator[Any]:
    """A Locker behind the proxy, ready."""
    with face.factory(proxy.address) as factory:
        locker = factory.create(name)
        assert locker.wait_for_state("ready", WAIT)
        yield locker


def fence_of(consul: Consul, lease: Any) -> int:
    """The index that Consul has for the key of a lease; it must be held."""
    key = consul.key(lease.key)
    assert key is not None
    assert key.session == lease.session_id
    return key.fence


def setting(name: str, value: bytes) -> list[dict[str, Any]]:
    """A user's own write."""
    return [{"KV": {"Verb": "set", "Key": f"{name}/own", "Value": base64.b64encode(value).decode()}}]


# ------------------------------------------------------------------------- refused before anything was done


@each_refusal
def test_a_lock_that_is_refused_is_asked_for_again(locker: Any, proxy: Proxy, consul: Consul, answer: Answer) -> None:
    rule = proxy.arrange(Fate.REFUSED, ACQUIRE, 3, answer)
    lease = locker.lock("a")
    assert rule.met == 3
    assert fence_of(consul, lease) == lease.fence


@each_refusal
def test_a_release_that_is_refused_is_made_again(locker: Any, proxy: Proxy, ear: Ear, answer: Answer) -> None:
    locker.lock("a")
    proxy.arrange(Fate.REFUSED, RELEASE, 3, answer)
    assert locker.release("a") is True
    assert ear.of("lock_lost") == []


@each_refusal
def test_a_guarded_that_is_refused_is_made_again(
    locker: Any, proxy: Proxy, consul: Consul, name: str, answer: Answer
) -> None:
    lease = locker.lock("a")
    proxy.arrange(Fate.REFUSED, GUARDED, 3, answer)
    locker.guarded(lease, setting(name, b"new"))
    own = consul.key(f"{name}/own")
    assert own is not None
    assert own.value == b"new"


def test_a_question_rides_over_a_bad_gateway(locker: Any, proxy: Proxy) -> None:
    locker.lock("a")
    proxy.arrange(Fate.REFUSED, QUESTION, 3, BAD_GATEWAY)
    assert locker.info("a") is not None


def test_a_right_that_is_missing_is_told_at_once(locker: Any, proxy: Proxy) -> None:
    rule = proxy.arrange(Fate.REFUSED, ACQUIRE, 2, Answer(403, (), b"Permission denied"))
    with pytest.raises(AccessDenied):
        locker.lock("a")
    assert rule.met == 1


# --------------------------------------------------------------------------------- sent and not answered


@pytest.mark.parametrize("fate", [Fate.LATE, Fate.NEVER, Fate.ANSWER_LOST], ids=lambda fate: fate.value)
def test_a_lock_has_one_fence_whichever_copy_commits(
    locker: Any, proxy: Proxy, consul: Consul, ear: Ear, fate: Fate
) -> None:
    rule = proxy.arrange(fate, ACQUIRE, 2)
    lease = locker.lock("a")
    rule.deliver()
    assert fence_of(consul, lease) == lease.fence
    lease.check()
    assert ear.of("lock_lost") == []


def test_a_late_copy_takes_no_later_tenure(locker: Any, proxy: Proxy, consul: Consul) -> None:
    rule = proxy.arrange(Fate.LATE, ACQUIRE, 1)
    locker.lock("a")
    locker.release("a")
    lease = locker.lock("a")
    rule.deliver()
    assert fence_of(consul, lease) == lease.fence
    lease.check()


@pytest.mark.parametrize("fate", [Fate.NEVER, Fate.ANSWER_LOST], ids=lambda fate: fate.value)
def test_a_release_without_an_answer_is_made_again(
    locker: Any, proxy: Proxy, consul: Consul, ear: Ear, fate: Fate
) -> None:
    lease = locker.lock("a")
    proxy.arrange(fate, RELEASE, 1)
    assert locker.release("a") is True
    key = consul.key(lease.key)
    assert key is not None
    assert key.session is None
    assert ear.of("lock_lost") == []


@pytest.mark.parametrize("fate", [Fate.LATE, Fate.NEVER, Fate.ANSWER_LOST], ids=lambda fate: fate.value)
def test_a_guarded_without_an_answer_is_never_sent_again(locker: Any, proxy: Proxy, name: str, fate: Fate) -> None:
    sent: list[Request] = []

    def counted(request: Request) -> bool:
        found = GUARDED(request)
        if found:
            sent.append(request)
        return found

    lease = locker.lock("a")
    proxy.arrange(fate, counted)
    with pytest.raises(ConsulUnavailable) as unknown:
        locker.guarded(lease, setting(name, b"old"))
    assert unknown.value.sent
    proxy.clear()
    locker.lock("b")  # all that waited for the outage's end has been sent
    assert len(sent) == 1


def test_a_copy_beside_the_answer_changes_nothing(locker: Any, proxy: Proxy, consul: Consul) -> None:
    rule = proxy.arrange(Fate.TWICE, ACQUIRE, 1)
    lease = locker.lock("a")
    rule.deliver()
    assert fence_of(consul, lease) == lease.fence
    lease.check()


def test_what_is_delayed_is_served(locker: Any, proxy: Proxy, consul: Consul) -> None:
    rule = proxy.arrange(Fate.SLOW, ACQUIRE, 1)
    call = locker.submit_lock("a")
    rule.wait()
    rule.let_go()
    lease = call.result(WAIT)
    assert fence_of(consul, lease) == lease.fence


# -------------------------------------------------------------------------------------------- Consul is away


def test_calls_wait_until_consul_is_back(locker: Any, proxy: Proxy) -> None:
    locker.lock("held")
    proxy.shut()
    calls = [locker.submit_lock("a"), locker.submit_lock("b", wait=WAIT), locker.submit_release("held")]
    for call in calls:
        with pytest.raises(concurrent.futures.TimeoutError):
            call.result(0.05)  # it is not answered meanwhile
    proxy.open()
    assert [call.result(WAIT) for call in calls][2] is True


def test_who_waits_for_a_holder_rides_over_an_outage(locker: Any, rival: Any, proxy: Proxy, ear: Ear) -> None:
    rival.lock("a")
    waiter = locker.submit_lock("a", wait=None)
    ear.wait("lock_denied")
    proxy.shut()
    rival.release("a")
    proxy.open()
    assert waiter.result(WAIT).valid


@each_refusal
def test_who_waits_for_a_holder_outlasts_refusals(
    locker: Any, rival: Any, proxy: Proxy, ear: Ear, answer: Answer
) -> None:
    rival.lock("a")
    waiter = locker.submit_lock("a", wait=None)
    ear.wait("lock_denied")
    rule = proxy.arrange(Fate.REFUSED, ACQUIRE, 2, answer)
    rival.release("a")
    assert waiter.result(WAIT).valid
    assert rule.met == 2
