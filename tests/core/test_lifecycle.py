"""A stop: what it gives back, what it waits for, and when it is over."""

from __future__ import annotations

import math
from typing import Any

import pytest

from consul_locker.core.requests import (
    CreateSession,
    DestroySession,
    Done,
    KeysRead,
    ReadKey,
    SessionRead,
    Verb,
    Watch,
)
from consul_locker.errors import (
    SessionEnded,
)

from .helpers import PENDING, TIMEOUT, Driver, failure, session_info

TTL = 15.0


def _watch(driver: Driver) -> Watch:
    return driver.one(Watch)


def test_stop_destroys_the_session_and_so_frees_every_lock() -> None:
    driver = Driver().ready()
    lease = driver.locked("a")
    call = driver.call("stop")
    assert driver.core.ended
    assert not lease.valid
    assert driver.result(call) is PENDING
    driver.destroyed()
    assert driver.core.state == "stopped"
    assert driver.result(call) is None
    assert driver.emitted("released", "lock_lost", "session_ended") == [("released", "a"), ("session_ended", "stopped")]
    assert {name[0] for name in driver.timers} == set()


@pytest.mark.parametrize("options", [{"lock_delay": 5.0}, {"delete_on_release": True}])
def test_a_stop_gives_the_locks_back_first_where_a_destroy_would_leave_something(options: dict[str, Any]) -> None:
    driver = Driver(**options).ready()
    first, second = driver.locked("a"), driver.locked("b")
    call = driver.call("stop")
    assert driver.all(DestroySession) == []
    assert not first.valid and not second.valid
    request = driver.commit()
    freeing = Verb.DELETE_CAS if "delete_on_release" in options else Verb.UNLOCK
    assert [op.key for op in request.operations if op.verb is freeing] == ["svc/a/lock", "svc/b/lock"]
    driver.grant()
    driver.destroyed()
    assert driver.result(call) is None
    assert driver.emitted("released", "lock_lost", "session_ended") == [
        ("released", "a"),
        ("released", "b"),
        ("session_ended", "stopped"),
    ]


def test_a_stop_with_nothing_to_give_back_destroys_at_once() -> None:
    driver = Driver(lock_delay=5.0).ready()
    driver.call("stop")
    assert len(driver.all(DestroySession)) == 1


def test_a_stop_with_a_lock_delay_waits_for_what_is_on_its_way() -> None:
    """A destroy that overtakes a release leaves the key in its lock-delay (measured)."""
    driver = Driver(lock_delay=5.0).ready()
    driver.locked("a")
    lock = driver.call("lock", "b")
    first = driver.commit()
    release = driver.call("release", "a")
    call = driver.call("stop")
    assert driver.all(DestroySession) == []
    driver.grant(first)  # for nobody any more
    assert [op.key for op in driver.commit().operations if op.verb is Verb.UNLOCK] == ["svc/a/lock", "svc/b/lock"]
    driver.grant()
    assert driver.result(release) is True
    assert isinstance(driver.result(lock), SessionEnded)
    driver.destroyed()
    assert driver.result(call) is None
    assert driver.emitted("released", "lock_lost") == [("released", "a")]


def test_a_lock_after_a_start_during_a_stop_waits_for_it() -> None:
    driver = Driver().ready()
    driver.call("stop")
    refused = driver.call("lock", "a")
    driver.call("start")
    lock, release = driver.call("lock", "a"), driver.call("release", "b")
    assert isinstance(driver.result(refused), SessionEnded)
    driver.destroyed()
    driver.ready("S2")
    driver.grant()
    assert driver.result(lock).session_id == "S2"
    driver.answer(driver.one(ReadKey), KeysRead((), 5))
    assert driver.result(release) is False


def test_a_stop_after_the_start_has_the_last_word() -> None:
    driver = Driver().ready()
    driver.call("stop")
    driver.call("start")
    lock = driver.call("lock", "a")
    driver.call("stop")
    assert isinstance(driver.result(lock), SessionEnded)
    driver.destroyed()
    assert driver.core.state == "stopped"
    assert driver.all(CreateSession) == []


def test_a_stop_that_waits_for_its_releases_is_not_hurried_by_other_answers() -> None:
    driver = Driver(lock_delay=5.0).ready()
    driver.locked("a")
    driver.call("stop")
    driver.answer(_watch(driver), SessionRead(session_info("S1"), 42))
    assert driver.all(DestroySession) == []
    driver.answer(driver.commit(), failure())
    assert len(driver.all(DestroySession)) == 1


def test_a_stop_takes_at_most_twice_the_timeout() -> None:
    driver = Driver().ready()
    driver.locked("a")
    call = driver.call("stop")
    stopping = driver.one(DestroySession)
    assert driver.timers[("stop",)] == driver.now + 2 * TIMEOUT
    driver.now += TTL / 2
    driver.core.session.life.deadline = math.inf
    driver.fire("stop")
    assert driver.core.state == "stopped"
    assert driver.result(call) is None
    assert driver.emitted("lock_lost", "released") == [("lock_lost", "stopped")]  # nobody confirmed it
    assert len(driver.all(DestroySession)) == 2  # it goes on in the background
    driver.answer(stopping, Done())
    assert driver.core.state == "stopped"


def test_a_stop_with_a_timeout_of_its_own() -> None:
    driver = Driver().ready()
    call = driver.call("stop", timeout=1.0)
    driver.fire("call", call)
    assert driver.core.state == "stopped"
    assert driver.result(call) is None


def test_a_stop_whose_caller_is_gone_is_final_all_the_same() -> None:
    driver = Driver().ready()
    call, other = driver.call("stop", timeout=5.0), driver.call("stop")
    driver.abandon(call)
    assert ("call", call) not in driver.timers
    assert driver.core.state == "ready"  # the other one still waits
    driver.abandon(other)
    assert driver.core.state == "stopped"
    driver.abandon(other)
    assert driver.result(other) is PENDING  # nobody is there to be answered


def test_the_deadline_ends_a_stop() -> None:
    driver = Driver().ready()
    call = driver.call("stop")
    driver.fire("deadline")
    assert driver.core.state == "stopped"
    assert driver.result(call) is None
    assert driver.all(CreateSession) == []


def test_a_session_found_destroyed_ends_a_stop_in_good_order() -> None:
    driver = Driver().ready()
    driver.locked("a")
    driver.fire("renew")
    driver.call("stop")
    driver.gone()
    assert driver.core.state == "stopped"
    assert driver.emitted("released", "lock_lost") == [("released", "a")]


def test_two_stops_are_one_and_both_are_answered() -> None:
    driver = Driver().ready()
    calls = [driver.call("stop"), driver.call("stop")]
    driver.destroyed()
    assert [driver.result(call) for call in calls] == [None, None]
    assert len(driver.sent(DestroySession)) == 1
    assert driver.result(driver.call("stop")) is None  # stopped already


def test_a_start_during_a_stop_begins_anew_after_it_unless_another_stop_follows() -> None:
    driver = Driver().ready()
    driver.call("stop")
    driver.call("start")
    driver.destroyed()
    assert driver.states()[-2:] == ["stopped", "acquiring"]
    driver.ready("S2")
    driver.call("stop")
    driver.call("start")
    driver.call("stop")
    driver.destroyed()
    assert driver.core.state == "stopped"
