"""The Locker's life: buffered calls, pauses and retries, stop, start, reboot."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from consul_locker import LockLost, LockTimeout, SessionEnded, SessionUnavailable

from .faces import ThreadedFace
from .tools import WAIT, Consul, Ear, Gate, until


@pytest.fixture
def shut(gate: Gate) -> Gate:
    """A gate that is not open yet: an agent that is not there."""
    gate.shut()
    return gate


def test_started_before_its_agent(face: Any, shut: Gate, name: str, ear: Ear) -> None:
    with face.factory(shut.address) as factory:
        locker = factory.create(name)
        futures = [locker.submit_lock(id) for id in range(100)]
        ear.wait("input_deferred", 100)
        assert locker.wait_for_state("paused", WAIT)
        assert not any(future.done() for future in futures)
        shut.open()
        leases = [future.result(WAIT) for future in futures]
        assert [lease.id for lease in leases] == [str(id) for id in range(100)]
        ear.wait("lock_acquired", 100)
        acquired = [int(facts["id"]) for facts in ear.of("lock_acquired")]
        assert sorted(acquired) == list(range(100))
        # On asyncio two transactions are in flight, and Consul may do the later one first.
        jumps = sum(later < earlier for earlier, later in pairwise(acquired))
        assert jumps <= (0 if isinstance(face, ThreadedFace) else 1)
        assert locker.reboot_count == 0
        assert [(facts["input"], facts["id"], facts["until"]) for facts in ear.of("input_deferred")[:2]] == [
            ("lock", "0", "ready"),
            ("lock", "1", "ready"),
        ]


def test_pauses(face: Any, shut: Gate, name: str) -> None:
    asked: list[int] = []

    def interval(number: int) -> float:
        asked.append(number)
        return 0.01

    with face.factory(shut.address) as factory:
        locker = factory.create(name, max_retries=3, retry_interval=interval)
        waiting = locker.submit_lock("a")
        with pytest.raises(SessionUnavailable) as failed:
            waiting.result(WAIT)
        assert (failed.value.name, failed.value.retries) == (name, 3)
        assert failed.value.cause is not None
        assert asked == [1, 2, 3]
        assert locker.state == "stopped"
        assert locker.reboot_count == 4
        with pytest.raises(SessionEnded):
            locker.lock("a")
        shut.open()
        locker.start()
        assert locker.lock("a").valid
        assert locker.reboot_count == 0


def test_start_ends_a_pause(face: Any, shut: Gate, name: str) -> None:
    with face.factory(shut.address) as factory:
        locker = factory.create(name, retry_interval=lambda number: 3600.0)
        assert locker.wait_for_state("paused", WAIT)
        assert locker.reboot_count == 1
        shut.open()
        locker.start()
        assert locker.wait_for_state("ready", WAIT)
        locker.start()
        assert locker.state == "ready"


def test_a_timeout_while_buffered(face: Any, shut: Gate, name: str) -> None:
    with face.factory(shut.address) as factory:
        locker = factory.create(name, retry_interval=lambda number: 3600.0, default_timeout=0.02)
        assert locker.wait_for_state("paused", WAIT)
        with pytest.raises(LockTimeout) as over:
            locker.lock("a")
        assert (over.value.id, over.value.timeout, over.value.state) == ("a", 0.02, "paused")
        assert isinstance(over.value, TimeoutError)
        with pytest.raises(LockTimeout):
            locker.lock("a", timeout=0.01)
        shut.open()
        locker.start()
        assert locker.wait_for_state("ready", WAIT)
        assert not locker.held  # what timed out is not asked for any more


def test_a_release_before_there_is_a_session(gate: Gate, face: Any, name: str) -> None:
    held = gate.hold("PUT /v1/session/create", 1)
    with face.factory(gate.address) as factory:
        locker = factory.create(name)
        held.wait()
        assert locker.release("a") is True
        assert locker.release_all() == 0
        assert locker.session_id is None
        assert locker.session_info() is None
        future = locker.submit_lock("b")
        behind = locker.submit_release("b")
        held.let_go()
        assert future.result(WAIT).id == "b"
        assert behind.result(WAIT) is True
        assert not locker.held


def test_stop_destroys_the_session(locker: Any, consul: Consul, name: str) -> None:
    lease = locker.lock("a")
    locker.stop()
    assert locker.state == "stopped"
    assert locker.session_id is None
    assert not consul.sessions(name)
    key = consul.key(lease.key)
    assert key is not None
    assert key.session is None
    assert not lease.valid
    assert lease.wait_lost(WAIT) == "stopped"
    for call in (locker.lock, locker.release):
        with pytest.raises(SessionEnded) as ended:
            call("a")
        assert ended.value.name == name
    locker.stop()
    assert locker.info("a").session_id is None  # questions are answered in every state


def test_a_with_statement_stops(factory: Any, consul: Consul, name: str) -> None:
    with factory.create(name) as locker:
        locker.lock("a")
    assert locker.state == "stopped"
    assert not consul.sessions(name)


def test_start_after_a_stop(locker: Any, consul: Consul, name: str) -> None:
    first = locker.lock("a")
    locker.stop()
    locker.start()
    second = locker.lock("a")
    assert second.session_id != first.session_id
    assert second.fence > first.fence
    assert len(consul.sessions(name)) == 1


def test_stop_while_the_session_is_created(face: Any, gate: Gate, consul: Consul, name: str) -> None:
    held = gate.hold("PUT /v1/session/create")
    with face.factory(gate.address) as factory:
        locker = factory.create(name)
        future = locker.submit_lock("a")
        held.wait()
        locker.stop(timeout=0.1)
        assert isinstance(future.exception(WAIT), SessionEnded)
        held.let_go()
        held.wait_passed()
        until(lambda: gate.count("PUT /v1/session/destroy/") == 1 and not consul.sessions(name))
        assert locker.state == "stopped"


def test_stop_gives_up_on_a_silent_agent(face: Any, gate: Gate, consul: Consul, name: str) -> None:
    with face.factory(gate.address) as factory:
        locker = factory.create(name)
        lease = locker.lock("a")
        held = gate.hold("PUT /v1/session/destroy/")
        locker.stop(timeout=0.05)
        assert locker.state == "stopped"
        assert not lease.valid
        held.let_go()
        until(lambda: not consul.sessions(name))  # it goes on in the background


def test_stop_with_a_lock_delay_releases_first(face: Any, agent: Any, consul: Consul, name: str, rival: Any) -> None:
    with face.factory(agent.address) as factory:
        locker = factory.create(name, lock_delay=60)
        fence = locker.lock("a").fence
        locker.stop()
        assert rival.lock("a").fence > fence  # no delay to sit out


def test_reboot(locker: Any, consul: Consul, name: str, ear: Ear) -> None:
    lease = locker.lock("a")
    locker.reboot()
    assert not lease.valid
    assert lease.wait_lost(WAIT) == "rebooted"
    assert locker.lock("a").session_id != lease.session_id
    until(lambda: len(consul.sessions(name)) == 1)
    assert ear.wait("session_ended") == {"session_id": lease.session_id, "reason": "rebooted"}


def test_wait_for_state(locker: Any) -> None:
    assert locker.wait_for_state("ready", WAIT)
    assert locker.wait_for_state("ready", 0)
    assert not locker.wait_for_state("stopped", 0.01)
    with pytest.raises(ValueError, match="state"):
        locker.wait_for_state("asleep")


def test_a_closed_factory(face: Any, agent: Any, consul: Consul, name: str) -> None:
    factory = face.factory(agent.address)
    with factory:
        locker = factory.create(name)
        lease = locker.lock("a")
        session = locker.session_id
    assert locker.state == "stopped"
    assert not consul.sessions(name)
    factory.close()
    for refused in (
        lambda: factory.create(name),
        locker.start,
        locker.reboot,
        lambda: locker.info("a"),
        lambda: locker.holder("a"),
        locker.session_info,
        lambda: locker.session_info(session),
        lambda: locker.wait_for_state("ready"),
        lambda: locker.wait_for_state("ready", 0),
    ):
        with pytest.raises(RuntimeError, match="the factory is closed; make a new one"):
            refused()
    for ended in (locker.lock, locker.release):
        with pytest.raises(SessionEnded):
            ended("a")
    with pytest.raises(SessionEnded):
        locker.release_all()
    with pytest.raises(LockLost):
        locker.guarded(lease, [])
    locker.stop()
    assert locker.wait_for_state("stopped")
    assert lease.wait_lost() == "stopped"
    assert not locker.held


def test_closing_with_a_caller_who_waits_for_a_state(face: Any, agent: Any, name: str) -> None:
    factory = face.factory(agent.address)
    locker = factory.create(name)
    assert locker.wait_for_state("ready", WAIT)
    with ThreadPoolExecutor() as pool:
        waiting = {state: pool.submit(locker.wait_for_state, state) for state in ("paused", "stopped")}
        factory.close()
        assert waiting["stopped"].result(WAIT) is True
        assert isinstance(waiting["paused"].exception(WAIT), RuntimeError)


def test_an_agent_that_comes_back(gated: Any, gate: Gate) -> None:
    lease = gated.lock("a")
    gate.shut()
    future = gated.submit_lock("b")
    assert until(lambda: gated.health().outage_since is not None)
    gate.open()
    assert future.result(WAIT).session_id == lease.session_id
    assert lease.valid
