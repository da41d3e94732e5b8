"""What Consul refuses as a whole because of one key: only the culprit is refused, after few transactions."""

from __future__ import annotations

import pytest

from consul_locker.core.refused_keys import MAX_REFUSED, REFUSED_FOR, RefusedKeys
from consul_locker.core.requests import (
    RefusedWhole,
)
from consul_locker.core.step import Outbox
from consul_locker.errors import ConsulUnavailable, InvalidLockId

from .helpers import Driver, held
from .refused import BAD, LONG, SPOILT, WORDS, busy, commit_all, key_watch, key_watches


@pytest.mark.parametrize("place", [0, 30, 60])
def test_one_bad_key_among_61_is_refused_alone(place: int) -> None:
    driver = Driver().ready()
    busy(driver)
    ids = [BAD if at == place else f"id-{at}" for at in range(61)]
    calls = [driver.call("lock", id) for id in ids]
    driver.grant()
    assert len(driver.commit().operations) == 61
    assert commit_all(driver) <= 1 + 2 * 6  # the whole, then two for each halving
    for call, id in zip(calls, ids, strict=True):
        if id != BAD:
            assert driver.result(call).id == id
    error = driver.result(calls[place])
    assert isinstance(error, InvalidLockId)
    assert error.id == BAD
    assert WORDS in error.reason
    assert not driver.timers.keys() & {("look",)}, "what Consul never takes is in no doubt"


def test_bad_keys_only() -> None:
    driver = Driver().ready()
    busy(driver)
    calls = [driver.call("lock", f"{BAD}-{at}") for at in range(64)]
    driver.grant()
    assert commit_all(driver) <= 127
    assert all(isinstance(driver.result(call), InvalidLockId) for call in calls)


def test_a_key_that_was_refused_shares_no_transaction_for_a_while() -> None:
    driver = Driver(ttl=LONG).ready()
    driver.call("lock", BAD)
    assert commit_all(driver) == 1
    busy(driver)
    calls = [driver.call("lock", id) for id in ("a", "b", BAD, "c", "d")]
    driver.grant()
    assert commit_all(driver) == 3
    assert isinstance(driver.result(calls[2]), InvalidLockId)
    assert [driver.result(call).id for at, call in enumerate(calls) if at != 2] == ["a", "b", "c", "d"]
    driver.now += REFUSED_FOR
    driver.call("lock", BAD)
    assert driver.commit()  # not for ever: it may be taken by now
    driver.grant()
    assert BAD in driver.core.ledger.leases


def test_the_memory_of_refused_keys_is_bounded() -> None:
    outbox = Outbox(lambda: 0.5)
    refused = RefusedKeys(outbox)
    for at in range(MAX_REFUSED + 1):
        refused.add(str(at))
    assert "0" not in refused
    assert "1" in refused
    outbox.now += REFUSED_FOR
    assert "1" not in refused
    assert "1" not in refused


def test_a_set_with_a_bad_key() -> None:
    driver = Driver().ready()
    call = driver.call("lock_many", "a", BAD)
    assert commit_all(driver) == 1
    error = driver.result(call)
    assert isinstance(error, InvalidLockId)
    assert error.id == ("a", BAD)
    assert "the key of one of them" in error.reason
    call = driver.call("lock", "a")
    assert commit_all(driver) == 1
    assert driver.result(call).id == "a"


def test_whoever_waits_does_not_wait_for_a_bad_key() -> None:
    driver = Driver().ready()
    call = driver.call("lock", BAD, wait=None)
    driver.answer(driver.commit(), held())
    driver.answer(key_watch(driver), RefusedWhole(500, "invalid key name"))  # Consul was upgraded
    driver.answer(key_watch(driver), SPOILT)
    driver.fire("pause", BAD)
    assert commit_all(driver) == 1
    assert isinstance(driver.result(call), InvalidLockId)
    assert key_watches(driver) == []


def test_what_is_refused_for_another_reason() -> None:
    driver = Driver().ready()
    busy(driver)
    a, b = driver.call("lock", "a"), driver.call("lock", "b")
    driver.grant()
    driver.answer(driver.commit(), RefusedWhole(422, "no"))
    driver.answer(driver.commit(), RefusedWhole(422, "no"))
    driver.grant()
    error = driver.result(a)
    assert isinstance(error, ConsulUnavailable)
    assert (error.status, error.sent) == (422, False)
    assert "no" in str(error)
    assert driver.result(b).id == "b"


def test_callers_who_are_gone_are_not_asked_for_again() -> None:
    driver = Driver().ready()
    busy(driver)
    calls = [driver.call("lock", id) for id in ("a", "b", "c", BAD)]
    driver.grant()
    driver.abandon(calls[0])
    driver.answer(driver.commit(), SPOILT)
    assert [operation.key for operation in driver.commit().operations] == ["svc/b/lock", "svc/c/lock"]
    commit_all(driver)
    assert driver.result(calls[1]).id == "b"
