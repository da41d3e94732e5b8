"""What the embedded agent takes from the wire, and what it leaves out."""

from __future__ import annotations

import json
import socket

from consul_locker.embedded import Agent

from ..contract.compare import Client
from .conftest import exchange
from .tools import PATIENCE, QUIET, until, waiting


def test_http_as_go_speaks_it(agent: Agent) -> None:
    close = b"Connection: close\r\n\r\n"
    assert exchange(agent, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert exchange(agent, b"GET /v1/status/leader HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 ")  # no Host
    chunked = b"PUT /v1/kv/c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + close
    assert exchange(agent, chunked + b"3\r\nabc\r\n0\r\n\r\n").endswith(b"\r\n\r\ntrue")
    two = b"GET /v1/kv/c?raw HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/kv/c?raw HTTP/1.1\r\nHost: x\r\n" + close
    assert exchange(agent, two).count(b"HTTP/1.1 200 OK") == 2
    old = exchange(agent, b"GET /v1/kv/c?raw HTTP/1.0\r\n\r\n")
    assert old.startswith(b"HTTP/1.1 200 OK") and old.endswith(b"abc")
    assert exchange(agent, b"GET nothing HTTP/1.1\r\nHost: x\r\n" + close).startswith(b"HTTP/1.1 400 ")
    assert exchange(agent, b"OPTIONS * HTTP/1.1\r\nHost: x\r\n" + close).startswith(b"HTTP/1.1 400 ")


def test_it_says_continue(agent: Agent) -> None:
    with socket.create_connection((agent.host, agent.port), timeout=PATIENCE) as connection:
        connection.sendall(b"PUT /v1/kv/c HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 Continue\r\n")
        connection.sendall(b"1")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_request_behind_a_blocking_query_waits_its_turn(agent: Agent, client: Client) -> None:
    client.json("PUT", "/v1/kv/a", "1")
    index = client.ask("GET", "/v1/kv/a")[2]["X-Consul-Index"]
    with socket.create_connection((agent.host, agent.port), timeout=PATIENCE) as connection:
        connection.sendall(f"GET /v1/kv/a?raw&index={index} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        until(lambda: bool(agent._served._waits))
        connection.sendall(b"GET /v1/status/leader HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        client.json("PUT", "/v1/kv/a", "2")
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    first, _, second = received.partition(b"2HTTP/1.1 200 OK")
    assert first.startswith(b"HTTP/1.1 200 OK")
    assert agent.address.encode() in second


def test_what_the_embedded_agent_leaves_out(client: Client) -> None:
    node = [{"Node": {"Verb": "get", "Node": {"Node": "embedded"}}}]
    status, _, _, body = client.ask("PUT", "/v1/txn", json.dumps(node).encode())
    assert status == 501
    assert b"only KV operations" in body
    assert client.ask("GET", "/v1/catalog/nodes")[0] == 404


def test_namespaces_of_a_transaction_are_ignored(client: Client) -> None:
    operation = {"KV": {"Verb": "set", "Key": "a", "Namespace": "n"}}
    assert client.ask("PUT", "/v1/txn", json.dumps([operation]).encode())[0] == 200


def test_a_segment_that_begins_with_a_dot_is_no_detour(client: Client) -> None:
    assert client.ask("PUT", "/v1/kv/.hidden", b"1")[0] == 200
    assert client.json("GET", "/v1/kv/?keys") == [".hidden"]


def test_a_watch_follows_a_key_that_comes_and_goes(agent: Agent, client: Client) -> None:
    """Waiting for an index far ahead, it is not answered by what happens meanwhile, and not lost by it either."""
    client.json("PUT", "/v1/kv/a", "1")
    asked = waiting(agent, f"/v1/kv/a?index={10**6}&wait=60s")
    client.json("PUT", "/v1/kv/a", "2")
    agent.delete_key("a")
    client.json("PUT", "/v1/kv/a", "3")
    assert asked.result(QUIET) is None
    agent.advance(60.0)
    assert json.loads(asked.result()[3])[0]["Value"] == "Mw=="
