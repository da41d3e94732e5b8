"""Locks and releases: what the caller gets, and what Consul shows."""

from __future__ import annotations

import base64
import json
import os
import socket
from concurrent.futures import FIRST_COMPLETED, wait
from typing import Any

import pytest

from consul_locker import AlreadyLocked, ConfigurationError, ConsulUnavailable, InvalidLockId, LockLost, LockTimeout

from .faces import ThreadedFace
from .tools import WAIT, Consul, Gate, until


def test_the_session_is_begun_at_once(locker: Any, consul: Consul, name: str) -> None:
    assert locker.wait_for_state("ready", WAIT)
    (session,) = consul.sessions(name)
    assert session["ID"] == locker.session_id
    assert session["TTL"] == "15s"
    assert session["LockDelay"] == 0
    assert session["Behavior"] == "release"
    assert not session.get("Checks") and not session.get("NodeChecks")


def test_the_original_s_session_has_no_ttl(factory: Any, consul: Consul, name: str) -> None:
    locker = factory.create(name, ttl=None)
    assert locker.wait_for_state("ready", WAIT)
    (session,) = consul.sessions(name)
    assert session["TTL"] == ""
    assert session["NodeChecks"] == ["serfHealth"]
    assert locker.lock("a").remaining <= 15.0


def test_a_lock_in_consul(locker: Any, consul: Consul, name: str) -> None:
    lease = locker.lock("123")
    key = consul.key(f"{name}/123/lock")
    assert key is not None
    assert (key.session, key.fence, key.flags) == (locker.session_id, lease.fence, 0)
    value = json.loads(key.value)
    assert value == {"pid": os.getpid(), "host": socket.gethostname(), "name": name, "tenure": value["tenure"]}
    assert (lease.id, lease.key, lease.session_id) == ("123", key.key, key.session)
    assert lease.valid
    assert 0 < lease.remaining <= 15.0
    lease.check()
    assert dict(locker.held).keys() == {"123"}
    assert locker.state in repr(locker) and name in repr(locker)


def test_a_cached_lock_costs_no_request(gated: Any, gate: Gate) -> None:
    first = gated.lock("a")
    before = gate.count("PUT /v1/txn")
    assert gated.lock("a") == first
    assert gate.count("PUT /v1/txn") == before
    assert gated.stats()["cached"] == 1


def test_one_and_its_text_are_one_lock(locker: Any) -> None:
    assert locker.lock(1) == locker.lock("1")
    assert locker.release(1)


def test_the_denied_are_told_who_has_it(locker: Any, rival: Any, name: str) -> None:
    lease = locker.lock("a")
    with pytest.raises(AlreadyLocked) as denied:
        rival.lock("a")
    error = denied.value
    assert (error.id, error.key, error.reason, error.ids) == ("a", f"{name}/a/lock", "held", ("a",))
    assert error.holder is not None
    assert (error.holder.session_id, error.holder.fence) == (lease.session_id, lease.fence)
    assert error.holder.value["pid"] == os.getpid()
    assert str(os.getpid()) in str(error)
    assert rival.stats()["denied"] == 1
    assert not rival.held
    assert locker.release("a")
    assert rival.lock("a").fence > lease.fence  # a denial is not remembered


def test_without_identify_holder_nobody_is_named(face: Any, gate: Gate, name: str, locker: Any) -> None:
    locker.lock("a")
    with face.factory(gate.address) as factory:
        rival = factory.create(name, identify_holder=False)
        with pytest.raises(AlreadyLocked) as denied:
            rival.lock("a")
        assert denied.value.holder is None
        assert gate.count("PUT /v1/txn") == 1


