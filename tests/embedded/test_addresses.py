"""Where an embedded agent listens: on loopback, and nowhere else."""

from __future__ import annotations

import pickle

import pytest

from consul_locker.embedded import Agent
from consul_locker.errors import ConfigurationError

from .tools import leader


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "::1", "[::1]"])
def test_it_listens_on_loopback(host: str) -> None:
    with Agent(host=host) as agent:
        assert leader(agent.address) == agent.address
        if ":" in host:
            assert agent.address == f"[::1]:{agent.port}"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_it_listens_nowhere_else(host: str) -> None:
    with pytest.raises(ConfigurationError, match="loopback") as caught:
        Agent(host=host)
    assert pickle.loads(pickle.dumps(caught.value)).option == "host"


def test_a_port_that_cannot_be_had(agent: Agent) -> None:
    for port in (agent.port, 70000):
        with pytest.raises(ConfigurationError, match="cannot listen") as caught:
            Agent(port=port).start()
        assert caught.value.value == port
