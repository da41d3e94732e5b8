"""client/decode: whatever a server answers is an outcome, and nothing that it says raises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_locker.core.requests import (
    Committed,
    DestroySession,
    Done,
    Entry,
    FindNode,
    Gone,
    KeysRead,
    Operation,
    RawTransact,
    Refusal,
    Refused,
    RefusedWhole,
    Renewed,
    Request,
    RolledBack,
    SessionCreated,
    SessionRead,
    SessionsRead,
    Transact,
    Verb,
)
from consul_locker.models import SessionInfo

from .examples import (
    ALL,
    ENTRY,
    INFO,
    ITEM,
    KEY,
    LOCK,
    OTHER,
    SESSION,
    SID,
    answer,
    create,
    missing,
    raw,
    transact,
    unusable,
)


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


def test_keys() -> None:
    assert answer(KEY, 200, {"Results": [{"KV": ITEM}]}) == KeysRead((ENTRY,), ENTRY.modify_index)
    assert answer(KEY, 409, missing("k")) == KeysRead((), 0)
    assert answer(ALL[9], 200, [{**ITEM, "Session": "", "Value": None}]) == KeysRead(
        (Entry("k", 42, 3, 4, 1, None, None),), 9
    )
    assert answer(ALL[9], 404) == KeysRead((), 9)
    assert answer(ALL[9], 200, []) == KeysRead((), 9)


def test_committed() -> None:
    free = {key: value for key, value in ITEM.items() if key != "Session"}
    results = [{"KV": ITEM}, {"KV": {**free, "Value": None}}, {"Node": {"Node": "n"}}]
    outcome = answer(raw(), 200, {"Results": results, "Errors": None})
    assert outcome == Committed((ENTRY, Entry("k", 42, 3, 4, 1, None, None)))
    assert answer(transact(LOCK), 200, {"Results": None, "Errors": None}) == Committed(())
    assert answer(transact(LOCK), 413, b"too large") == RefusedWhole(413, "too large")


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
    assert "is not valid" in str(error)
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
