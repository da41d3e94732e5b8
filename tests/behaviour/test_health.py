"""`locker.health`, on both faces: what a health endpoint shows, with Consul there and away."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from consul_locker import SessionUnavailable

from .tools import WAIT, Gate


@pytest.fixture
def shut(gate: Gate) -> Gate:
    """A gate that is not open yet: an agent that is not there."""
    gate.shut()
    return gate


def test_a_locker_that_is_well(locker: Any, consul: Any) -> None:
    lease = locker.lock("a")
    health = locker.health()
    assert (health.state, health.session_id, health.held, health.waiting) == ("ready", lease.session_id, 1, 0)
    assert (health.outage_since, health.cause, health.next_attempt) == (None, None, None)
    assert 0.0 <= health.oldest_renewal < 15.0
    assert health.address.startswith("http://")
    assert json.loads(json.dumps(dataclasses.asdict(health))) == dataclasses.asdict(health)
    assert (locker.stats()["outages"], locker.stats()["outage_seconds"]) == (0, 0)


def test_a_locker_whose_consul_is_away(face: Any, shut: Gate, name: str) -> None:
    with face.factory(shut.address) as factory:
        locker = factory.create(name, retry_interval=lambda retry: 3600.0, outage_timeout=None)
        assert locker.wait_for_state("paused", WAIT)
        call = locker.submit_lock("a")
        health = locker.health()
        assert (health.state, health.session_id, health.held, health.oldest_renewal) == ("paused", None, 0, None)
        assert health.outage_since >= 0.0
        assert "session create" in health.cause
        assert 0.0 <= health.next_attempt <= 3600.0
        assert health.waiting == 1
        assert "Consul away for 0 s" in repr(locker)
        assert locker.stats()["outages"] == 1
        shut.open()
        locker.start()
        assert call.result(WAIT).valid
        health = locker.health()
        assert (health.outage_since, health.cause, health.next_attempt, health.waiting) == (None, None, None, 0)
        assert "away" not in repr(locker)


def test_a_call_rides_over_an_outage_for_its_outage_timeout(face: Any, shut: Gate, name: str) -> None:
    with face.factory(shut.address) as factory:
        locker = factory.create(name, outage_timeout=0.05)
        with pytest.raises(SessionUnavailable) as over:
            locker.lock("a")
        assert over.value.outage_timeout == 0.05
        assert locker.state != "stopped"
        shut.open()
        locker.start()
        assert locker.wait_for_state("ready", WAIT)
        assert not locker.held  # what is over is not asked for any more
        assert locker.lock("a").valid


def test_a_session_that_comes_early_since_a_call_waits(face: Any, shut: Gate, name: str) -> None:
    """The retry would come in an hour."""
    with face.factory(shut.address) as factory:
        locker = factory.create(name, retry_interval=lambda retry: 3600.0)
        assert locker.wait_for_state("paused", WAIT)
        shut.open()
        assert locker.lock("a").valid
        assert locker.reboot_count == 0
