"""The server: faults that the embedded agent is told to have, and queries that wait."""

from __future__ import annotations

import http.client
import socket
from functools import partial

import pytest

from consul_locker.embedded import Agent

from ..contract.compare import Client
from .conftest import new_session
from .tools import PATIENCE, QUIET, Background, ask, until, waiting


def test_the_next_requests_fail(agent: Agent, client: Client) -> None:
    agent.fail_next(2, path="/v1/kv/", status=503, body="not now")
    agent.fail_next(path="/v1/session/")
    assert client.ask("GET", "/v1/status/leader")[0] == 200
    for _ in range(2):
        status, reason, _, body = client.ask("PUT", "/v1/kv/a", b"1")
        assert (status, reason, body) == (503, "Service Unavailable", b"not now")
    assert client.ask("PUT", "/v1/session/create")[3] == b"No cluster leader"
    assert client.ask("GET", "/v1/kv/a")[0] == 404  # the writes were not done
    agent.fail_next()
    assert client.ask("GET", "/v1/status/leader")[0] == 500


def test_a_request_fails_after_it_was_done(agent: Agent, client: Client) -> None:
    client.json("PUT", "/v1/kv/a", "1")
    index = client.ask("GET", "/v1/kv/a")[2]["X-Consul-Index"]
    asked = waiting(agent, f"/v1/kv/a?index={index}")
    agent.fail_next(after_commit=True, body="leadership lost while committing log")
    assert client.ask("PUT", "/v1/kv/a", b"2")[0] == 500
    assert asked.result()[0] == 200
    assert client.ask("GET", "/v1/kv/a?raw")[3] == b"2"


@pytest.mark.parametrize("after_commit", [False, True])
def test_a_connection_is_dropped(agent: Agent, client: Client, after_commit: bool) -> None:
    agent.fail_next(drop=True, after_commit=after_commit)
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        client.ask("PUT", "/v1/kv/a", b"1")
    assert client.ask("GET", "/v1/kv/a")[0] == (200 if after_commit else 404)


def test_a_pause_answers_nothing_and_then_everything(agent: Agent, client: Client) -> None:
    client.json("PUT", "/v1/kv/a", "1")
    index = client.ask("GET", "/v1/kv/a")[2]["X-Consul-Index"]
    session = new_session(client, TTL="10s")
    watching = waiting(agent, f"/v1/kv/a?index={index}")
    with agent.pause():
        asked = Background(lambda: ask(agent.address, "PUT", "/v1/kv/b", b"1"))
        agent.delete_key("a")
        agent.advance(20.0)
        assert asked.result(QUIET) is None
        assert watching.result(QUIET) is None
    assert asked.result()[3] == b"true"
    assert watching.result()[0] == 404
    assert client.json("GET", f"/v1/session/info/{session}") == []
    agent.pause()
    agent.resume()
    assert client.ask("GET", "/v1/kv/b")[0] == 200


def test_after_a_pause_also_those_are_served_who_gave_up(agent: Agent, client: Client) -> None:
    """As with a real agent that was stopped: a request that timed out may still be done."""
    requests = (
        b"PUT /v1/kv/late HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1",
        b"PUT /v1/kv/dropped HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1",
        b"GET /v1/kv/none?index=1000000 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"nonsense\r\n\r\n",
    )

    def has_parked(number: int) -> bool:
        return len(agent._served.parked) == number

    agent.fail_next(path="/v1/kv/dropped", drop=True)
    with agent.pause():
        for number, request in enumerate(requests, 1):
            with socket.create_connection((agent.host, agent.port), timeout=PATIENCE) as connection:
                connection.sendall(request)
                until(partial(has_parked, number))
        until(lambda: not agent._served.connections)
    assert client.ask("GET", "/v1/kv/late?raw")[3] == b"1"
    assert client.ask("GET", "/v1/kv/dropped")[0] == 404
    assert agent.requests["GET", "/v1/kv/"] == 3
    assert agent._served._waits == {}


def test_a_client_that_leaves_is_forgotten(agent: Agent) -> None:
    with socket.create_connection((agent.host, agent.port), timeout=PATIENCE) as connection:
        connection.sendall(b"GET /v1/kv/none?index=1000000 HTTP/1.1\r\nHost: x\r\n\r\n")
        until(lambda: bool(agent._served._waits))
    until(lambda: not agent._served._waits and not agent._served.connections)


def test_a_query_on_a_prefix_is_woken_by_its_keys_only(agent: Agent, client: Client) -> None:
    client.json("PUT", "/v1/kv/dir/a", "1")
    index = client.ask("GET", "/v1/kv/dir?keys")[2]["X-Consul-Index"]
    with socket.create_connection((agent.host, agent.port), timeout=PATIENCE) as connection:
        connection.sendall(
            f"GET /v1/kv/dir?keys&index={index} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        until(lambda: bool(agent._served._waits))
        client.json("PUT", "/v1/kv/elsewhere", "1")
        assert agent._served._waits
        client.json("PUT", "/v1/kv/dir/b", "1")
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert b"dir/b" in received
