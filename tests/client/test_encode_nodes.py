"""What is sent and read for the node of a session, and what Consul says of sessions that it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consul_locker.client.encode import Encoder, HttpResponse
from consul_locker.config.options import ClientOptions
from consul_locker.core.requests import CreateSession, Failed, FindNode, NodesFound
from consul_locker.errors import ConsulUnavailable

encoder = Encoder(ClientOptions.build(dc="dc2", environ={}))
CREATE = CreateSession(1, "writer", 15.0, 0.0, "release", (), "n 1")


def found(body: Any, index: str | None = "9") -> Any:
    headers = {} if index is None else {"x-consul-index": index}
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return encoder.encode(FindNode(1, "dc2")).decode(HttpResponse(200, headers, text))


def test_the_node_of_a_session() -> None:
    http = encoder.encode(CREATE)
    assert http.target == "/v1/session/create?dc=dc2"
    # Consul reads the names of fields in any case
    assert json.loads(http.body) == {
        "name": "writer", "node": "n 1", "checks": [], "lockdelay": "0s", "ttl": "15s",
    }  # fmt: skip


def test_the_servers_of_a_datacenter() -> None:
    http = encoder.encode(FindNode(1, "dc2"))
    assert (http.method, http.target) == ("GET", "/v1/catalog/service/consul?dc=dc2")
    assert found([{"Node": "s1", "Address": "x"}, {"Node": "s2"}]) == NodesFound(("s1", "s2"))
    assert found([]) == NodesFound(())
    for wrong in ({}, {"Node": "s1"}, [{}], [{"Node": 1}], b"", b"null", 5, [5]):
        outcome = found(wrong)
        assert isinstance(outcome, Failed)
        assert "is not valid" in str(outcome.error)


@pytest.mark.parametrize(
    ("said", "option"),
    [
        ("Missing node registration", "node"),
        ("rpc error making call: Missing node registration", "node"),
        ("rpc error making call: rpc error making call: Missing node registration", "node"),  # a client agent
        ("rpc error making call: apply failed: Missing node registration", "node"),  # newer Consuls
        ("rpc error making call: Missing check 'x' registration", "checks"),
        ("rpc error making call: No path to datacenter", "dc"),
        ("cross datacenter lock must be created at server agent", "host"),
        ("rpc error making call: EOF", None),
    ],
)
def test_what_consul_says_of_a_session_that_it_refuses(said: str, option: str | None) -> None:
    outcome = encoder.encode(CREATE).decode(HttpResponse(500, {}, said.encode()))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, ConsulUnavailable)
    assert outcome.error.option == option
    assert said in str(outcome.error)
    assert option is None or f"option '{option}'" in str(outcome.error)
