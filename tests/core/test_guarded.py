"""`guarded`: operations that are done, and what their refusal means: the lock, or themselves."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.core.requests import (
    Committed,
    Failed,
    RawTransact,
    ReadKey,
    Refusal,
    Refused,
    RefusedWhole,
    RolledBack,
)
from consul_locker.errors import (
    ConsulUnavailable,
    LockLost,
)

from .helpers import STRANGER, Driver, entry, failure


def _guarded(driver: Driver, lease: Any) -> tuple[Any, RawTransact]:
    call = driver.call("guarded", lease, [*lease.guard(), {"KV": {"Verb": "set", "Key": "row"}}])
    return call, driver.one(RawTransact)


def _refused(position: int, refusal: Refusal) -> RolledBack:
    return RolledBack((Refused(position, refusal, "words of Consul's"),))


def test_guarded_operations_that_are_done() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    call, request = _guarded(driver, lease)
    assert len(request.operations) == 3
    driver.answer(request, Committed((entry("svc/a/lock", "S1", 7), entry("row", None, 8))))
    assert [info.key for info in driver.result(call)] == ["svc/a/lock", "row"]


@pytest.mark.parametrize(("position", "refusal"), [(0, Refusal.SESSION), (1, Refusal.INDEX)])
def test_guarded_operations_refused_for_the_lock(position: int, refusal: Refusal) -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    call, request = _guarded(driver, lease)
    driver.answer(request, _refused(position, refusal))
    assert isinstance(driver.result(call), LockLost)
    assert driver.purpose(driver.one(ReadKey)) == "verdict"  # a loss is not believed before it is confirmed
    assert lease.valid


def test_guarded_operations_refused_for_a_lock_that_was_released() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    driver.call("release", "a")
    driver.grant()
    call, request = _guarded(driver, lease)
    driver.answer(request, _refused(0, Refusal.SESSION))
    assert driver.result(call).reason == "released"
    assert driver.all(ReadKey) == []


@pytest.mark.parametrize("outcome", [_refused(2, Refusal.OTHER), RefusedWhole(413, ""), failure()])
def test_guarded_operations_refused_for_themselves(outcome: RolledBack | RefusedWhole | Failed) -> None:
    driver = Driver().ready()
    call, request = _guarded(driver, driver.locked("a"))
    driver.answer(request, outcome)
    assert isinstance(driver.result(call), ConsulUnavailable)


def guarded(session_id: str) -> tuple[Driver, Any, Any]:
    """A lease, and a guarded operation of a user's for a session, which Consul says is invalid."""
    driver = Driver().ready()
    lease = driver.locked("a")
    own = {"KV": {"Verb": "lock", "Key": "row", "Session": session_id}}
    call = driver.call("guarded", lease, [*lease.guard(), own])
    what = f'invalid session "{session_id}"'
    driver.answer(driver.one(RawTransact), RolledBack((Refused(2, Refusal.INVALID_SESSION, what),)))
    return driver, lease, driver.result(call)


def test_an_operation_for_another_session_that_has_ended_says_nothing_of_the_lock() -> None:
    driver, lease, error = guarded(STRANGER)
    assert isinstance(error, ConsulUnavailable)
    assert "not the lock" in str(error)
    assert STRANGER in str(error)
    assert driver.all(ReadKey) == []
    assert lease.valid


def test_an_operation_for_the_lease_s_session_that_has_ended_is_a_lost_lock() -> None:
    driver, lease, error = guarded("S1")
    assert isinstance(error, LockLost)
    assert driver.purpose(driver.one(ReadKey)) == "verdict"  # a loss is not believed before it is confirmed
    assert lease.valid


@pytest.mark.parametrize("refusal", [Refusal.HELD, Refusal.OTHER])
def test_an_operation_for_the_lease_s_session_that_is_refused_for_itself(refusal: Refusal) -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    own = {"KV": {"Verb": "lock", "Key": "row", "Session": "S1"}}
    call = driver.call("guarded", lease, [*lease.guard(), own])
    driver.answer(driver.one(RawTransact), RolledBack((Refused(2, refusal, "lock is already held"),)))
    assert isinstance(driver.result(call), ConsulUnavailable)
    assert driver.all(ReadKey) == []
