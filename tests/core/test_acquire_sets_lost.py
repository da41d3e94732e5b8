"""`lock_many` that finds a lock of its set lost, which nobody had noticed: whoever has time to wait goes on."""

from __future__ import annotations

import pytest

from consul_locker.core.requests import ReadKey, Refusal, Refused, RolledBack, Verb

from .helpers import PENDING, Driver

LOST = RolledBack((Refused(0, Refusal.INDEX, "failed index check"),))


@pytest.mark.parametrize("wait", [None, 5.0])
def test_a_set_with_time_to_wait_takes_the_lost_lock_anew(wait: float | None) -> None:
    driver = Driver().ready()
    driver.locked("a")
    call = driver.call("lock_many", "a", "b", wait=wait)
    driver.answer(driver.commit(), LOST)
    assert driver.result(call) is PENDING
    driver.found(driver.one(ReadKey), None)
    assert driver.emitted("lock_lost") == [("lock_lost", "key deleted")]
    driver.fire("pause", "a")
    assert [op.verb for op in driver.commit().operations] == [Verb.LOCK, Verb.LOCK]
    driver.grant()
    assert [lease.id for lease in driver.result(call)] == ["a", "b"]


def test_a_set_asks_with_growing_pauses_until_the_loss_is_confirmed() -> None:
    driver = Driver().ready()
    driver.locked("a")
    call = driver.call("lock_many", "a", "b", wait=None)
    pauses = []
    for _ in range(4):
        driver.answer(driver.commit(), LOST)
        assert driver.result(call) is PENDING
        pauses.append(driver.timers["pause", "a"] - driver.now)
        driver.fire("pause", "a")
    assert pauses == sorted(set(pauses))
