"""Transactions of the store by themselves: all or nothing, and every reason why not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_locker.embedded.golang import Invalid
from consul_locker.embedded.policy import Policy
from consul_locker.embedded.store import Store
from consul_locker.embedded.txn import Operation, Outcome, Unsupported, is_write, parse, transact
from consul_locker.embedded.versions import VERSIONS

VERSION = VERSIONS["1.8"]
NO_POLICY = Policy(None, check_keys=False, filter_reads=False, refuse=())

keys = st.sampled_from("abc")
operations = st.one_of(
    st.builds(lambda key, value: Operation("set", key, value), keys, st.binary(max_size=3)),
    st.builds(lambda key, index: Operation("cas", key, b"", 0, index), keys, st.integers(0, 12)),
    st.builds(lambda key, index: Operation("delete-cas", key, b"", 0, index), keys, st.integers(0, 12)),
    st.builds(lambda verb, key: Operation(verb, key), st.sampled_from(["get", "delete", "check-not-exists"]), keys),
)


def run(store: Store, *wanted: Operation) -> Outcome:
    return transact(store, list(wanted), 0.0, VERSION, NO_POLICY)


@given(st.lists(st.lists(operations, min_size=1, max_size=4), max_size=8))
def test_a_transaction_that_fails_changes_nothing_and_says_where(transactions: list[list[Operation]]) -> None:
    store = Store()
    for wanted in transactions:
        before = store.tree("")
        outcome = run(store, *wanted)
        if outcome.errors:
            assert store.tree("") == before
            assert outcome.results == []
            assert {place for place, _ in outcome.errors} <= set(range(len(wanted)))


def test_later_operations_see_what_earlier_ones_did() -> None:
    store = Store()
    outcome = run(store, Operation("check-not-exists", "a"), Operation("set", "a", b"1"), Operation("get", "a"))
    assert not outcome.errors
    assert [(entry.value, shown) for entry, shown in outcome.results] == [(b"1", False), (b"1", True)]


def test_every_failing_operation_is_told() -> None:
    outcome = run(Store(), Operation("get", "a"), Operation("set", "b"), Operation("check-session", "c", session="s"))
    assert [place for place, _ in outcome.errors] == [0, 2]


def test_a_lock_excludes_another_session() -> None:
    store = Store()
    first, second = store.create_session(0.0, ttl=10.0), store.create_session(0.0, ttl=10.0)
    assert not run(store, Operation("lock", "a", session=first.id)).errors
    assert run(store, Operation("lock", "a", session=second.id)).errors == [
        (0, 'failed to lock key "a", lock is already held')
    ]
    assert not run(store, Operation("check-session", "a", session=first.id)).errors


def test_reads_alone_are_no_write() -> None:
    assert not is_write([Operation("get", "a"), Operation("check-index", "a")])
    assert is_write([Operation("get", "a"), Operation("unlock", "a")])


def body(*wanted: object) -> bytes:
    return json.dumps(list(wanted)).encode()


def test_the_fields_of_an_operation_are_read() -> None:
    fields = {"Verb": "lock", "Key": "a", "Value": "MQ==", "Flags": 7, "Index": 3, "Session": "s", "Namespace": "n"}
    assert parse(body({"KV": fields}, {"KV": None}, {})) == [Operation("lock", "a", b"1", 7, 3, "s")]
    assert parse(b"null") == []


@pytest.mark.parametrize("wanted", [{"KV": []}, {"KV": {"Vreb": "set"}}, {"Thing": {}}, {"KV": {"Flags": "1"}}, 1])
def test_what_is_no_operation_is_told_in_gos_words(wanted: object) -> None:
    with pytest.raises(Invalid, match=r"json: (cannot unmarshal|unknown field) "):
        parse(body(wanted))


def test_what_only_a_real_agent_does_is_said_so() -> None:
    with pytest.raises(Unsupported, match="Node"):
        parse(body({"Node": {}}))
