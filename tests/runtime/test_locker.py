"""runtime/locker: arguments and properties that both faces share."""

from __future__ import annotations

import traceback
from math import inf
from types import SimpleNamespace
from typing import Any

import pytest

from consul_locker.config.options import LockerOptions
from consul_locker.core.calls import Info, Lock
from consul_locker.errors import AlreadyLocked, ConfigurationError, InvalidLockId
from consul_locker.lease import BaseLease, SessionLife
from consul_locker.runtime.holds import note
from consul_locker.runtime.locker import MAX_MANY, MAX_MANY_FAIR, BaseLocker, raisable


@pytest.mark.parametrize(("fair", "most"), [(False, MAX_MANY), (True, MAX_MANY_FAIR)])
def test_ids(fair: bool, most: int) -> None:
    def ids(given: Any) -> list[Any]:
        locker: Any = SimpleNamespace(_options=LockerOptions.build("svc", fair=fair))
        return BaseLocker._ids(locker, given)

    assert ids(iter([1, "1", "a"])) == ["1", "1", "a"]
    assert len(ids([str(n % most) for n in range(1000)])) == 1000
    for given in ("text", b"bytes", range(most + 1)):
        with pytest.raises(ConfigurationError):
            ids(given)
    with pytest.raises(InvalidLockId):
        ids([".."])


def test_every_kind_of_call_has_the_default_timeout() -> None:
    locker: Any = SimpleNamespace(_options=LockerOptions.build("svc", default_timeout=5), session_id="s", name="svc")
    lease = BaseLease("a", SessionLife(1, "s", inf, "svc", lambda: 0.0), 7, 0.0, False)
    calls = [
        BaseLocker._lock_call(locker, Lock, ["a"], 0.0, None),
        BaseLocker._release_call(locker, "a"),
        BaseLocker._release_all_call(locker),
        BaseLocker._question(locker, Info, "a"),
        BaseLocker._session_question(locker, None),
        BaseLocker._guarded_call(locker, lease, [{"KV": {"Verb": "set", "Key": "k", "Value": ""}}]),
    ]
    assert [call.timeout for call in calls] == [5.0] * 6


def test_states() -> None:
    locker: Any = SimpleNamespace(_use=lambda: None)
    assert BaseLocker._wait_limit(locker, "ready", 2) == 2.0
    with pytest.raises(ConfigurationError, match="acquiring"):
        BaseLocker._wait_limit(locker, "asleep", 2)


def test_an_error_that_callers_share() -> None:
    """Each has its facts, with a traceback and notes of his own."""
    shared = AlreadyLocked("a", "n/a/lock", "local")
    caught: list[AlreadyLocked] = []
    for _ in range(3):
        try:
            raise raisable(shared)
        except AlreadyLocked as error:
            note(error, f"caller {len(caught)}")
            caught.append(error)
    assert caught[0] is shared
    assert len({id(error) for error in caught}) == 3
    assert [(error.id, error.key, error.reason, str(error)) for error in caught] == [
        ("a", "n/a/lock", "local", str(shared))
    ] * 3
    assert [error.__notes__ for error in caught] == [["caller 0"], ["caller 1"], ["caller 2"]]
    assert [len(list(traceback.walk_tb(error.__traceback__))) for error in caught] == [1, 1, 1]
