"""How long calls wait, and what they are told when the time is over."""

from __future__ import annotations

from consul_locker.errors import AlreadyLocked

from .helpers import PENDING, Driver, held
from .waiters import taken, watch, watches


def test_the_time_to_wait_is_over() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=5.0)
    driver.answer(driver.commit(), held())
    driver.fire("wait", call)
    error = driver.result(call)
    assert isinstance(error, AlreadyLocked)
    assert error.reason == "held"
    assert watches(driver) == 0
    assert driver.core.ledger.slots == {}


def test_the_time_is_over_during_an_attempt_whose_answer_decides() -> None:
    driver = Driver().ready()
    call = driver.call("lock", "a", wait=5.0)
    driver.answer(driver.commit(), held())
    driver.answer(watch(driver), taken(session=None))
    driver.fire("wait", call)
    assert driver.result(call) is PENDING
    driver.answer(driver.commit(), held())
    assert isinstance(driver.result(call), AlreadyLocked)


def test_a_local_wait_is_over() -> None:
    driver = Driver().ready()
    driver.locked("a")
    call = driver.call("hold", "a", wait=2.0)
    driver.fire("wait", call)
    assert driver.result(call).reason == "local"
