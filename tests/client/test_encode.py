"""client/encode: the core's requests as HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

import pytest

from consul_locker.client.credentials import with_token
from consul_locker.client.encode import Encoder, HttpRequest, HttpResponse
from consul_locker.config.options import ClientOptions
from consul_locker.core.requests import (
    DestroySession,
    Done,
    FindNode,
    Operation,
    PollKey,
    ReadKey,
    ReadSession,
    RenewSession,
    Request,
    Verb,
    WatchKey,
    WatchNames,
    WatchSession,
)
from consul_locker.errors import ConfigurationError

from .examples import ALL, KEY, SID, TOKEN, create, full, plain, raw, transact


@pytest.mark.parametrize(
    ("request_", "method", "target", "body"),
    [
        (create(), "PUT", "/v1/session/create", {"name": "writer", "checks": [], "lockdelay": "0s", "ttl": "15s"}),
        (
            create(ttl=None, checks=None, behavior="delete", lock_delay=2.5),
            "PUT",
            "/v1/session/create",
            {"name": "writer", "behavior": "delete", "lockdelay": "2.5s"},
        ),
        (
            # below 1,000 ns Consul would read seconds
            create(ttl=10.5, checks=("a",), lock_delay=1e-7),
            "PUT",
            "/v1/session/create",
            {"name": "writer", "checks": ["a"], "lockdelay": "0.001s", "ttl": "10.5s"},
        ),
        (
            create(lock_delay=15.0),
            "PUT",
            "/v1/session/create",
            {**json.loads('{"name": "writer", "checks": []}'), "lockdelay": "15s", "ttl": "15s"},
        ),
        (ALL[1], "PUT", f"/v1/session/destroy/{SID}", None),
        (ALL[2], "PUT", f"/v1/session/renew/{SID}", None),
        (ALL[3], "GET", f"/v1/session/info/{SID}?consistent=1", None),
        (KEY, "PUT", "/v1/txn?consistent=1", [{"KV": {"Verb": "get", "Key": "writer/1/lock"}}]),
        (PollKey(1, name="k", index=7, wait=0.0), "PUT", "/v1/txn", [{"KV": {"Verb": "get", "Key": "k"}}]),
        (ALL[5], "GET", "/v1/kv/writer/?keys=True&consistent=1", None),
        (ALL[8], "GET", f"/v1/session/info/{SID}?index=7&wait=1500ms", None),
        (ALL[9], "GET", "/v1/kv/writer/1/lock?index=7&wait=1500ms", None),
        (WatchKey(1, name="k", index=0, wait=5), "GET", "/v1/kv/k", None),
        (WatchNames(1, name="n/", index=7, wait=5), "GET", "/v1/kv/n/?index=7&wait=5000ms&keys=True", None),
        (ALL[10], "GET", "/v1/session/node/n1?index=7&wait=1500ms", None),
    ],
)
def test_what_is_sent(request_: Request, method: str, target: str, body: Any) -> None:
    found = plain.encode(request_)
    assert (found.method, found.target) == (method, target)
    assert found.headers == (() if body is None else (("Content-Type", "application/json"),))
    assert (json.loads(found.body) if found.body else None) == body
    assert found.operation


def test_a_transaction() -> None:
    found = plain.encode(
        transact(
            Operation(Verb.LOCK, "é", b"\xff", flags=2**64 - 1, session=SID),
            Operation(Verb.CHECK_INDEX, "k", index=0),
            Operation(Verb.UNLOCK, "k", b"", session=SID),
        )
    )
    assert (found.method, found.target) == ("PUT", "/v1/txn")
    assert json.loads(found.body) == [
        {"KV": {"Verb": "lock", "Key": "é", "Value": "/w==", "Flags": 2**64 - 1, "Session": SID}},
        {"KV": {"Verb": "check-index", "Key": "k", "Index": 0}},
        {"KV": {"Verb": "unlock", "Key": "k", "Value": "", "Session": SID}},
    ]


def test_a_transaction_of_the_users_own() -> None:
    operations = [{"KV": {"Verb": "set", "Key": "k", "Value": "eA=="}}, {"Node": {"Verb": "get"}}, {"KV": 5}, 5]
    assert json.loads(plain.encode(raw(*operations)).body) == operations
    endless: list[Any] = []
    endless.append(endless)
    for wrong in (object(), float("nan"), b"x", endless):
        with pytest.raises(ConfigurationError, match="operations"):
            plain.encode(raw({"KV": {"Value": wrong}}))


@pytest.mark.parametrize("request_", ALL, ids=lambda request: type(request).__name__)
def test_dc_and_token_go_with_every_request_and_the_token_shows_nowhere(request_: Request) -> None:
    encoded = full.encode(request_)
    query = parse_qs(urlsplit(encoded.target).query)
    assert query["dc"] == ["dc 1"]  # once: renew gives it twice in python-consul2, txn.put not at all
    assert "X-Consul-Token" not in dict(encoded.headers)  # it may be another one when it is sent
    found = with_token(encoded, TOKEN)
    assert dict(found.headers) == {**dict(encoded.headers), "X-Consul-Token": TOKEN}
    assert with_token(encoded, "") is encoded
    shown = repr(found) + repr(found.decode) + found.target + repr(vars(full))
    for status in (200, 403, 500):
        shown += repr(found.decode(HttpResponse(status, {}, b"?")))
    assert TOKEN not in shown


@pytest.mark.parametrize("request_", ALL, ids=lambda request: type(request).__name__)
def test_namespace_and_partition_go_with_every_request(request_: Request) -> None:
    enterprise = Encoder(ClientOptions.build(dc="dc 1", namespace="team 1", partition="eu", environ={}))
    query = parse_qs(urlsplit(enterprise.encode(request_).target).query)
    names = {} if isinstance(request_, FindNode) else {"ns": ["team 1"], "partition": ["eu"]}  # servers are in neither
    assert {name: query[name] for name in ("ns", "partition", "dc") if name in query} == {**names, "dc": ["dc 1"]}
    assert "ns=" not in plain.encode(request_).target


@pytest.mark.parametrize("id", ["a/%2f", "?acquire=x", "#x", "a b", "é", "😀", "%", "a\\b", "&dc=x", "~", "%2e%2e"])
def test_a_key_arrives_byte_for_byte(id: str) -> None:
    key = f"writer/{id}/lock"
    read = plain.encode(ReadKey(1, key=key))
    assert json.loads(read.body)[0]["KV"]["Key"] == key
    parts = urlsplit(plain.encode(WatchKey(1, name=key, index=0, wait=5)).target)
    assert unquote_to_bytes(parts.path) == f"/v1/kv/{key}".encode()
    assert parts.query == ""
    assert parts.path.isascii()
    assert parts.fragment == ""


@pytest.mark.parametrize("session_id", ["", "..", "a/b", "a?b", "é", "x" * 129, "a\n", None, 5])
def test_an_id_that_is_no_sessions_goes_into_no_path(session_id: Any) -> None:
    for request in (
        DestroySession(1, session_id=session_id),
        RenewSession(1, session_id=session_id),
        ReadSession(1, session_id=session_id),
        WatchSession(1, name=session_id, index=0, wait=1),
    ):
        with pytest.raises(ConfigurationError, match="session_id"):
            plain.encode(request)


def test_the_client_library_is_imported_with_the_first_factory() -> None:
    code = """
