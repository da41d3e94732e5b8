"""An embedded agent with a gate before it, a factory and a Locker on threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from consul_locker import Locker, LockerFactory
from consul_locker.embedded import Agent

from ..behaviour.tools import WAIT, Gate


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


@pytest.fixture
def gate(agent: Agent) -> Iterator[Gate]:
    with Gate(agent.address) as gate:
        yield gate


@pytest.fixture
def factory(gate: Gate) -> Iterator[LockerFactory]:
    with LockerFactory(gate.address) as factory:
        yield factory


@pytest.fixture
def locker(factory: LockerFactory) -> Locker:
    locker = factory.create("n")
    assert locker.wait_for_state("ready", WAIT)
    return locker
