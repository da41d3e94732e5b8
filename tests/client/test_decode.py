"""client/decode: what the structures let through, and what they refuse. The table in docs/design.rst says the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consul_locker.client.decode import HttpResponse
from consul_locker.client.words import parse_duration
from consul_locker.core.requests import (
    Committed,
    Entry,
    KeysRead,
    NamesRead,
    Outcome,
    Refusal,
    Refused,
    Renewed,
    RolledBack,
    SessionRead,
    WatchKey,
)

from .examples import ALL, INFO, ITEM, LOCK, SESSION, SID, answer, create, plain, transact, unusable

KEYS = WatchKey(1, name="k", index=7, wait=1.5)
NODE = ALL[10]
READ = ALL[3]
RENEW = ALL[2]
NAMES = ALL[5]
SERVERS = ALL[11]
WRITE = transact(LOCK, LOCK)


def item(**changes: Any) -> dict[str, Any]:
    return {**ITEM, **changes}


def keyed(**changes: Any) -> list[Outcome]:
    """What a KV read and a transaction make of a key with these changes."""
    found = item(**changes)
    return [answer(KEYS, 200, [found]), answer(WRITE, 200, {"Results": [{"KV": found}]})]


def raw(text: str, **changes: str) -> bytes:
    """JSON with some text put in as it is."""
    for name, value in changes.items():
        text = text.replace(f"${name}", value)
    return text.encode("utf-8", "surrogatepass")


KEY = '{"LockIndex":$lock,"Key":"k","Flags":$flags,"Value":$value,"CreateIndex":1,"ModifyIndex":$index}'


def key(lock: str = "0", flags: str = "0", value: str = "null", index: str = "4") -> list[Outcome]:
    """The same for JSON that Python would not write."""
    found = raw(KEY, lock=lock, flags=flags, value=value, index=index)
    return [answer(KEYS, 200, b"[" + found + b"]"), answer(WRITE, 200, b'{"Results":[{"KV":' + found + b"}]}")]


def entries(outcome: Outcome) -> tuple[Entry, ...]:
    assert isinstance(outcome, (KeysRead, Committed))
    return outcome.entries


# ------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize(("text", "value"), [("e30=", b"{}"), ("", b""), ("/w==", b"\xff"), ("AAAA", b"\0\0\0")])
def test_a_value(text: str, value: bytes) -> None:
    for outcome in keyed(Value=text):
        assert entries(outcome)[0].value == value


@pytest.mark.parametrize(
    "text", ["e30=\n", "e3\r\n0=", "e3 0=", " e30=", "e30", "e30==", "=e30", "A", "AA==AA==", "_-8=", "%", "é"]
)
def test_base64_with_anything_else_in_it(text: str) -> None:
    for outcome in keyed(Value=text):
        assert "base64" in str(unusable(outcome))


def test_no_value_and_none_at_all() -> None:
    without = {name: value for name, value in ITEM.items() if name not in ("Value", "Session")}
    for found in (without, item(Value=None, Session=None), item(Value=None, Session="")):
        for outcome in (answer(KEYS, 200, [found]), answer(WRITE, 200, {"Results": [{"KV": found}]})):
            (entry,) = entries(outcome)
            assert (entry.value, entry.session) == (None, None)


# ------------------------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("name", ["LockIndex", "CreateIndex", "ModifyIndex", "Flags"])
def test_numbers_of_a_key(name: str) -> None:
    for wrong in (-1, -(2**63), 2**64, 10**30, 1.5, True, "1", None, [], {}):
        for outcome in keyed(**{name: wrong}):
            assert "is not valid" in str(unusable(outcome))
    largest = 2**64 - 1 if name == "Flags" else 2**63 - 1
    for right in (0, largest):
        for outcome in keyed(**{name: right}):
            assert entries(outcome)
    if name != "Flags":
        for outcome in keyed(**{name: largest + 1}):
            unusable(outcome)


@pytest.mark.parametrize("number", ["1e3", "1.0", "1e400", "1" * 5_000, "01", "+1", "NaN", "Infinity", "0x1", "-", ""])
def test_numbers_as_python_would_not_write_them(number: str) -> None:
    for outcome in (*key(index=number), *key(flags=number), *key(lock=number)):
        unusable(outcome)


@pytest.mark.parametrize("position", [-1, 2, 2**63, 10**30, 0.0, True, None, "0"])
def test_a_refused_operation_that_is_none_of_ours(position: Any) -> None:
    unusable(answer(WRITE, 409, {"Errors": [{"OpIndex": position, "What": "x"}]}))


def test_refused_operations() -> None:
    what = 'invalid session "x"'
    found = answer(WRITE, 409, {"Results": None, "Errors": [{"OpIndex": 1, "What": what}, {"OpIndex": 1, "What": ""}]})
    assert found == RolledBack((Refused(1, Refusal.INVALID_SESSION, what), Refused(1, Refusal.OTHER, "")))
    unusable(answer(WRITE, 409, {"Results": None, "Errors": None}))


@pytest.mark.parametrize("index", ["18446744073709551615", "0", "00"])
def test_an_index_of_64_bits(index: str) -> None:
    assert answer(READ, 200, [], index) == SessionRead(None, int(index))
    assert answer(KEYS, 404, b"", index) == KeysRead((), int(index))


@pytest.mark.parametrize("index", ["9" * 21, "9" * 5_000, "+1", "1.0", " 1", "1_0", "0x1", "１"])
def test_an_index_that_is_none(index: str) -> None:
    for request in (READ, KEYS, NODE, NAMES):
        unusable(answer(request, 200, [], index))
    unusable(answer(KEYS, 404, b"", index))


# ------------------------------------------------------------------------------------------------------- texts


@pytest.mark.parametrize("text", ['"\xff"', '"\\ud800"', '"\\x"', '"a', '"\x01"', "'a'"])
def test_texts_that_are_none(text: str) -> None:
    body = text.encode("latin-1")
    unusable(answer(NAMES, 200, b"[" + body + b"]"))
    unusable(answer(create(), 200, b'{"ID":' + body + b"}"))
    unusable(answer(WRITE, 409, b'{"Errors":[{"OpIndex":0,"What":' + body + b"}]}"))
    unusable(answer(SERVERS, 200, b'[{"Node":' + body + b"}]"))


def test_escapes_and_what_utf_8_can_say() -> None:
    assert answer(NAMES, 200, b'["\\u00e9\\ud83d\\ude00", "\xc3\xa9", ""]') == NamesRead(("é😀", "é", ""), 9)


def test_a_byte_order_mark_and_more_than_one_value() -> None:
    for body in (b"\xef\xbb\xbf[]", b"[] []", b"[],", b"[]]", b"[,]", b'["a",]', "[]".encode("utf-16")):
        unusable(answer(NAMES, 200, body))
    assert answer(NAMES, 200, b" [ ]\r\n\t") == NamesRead((), 9)


# ------------------------------------------------------------------------------------------------------ fields


def test_of_fields_that_come_twice_the_last_counts() -> None:
    other = json.dumps(item(ModifyIndex=99)).encode()
    doubled = json.dumps(item()).encode()[:-1] + b"," + other[1:]
    (entry,) = entries(answer(KEYS, 200, b"[" + doubled + b"]"))
    assert entry.modify_index == 99
    unusable(answer(KEYS, 200, b"[" + json.dumps(item()).encode()[:-1] + b',"ModifyIndex":"x"}]'))


def test_fields_are_called_as_consul_calls_them_and_others_do_not_matter() -> None:
    unusable(answer(create(), 200, {"id": SID}))
    for more in (None, {"a": [1, {}]}, "x" * 1_000, 1e300):
        (entry,) = entries(answer(KEYS, 200, [item(More=more)]))
        assert entry.key == "k"


@pytest.mark.parametrize("name", ["Key", "Flags", "LockIndex", "CreateIndex", "ModifyIndex"])
def test_a_key_without_a_field(name: str) -> None:
    found = {field: value for field, value in ITEM.items() if field != name}
    unusable(answer(KEYS, 200, [found]))
    unusable(answer(WRITE, 200, {"Results": [{"KV": found}]}))


@pytest.mark.parametrize("deep", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000])
def test_nesting_without_end(deep: bytes) -> None:
    for request in (KEYS, READ, NAMES, WRITE, create(), RENEW, SERVERS):
        unusable(answer(request, 200, deep))
        unusable(answer(request, 200, b'{"More":' + deep + b"}"))
        unusable(answer(request, 200, b'[{"More":' + deep + b"}]"))
    unusable(answer(WRITE, 409, b'{"More":' + deep + b',"Errors":[]}'))


# ---------------------------------------------------------------------------------------------------- sessions


def test_one_session_where_one_was_asked_for() -> None:
    assert answer(READ, 200, [SESSION]) == SessionRead(INFO, 9)
    unusable(answer(READ, 200, [SESSION, SESSION]))
    unusable(answer(RENEW, 200, [SESSION, SESSION]))
    unusable(answer(RENEW, 200, []))
    assert answer(RENEW, 200, [{"ID": SID, "TTL": None}]) == Renewed(None)


@pytest.mark.parametrize("id", ["", "a/b", "a b", f"{SID}\n", "x" * 129, "é"])
def test_an_id_that_is_no_sessions(id: str) -> None:
    unusable(answer(create(), 200, {"ID": id}))


@pytest.mark.parametrize(
    "changes",
    [
        {"ID": None},
        {"Name": None},
        {"Node": 5},
        {"Behavior": None},
        {"Checks": "serfHealth"},
        {"Checks": [None]},
        {"NodeChecks": {}},
        {"LockDelay": None},
        {"LockDelay": "15s"},
        {"LockDelay": True},
        {"TTL": 15},
        {"TTL": "15"},
        {"CreateIndex": -1},
        {"CreateIndex": None},
    ],
)
def test_a_session_of_the_wrong_form(changes: dict[str, Any]) -> None:
    unusable(answer(READ, 200, [{**SESSION, **changes}]))
    unusable(answer(NODE, 200, [SESSION, {**SESSION, **changes}]))


@pytest.mark.parametrize("text", ["1" * 400 + "s", "99999999999s", "٣s"])
def test_durations_that_go_cannot_write(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)
    unusable(answer(RENEW, 200, [{**SESSION, "TTL": text}]))


# ------------------------------------------------------------------------------------------------ transactions


def test_results_of_other_kinds_are_left_out() -> None:
    results = [{"Node": {"ID": 5}}, {"KV": item()}, {}, {"Service": None, "KV": item(Key="l")}]
    assert [entry.key for entry in entries(answer(WRITE, 200, {"Results": results, "Errors": []}))] == ["k", "l"]


@pytest.mark.parametrize("body", [{"Results": [{"KV": None}]}, {"Results": [None]}, {"Results": {}}, {}, []])
def test_results_of_the_wrong_form(body: Any) -> None:
    unusable(answer(WRITE, 200, body))


def test_what_is_wrong_is_said_with_its_place() -> None:
    said = str(unusable(answer(WRITE, 200, {"Results": [{"KV": item()}, {"KV": item(Flags="x")}]})))
    assert "transaction: the answer is not valid" in said
    assert "$.Results[1].KV.Flags" in said


def test_a_huge_answer_is_no_long_message() -> None:
    body = json.dumps([item(Value="%" * 1_000_000)]).encode()
    assert len(str(unusable(plain.encode(KEYS).decode(HttpResponse(200, {"x-consul-index": "9"}, body))))) < 700
