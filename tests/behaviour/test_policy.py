"""A policy narrowed for seconds: sessions look as if they were not there, and nobody loses one that lives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker.embedded import Agent, ManualClock

from .tools import Consul, Ear, until


@pytest.fixture
def agent() -> Iterator[Agent]:
    """An embedded agent on a clock of its own: it can be told to empty reads."""
    with Agent(clock=ManualClock(1000.0)) as agent:
        yield agent


@pytest.fixture
def factory(face: Any, agent: Agent) -> Iterator[Any]:
    """A factory on that clock, too."""
    with face.embedded(agent) as factory:
        yield factory


@pytest.mark.parametrize("ttl", [15.0, None])
def test_reads_that_a_policy_empties_lose_nothing(
    factory: Any, agent: Agent, consul: Consul, name: str, ear: Ear, ttl: float | None
) -> None:
    lockers = [factory.create(name, ttl=ttl) for _ in range(6)]  # more than have a watch of their own
    leases = [locker.lock(number) for number, locker in enumerate(lockers)]

    def failures() -> int:
        return sum(locker.stats().get("renewals_failed", 0) for locker in lockers)

    agent.filter_reads = True
    agent.advance(5.0)  # a renewal is due, or a read
    for _ in range(4):
        before = failures()
        agent.advance(0.6)  # the next attempt
        until(lambda before=before: failures() > before)
    agent.filter_reads = False
    renewals = [locker.stats().get("renewals", 0) for locker in lockers]

    def renewed() -> bool:
        agent.advance(0.02)
        return all(locker.stats().get("renewals", 0) > before for locker, before in zip(lockers, renewals, strict=True))

    until(renewed)
    assert all(lease.valid for lease in leases)
    assert "lock_lost" not in ear.names()
    assert {session["ID"] for session in consul.sessions(name)} == {lease.session_id for lease in leases}