import sys, consul_locker.client.encode as r, consul_locker.config.options as c
assert "consul" not in sys.modules and "requests" not in sys.modules
r.Encoder(c.ClientOptions.build(environ={}))
assert "consul" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "a:b:c:d:e")
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "theirs")
    assert Encoder(ClientOptions.build(environ={})).encode(ALL[5]).headers == ()


class _Endpoints:
    """As py-consul has them: in the module, asking the agent for the headers."""

    class Session:
        def __init__(self, agent: Any) -> None:
            self.agent = agent

        def destroy(self, session_id: str) -> Any:
            headers = self.agent.prepare_headers(None)
            return self.agent.http.put(lambda found: found.code == 200, f"/v1/{session_id}", headers=headers, params=[])

    class KV(Session):
        pass

    class Catalog(Session):
        pass

    class Consul:
        pass


def test_py_consul_may_stand_in_place_of_python_consul2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "consul.base", _Endpoints)
    found = Encoder(ClientOptions.build(token=TOKEN, environ={})).encode(DestroySession(1, session_id=SID))
    assert found.target == f"/v1/{SID}"
    assert found.headers == ()
    assert found.decode(HttpResponse(200, {}, b"true")) == Done()


def test_a_request_made_by_hand() -> None:
    assert HttpRequest("GET", "/v1/status/leader").decode(HttpResponse(200, {}, b"")) == Done()
