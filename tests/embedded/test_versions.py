"""The version of Consul whose ways an embedded agent has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker.embedded import Agent, ManualClock
from consul_locker.embedded.versions import VERSIONS, pattern_fault
from consul_locker.errors import ConfigurationError

from ..contract.compare import Client


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def agent(version: str) -> Iterator[Agent]:
    with Agent(version=version, clock=ManualClock()) as found:
        yield found


@pytest.fixture
def client(agent: Agent) -> Iterator[Client]:
    with Client(agent.address) as found:
        yield found


def ask(client: Client, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and body, which is JSON or text."""
    data = b"" if body is None else json.dumps(body).encode()
    status, _, _, text = client.ask(method, path, data)
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text.decode()


# ------------------------------------------------------------------------------------------- its version


def test_it_says_which_version_it_is(agent: Agent, client: Client, version: str) -> None:
    said = ask(client, "GET", "/v1/agent/self")[1]["Config"]["Version"]
    assert said.startswith(version + ".")


def test_it_is_the_newest_unless_told() -> None:
    with Agent() as agent, Client(agent.address) as client:
        assert ask(client, "GET", "/v1/agent/self")[1]["Config"]["Version"] == VERSIONS["1.23"].number


@pytest.mark.parametrize("wrong", ["1.22", "", "1.23.0", None, 1.8])
def test_a_version_that_it_does_not_know(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"'1\.8', '1\.16', '1\.23'"):
        Agent(version=wrong)


# ------------------------------------------------------------------------------------------- keys


def test_the_pattern_is_about_the_whole_key() -> None:
    assert pattern_fault("a") == pattern_fault("") == ""
    assert pattern_fault("a\n") != ""