def test_a_release(locker: Any, rival: Any, consul: Consul) -> None:
    lease = locker.lock("a")
    assert rival.wait_for_state("ready", WAIT)  # before that there is nothing to release, and True is the answer
    assert not rival.release("a")
    assert lease.valid
    assert locker.release("a") is True
    assert not lease.valid
    assert lease.remaining == 0.0
    assert lease.reason == "released"
    assert lease.wait_lost(WAIT) == "released"
    with pytest.raises(LockLost) as lost:
        lease.check()
    error = lost.value
    assert (error.id, error.key, error.reason, error.fence) == ("a", lease.key, "released", lease.fence)
    key = consul.key(lease.key)
    assert key is not None
    assert (key.session, key.value, key.flags) == (None, b"", 0)
    assert locker.release("a") is False
    assert locker.release("never") is False
    again = locker.lock("a")
    assert again.fence > lease.fence
    assert again != lease


def test_release_all(locker: Any, consul: Consul, name: str) -> None:
    assert locker.release_all() == 0
    for id in range(70):  # more than one transaction takes
        locker.submit_lock(id)
    leases = [locker.lock(id) for id in range(70)]
    assert locker.release_all() == 70
    assert not any(lease.valid for lease in leases)
    assert not any(key.session for key in consul.keys(name + "/").values())


def test_without_a_strategy_consul_is_asked_each_time(factory: Any, name: str) -> None:
    locker = factory.create(name, strategy=None)
    first = locker.lock("a")
    second = locker.lock("a")
    assert second.fence > first.fence
    assert not first.valid
    assert second.valid
    assert locker.stats()["cached"] == 0
    assert locker.release("a")


def test_options_are_seen_in_consul(factory: Any, consul: Consul, name: str) -> None:
    locker = factory.create(
        name, ttl=20, lock_delay=2.5, behavior="delete", value={"room": 7}, flags=42, delete_on_release=True
    )
    lease = locker.lock("a")
    (session,) = consul.sessions(name)
    assert (session["TTL"], session["LockDelay"], session["Behavior"]) == ("20s", 2_500_000_000, "delete")
    key = consul.key(lease.key)
    assert key is not None
    assert key.flags == 42
    assert json.loads(key.value)["room"] == 7
    assert locker.release("a")
    assert consul.key(lease.key) is None
    lease = locker.lock("b")
    consul.destroy(lease.session_id)
    assert consul.key(lease.key) is None


def test_flags_survive_a_release(factory: Any, consul: Consul, name: str) -> None:
    locker = factory.create(name, flags=42)
    lease = locker.lock("a")
    locker.release("a")
    key = consul.key(lease.key)
    assert key is not None
    assert key.flags == 42


def test_info_and_holder(locker: Any, rival: Any, consul: Consul, name: str) -> None:
    assert locker.info("a") is None
    assert locker.holder("a") is None
    lease = rival.lock("a")
    info = locker.info("a")
    assert (info.id, info.key, info.session_id, info.fence) == ("a", lease.key, lease.session_id, lease.fence)
    assert info.lock_index == 1
    assert info.value["name"] == name
    assert info.session is None
    holder = locker.holder("a")
    assert holder.session.id == lease.session_id
    assert holder.session.name == name
    rival.release("a")
    assert locker.holder("a") is None
    assert locker.info("a").session_id is None
    consul.put(f"{name}/a/lock", "no JSON")
    assert locker.info("a").value == "no JSON"


def test_session_info(locker: Any, rival: Any, name: str) -> None:
    assert locker.wait_for_state("ready", WAIT)
    info = locker.session_info()
    assert (info.id, info.name, info.ttl, info.lock_delay, info.behavior, info.checks) == (
        locker.session_id, name, 15.0, 0.0, "release", ()
    )  # fmt: skip
    assert rival.session_info(locker.session_id) == info
    assert locker.session_info("00000000-0000-0000-0000-000000000000") is None


def test_held_cannot_be_written_to(locker: Any) -> None:
    lease = locker.lock("a")
    held = locker.held
    with pytest.raises(TypeError):
        held["b"] = lease
    locker.release("a")
    assert not locker.held


