"""Requests of the core, and what Consul answers to them, as the tests of client/ use them."""

from __future__ import annotations

import base64
import json
from typing import Any

from consul_locker.client.encode import Encoder, HttpResponse
from consul_locker.config.options import ClientOptions
from consul_locker.core.requests import (
    CreateSession,
    DestroySession,
    Entry,
    Failed,
    FindNode,
    Operation,
    Outcome,
    RawTransact,
    ReadKey,
    ReadPrefix,
    ReadSession,
    RenewSession,
    Request,
    Transact,
    Verb,
    WatchKey,
    WatchNames,
    WatchNode,
    WatchSession,
)
from consul_locker.errors import ConsulUnavailable
from consul_locker.models import SessionInfo

SID = "adf4238a-882b-9ddc-4a9d-5b6758e4159e"

OTHER = "11111111-2222-3333-4444-555555555555"

TOKEN = "very-secret"

plain = Encoder(ClientOptions.build(environ={}))

full = Encoder(ClientOptions.build(token=TOKEN, dc="dc 1", environ={}))


def create(**changes: Any) -> CreateSession:
    facts = {"name": "writer", "ttl": 15.0, "lock_delay": 0.0, "behavior": "release", "checks": ()}
    return CreateSession(1, **{**facts, **changes})


def transact(*operations: Operation) -> Transact:
    return Transact(1, operations=operations)


def raw(*operations: Any) -> RawTransact:
    return RawTransact(1, operations=operations)


LOCK = Operation(Verb.LOCK, "writer/1/lock", b"{}", session=SID)

KEY = ReadKey(1, key="writer/1/lock")

ALL: list[Request] = [
    create(),
    DestroySession(1, session_id=SID),
    RenewSession(1, session_id=SID),
    ReadSession(1, session_id=SID),
    KEY,
    ReadPrefix(1, prefix="writer/"),
    transact(LOCK),
    raw({"KV": {"Verb": "get", "Key": "k"}}),
    WatchSession(1, name=SID, index=7, wait=1.5),
    WatchKey(1, name="writer/1/lock", index=7, wait=1.5),
    WatchNode(1, name="n1", index=7, wait=1.5),
    WatchNames(1, name="writer/", index=7, wait=1.5),
    FindNode(1, dc="dc 1"),
]


def answer(request: Request, status: int, body: Any = b"", index: str | None = "9") -> Outcome:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {} if index is None else {"x-consul-index": index}
    return plain.encode(request).decode(HttpResponse(status, headers, data))


def unusable(outcome: Outcome) -> ConsulUnavailable:
    assert isinstance(outcome, Failed)
    assert outcome.sent
    assert isinstance(outcome.error, ConsulUnavailable)
    return outcome.error


SESSION = {
    "ID": SID,
    "Name": "writer",
    "Node": "n1",
    "LockDelay": 1.5e10,
    "Behavior": "delete",
    "TTL": "15s",
    "NodeChecks": [],
    "ServiceChecks": None,
    "Checks": ["serfHealth"],
    "CreateIndex": 12,
    "ModifyIndex": 12,
}

INFO = SessionInfo(SID, "writer", "n1", 15.0, 15.0, "delete", ("serfHealth",), 12)

ITEM = {
    "LockIndex": 1,
    "Key": "k",
    "Flags": 42,
    "Value": base64.b64encode(b"\xff{}").decode(),
    "Session": SID,
    "CreateIndex": 3,
    "ModifyIndex": 4,
}

ENTRY = Entry("k", 42, 3, 4, 1, b"\xff{}", SID)


def missing(key: str, what: str = "") -> dict[str, Any]:
    return {"Results": None, "Errors": [{"OpIndex": 0, "What": what or f'key "{key}" doesn\'t exist'}]}
