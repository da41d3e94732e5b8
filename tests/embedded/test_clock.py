"""The embedded agent's clock: hours in a moment, or real time."""

from __future__ import annotations

import json
import time

import pytest

from consul_locker.embedded import Agent, ManualClock

from ..contract.compare import Client
from .conftest import new_session
from .tools import QUIET, waiting


def test_the_clock_moves_only_forward(clock: ManualClock) -> None:
    assert clock.now() == 1000.0
    assert clock.advance(2.5) == 1002.5
    assert clock.advance(0.0) == 1002.5
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(-1.0)


def test_its_own_clock_is_moved_ahead_of_the_real_one() -> None:
    """What was set on it before is due that much earlier."""
    with Agent() as agent, Client(agent.address) as client:
        assert agent.advance(0.0) <= time.monotonic()
        session = new_session(client, TTL="10s")
        index = client.ask("GET", "/v1/session/list")[2]["X-Consul-Index"]
        query = waiting(agent, f"/v1/session/info/{session}?index={index}&wait=60s")
        agent.advance(19.9)  # a TTL is doubled; what is left of it passes by itself
        assert json.loads(query.result(QUIET + 10)[3]) == []
        assert client.json("GET", "/v1/session/list") == []
        assert agent.advance(3600.0) > time.monotonic() + 3600.0
        with pytest.raises(ValueError, match="cannot go back"):
            agent.advance(-1.0)


def test_hours_of_ttls_in_a_moment(agent: Agent, client: Client, clock: ManualClock) -> None:
    short = new_session(client, TTL="10s", LockDelay="5s")
    renewed = new_session(client, TTL="15s")
    long = new_session(client, TTL="24h")
    assert client.json("PUT", f"/v1/kv/a?acquire={short}", "1") is True
    assert agent.advance(19.5) == clock.now()
    assert client.ask("PUT", f"/v1/session/renew/{renewed}")[0] == 200
    assert len(client.json("GET", "/v1/session/list")) == 3
    clock.advance(1.0)
    assert client.json("PUT", f"/v1/kv/a?acquire={long}", "1") is False  # its lock-delay began when the session ended
    clock.advance(4.5)
    assert client.json("PUT", f"/v1/kv/a?acquire={long}", "1") is True
    assert len(client.json("GET", "/v1/session/list")) == 2
    clock.advance(48 * 3600.0)
    assert client.json("GET", "/v1/session/list") == []


def test_what_is_due_happens_in_its_order(agent: Agent, client: Client) -> None:
    """A blocking query whose wait is over before a session ends does not see its end, in one step of the clock."""
    first = new_session(client, TTL="10s")
    second = new_session(client, TTL="20s")
    index = client.ask("GET", "/v1/session/list")[2]["X-Consul-Index"]
    before = waiting(agent, f"/v1/session/info/{first}?index={index}&wait=19s")
    after = waiting(agent, f"/v1/session/info/{first}?index={index}&wait=21s")
    default = waiting(agent, f"/v1/kv/none?index={10**6}")
    most = waiting(agent, f"/v1/kv/none?index={10**6}&wait=10h")
    agent.advance(40.0)
    assert len(json.loads(before.result()[3])) == 1
    assert json.loads(after.result()[3]) == []
    assert client.json("GET", f"/v1/session/info/{second}") == []
    assert default.result(QUIET) is None
    agent.advance(260.0)
    assert default.result()[0] == 404
    assert most.result(QUIET) is None
    agent.advance(300.0)
    assert most.result()[0] == 404


def test_on_the_real_clock_waits_end_by_themselves() -> None:
    with Agent() as agent:
        client = Client(agent.address)
        client.json("PUT", "/v1/kv/a", "1")
        new_session(client, TTL="10s")
        index = client.ask("GET", "/v1/kv/a")[2]["X-Consul-Index"]
        assert client.ask("GET", f"/v1/kv/a?index={index}&wait=20ms")[2]["X-Consul-Index"] == index
        client.close()
