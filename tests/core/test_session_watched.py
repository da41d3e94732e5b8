"""The watch on the session, and destroys in the background."""

from __future__ import annotations

import pytest

from consul_locker.core.messages import CancelRequest, TimerFired
from consul_locker.core.requests import (
    DestroySession,
    KeysRead,
    ReadPrefix,
    ReadSession,
    SessionRead,
    Watch,
    WatchSession,
)

from .helpers import Driver, failure, session_info


def _watch(driver: Driver) -> Watch:
    return driver.one(Watch)


# -------------------------------------------------------------------------------------------------- the watch


def test_the_session_is_watched_from_the_present_state_on() -> None:
    driver = Driver().ready()
    first = _watch(driver)
    assert isinstance(first, WatchSession)
    assert (first.name, first.index, first.wait) == ("S1", 0, 300.0)
    driver.answer(first, SessionRead(session_info("S1"), 42))
    assert _watch(driver).index == 42
    assert driver.all(ReadPrefix) == []
    driver.answer(_watch(driver), SessionRead(session_info("S1"), 43))
    assert _watch(driver).index == 43


def test_an_index_that_falls_begins_at_nought() -> None:
    driver = Driver().ready()
    driver.answer(_watch(driver), SessionRead(session_info("S1"), 42))
    driver.answer(_watch(driver), SessionRead(session_info("S1"), 41))
    assert _watch(driver).index == 0


def test_a_watch_that_comes_back_with_nothing_new_is_followed_by_a_sweep() -> None:
    driver = Driver().ready()
    driver.answer(_watch(driver), SessionRead(session_info("S1"), 42))
    driver.answer(_watch(driver), SessionRead(session_info("S1"), 42))
    assert driver.one(ReadPrefix).prefix == "svc/"
    assert _watch(driver).index == 0  # the present index may be lower
    driver.answer(driver.one(ReadPrefix), KeysRead((), 42))


def test_a_session_that_seems_gone_is_read_before_it_is_believed() -> None:
    driver = Driver().ready()
    driver.answer(_watch(driver), SessionRead(None, 42))
    assert driver.core.state == "ready"
    request = driver.one(ReadSession)
    assert request.session_id == "S1"
    driver.answer(request, SessionRead(session_info("S1"), 43))  # a server that was behind
    assert driver.core.state == "ready"
    driver.fire("watch", "session")
    assert _watch(driver).index == 0
    driver.answer(_watch(driver), SessionRead(None, 44))
    driver.answer(driver.one(ReadSession), SessionRead(None, 44))
    assert driver.core.state == "ready"
    driver.gone()
    assert driver.core.state == "acquiring"


def test_a_confirmation_that_fails_confirms_nothing() -> None:
    driver = Driver().ready()
    driver.answer(_watch(driver), SessionRead(None, 42))
    driver.answer(driver.one(ReadSession), failure())
    assert driver.core.state == "ready"
    driver.fire("watch", "session")
    assert _watch(driver).index == 0


def test_a_watch_that_fails_is_tried_again_after_growing_pauses() -> None:
    driver = Driver(random=0.0).ready()
    pauses = []
    for _ in range(6):
        driver.answer(_watch(driver), failure())
        pauses.append(driver.timers[("watch", "session")] - driver.now)
        driver.step(TimerFired(("watch", "session")))
    assert pauses == pytest.approx([0.25, 0.5, 1.0, 2.0, 2.5, 2.5])  # half of 0.5, 1, 2, 4, 5, 5
    driver.answer(_watch(driver), SessionRead(session_info("S1"), 42))
    driver.answer(_watch(driver), failure())
    assert driver.timers[("watch", "session")] - driver.now == pytest.approx(0.25)


def test_one_watch_at_a_time() -> None:
    driver = Driver().ready()
    driver.step(TimerFired(("watch", "session")))
    assert len(driver.all(Watch)) == 1


def test_the_watch_ends_with_the_session() -> None:
    driver = Driver().ready()
    watch = _watch(driver)
    driver.call("reboot")
    assert CancelRequest(watch) in driver.commands
    driver.answer(watch, SessionRead(None, 42))
    assert driver.core.state == "paused"


def test_an_answer_to_a_watch_that_was_given_up_changes_nothing() -> None:
    driver = Driver().ready()
    first = _watch(driver)
    driver.answer(first, SessionRead(session_info("S1"), 42))
    driver.answer(first, SessionRead(None, 43))
    assert driver.all(ReadSession) == []


def test_a_session_that_ends_between_two_watches_has_none_to_cancel() -> None:
    driver = Driver().ready()
    driver.answer(_watch(driver), failure())
    driver.call("reboot")
    assert not any(isinstance(command, CancelRequest) for command in driver.commands)


# --------------------------------------------------------------------------------------- destroyed in the background


def test_a_destroy_in_the_background_is_tried_again_after_growing_pauses() -> None:
    driver = Driver().ready()
    driver.call("reboot")
    pauses = []
    for _ in range(8):
        driver.answer(driver.one(DestroySession), failure())
        pauses.append(driver.timers[("destroy", "S1")] - driver.now)
        driver.fire("destroy", "S1")
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    request = driver.one(DestroySession)
    driver.destroyed()
    assert ("destroy", "S1") not in driver.timers
    driver.answer(request, failure())  # its end is known by now
    assert ("destroy", "S1") not in driver.timers
