"""face: arguments and properties that both faces share."""

from __future__ import annotations

import traceback

import pytest

from consul_locker.errors import AlreadyLocked, ConfigurationError, InvalidLockId
from consul_locker.face import MAX_MANY, BaseLocker, note, to_raise


def test_ids() -> None:
    assert BaseLocker._ids(iter([1, "1", "a"])) == [1, "1", "a"]
    assert len(BaseLocker._ids([str(n % MAX_MANY) for n in range(1000)])) == 1000
    for ids in ("text", b"bytes", range(MAX_MANY + 1)):
        with pytest.raises(ConfigurationError):
            BaseLocker._ids(ids)
    with pytest.raises(InvalidLockId):
        BaseLocker._ids([".."])


def test_states() -> None:
    assert BaseLocker._check_state("ready") == "ready"
    with pytest.raises(ConfigurationError, match="acquiring"):
        BaseLocker._check_state("asleep")


def test_an_error_that_callers_share() -> None:
    """Each has its facts, with a traceback and notes of his own."""
    shared = AlreadyLocked("a", "n/a/lock", "local")
    caught: list[AlreadyLocked] = []
    for _ in range(3):
        try:
            raise to_raise(shared)
        except AlreadyLocked as error:
            note(error, f"caller {len(caught)}")
            caught.append(error)
    assert caught[0] is shared
    assert len({id(error) for error in caught}) == 3
    assert [(error.id, error.key, error.reason, str(error)) for error in caught] == [
        ("a", "n/a/lock", "local", str(shared))
    ] * 3
    assert [error.__notes__ for error in caught] == [["caller 0"], ["caller 1"], ["caller 2"]]  # type: ignore[attr-defined, unused-ignore]
    assert [len(list(traceback.walk_tb(error.__traceback__))) for error in caught] == [1, 1, 1]


def test_a_note_on_an_error() -> None:
    error = KeyError("a")
    note(error, "first")
    note(error, "second")
    assert error.__notes__ == ["first", "second"]
