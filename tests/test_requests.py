"""client/encode and client/decode: the core's requests as HTTP, and whatever a server answers as an outcome."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_locker.client.encode import Encoder, HttpRequest, HttpResponse
from consul_locker.client.words import parse_duration, refusal_of
from consul_locker.config.options import ClientOptions
from consul_locker.core.messages import Call
from consul_locker.core.requests import (
    Committed,
    CreateSession,
    DestroySession,
    Done,
    Entry,
    Failed,
    FindNode,
    Gone,
    KeysRead,
    Operation,
    Outcome,
    RawTransact,
    ReadKey,
    ReadPrefix,
    ReadSession,
    Refusal,
    Refused,
    RefusedWhole,
    Renewed,
    RenewSession,
    Request,
    RolledBack,
    SessionCreated,
    SessionRead,
    SessionsRead,
    Transact,
    Verb,
    Watch,
)
from consul_locker.errors import AccessDenied, ConfigurationError, ConsulUnavailable
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
    return RawTransact(1, operations=operations, call=Call("guarded"))


LOCK = Operation(Verb.LOCK, "writer/1/lock", b"{}", session=SID)
KEY = ReadKey(1, key="writer/1/lock", purpose="info")
ALL: list[Request] = [
    create(),
    DestroySession(1, session_id=SID),
    RenewSession(1, session_id=SID),
    ReadSession(1, session_id=SID),
    KEY,
    ReadPrefix(1, prefix="writer/"),
    transact(LOCK),
    raw({"KV": {"Verb": "get", "Key": "k"}}),
    Watch(1, target="session", name=SID, index=7, wait=1.5),
    Watch(1, target="key", name="writer/1/lock", index=7, wait=1.5),
    Watch(1, target="node", name="n1", index=7, wait=1.5),
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


# ---------------------------------------------------------------------------------------------------- encoding


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
        (Watch(1, target="poll", name="k", index=7, wait=0.0), "PUT", "/v1/txn", [{"KV": {"Verb": "get", "Key": "k"}}]),
        (ALL[5], "GET", "/v1/kv/writer/?keys=True&consistent=1", None),
        (ALL[8], "GET", f"/v1/session/info/{SID}?index=7&wait=1500ms", None),
        (ALL[9], "GET", "/v1/kv/writer/1/lock?index=7&wait=1500ms", None),
        (Watch(1, target="key", name="k", index=0, wait=5), "GET", "/v1/kv/k", None),
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
    found = full.encode(request_)
    query = parse_qs(urlsplit(found.target).query)
    assert query["dc"] == ["dc 1"]  # once: renew gives it twice in python-consul2, txn.put not at all
    assert dict(found.headers)["X-Consul-Token"] == TOKEN
    shown = repr(found) + repr(found.decode) + found.target + repr(vars(full))
    for status in (200, 403, 500):
        shown += repr(found.decode(HttpResponse(status, {}, b"?")))
    assert TOKEN not in shown


@pytest.mark.parametrize("id", ["a/%2f", "?acquire=x", "#x", "a b", "é", "😀", "%", "a\\b", "&dc=x", "~", "%2e%2e"])
def test_a_key_arrives_byte_for_byte(id: str) -> None:
    key = f"writer/{id}/lock"
    read = plain.encode(ReadKey(1, key=key, purpose=""))
    assert json.loads(read.body)[0]["KV"]["Key"] == key
    parts = urlsplit(plain.encode(Watch(1, target="key", name=key, index=0, wait=5)).target)
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
        Watch(1, target="session", name=session_id, index=0, wait=1),
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
    assert found.headers == (("X-Consul-Token", TOKEN),)
    assert found.decode(HttpResponse(200, {}, b"true")) == Done()


def test_a_request_made_by_hand() -> None:
    assert HttpRequest("GET", "/v1/status/leader").decode(HttpResponse(200, {}, b"")) == Done()


# ---------------------------------------------------------------------------------------------------- decoding

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
ENTRY = Entry("k", b"\xff{}", 42, SID, 3, 4, 1)


def test_sessions() -> None:
    assert answer(create(), 200, {"ID": SID}) == SessionCreated(SID)
    assert answer(ALL[1], 200, b"true\n") == Done()
    assert answer(ALL[2], 200, [{**SESSION, "TTL": "1m30s"}]) == Renewed(90.0)
    assert answer(ALL[2], 200, [{"ID": SID}]) == Renewed(None)
    unusable(answer(ALL[2], 200, [{**SESSION, "ID": OTHER}]))
    assert answer(ALL[2], 404, f"Session id '{SID}' not found".encode()) == Gone()
    assert answer(ALL[3], 200, [SESSION]) == SessionRead(INFO, 9)
    assert answer(ALL[8], 200, []) == SessionRead(None, 9)
    assert answer(ALL[3], 200, [{"ID": SID, "CreateIndex": 1, "Checks": None, "NodeChecks": ["a"]}]) == SessionRead(
        SessionInfo(SID, "", "", None, 0.0, "release", ("a",), 1), 9
    )
    assert answer(ALL[10], 200, [SESSION, {**SESSION, "ID": OTHER}]) == SessionsRead(
        {SID: INFO, OTHER: replace(INFO, id=OTHER)}, 9
    )
    assert answer(ALL[10], 200, []) == SessionsRead({}, 9)


def missing(key: str, what: str = "") -> dict[str, Any]:
    return {"Results": None, "Errors": [{"OpIndex": 0, "What": what or f'key "{key}" doesn\'t exist'}]}


def test_keys() -> None:
    assert answer(KEY, 200, {"Results": [{"KV": ITEM}]}) == KeysRead((ENTRY,), ENTRY.modify_index)
    assert answer(KEY, 409, missing("k")) == KeysRead((), 0)
    assert answer(ALL[9], 200, [{**ITEM, "Session": "", "Value": None}]) == KeysRead(
        (Entry("k", None, 42, None, 3, 4, 1),), 9
    )
    assert answer(ALL[9], 404) == KeysRead((), 9)
    assert answer(ALL[9], 200, []) == KeysRead((), 9)


def test_committed() -> None:
    free = {key: value for key, value in ITEM.items() if key != "Session"}
    results = [{"KV": ITEM}, {"KV": {**free, "Value": None}}, {"Node": {"Node": "n"}}]
    outcome = answer(raw(), 200, {"Results": results, "Errors": None})
    assert outcome == Committed((ENTRY, Entry("k", None, 42, None, 3, 4, 1)))
    assert answer(transact(LOCK), 200, {"Results": None, "Errors": None}) == Committed(())
    assert answer(transact(LOCK), 413, b"too large") == RefusedWhole(413, "too large")


WORDS = [
    ('failed to lock key "k", lock is already held', Refusal.HELD),
    ('failed to lock key "k" due to lock delay", lock is already held', Refusal.HELD),
    ('failed to lock key "k" due to lock delay', Refusal.LOCK_DELAY),
    ('failed to lock key "invalid session" due to lock delay', Refusal.LOCK_DELAY),
    ('failed to unlock key "k", lock isn\'t held, or is held by another session', Refusal.NOT_HELD),
    (f'invalid session "{SID}"', Refusal.INVALID_SESSION),
    (f'failed session check for key "k", current session "" != "{SID}"', Refusal.SESSION),
    ('failed index check for key "k", current modify index 7 != 6', Refusal.INDEX),
    ('failed to delete key "k", index is stale', Refusal.INDEX),
    ('failed to set key "k", index is stale', Refusal.INDEX),
    ('failed to check session, key "k" doesn\'t exist', Refusal.MISSING),
    ('failed to check index, key "k" doesn\'t exist', Refusal.MISSING),
    ('key "k" doesn\'t exist', Refusal.MISSING),
    ('key "k" exists', Refusal.EXISTS),
    ("Permission denied", Refusal.DENIED),
    ("Permission denied: token lacks permission 'key:write'", Refusal.DENIED),
    ("", Refusal.OTHER),
]


@pytest.mark.parametrize(("what", "refusal"), WORDS)
def test_consuls_words(what: str, refusal: Refusal) -> None:
    assert refusal_of(what) is refusal
    outcome = answer(transact(LOCK, LOCK), 409, {"Results": None, "Errors": [{"OpIndex": 1, "What": what}]})
    assert outcome == RolledBack((Refused(1, refusal, what),))


def test_an_invalid_session_answered_by_500() -> None:
    what = f'rpc error: invalid session "{SID}"'
    free = Operation(Verb.GET, "k")
    other = Operation(Verb.LOCK, "k", session=OTHER)
    outcome = answer(transact(free, other, LOCK), 500, what.encode())
    assert outcome == RolledBack((Refused(2, Refusal.INVALID_SESSION, what),))
    outcome = answer(transact(free, other, LOCK), 500, b"invalid session")
    assert isinstance(outcome, RolledBack)
    assert [refused.position for refused in outcome.refused] == [1, 2]
    outcome = answer(raw({"KV": {"Session": SID}}), 500, what.encode())
    assert isinstance(outcome, RolledBack)


@pytest.mark.parametrize("request_", ALL, ids=lambda request: type(request).__name__)
def test_answers_that_no_request_can_use(request_: Request) -> None:
    for status in (401, 403):
        outcome = answer(request_, status, b"Permission denied")
        assert isinstance(outcome, Failed)
        assert not outcome.sent
        assert isinstance(outcome.error, AccessDenied)
        assert outcome.error.detail == "Permission denied"
    for status, word in ((301, "redirect"), (400, "did not take"), (408, "did not take"), (500, "EOF")):
        if status == 400 and plain.encode(request_).path == "/v1/txn":
            assert answer(request_, 400, b"no") == RefusedWhole(400, "no")  # a half of it may be taken
            continue
        error = unusable(answer(request_, status, b"rpc error making call: EOF"))
        assert error.status == status
        assert word in str(error)
        assert error.operation in str(error)
    html = b"<html>" + b"x" * 5_000
    for status, index in ((404, None), (404, "x"), (200, "9"), (204, "9")):
        error = unusable(answer(request_, status, html, index))
        assert "<html>" in str(error)
        assert len(str(error)) < 700
    assert "no body" in str(unusable(answer(request_, 502)))


WRONG: list[Any] = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b"1" * 5_000,
    None,
    True,
    5,
    "x",
    [5],
    [None],
    {},
    [{}],
    {"ID": 5},
    {"ID": ""},
    {"ID": "../x"},
    {"Results": [5]},
    {"Results": [{"KV": None}], "Errors": [{"OpIndex": 5, "What": "x"}]},
    {"Results": [{"KV": {**ITEM, "Value": "%"}}], "Errors": [{"OpIndex": "0", "What": "x"}]},
    {"Results": [{"KV": {**ITEM, "Flags": True}}], "Errors": [{"OpIndex": -1, "What": "x"}]},
    {"Results": [{"KV": {**ITEM, "Key": 5}}], "Errors": [{"OpIndex": 0, "What": None}]},
    [{**ITEM, "ModifyIndex": "4"}],
    [{**ITEM, "Session": 5}],
    [{**ITEM, "Value": 5}],
    [{**SESSION, "TTL": 15}],
    [{**SESSION, "TTL": "15 s"}],
    [{**SESSION, "TTL": "x", "Checks": "serfHealth"}],
    [{**SESSION, "TTL": "x", "Checks": [5]}],
    [{**SESSION, "TTL": "s", "LockDelay": True}],
    [{**SESSION, "TTL": "-1s", "CreateIndex": -1}],
    [{**SESSION, "TTL": "1s1", "CreateIndex": True}],
]


@pytest.mark.parametrize("request_", ALL, ids=lambda request: type(request).__name__)
@pytest.mark.parametrize("body", WRONG, ids=lambda body: repr(body)[:30])
def test_an_answer_of_the_wrong_form(request_: Request, body: Any) -> None:
    if body is True and isinstance(request_, DestroySession):
        return  # the one right answer
    if isinstance(request_, FindNode) and isinstance(body, list) and body and isinstance(body[0], dict):
        return  # what else the catalog says of a server does not matter
    error = unusable(answer(request_, 200, body))
    assert "makes no sense" in str(error)
    if isinstance(request_, (Transact, RawTransact)):
        unusable(answer(request_, 409, body))


@pytest.mark.parametrize("checks", ["serfHealth", [5]])
def test_checks_of_the_wrong_form(checks: Any) -> None:
    unusable(answer(ALL[3], 200, [{**SESSION, "Checks": checks}]))


@pytest.mark.parametrize("field", ["LockDelay", "CreateIndex"])
def test_numbers_of_the_wrong_form(field: str) -> None:
    for value in (True, "1", None):
        unusable(answer(ALL[3], 200, [{**SESSION, field: value}]))


@pytest.mark.parametrize("index", [None, "", "-1", "x", "٣"])
def test_a_read_without_an_index_is_no_answer_of_consuls(index: str | None) -> None:
    for request, body in ((ALL[3], [SESSION]), (KEY, [ITEM])):
        unusable(answer(request, 200, body, index))


@given(status=st.sampled_from([200, 204, 302, 404, 409, 413, 500]), body=st.binary(max_size=60), at=st.integers(0, 9))
def test_no_body_makes_decoding_raise(status: int, body: bytes, at: int) -> None:
    assert answer(ALL[at], status, body) is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*ITEM, *SESSION, "KV", "Results", "Errors", "OpIndex", "What"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(status=st.sampled_from([200, 409]), body=json_values, at=st.integers(0, 9))
def test_no_json_makes_decoding_raise(status: int, body: Any, at: int) -> None:
    assert answer(ALL[at], status, body) is not None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15s", 15),
        ("1m30s", 90),
        ("1.5s", 1.5),
        ("1h0m0s", 3600),
        ("250ms", 0.25),
        ("3us", 3e-6),
        ("3µs", 3e-6),
        ("7ns", 7e-9),
        (".5s", 0.5),
        ("0s", 0.0),
        ("0", 0.0),
        ("", None),
        (None, None),
    ],
)
def test_durations(text: str | None, seconds: float | None) -> None:
    assert parse_duration(text) == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize("text", ["15", "s", "1.2.3s", " 1s", "-1s", "1d", 15, True, ["1s"]])
def test_what_is_no_duration(text: Any) -> None:
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)
