"""The records of the store are values: what was read once is not changed by what is written later."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from consul_locker.embedded.records import ANY_KEY, ANY_SESSION
from consul_locker.embedded.store import Store


def test_what_was_read_stays_as_it_was() -> None:
    store = Store()
    session = store.create_session(0.0, ttl=10.0)
    store.put("a", b"1", 0)
    view = store.get("a")
    store.put("a", b"2", 0)
    store.lock("a", b"3", 0, session.id)
    assert view.entries[0].value == b"1"
    assert view.entries[0].session == ""
    with pytest.raises(FrozenInstanceError):
        session.name = "other"  # type: ignore[misc] # that is what is tested


def test_a_read_says_what_its_answer_depends_on() -> None:
    store = Store()
    assert store.get("a").scope == ANY_KEY  # of a key that is missing, as measured
    store.put("a", b"1", 0)
    assert store.get("a").scope == ("key", "a")
    assert store.below("a").scope == ("prefix", "a")
    session = store.create_session(0.0, ttl=10.0)
    assert store.session(session.id).scope == ("session", session.id)
    assert store.sessions().scope == ANY_SESSION


def test_changes_are_taken_once() -> None:
    store = Store()
    store.put("a", b"1", 0)
    session = store.create_session(0.0, ttl=10.0)
    changes = store.take_changes()
    assert changes is not None
    assert (changes.keys, changes.sessions) == ({"a"}, {session.id})
    assert store.take_changes() is None