def test_callers_share_a_request_in_flight(gated: Any, gate: Gate) -> None:
    held = gate.hold("PUT /v1/txn")
    first = gated.submit_lock("a")
    held.wait()
    others = [gated.submit_lock("a") for _ in range(9)]
    until(lambda: gated.stats()["shared"] == 9)
    held.let_go()
    lease = first.result(WAIT)
    assert all(other.result(WAIT) == lease for other in others)
    assert gated.stats()["requests"] == 1
    assert gate.count("PUT /v1/txn") == 1


def test_wanted_together_sent_together(face: Any, gated: Any, gate: Gate) -> None:
    held = gate.hold("PUT /v1/txn", 1)
    first = gated.submit_lock("first")
    held.wait()
    futures = [gated.submit_lock(id) for id in range(100)]
    until(lambda: gated.stats()["requests"] == 101)
    held.let_go()
    for future in [first, *futures]:
        assert future.result(WAIT).valid
    # On threads one, 64, and 36; on asyncio two in turn share them.
    assert gated.stats()["transactions"] <= (3 if isinstance(face, ThreadedFace) else 12)


def test_a_loser_does_not_spoil_the_batch(gated: Any, gate: Gate, locker: Any) -> None:
    locker.lock("taken")
    held = gate.hold("PUT /v1/txn", 1)
    first = gated.submit_lock("first")
    held.wait()
    futures = {id: gated.submit_lock(id) for id in ("a", "taken", "b")}
    until(lambda: gated.stats()["requests"] == 4)
    held.let_go()
    assert first.result(WAIT).valid
    assert futures["a"].result(WAIT).valid
    assert futures["b"].result(WAIT).valid
    assert isinstance(futures["taken"].exception(WAIT), AlreadyLocked)


def test_a_cancelled_future_leaves_no_lock(gated: Any, gate: Gate, consul: Consul, name: str) -> None:
    held = gate.hold("PUT /v1/txn", 1)
    future = gated.submit_lock("a")
    held.wait()
    assert future.cancel()
    held.let_go()
    until(lambda: (key := consul.key(f"{name}/a/lock")) is not None and key.session is None)
    assert not gated.held


def test_a_cancelled_future_takes_nothing_from_others(gated: Any, gate: Gate) -> None:
    held = gate.hold("PUT /v1/txn", 1)
    future, other = gated.submit_lock("a"), gated.submit_lock("a")
    held.wait()
    until(lambda: gated.stats()["shared"] == 1)
    assert future.cancel()
    held.let_go()
    assert other.result(WAIT).valid


def test_a_timeout_in_flight(face: Any, gate: Gate, consul: Consul, name: str) -> None:
    with face.factory(gate.address) as factory:
        locker = factory.create(name)
        assert locker.wait_for_state("ready", WAIT)
        held = gate.hold("PUT /v1/txn", 1)
        with pytest.raises(LockTimeout) as over:
            locker.lock("a", timeout=0.05)
        assert (over.value.id, over.value.timeout, over.value.state) == ("a", 0.05, "ready")
        held.let_go()
        held.wait_passed()
        until(lambda: (key := consul.key(f"{name}/a/lock")) is None or key.session is None)


def test_a_timeout_behind_another_holder(locker: Any, rival: Any) -> None:
    lease = locker.lock("a")

    def told() -> LockTimeout | None:
        with pytest.raises(LockTimeout) as over:
            rival.lock("a", wait=None, timeout=0.1)
        return over.value if over.value.holder is not None else None  # else Consul was slow

    over = until(told)
    assert over.reason == "held"
    assert over.holder.session_id == lease.session_id
    assert "it is still held by process" in str(over)


def test_a_timeout_behind_a_caller_of_the_same_locker(locker: Any) -> None:
    locker.lock("a")
    with (
        pytest.raises(LockTimeout, match="another caller of this Locker") as over,
        locker.hold("a", wait=None, timeout=0.05),
    ):
        pass
    assert over.value.reason == "local"


