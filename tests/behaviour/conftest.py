"""Fixtures of the behaviour suite: each test runs with both faces, against both agents."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from .faces import FACES
from .tools import Consul, Ear, Gate


@pytest.fixture(params=list(FACES))
def face(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One face after the other."""
    face = FACES[request.param]()
    yield face
    face.close()


@pytest.fixture
def name() -> str:
    """A Locker's name that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def consul(agent: Any) -> Consul:
    """The independent reader."""
    return Consul(agent.address)


@pytest.fixture
def gate(agent: Any) -> Iterator[Gate]:
    """A gate before the agent, open."""
    with Gate(agent.address) as gate:
        yield gate


@pytest.fixture
def ear(name: str) -> Iterator[Ear]:
    """Hears the Lockers of `name`."""
    ear = Ear(name)
    yield ear
    ear.close()


@pytest.fixture
def factory(face: Any, agent: Any) -> Iterator[Any]:
    """A factory on the agent."""
    with face.factory(agent.address) as factory:
        yield factory


@pytest.fixture
def rival(face: Any, agent: Any, name: str) -> Iterator[Any]:
    """A Locker of the same name with a factory of its own: another process, as far as Consul can tell."""
    with face.factory(agent.address) as factory:
        yield factory.create(name)


@pytest.fixture
def locker(factory: Any, name: str) -> Any:
    """A Locker."""
    return factory.create(name)


@pytest.fixture
def gated(face: Any, gate: Gate, name: str) -> Iterator[Any]:
    """A Locker behind the gate, ready."""
    with face.factory(gate.address) as factory:
        locker = factory.create(name)
        assert locker.wait_for_state("ready", 30)
        yield locker
