"""Ids that a newer Consul refuses, or shows by transaction only: both faces, on the embedded agent told to do so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from consul_locker import AccessDenied, AlreadyLocked, ConsulUnavailable, InvalidLockId, LockLost
from consul_locker.embedded import Agent, ManualClock
from consul_locker.embedded.versions import VERSIONS

from .tools import WAIT, Consul, Ear

BAD = "my%20file.txt"
HIDDEN = "order:17"


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent(version="1.23") as agent:
        yield agent


def upgrade(agent: Agent) -> None:
    """An agent of an older version becomes a newer one, in place; what was taken before stays."""
    agent._server.api.version = VERSIONS["1.23"]


@pytest.fixture
def checking() -> Iterator[Agent]:
    """As 1.21.5."""
    with Agent(version="1.16", check_keys=True) as agent:
        yield agent


@pytest.fixture
def hidden(face: Any, checking: Agent, name: str) -> Iterator[Any]:
    """A Locker on 1.21.5."""
    with face.factory(checking.address) as factory:
        yield factory.create(name, outage_timeout=0)


def session_of(agent: Agent, key: str) -> str | None:
    """Who has a key; asked by transaction."""
    operation = {"KV": {"Verb": "get", "Key": key}}
    status, said = Consul(agent.address).call("PUT", "/v1/txn", json.dumps([operation]))
    found: str | None = said["Results"][0]["KV"].get("Session") if status == 200 else None
    return found


def transactions(agent: Agent) -> int:
    return agent.requests["PUT", "/v1/txn"]


def eventually(agent: Agent, true: Callable[[], bool]) -> None:
    """Until it is so, and for a limited time; each look is a request, so it makes no hot loop."""
    for _ in range(10_000):
        if true():
            return
        Consul(agent.address).call("GET", "/v1/status/leader")
    raise AssertionError("it never came to be")


# --------------------------------------------------------------------------- an id that Consul does not take


@pytest.mark.parametrize("fair", [False, True])
def test_one_id_does_not_spoil_the_calls_of_others(factory: Any, agent: Agent, name: str, fair: bool) -> None:
    locker = factory.create(name, fair=fair)
    assert locker.wait_for_state("ready", WAIT)
    ids = [BAD if at == 31 else f"file-{at}" for at in range(61)]
    before = transactions(agent)
    futures = {id: locker.submit_lock(id, wait=WAIT) for id in ids}
    errors = {id: future.exception(WAIT) for id, future in futures.items()}
    refused = errors.pop(BAD)
    assert isinstance(refused, InvalidLockId)
    assert refused.id == BAD
    assert "Invalid key in transaction: invalid key name" in refused.reason
    assert not any(errors.values())
    assert all(futures[id].result().valid for id in errors)
    if not fair:  # who is fair looks first, each call by itself
        # Two for each halving; how many others there are depends on how the calls came (core/test_refused* count them).
        assert transactions(agent) - before <= len(ids) + 2 * 6
    before = transactions(agent)
    futures = {id: locker.submit_lock(id) for id in (BAD, "more", "and-more")}
    assert isinstance(futures.pop(BAD).exception(WAIT), InvalidLockId)
    assert all(future.result(WAIT).valid for future in futures.values())


def test_every_call_about_such_an_id(locker: Any, name: str) -> None:
    locker.lock("a")
    for call in (locker.lock, locker.release, locker.info, locker.holder):
        with pytest.raises(InvalidLockId, match="Invalid key"):
            call(BAD)
    with pytest.raises(InvalidLockId, match="the key of one of them"):
        locker.lock_many(["b", BAD])
    with pytest.raises(InvalidLockId, match="Invalid key"), locker.hold(BAD, wait=WAIT):
        pass
    assert locker.lock("a").valid


def test_a_lock_that_was_taken_before_an_upgrade(face: Any, name: str, caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    with Agent(version="1.8", clock=clock) as agent, face.embedded(agent) as factory:
        locker = factory.create(name)
        leases = [locker.lock(id) for id in ("a", BAD, "b", "c")]
        upgrade(agent)
        agent.delete_key(leases[2].key)
        clock.advance(5.1)
        assert leases[2].wait_lost(WAIT) == "key deleted"  # the audit goes on in halves
        eventually(agent, lambda: "can neither be checked nor released" in caplog.text)
        assert leases[1].valid  # it lasts as long as the session
        assert locker.release("a") is True
        with pytest.raises(InvalidLockId, match="Invalid key"):
            locker.release(BAD)
        assert not leases[1].valid
        clock.advance(1.1)  # a look at what may be ours yet
        assert locker.lock("d").valid
        assert [lease.valid for lease in leases] == [False, False, False, True]


def test_doubts_are_looked_into_beside_such_a_key(face: Any, name: str) -> None:
    clock = ManualClock()
    with Agent(version="1.8", clock=clock) as agent, face.embedded(agent) as factory:
        locker = factory.create(name, outage_timeout=0)
        assert locker.wait_for_state("ready", WAIT)
        for id in ("a", BAD):
            agent.fail_next(path="/v1/txn", after_commit=True, drop=True)
            with pytest.raises(ConsulUnavailable):
                locker.lock(id, timeout=1.0)
        key = f"{name}/a/lock"
        assert session_of(agent, key) == locker.session_id
        upgrade(agent)
        clock.advance(1.1)
        eventually(agent, lambda: session_of(agent, key) is None)


def test_operations_with_such_a_key(locker: Any) -> None:
    lease = locker.lock("a")
    with pytest.raises(ConsulUnavailable, match="Invalid key") as error:
        locker.guarded(lease, [{"KV": {"Verb": "set", "Key": "data/my%20file.txt", "Value": ""}}])
    assert (error.value.status, error.value.sent) == (400, False)
    assert lease.valid


# ------------------------------------------------------------------- a key that transactions show, and /v1/kv does not


def test_a_hidden_key_is_locked_asked_about_and_released(hidden: Any, checking: Agent, name: str) -> None:
    key = f"{name}/{HIDDEN}/lock"
    assert Consul(checking.address).call("GET", f"/v1/kv/{key}")[0] == 500
    assert hidden.info(HIDDEN) is None
    lease = hidden.lock(HIDDEN)
    info, holder = hidden.info(HIDDEN), hidden.holder(HIDDEN)
    assert (info.key, info.session_id, info.fence) == (key, lease.session_id, lease.fence)
    assert holder.session.id == lease.session_id
    assert hidden.release(HIDDEN) is True
    assert session_of(checking, key) is None
    assert hidden.holder(HIDDEN) is None
    assert hidden.release(HIDDEN) is False  # no lease is known of: the key is read


def test_the_loss_of_a_hidden_key_is_told(hidden: Any, checking: Agent, name: str, ear: Ear) -> None:
    lease = hidden.lock(HIDDEN)
    checking.delete_key(lease.key)
    with pytest.raises(LockLost):
        hidden.guarded(lease, [])
    assert lease.wait_lost(WAIT) == "key deleted"


def test_whoever_waits_for_a_hidden_key_gets_it(face: Any, hidden: Any, checking: Agent, name: str) -> None:
    with face.factory(checking.address) as factory:
        rival = factory.create(name)
        rival.lock(HIDDEN)
        with pytest.raises(AlreadyLocked) as refused:
            hidden.lock(HIDDEN)
        assert refused.value.holder.session_id == rival.session_id
        before = checking.requests["GET", "/v1/kv/"]
        waiting = hidden.submit_lock(HIDDEN, wait=None)
        eventually(checking, lambda: checking.requests["GET", "/v1/kv/"] > before)  # refused: from now on it is polled
        assert rival.release(HIDDEN) is True
        assert waiting.result(WAIT).valid
        assert checking.requests["GET", "/v1/kv/"] == before + 1


def test_a_queue_for_a_hidden_key(face: Any, checking: Agent, name: str) -> None:
    with face.factory(checking.address) as one, face.factory(checking.address) as two:
        holder, waiter = (factory.create(name, fair=True) for factory in (one, two))
        holder.lock(HIDDEN)
        before = checking.requests["GET", "/v1/kv/"]
        waiting = waiter.submit_lock(HIDDEN, wait=None)
        eventually(checking, lambda: checking.requests["GET", "/v1/kv/"] > before)
        assert holder.release(HIDDEN) is True
        assert waiting.result(WAIT).valid
        assert waiter.release(HIDDEN) is True


def test_a_doubt_about_a_hidden_key_is_settled(hidden: Any, checking: Agent, name: str) -> None:
    assert hidden.wait_for_state("ready", WAIT)
    checking.fail_next(path="/v1/txn", after_commit=True, drop=True)
    with pytest.raises(ConsulUnavailable):
        hidden.lock(HIDDEN)
    key = f"{name}/{HIDDEN}/lock"
    assert session_of(checking, key) == hidden.session_id  # granted all the same
    eventually(checking, lambda: session_of(checking, key) is None)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_key_that_may_not_be_read_is_not_taken_for_missing(face: Any, name: str, version: str) -> None:
    with Agent(version=version) as agent, face.factory(agent.address) as factory:
        locker = factory.create(name)
        lease = locker.lock("a")
        agent.refuse = {"key:read"}
        for call in (locker.info, locker.holder):
            with pytest.raises(AccessDenied, match="key:read"):
                call("a")
        assert lease.valid
        agent.refuse = ()
        assert locker.info("a").fence == lease.fence
