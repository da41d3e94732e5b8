"""Renewals go first: what Consul refused before it did it is tried again soon, while all else waits (rule 1)."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.core.requests import Failed, Gone, ReadSession, Renewed, RenewSession, SessionRead, Transact
from consul_locker.core.session import RENEW_SOON, RENEW_SOONEST
from consul_locker.errors import AccessDenied, ConsulLockerError, ConsulUnavailable

from .helpers import Driver, session_info

LIMITED = ConsulUnavailable("renewal: 429", operation="session renew", status=429, outage=True)


def made(**options: Any) -> Driver:
    """A Locker whose renewal is due, and has begun."""
    driver = Driver(**options).ready()
    driver.fire("renew")
    return driver


def refuse(driver: Driver, error: ConsulLockerError = LIMITED, *, sent: bool = False) -> float:
    """Consul refuses the renewal; returns the pause before the next attempt."""
    driver.answer(driver.one(RenewSession), Failed(error, sent))
    return driver.timers["renew", "again"] - driver.now


def test_it_is_tried_again_within_three_tenths_of_a_second_while_all_else_waits() -> None:
    driver = made(random=0.0)
    assert refuse(driver) == pytest.approx(10.0 / 40)
    call = driver.call("lock", "a")
    driver.fire("renew", "again")
    assert not driver.one(RenewSession).fresh  # the connection is good
    refuse(driver)
    driver.fire("renew", "again")
    assert not driver.all(Transact)
    driver.answer(driver.one(RenewSession), Renewed(15.0))
    driver.grant()
    assert driver.result(call).valid
    assert driver.core.outage.since is None


@pytest.mark.parametrize(("ttl", "left", "pause"), [(3600, 60, RENEW_SOON), (15, 4, 0.1), (15, 0.5, RENEW_SOONEST)])
def test_the_nearer_the_deadline_the_sooner(ttl: float, left: float, pause: float) -> None:
    driver = made(ttl=ttl, random=0.0)
    driver.now = driver.timers["deadline",] - left
    assert refuse(driver) == pytest.approx(pause)


def test_lockers_that_are_refused_together_come_apart() -> None:
    driver = made(random=0.99)
    assert refuse(driver) == pytest.approx(0.25 * 0.505)


def test_up_to_the_deadline_there_are_over_a_hundred_attempts() -> None:
    driver = made(random=0.5)
    attempts = 0
    while driver.core.state == "ready":
        refuse(driver)
        attempts += 1
        driver.fire("renew", "again")
    assert attempts > 140


def test_one_that_was_not_answered_holds_up_nobody() -> None:
    driver = made()
    pause = refuse(driver, ConsulUnavailable("timed out", sent=True, outage=True), sent=True)
    assert pause == pytest.approx(0.5)
    assert not driver.core.pace.pausing
    driver.fire("renew", "again")
    assert driver.one(RenewSession).fresh


@pytest.mark.parametrize(
    "answer", [Gone(), Failed(AccessDenied("session renew", 403, "ACL not found"), sent=False)], ids=str
)
def test_whatever_consul_answers_ends_the_pause(answer: Any) -> None:
    driver = made()
    refuse(driver)
    assert driver.core.pace.pausing
    driver.fire("renew", "again")
    driver.answer(driver.one(RenewSession), answer)
    assert not driver.core.pace.pausing


def test_a_read_in_place_of_a_renewal_goes_first_likewise() -> None:
    driver = made(ttl=None, random=0.0)
    driver.answer(driver.one(ReadSession), Failed(LIMITED, sent=False))
    assert driver.timers["renew", "again"] - driver.now == pytest.approx(0.25)
    assert driver.core.pace.pausing
    driver.fire("renew", "again")
    driver.answer(driver.one(ReadSession), SessionRead(session_info("S1"), 1))
    assert not driver.core.pace.pausing


def test_a_new_session_ends_the_pause_of_the_old_one() -> None:
    driver = made()
    refuse(driver)
    driver.now += 20.0
    driver.call("lock", "a")
    assert driver.core.state == "acquiring"
    driver.ready("S2")
    assert not driver.core.pace.pausing


def test_a_stop_does_not_wait_for_a_renewal() -> None:
    driver = Driver(delete_on_release=True).ready()
    driver.locked("a")
    driver.call("stop")
    driver.fire("renew")
    refuse(driver)
    driver.grant()
    driver.destroyed()
    assert driver.core.state == "stopped"
