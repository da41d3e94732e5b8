"""What takes time, on the embedded agent's own clock: renewals, deadlines, lock-delays, retries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker import AlreadyLocked
from consul_locker.embedded import Agent, ManualClock

from .tools import WAIT, Consul, Ear, until


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the agent, and of the Lockers on it."""
    return ManualClock(1000.0)


@pytest.fixture
def agent(clock: ManualClock) -> Iterator[Agent]:
    """An embedded agent on that clock."""
    with Agent(clock=clock) as agent:
        yield agent


@pytest.fixture
def factory(face: Any, agent: Agent) -> Iterator[Any]:
    """A factory on that clock, too."""
    with face.embedded(agent) as factory:
        yield factory


def test_renewed_for_an_hour(locker: Any, agent: Agent, consul: Consul, name: str) -> None:
    lease = locker.lock("a")
    for renewals in range(1, 61):
        agent.advance(5.0)
        until(lambda renewals=renewals: locker.stats()["renewals"] >= renewals)
        assert lease.valid
    assert [session["ID"] for session in consul.sessions(name)] == [lease.session_id]


def test_past_the_deadline(locker: Any, agent: Agent, ear: Ear) -> None:
    lease = locker.lock("a")
    with agent.pause():
        agent.advance(14.9)
        assert lease.valid
        assert 0 < lease.remaining < 0.2
        agent.advance(0.2)
        assert not lease.valid
        assert lease.reason == "deadline passed"
        assert lease.wait_lost(WAIT) == "deadline passed"
        assert ear.wait("session_ended")["reason"] == "deadline passed"
    assert locker.wait_for_state("ready", WAIT)
    assert locker.session_id != lease.session_id
    assert not locker.held


def test_a_lock_delay_is_sat_out(factory: Any, agent: Agent, name: str) -> None:
    locker = factory.create(name, lock_delay=20.0)
    rival = factory.create(name)
    lease = locker.lock("a")
    agent.expire_session(lease.session_id)
    assert lease.wait_lost(WAIT) == "session destroyed"
    with pytest.raises(AlreadyLocked) as denied:
        rival.lock("a")
    assert denied.value.reason == "lock-delay"
    waiting = rival.submit_lock("a", wait=60)
    for _ in range(24):  # in steps that renewals can follow
        agent.advance(1.0)
        until(lambda: rival.session_id is not None)
    assert until(lambda: waiting.done() or not agent.advance(0.25))
    assert waiting.result(WAIT).fence > lease.fence


def test_pauses_double(face: Any, agent: Agent, factory: Any, clock: ManualClock, name: str) -> None:
    agent.fail_next(3, path="/v1/session/create")
    locker = factory.create(name)
    for retry, longest in enumerate((0.5, 1.0, 2.0), 1):
        until(lambda retry=retry: locker.state == "paused" and locker.reboot_count == retry)
        agent.advance(longest / 2 - 0.01)  # half of a pause is jitter
        assert locker.state == "paused"
        assert locker.reboot_count == retry
        agent.advance(longest / 2 + 0.01)
    assert locker.wait_for_state("ready", WAIT)
