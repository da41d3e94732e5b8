"""keys: which names and ids are legal (rule 11), and the keys that they make."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consul_locker.errors import ConfigurationError, InvalidLockId
from consul_locker.keys import (
    MAX_BYTES,
    check_id,
    check_name,
    is_place,
    lock_id,
    lock_key,
    lock_key_of,
    place_key,
    place_number,
)

BAD = [
    ("", "empty"), ("\ud800", "surrogate"), ("x" * 513, "513 bytes"), ("é" * 257, "514 bytes"), ("a\0", "control"),
    ("\x9f", "control"), ("a\u200d", "invisible"), ("\xa0", "invisible"), ("/a", "slash"), ("a/", "slash"),
    ("a//b", "empty segment"), (".", "segment '.'"), ("a/../b", "segment '..'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), BAD)
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidLockId, match=reason) as refused:
        check_id(text)
    assert refused.value.id == text
    with pytest.raises(ConfigurationError, match=reason) as option:
        check_name(text)
    assert option.value.option == "name"


@pytest.mark.parametrize("id", [None, True, 1.0, b"a", ("a",)])
def test_an_id_is_text_or_a_whole_number(id: Any) -> None:
    with pytest.raises(InvalidLockId, match="str or an int"):
        check_id(id)


def test_a_name_is_text() -> None:
    with pytest.raises(ConfigurationError, match="is a str"):
        check_name(7)


class Text(str):
    """A str that is not quite one."""

    def __str__(self) -> str:
        return "other"


class Whole(int):
    """An int that is shown as it likes."""

    def __repr__(self) -> str:
        return "seven"


def test_text_of_an_id() -> None:
    assert check_id(1) == check_id("1") == "1"
    assert check_id(-7) == "-7"
    assert check_id(Whole(7)) == "7"
    assert type(check_id(Text("a"))) is str
    assert check_name("a b/c") == "a b/c"
    assert check_id("a\u0378") == "a\u0378"  # not assigned: Consul knows better
    assert lock_key("n", "a/b") == "n/a/b/lock"


@given(st.text())
def test_what_is_not_refused_stays_in_its_place(text: str) -> None:
    try:
        id = check_id(text)
    except InvalidLockId:
        return
    assert id == text
    assert 0 < len(id.encode()) <= MAX_BYTES
    assert all(segment not in ("", ".", "..") for segment in lock_key("n", id).split("/"))


def _legal(text: str) -> bool:
    try:
        return check_id(text) == text
    except InvalidLockId:
        return False


LEGAL = st.text(st.sampled_from("ab/ lock-queue.1"), min_size=1, max_size=30).filter(_legal) | st.text(
    min_size=1, max_size=9
).filter(_legal)
KEYS = st.lists(st.sampled_from(["n", "/", "lock", "-queue", "s", ".", "7", "\n"]), max_size=12).map("".join)


@given(name=LEGAL, id=LEGAL)
def test_a_key_tells_the_id_it_was_made_of(name: str, id: str) -> None:
    assert lock_id(name, lock_key(name, id)) == id
    assert lock_key_of(place_key(lock_key(name, id), "5f1c", 7)) == lock_key(name, id)


@given(KEYS)
@example("n/lock")
@example("n//lock")
@example("m/a/lock")
@example("n/a/lock-queue/s.7")
def test_a_key_without_an_id_is_not_a_locks(key: str) -> None:
    id = lock_id("n", key)
    assert id is None or (id and lock_key("n", id) == key)


@given(KEYS)
@example("n/s/lock-queue/s.7")
@example("n/s/lock-queue/lock-queue/s.7")
def test_a_place_is_in_the_queue_of_one_lock(key: str) -> None:
    locks = [key[:at] for at in range(len(key)) if key[:at].endswith("/lock")]
    assert [lock for lock in locks if is_place(key, lock)] == ([lock_key_of(key)] if lock_key_of(key) else [])


def test_a_place_in_a_queue_stands_beside_its_lock_and_is_no_lock() -> None:
    lock = lock_key("svc", "a/b")
    place = place_key(lock, "5f1c", 12)
    assert place.startswith(lock) and place.startswith("svc/a/b/")
    assert not place.endswith("/lock")
    assert (lock_key_of(place), place_number(place)) == (lock, 12)
    assert is_place(place, lock)


@pytest.mark.parametrize("id", ["a/b/lock-queue", "a/b/lock-queue/5f1c.12", "a/b/lock-queue/x"])
def test_no_id_names_a_place(id: str) -> None:
    key = lock_key("svc", check_id(id))
    assert lock_key_of(key) == ""
    assert not is_place(key, lock_key("svc", "a/b"))
    assert lock_key_of(place_key(key, "s", 1)) == key
