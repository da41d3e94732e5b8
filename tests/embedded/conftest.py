"""An embedded agent on a clock that the test moves, and a client of it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker.embedded import Agent, ManualClock

from ..contract.compare import Client
from .tools import PATIENCE


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start=1000.0)


@pytest.fixture
def agent(clock: ManualClock) -> Iterator[Agent]:
    """An agent on a clock of the test's own."""
    with Agent(clock=clock) as found:
        yield found


@pytest.fixture
def client(agent: Agent) -> Iterator[Client]:
    found = Client(agent.address)
    yield found
    found.close()


def new_session(client: Client, **fields: Any) -> str:
    id = client.json("PUT", "/v1/session/create", {"Checks": [], "LockDelay": "0s", **fields})["ID"]
    assert isinstance(id, str)
    return id


def exchange(agent: Agent, data: bytes) -> bytes:
    """Send bytes as they are; returns everything up to the end of the connection."""
    with socket.create_connection((agent.host, agent.port), timeout=PATIENCE) as connection:
        connection.sendall(data)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received
