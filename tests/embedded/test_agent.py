"""The embedded agent's own features: its comings and goings, its data.

That it answers like a Consul is the business of tests/contract/.
"""

from __future__ import annotations

import http.client
import json

import pytest

from consul_locker.embedded import Agent, ManualClock
from consul_locker.embedded.records import Rejected

from ..contract.compare import Client
from .conftest import new_session
from .tools import leader, waiting

# ----------------------------------------------------------------------------------------------- life


def test_it_has_an_address_and_forgets_everything() -> None:
    agent = Agent()
    assert "not started" in repr(agent)
    with agent:
        assert agent.address == f"127.0.0.1:{agent.port}"
        assert agent.address in repr(agent)
        assert agent.start() is agent  # runs already
        assert leader(agent.address) == agent.address
        thread = agent._thread
    assert thread is not None
    assert not thread.is_alive()
    assert "closed" in repr(agent)
    agent.close()
    with pytest.raises(RuntimeError, match="closed"):
        agent.start()
    with pytest.raises(ConnectionRefusedError):
        leader(agent.address)


def test_it_says_when_it_does_not_run() -> None:
    agent = Agent()
    for use in (lambda: agent.requests, lambda: agent.delete_key("k"), lambda: agent._served):
        with pytest.raises(RuntimeError, match="not running"):
            use()
    agent.close()


def test_close_ends_what_waits(clock: ManualClock) -> None:
    agent = Agent(clock=clock).start()
    client = Client(agent.address)
    client.json("PUT", "/v1/kv/a", "1")
    index = client.ask("GET", "/v1/kv/a")[2]["X-Consul-Index"]
    asked = waiting(agent, f"/v1/kv/a?index={index}")
    agent.close()
    assert isinstance(asked.result(), (OSError, http.client.HTTPException))
    clock.advance(1.0)  # nobody listens any more
    client.close()


def test_it_goes_away_and_comes_back(agent: Agent, client: Client) -> None:
    client.json("PUT", "/v1/kv/a", "1")
    index = client.ask("GET", "/v1/kv/a")[2]["X-Consul-Index"]
    session = new_session(client, TTL="10s")
    asked = waiting(agent, f"/v1/kv/a?index={index}")
    agent.stop_listening()
    agent.stop_listening()
    assert isinstance(asked.result(), (OSError, http.client.HTTPException))
    with pytest.raises(OSError):
        leader(agent.address)
    agent.advance(20.0)
    agent.listen_again()
    agent.listen_again()
    client.close()
    assert client.ask("GET", "/v1/kv/a?raw")[3] == b"1"
    assert client.json("GET", f"/v1/session/info/{session}") == []


# --------------------------------------------------------------------------------------------- its data


def test_a_session_is_expired(agent: Agent, client: Client) -> None:
    session = new_session(client, LockDelay="10s")
    other = new_session(client)
    client.json("PUT", f"/v1/kv/a?acquire={session}", "1")
    index = client.ask("GET", "/v1/kv/a")[2]["X-Consul-Index"]
    asked = waiting(agent, f"/v1/kv/a?index={index}")
    assert agent.expire_session(session) is True
    assert "Session" not in json.loads(asked.result()[3])[0]
    assert agent.expire_session(session) is False
    assert client.json("PUT", f"/v1/kv/a?acquire={other}", "1") is False
    agent.advance(10.0)
    assert client.json("PUT", f"/v1/kv/a?acquire={other}", "1") is True
    assert agent.expire_session("x") is False
    with Agent(version="1.8") as older, pytest.raises(Rejected, match="36 characters"):
        older.expire_session("x")


def test_a_key_is_deleted(agent: Agent, client: Client) -> None:
    session = new_session(client, LockDelay="10s")
    client.json("PUT", f"/v1/kv/a?acquire={session}", "1")
    index = client.ask("GET", "/v1/kv/a")[2]["X-Consul-Index"]
    asked = waiting(agent, f"/v1/kv/a?index={index}")
    assert agent.delete_key("a") is True
    assert asked.result()[0] == 404
    assert agent.delete_key("a") is False
    assert client.json("PUT", f"/v1/kv/a?acquire={new_session(client)}", "1") is True


def test_a_session_written_in_capitals_is_the_same(client: Client) -> None:
    session = new_session(client)
    assert client.json("GET", f"/v1/session/info/{session.upper()}")[0]["ID"] == session
    assert client.json("PUT", f"/v1/kv/a?acquire={session.upper()}", "1") is True
    client.json("PUT", f"/v1/session/destroy/{session.upper()}")
    assert "Session" not in client.json("GET", "/v1/kv/a")[0]


def test_requests_are_counted(agent: Agent, client: Client) -> None:
    before = agent.requests
    for method, path in (("PUT", "/v1/kv/a"), ("GET", "/v1/kv/a?raw"), ("GET", "/v1/kv/b"), ("PUT", "/v1/txn")):
        client.ask(method, path, b"[]")
    assert dict(agent.requests - before) == {("PUT", "/v1/kv/"): 1, ("GET", "/v1/kv/"): 2, ("PUT", "/v1/txn"): 1}
    assert before == {}
