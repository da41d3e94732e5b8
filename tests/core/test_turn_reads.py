"""Turn reads: packed, and what a failure means."""

from __future__ import annotations

from consul_locker.core.requests import (
    Transact,
)
from consul_locker.errors import ConsulUnavailable

from .fair import asked, fair
from .helpers import failure


def test_a_look_that_fails_is_told_to_who_does_not_wait() -> None:
    driver = fair()
    call = driver.call("lock", "a")
    driver.answer(asked(driver, "turn"), failure())
    assert isinstance(driver.result(call), ConsulUnavailable)
    assert driver.emitted("lock_denied") == [("lock_denied", "a")]


def test_many_callers_look_in_one_transaction_of_at_most_64() -> None:
    driver = fair()
    driver.call("hold", "first", wait=None)
    driver.call("lock_many", *(str(number) for number in range(63)), wait=None)
    looks = [each for each in driver.all(Transact) if driver.purpose(each) == "turn"]
    assert [len(each.operations) for each in looks] == [1, 63]
