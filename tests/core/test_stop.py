"""core/stop.py: how far a stop has come, and where that is shown."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.core.requests import DestroySession, Done, ReadSession, SessionRead
from consul_locker.core.stop import STOP
from consul_locker.errors import SessionEnded
from consul_locker.fsm import inspect

from .helpers import Driver, failure, session_info


def confirming(driver: Driver) -> ReadSession:
    (read,) = (read for read in driver.all(ReadSession) if read.confirms)
    return read


def test_the_states_of_a_stop_one_after_another() -> None:
    driver = Driver(delete_on_release=True).ready()
    driver.locked("a")
    stop = driver.core.stop
    seen: list[Any] = [stop.state]
    call = driver.call("stop")
    seen.append(stop.state)
    driver.grant()
    seen.append(stop.state)
    driver.answer(driver.one(DestroySession), Done())
    seen.append(stop.state)
    driver.answer(confirming(driver), SessionRead(session_info("S1"), 1))
    seen.append(stop.state)
    driver.fire("stop", "again")
    seen.append(stop.state)
    driver.destroyed()
    seen.append(stop.state)
    assert seen == ["idle", "giving_back", "destroying", "confirming", "pausing", "destroying", "idle"]
    assert driver.core.state == "stopped"
    assert driver.result(call) is None


@pytest.mark.parametrize("state", ["giving_back", "destroying", "confirming", "pausing"])
def test_its_time_may_be_over_in_each_of_them(state: str) -> None:
    driver = Driver(delete_on_release=state == "giving_back").ready()
    driver.locked("a")
    call = driver.call("stop")
    if state in ("confirming", "pausing"):
        driver.answer(driver.one(DestroySession), Done())
    if state == "pausing":
        driver.answer(confirming(driver), failure())
    assert driver.core.stop.state == state
    driver.fire("stop")
    assert (driver.core.stop.state, driver.core.state) == ("idle", "stopped")
    assert driver.result(call) is None
    assert ("stop", "again") not in driver.timers


def test_it_takes_out_sets_that_stand_one_behind_the_other() -> None:
    driver = Driver(strategy=None).ready()
    driver.call("lock", "in flight")
    sets = [driver.call("lock_many", *ids) for ids in (("a", "b"), ("b", "c"))]
    driver.call("stop")
    for call in sets:
        assert isinstance(driver.result(call), SessionEnded)


def test_a_start_in_the_middle_finds_no_stop_after_it() -> None:
    driver = Driver().ready()
    driver.call("stop")
    driver.call("start")
    driver.destroyed()
    driver.ready("S2")
    assert driver.locked("a").valid


def test_nothing_in_its_table_is_odd() -> None:
    assert list(inspect(STOP)) == []
