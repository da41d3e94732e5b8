"""Fixtures of the behaviour suite: each test runs with both faces, in three places.

The places are the embedded agent, a real one, and a real one with ACLs on, where the Lockers have no right but those
that docs/operations.rst tells.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker.embedded import Agent

from ..acl_agent import AclConsul
from .tools import Consul, Ear, Gate

#: For places that need a real Consul's binary.
REAL = pytest.mark.real


@pytest.fixture(scope="session")
def acl_agent(consul_binary: str) -> Iterator[AclConsul]:
    """A real agent with ACLs on, shared by all tests: each has a token of its own."""
    with AclConsul(consul_binary) as agent:
        yield agent


@pytest.fixture(params=["embedded", pytest.param("real", marks=REAL), pytest.param("acl", marks=REAL)])
def agent(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[Any]:
    """An agent with an `address`: the embedded one, made for this test, then the real ones of the run.

    The token for the one with ACLs on comes by the environment, to other processes, too.
    """
    if request.param == "acl":
        agent: AclConsul = request.getfixturevalue("acl_agent")
        monkeypatch.setenv("CONSUL_HTTP_TOKEN", agent.token(name).secret)
        yield agent
    elif request.param == "real":
        yield request.getfixturevalue("real_agent")
    else:
        with Agent() as embedded:
            yield embedded


@pytest.fixture
def consul(agent: Any) -> Consul:
    """The independent reader; it may read everything."""
    return Consul(agent.address, getattr(agent, "management", None))


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
