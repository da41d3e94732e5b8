"""The forms of Consul's HTTP API: query parameters, JSON, paths."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_locker.embedded.forms import (
    DEFAULT_LOCK_DELAY,
    DEFAULT_WAIT,
    MAX_WAIT,
    Call,
    Refused,
    cleaned,
    dump,
    entry_json,
    key_names,
    moved,
    pretty,
    session_fields,
)
from consul_locker.embedded.golang import Invalid
from consul_locker.embedded.records import Entry

ENTRY = Entry("jobs/1/lock", b"{}", 7, "", 3, 5, 1)


def call(**query: str) -> Call:
    return Call("GET", "", query, list(query.items()), b"", 0, 0.0)


@pytest.mark.parametrize(
    "query, expected",
    [
        ({}, (0, DEFAULT_WAIT)),
        ({"index": "12"}, (12, DEFAULT_WAIT)),
        ({"index": "12", "wait": "2s"}, (12, 2.0)),
        ({"wait": "2h"}, (0, MAX_WAIT)),
        ({"wait": "-2s"}, (0, DEFAULT_WAIT)),
    ],
)
def test_the_options_of_a_blocking_query(query: dict[str, str], expected: tuple[int, float]) -> None:
    assert call(**query).options() == expected


@pytest.mark.parametrize("query", [{"index": "soon"}, {"wait": "soon"}, {"stale": "", "consistent": ""}])
def test_options_that_consul_refuses(query: dict[str, str]) -> None:
    with pytest.raises(Refused) as refused:
        call(**query).options()
    assert refused.value.answer.status == 400
    assert refused.value.answer.body


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner),
)


@given(json_values)
def test_both_forms_of_json_say_the_same(value: object) -> None:
    assert json.loads(dump(value)) == value == json.loads(pretty(dump(value)))


def test_an_entry_shows_its_session_only_when_there_is_one() -> None:
    assert "Session" not in entry_json(ENTRY)
    assert entry_json(ENTRY._replace(session="abc"))["Session"] == "abc"
    assert entry_json(ENTRY)["Value"] == "e30="
    assert entry_json(ENTRY, with_value=False)["Value"] is None


@given(st.lists(st.text("ab/", min_size=1, max_size=5), unique=True))
def test_names_up_to_a_separator_come_once_and_begin_each_key(keys: list[str]) -> None:
    entries = tuple(ENTRY._replace(key=key) for key in sorted(keys))
    names = key_names(entries, "", "/")
    assert len(names) == len(set(names))
    assert all(any(key.startswith(name) for name in names) for key in keys)
    assert all("/" not in name[:-1] for name in names)
    assert key_names(entries, "", "") == sorted(keys)


def test_a_session_without_a_body_is_consuls_default() -> None:
    fields = session_fields(b"")
    assert (fields["node_checks"], fields["lock_delay"]) == (("serfHealth",), DEFAULT_LOCK_DELAY)


@pytest.mark.parametrize(
    "given, nanoseconds",
    [('"2s"', 2 * 10**9), ("2", 2 * 10**9), ("1500000000", 1_500_000_000), ("null", DEFAULT_LOCK_DELAY), ("[]", 0)],
)
def test_a_lock_delay_is_a_text_or_a_number(given: str, nanoseconds: int) -> None:
    assert session_fields(f'{{"LockDelay": {given}}}'.encode())["lock_delay"] == nanoseconds


def test_a_field_of_the_wrong_kind_is_told_in_gos_words() -> None:
    with pytest.raises(Invalid, match=r"cannot unmarshal number into Go struct field \.Name of type string"):
        session_fields(b'{"Name": 1}')


@given(st.text("ab./", max_size=12))
def test_a_cleaned_path_is_clean(path: str) -> None:
    clean = cleaned(path)
    assert cleaned(clean) == clean
    assert clean.startswith("/")
    assert not {"", ".", ".."} & set(clean.strip("/").split("/")) or clean == "/"


def test_a_path_that_has_moved_has_a_body_for_reads_only() -> None:
    assert moved("PUT", "/v1/kv/a", "raw", 307).body == b""
    answer = moved("GET", "/v1/kv/a", "raw", 301)
    assert ("Location", "/v1/kv/a?raw") in answer.headers
    assert answer.body == b'<a href="/v1/kv/a?raw">Moved Permanently</a>.\n\n'
