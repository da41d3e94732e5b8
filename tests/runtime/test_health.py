"""What a Locker shows of itself, on a core that the test drives. tests/behaviour/test_health.py has both faces."""

from __future__ import annotations

from consul_locker.core.requests import CreateSession
from consul_locker.models import Health
from consul_locker.runtime.health import counters_of, health_of, words_of

from ..core.helpers import Driver, away


def health(driver: Driver) -> Health:
    return health_of(driver.core, driver.now, held=2, waiting=3, address="http://h:1")


def test_without_a_session_and_with_one() -> None:
    driver = Driver()
    assert health(driver) == Health(
        state="acquiring",
        session_id=None,
        outage_since=None,
        cause=None,
        next_attempt=None,
        waiting=3,
        held=2,
        oldest_renewal=None,
        address="http://h:1",
    )
    assert words_of(driver.core, driver.now) == "acquiring"
    driver.ready("S1")
    driver.now += 2.0
    shown = health(driver)
    assert (shown.state, shown.session_id, shown.oldest_renewal) == ("ready", "S1", 2.0)
    assert words_of(driver.core, driver.now) == "ready"


def test_while_consul_is_away() -> None:
    driver = Driver().ready()
    driver.call("lock", "a")
    driver.answer(driver.commit(), away("no route"))
    shown = health(driver)
    assert shown.cause is not None
    assert "no route" in shown.cause
    assert shown.next_attempt == driver.timers["pause",] - driver.now > 0.0
    driver.now += 60.0  # the timer that is due by now was not given to the core yet
    shown = health(driver)
    assert (shown.outage_since, shown.next_attempt) == (60.0, 0.0)
    assert words_of(driver.core, driver.now) == "ready, Consul away for 60 s"
    assert counters_of(driver.core, driver.now)["outage_seconds"] == 60


def test_the_next_attempt_at_a_session() -> None:
    driver = Driver()
    driver.answer(driver.one(CreateSession), away("no route"))
    shown = health(driver)
    assert shown.state == "paused"
    assert shown.next_attempt == driver.timers["retry",] - driver.now > 0.0
    assert shown.cause is not None
    assert "no route" in shown.cause


def test_counters_are_there_from_the_beginning() -> None:
    driver = Driver()
    begun = counters_of(driver.core, driver.now)
    assert set(begun.values()) == {0}
    driver.ready()
    driver.locked("a")
    counters = counters_of(driver.core, driver.now)
    assert counters.keys() == begun.keys()
    assert (counters["granted"], counters["requests"], counters["stopping"]) == (1, 1, 0)


def test_a_stop_under_way() -> None:
    driver = Driver().ready()
    driver.locked("a")
    driver.call("stop")
    assert words_of(driver.core, driver.now).startswith("ready, stop: ")
    assert counters_of(driver.core, driver.now)["stopping"] == 1
