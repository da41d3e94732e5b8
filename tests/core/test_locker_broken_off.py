"""Steps that an exception out of nowhere breaks off: what the next step makes of it.

The walk breaks steps off at any line (tests/walk/breaks.py); here one breaks off in the middle of a grant, for each
thing that may be under way then.
"""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.core.calls import Stop
from consul_locker.core.messages import Answered, CancelRequest, TimerFired
from consul_locker.core.requests import CreateSession, DestroySession, ReadKey, SessionCreated, Watch, WatchKey
from consul_locker.core.step import Outbox
from consul_locker.errors import ConsulUnavailable
from consul_locker.fsm import Fsm
from consul_locker.strategies import PermanentStrategy

from .helpers import PENDING, Driver, held


class Breaking(PermanentStrategy):
    """In the middle of a grant a signal handler raises, where it is told to."""

    now = False

    def keeps(self, lease: Any) -> bool:
        if self.now:
            raise KeyboardInterrupt
        return super().keeps(lease)


def interrupted(*_: Any, **__: Any) -> None:
    """Stands where a signal handler comes in between."""
    raise KeyboardInterrupt


def broken_off(driver: Driver) -> None:
    """A grant is broken off, and the answer comes again."""
    strategy = driver.core.strategy
    assert isinstance(strategy, Breaking)
    driver.call("lock", "broken")
    request = driver.commit()
    answer = driver.committed(request)
    driver.open.remove(request)
    strategy.now = True
    with pytest.raises(KeyboardInterrupt):
        driver.core.step(Answered(request, answer), driver.now)
    strategy.now = False
    driver.step(Answered(request, answer))


def make(**options: Any) -> Driver:
    return Driver(strategy=Breaking(), **options).ready()


def test_its_session_is_given_up_and_every_lock_with_it() -> None:
    driver = make()
    lease = driver.locked("a")
    broken_off(driver)
    assert (lease.live, lease.reason) == (False, "broken off")
    assert driver.emitted("lock_lost") == [("lock_lost", "broken off")]
    assert driver.emitted("session_ended") == [("session_ended", "broken off")]
    assert driver.one(DestroySession).session_id == "S1"
    assert driver.core.state == "acquiring"
    assert not driver.core.ledger.leases
    assert "broken off in its middle" in driver.logged()
    assert driver.core.counters()["lost"] == 1


def test_who_wants_a_lock_is_served_by_the_next_session() -> None:
    driver = make()
    late = driver.call("lock", "late", timeout=7.0)
    driver.answer(driver.commit(), held())
    waits = driver.call("lock", "late", wait=30.0)
    driver.answer(driver.commit(), held())
    broken_off(driver)
    assert isinstance(driver.one(CreateSession), CreateSession)
    assert any(isinstance(command, CancelRequest) for command in driver.commands)
    assert not any(isinstance(watch, WatchKey) for watch in driver.all(Watch))
    assert isinstance(driver.result(late), Exception)
    assert driver.result(waits) == PENDING
    assert driver.timers["wait", waits] == 1030.0
    driver.ready("S2")
    driver.grant()
    assert driver.result(waits).session_id == "S2"


def test_a_limit_goes_on() -> None:
    driver = make()
    call = driver.call("lock", "a", timeout=7.0, wait=None)
    broken_off_beside(driver)
    assert driver.timers["call", call] == 1007.0
    driver.fire("call", call)
    assert isinstance(driver.result(call), Exception)


def broken_off_beside(driver: Driver) -> None:
    """A step is broken off that has nothing to do with calls: that of a timer, at its first line."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Outbox, "fired", interrupted)
        driver.core.step(TimerFired(("renew",)), driver.now)
    driver.step(TimerFired(("renew",)))


def test_everything_else_has_an_answer() -> None:
    driver = make()
    driver.locked("a")
    release = driver.call("release", "a")
    info = driver.call("info", "a")
    broken_off_beside(driver)
    assert driver.result(release) is False
    unknown = driver.result(info)
    assert isinstance(unknown, ConsulUnavailable)
    assert unknown.sent
    driver.found(driver.all(ReadKey)[-1], None)  # an answer that comes later changes nothing


def test_a_stop_goes_on() -> None:
    driver = make()
    driver.locked("a")
    stop = driver.call("stop")
    broken_off_beside(driver)
    assert driver.result(stop) is None
    assert driver.core.state == "stopped"
    assert ("stop",) not in driver.timers


def test_a_stop_before_there_is_a_session_goes_on() -> None:
    driver = Driver(strategy=Breaking())
    stop = Stop()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Fsm, "handle", interrupted)
        driver.core.step(stop, driver.now)
    driver.abandon(stop)
    assert driver.core.state == "stopped"


def test_a_start_during_a_stop_goes_on() -> None:
    driver = make()
    driver.call("stop")
    start = driver.call("start")
    late = driver.call("lock", "late")
    broken_off_beside(driver)
    assert driver.result(start) is None
    assert driver.states()[-2:] == ["stopped", "acquiring"]
    driver.ready("S2")
    driver.grant()
    assert driver.result(late).session_id == "S2"


def test_a_call_that_is_given_twice_counts_once() -> None:
    """As by a runtime that was interrupted before it knew that the step was over."""
    driver = make()
    call = driver.call("lock", "a")
    assert driver.step(call) == []
    driver.grant()
    assert driver.result(call).takers == 1


def test_in_acquiring_it_asks_for_another_session() -> None:
    driver = Driver(strategy=Breaking())
    broken_off_beside(driver)
    assert len(driver.sent(CreateSession)) == 2
    first, second = driver.all(CreateSession)
    driver.answer(first, SessionCreated("S1"))
    assert driver.one(DestroySession).session_id == "S1"
    driver.answer(second, SessionCreated("S2"))
    assert driver.core.state == "ready"


def test_in_paused_it_tries_again() -> None:
    driver = Driver(strategy=Breaking())
    driver.no_session()
    assert driver.core.state == "paused"
    broken_off_beside(driver)
    assert driver.core.state == "acquiring"


def test_stopped_it_stays_stopped() -> None:
    driver = make()
    driver.call("stop")
    driver.destroyed()
    broken_off_beside(driver)
    assert driver.core.state == "stopped"
    assert not driver.all(CreateSession)
    assert driver.one(DestroySession).session_id == "S1"  # once more: it does no harm
