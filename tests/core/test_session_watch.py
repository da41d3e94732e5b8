"""The watch on a session that is answered quickly, since other sessions are created beside it: Consul counts many of
them with one index (measured)."""

from __future__ import annotations

import pytest

from consul_locker.core.requests import ReadPrefix, SessionRead, Watch
from consul_locker.core.session_watch import WATCH_WAIT

from .helpers import Driver, session_info


def shown(driver: Driver, index: int, *, after: float = 0.01) -> None:
    """The watch shows that the session lives."""
    driver.answer(driver.one(Watch), SessionRead(session_info("S1"), index), now=driver.now + after)


def hasty(driver: Driver, answers: int = 3) -> int:
    """So many quick answers, each of which shows something new. Returns the index of the last one."""
    for index in range(100, 100 + answers):
        shown(driver, index)
    return index


@pytest.mark.parametrize("pauses", [1, 5])
def test_a_watch_goes_on_after_its_pause_from_what_it_has_seen(pauses: int) -> None:
    """A look without an index is always quick: if one followed each pause, only looks and pauses would follow."""
    driver = Driver(ttl=86_400).ready()
    seen = hasty(driver)
    for _ in range(pauses - 1):
        driver.fire("watch", "session")
        seen += 1
        shown(driver, seen)
    assert driver.all(Watch) == []
    driver.fire("watch", "session")
    assert driver.one(Watch).index == seen
    watch = driver.one(Watch)
    shown(driver, seen, after=WATCH_WAIT)  # nothing more happens
    assert driver.one(Watch).index == seen and driver.one(Watch) is not watch
    assert ("watch", "session") not in driver.timers


def test_a_snapshot_restored_during_the_pause_is_not_missed() -> None:
    """The query with an index would not show it: locks that it brought back are looked for in any case."""
    driver = Driver().ready()
    hasty(driver)
    assert driver.all(ReadPrefix) == []
    driver.fire("watch", "session")
    assert len(driver.all(ReadPrefix)) == 1


def test_after_a_failure_the_watch_begins_at_nought() -> None:
    driver = Driver().ready()
    hasty(driver)
    driver.fire("watch", "session")
    driver.answer(driver.one(Watch), SessionRead(None, 200))
    driver.fire("watch", "session")
    assert driver.one(Watch).index == 0