def test_waiting_for_a_lock(locker: Any, rival: Any) -> None:
    lease = locker.lock("a")
    waiting = rival.submit_lock("a", wait=WAIT)
    with pytest.raises(AlreadyLocked):
        rival.lock("a", wait=0.1)
    assert not waiting.done()
    assert locker.release("a")
    assert waiting.result(WAIT).fence > lease.fence


def test_lockers_of_one_factory_wait_by_one_query(face: Any, gate: Gate, locker: Any, name: str) -> None:
    locker.lock("a")
    query = f"GET /v1/kv/{name}/a/lock"
    with face.factory(gate.address) as factory:
        lockers = [factory.create(name) for _ in range(5)]
        assert all(one.wait_for_state("ready", WAIT) for one in lockers)
        look = gate.hold(query, 1)
        left = {one.submit_lock("a", wait=WAIT): one for one in lockers}
        until(lambda: all(one.stats()["denied"] == 1 for one in lockers))
        for one in lockers:
            one.info("b")  # after whatever its Locker sent before
        assert gate.count(query) == 1  # the look of one, which all wait for
        look.let_go()
        until(lambda: gate.count(query) == 2)
        for one in lockers:
            one.info("b")
        assert gate.count(query) == 2
        locker.release("a")
        fences = []
        while left:
            done, _ = wait(left, WAIT, FIRST_COMPLETED)
            (first,) = done  # one after another: nobody else has it until this one gives it back
            fences.append(first.result().fence)
            assert left.pop(first).release("a")
        assert fences == sorted(set(fences))
    assert {most for path, most in gate.most_alike.items() if path.startswith(query)} == {1}


def test_lock_many(locker: Any, rival: Any, consul: Consul, name: str) -> None:
    assert locker.lock_many([]) == []
    leases = locker.lock_many(["a", 1, "a", "b"])
    assert [lease.id for lease in leases] == ["a", "1", "a", "b"]
    assert leases[0] == leases[2]
    assert locker.lock_many(["b", "a"]) == [leases[3], leases[0]]
    with pytest.raises(AlreadyLocked) as denied:
        rival.lock_many(["free", "a", "b"])
    assert set(denied.value.ids) == {"a", "b"}
    assert not rival.held
    free = consul.key(f"{name}/free/lock")
    assert free is None or free.session is None
    assert len(locker.lock_many([f"many-{n}" for n in range(64)])) == 64


@pytest.mark.parametrize("ids", ["text", b"bytes", range(65)])
def test_lock_many_refuses(locker: Any, ids: Any) -> None:
    with pytest.raises(ConfigurationError):
        locker.lock_many(ids)


def test_guarded(locker: Any, consul: Consul, name: str) -> None:
    lease = locker.lock("a")
    operation = {"KV": {"Verb": "set", "Key": f"{name}/data", "Value": base64.b64encode(b"mine").decode()}}
    (written,) = locker.guarded(lease, [operation])
    assert written.key == f"{name}/data"
    key = consul.key(f"{name}/data")
    assert key is not None
    assert key.value == b"mine"
    refused = {"KV": {"Verb": "cas", "Key": f"{name}/data", "Value": "", "Index": 1}}
    with pytest.raises(ConsulUnavailable) as failed:
        locker.guarded(lease, [refused])
    assert failed.value.status == 409
    consul.delete(lease.key)
    with pytest.raises(LockLost):
        locker.guarded(lease, [operation])


@pytest.mark.parametrize(
    ("option", "value"), [("wait", -1), ("timeout", "soon"), ("wait", True), ("timeout", float("nan"))]
)
def test_limits_are_seconds(locker: Any, option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        locker.lock("a", **{option: value})
    assert refused.value.option == option


def test_release_checks_the_id(locker: Any) -> None:
    for call in (locker.release, locker.info, locker.holder, locker.lock):
        with pytest.raises(InvalidLockId):
            call(True)
