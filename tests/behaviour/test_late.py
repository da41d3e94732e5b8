"""Rules 4 and 5: a request that is delivered late, or twice, does no harm to the next tenure."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker import ConsulLockerError, ConsulUnavailable

from .tools import WAIT, Consul, Gate, Seen, until


def releases(seen: Seen) -> bool:
    """Whether this request is a release."""
    return seen.endpoint == "PUT /v1/txn" and b'"unlock"' in seen.body


def test_an_old_release_delivered_again(gated: Any, gate: Gate, consul: Consul) -> None:
    first = gated.lock("a")
    assert gated.release("a")
    (release,) = [seen for seen in gate.seen if releases(seen)]
    second = gated.lock("a")
    assert second.session_id == first.session_id
    status, _ = consul.call(release.method, release.path, release.body)
    assert status == 409
    key = consul.key(second.key)
    assert key is not None
    assert (key.session, key.fence) == (second.session_id, second.fence)
    assert second.valid


def test_a_release_delivered_late_for_the_first_time(face: Any, gate: Gate, consul: Consul, name: str) -> None:
    with face.factory(gate.address, timeout=0.5) as factory:
        locker = factory.create(name, outage_timeout=0)
        first = locker.lock("a")
        late = gate.hold(releases, 1)
        with pytest.raises(ConsulUnavailable) as failed:
            locker.release("a")
        assert failed.value.sent
        assert not first.valid
        second = until(lambda: _locked(locker))
        assert (second.session_id, second.fence > first.fence) == (first.session_id, True)
        late.let_go()
        late.wait_passed()
        key = consul.key(second.key)
        assert key is not None
        assert (key.session, key.fence) == (second.session_id, second.fence)
        assert second.valid
        second.check()


def _locked(locker: Any) -> Any:
    try:
        return locker.lock("a")
    except ConsulLockerError:  # half a second is short on a busy machine
        return None


def test_an_acquire_whose_answer_is_lost(face: Any, gate: Gate, consul: Consul, name: str) -> None:
    """It committed, the caller was told that nothing is known: the lock does not stay behind."""
    with face.factory(gate.address, timeout=0.5) as factory:
        locker = factory.create(name, outage_timeout=0)
        assert locker.wait_for_state("ready", WAIT)
        held = gate.hold("PUT /v1/txn", 1, answers=True)
        with pytest.raises(ConsulUnavailable) as failed:
            locker.lock("a")
        assert failed.value.sent
        until(lambda: (key := consul.key(f"{name}/a/lock")) is not None and key.session is None)
        held.let_go()


def test_a_create_answered_late(face: Any, gate: Gate, consul: Consul, name: str) -> None:
    with face.factory(gate.address, timeout=0.5) as factory:
        held = gate.hold("PUT /v1/session/create", 1)
        locker = factory.create(name, retry_interval=lambda number: 0.01)
        held.wait()
        lease = locker.lock("a")
        held.let_go()
        held.wait_passed()
        assert lease.valid
        assert locker.session_id == lease.session_id


def test_an_acquire_delivered_late_for_the_first_time(face: Any, gate: Gate, consul: Consul, name: str) -> None:
    """Its caller has long been told that nothing is known: what it takes is given back."""
    with face.factory(gate.address, timeout=0.5) as factory:
        locker = factory.create(name, outage_timeout=0)
        assert locker.wait_for_state("ready", WAIT)
        late = gate.hold("PUT /v1/txn", 1)
        with pytest.raises(ConsulUnavailable):
            locker.lock("a")
        late.let_go()
        late.wait_passed()
        until(lambda: (key := consul.key(f"{name}/a/lock")) is not None and key.session is None)
        assert not locker.held


def test_a_destroy_delivered_twice(face: Any, gate: Gate, consul: Consul, name: str) -> None:
    """The second time it meets no session, and does nothing to the next one."""
    with face.factory(gate.address) as factory:
        locker = factory.create(name)
        locker.lock("a")
        locker.stop()
        (destroy,) = [seen for seen in gate.seen if "/v1/session/destroy/" in seen.path]
        locker.start()
        lease = locker.lock("a")
        status, _ = consul.call(destroy.method, destroy.path, destroy.body)
        assert status == 200
        assert lease.valid
        assert consul.key(lease.key).session == lease.session_id


def test_a_renewal_that_is_held_up_is_no_loss(face: Any, gate: Gate, name: str) -> None:
    """Failing to renew is "unknown" until the deadline: the next attempt goes over a new connection."""
    with face.factory(gate.address, timeout=0.5) as factory:
        locker = factory.create(name, ttl=10.0)
        lease = locker.lock("a")
        held = gate.hold(lambda seen: "/v1/session/renew/" in seen.path, 1)
        until(lambda: locker.stats()["renewals_failed"] >= 1 and locker.stats()["renewals"] >= 1)
        assert lease.valid
        assert locker.stats()["lost"] == 0
        held.let_go()
