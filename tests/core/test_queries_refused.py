"""`guarded` refused for a session: the lease's own means that the lock is lost, any other says nothing of it."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.core.requests import RawTransact, ReadKey, Refusal, Refused, RolledBack
from consul_locker.errors import ConsulUnavailable, LockLost

from .helpers import STRANGER, Driver


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
