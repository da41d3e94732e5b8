"""The hint: which of many held keys were deleted, soon after it happened."""

from __future__ import annotations

import pytest

from consul_locker.core import hint as hint_module
from consul_locker.core.hint import FIRST_PAUSE, LONGEST_PAUSE, QUIET, WATCH_WAIT
from consul_locker.core.messages import CancelRequest, TimerFired
from consul_locker.core.requests import (
    Committed,
    DestroySession,
    Done,
    KeysRead,
    NamesRead,
    ReadKey,
    ReadSession,
    Refusal,
    Refused,
    RolledBack,
    SessionRead,
    Transact,
    WatchNames,
)

from .helpers import Driver, failure

IDS = ("a", "b", "c")


def holding(more_than: int = 2) -> Driver:
    """A Locker that has three locks; so many are few."""
    driver = Driver(ttl=86_400.0).ready()
    driver.core.audit.hint.more_than = more_than
    for id in IDS:
        driver.locked(id)
    return driver


def audit(driver: Driver) -> None:
    """The audit that is due finds nothing."""
    driver.fire("audit")
    for request in driver.all(Transact):
        driver.answer(request, Committed(()))


def watching() -> Driver:
    """The same, with the watch on all names."""
    driver = holding()
    audit(driver)
    audit(driver)
    assert driver.one(WatchNames)
    return driver


def names(*ids: str, index: int = 900) -> NamesRead:
    return NamesRead(tuple(f"svc/{id}/lock" for id in ids), index)


def compared(driver: Driver) -> None:
    """What was read is compared, step by step."""
    while ("names",) in driver.timers:
        assert driver.timers["names",] == driver.now
        driver.fire("names")


def rewatched(driver: Driver) -> float:
    """The next watch begins. Returns how long that took, to within the time between two audits."""
    began = driver.now
    while not driver.all(WatchNames):
        audit(driver)
    return driver.now - began


def test_while_many_locks_are_held_and_nothing_is_done_all_names_are_watched() -> None:
    driver = holding()
    audit(driver)
    assert driver.all(WatchNames) == []
    assert driver.timers["audit",] - driver.now > QUIET
    audit(driver)
    watch = driver.one(WatchNames)
    assert (watch.name, watch.wait) == ("svc/", WATCH_WAIT)
    assert watch.index == driver.core.ledger.leases["c"].fence  # nobody else's change of a key is older
    audit(driver)
    assert driver.one(WatchNames) is watch


def test_few_locks_need_no_hint() -> None:
    driver = holding(more_than=3)
    for _ in range(3):
        audit(driver)
    assert driver.all(WatchNames) == []


def test_a_busy_locker_has_no_hint() -> None:
    driver = holding()
    for number in range(3):
        audit(driver)
        driver.locked(str(number))
    assert driver.all(WatchNames) == []


@pytest.mark.parametrize("at_once", [1, 2, 10_000])
def test_a_key_that_is_not_there_any_more_is_audited_at_once(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(hint_module, "AT_ONCE", at_once)
    driver = watching()
    assert driver.answer(driver.one(WatchNames), names("a", "c"))
    compared(driver)
    request = driver.one(Transact)
    assert [op.key for op in request.operations] == ["svc/b/lock"]
    driver.answer(request, RolledBack((Refused(0, Refusal.INDEX, "failed index check"),)))
    driver.answer(driver.one(ReadKey), KeysRead((), 900))
    assert driver.emitted("lock_lost") == [("lock_lost", "key deleted")]
    assert "b" not in driver.core.ledger.leases


def test_a_lock_that_was_given_back_meanwhile_is_not_missed() -> None:
    driver = watching()
    watch = driver.one(WatchNames)
    driver.call("release", "b")
    driver.grant()
    driver.answer(watch, names("a", "c"))
    compared(driver)
    assert driver.all(Transact) == []


def test_a_lease_that_ends_before_its_key_is_checked_is_not_checked() -> None:
    driver = watching()
    driver.answer(driver.one(WatchNames), names("a", "c"))
    driver.fire("names")
    driver.call("release", "b")
    driver.grant()
    compared(driver)
    assert driver.all(Transact) == []


@pytest.mark.parametrize("answer", [names("a", "b", "c"), names(), failure()])
def test_nothing_is_missing(answer: NamesRead) -> None:
    driver = watching()
    driver.answer(driver.one(WatchNames), answer)
    compared(driver)
    assert driver.all(Transact) == []


def test_the_next_watch_goes_on_from_what_was_seen() -> None:
    driver = watching()
    driver.answer(driver.one(WatchNames), names("a", "b", "c"), driver.now + LONGEST_PAUSE)
    compared(driver)
    rewatched(driver)
    watch = driver.one(WatchNames)
    assert watch.index == 900
    driver.answer(watch, names("a", "b", index=900), driver.now + WATCH_WAIT)  # its wait is over
    assert ("names",) not in driver.timers
    rewatched(driver)
    assert driver.one(WatchNames).index == 900


def test_watches_that_end_early_make_longer_and_longer_pauses() -> None:
    driver = watching()
    pauses = []
    for index in range(900, 908):
        driver.answer(driver.one(WatchNames), names("a", "b", "c", index=index))
        pauses.append(driver.core.audit.hint._pause)
        assert rewatched(driver) >= pauses[-1]
    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, LONGEST_PAUSE, LONGEST_PAUSE, LONGEST_PAUSE]
    driver.answer(driver.one(WatchNames), names("a", "b", "c", index=910), driver.now + LONGEST_PAUSE)
    assert driver.core.audit.hint._pause == FIRST_PAUSE


def test_the_watch_ends_with_its_session() -> None:
    driver = watching()
    watch = driver.one(WatchNames)
    driver.answer(watch, names("a", "c"))
    driver.call("reboot")
    assert ("names",) not in driver.timers
    driver = watching()
    watch = driver.one(WatchNames)
    driver.call("reboot")
    assert driver.commands.count(CancelRequest(watch)) == 1
    driver.step(TimerFired(("names",)))


def test_a_stop_gives_up_the_watch_and_the_audits() -> None:
    """The destroy changes all keys."""
    driver = watching()
    watch = driver.one(WatchNames)
    driver.fire("audit")
    audited = driver.one(Transact)
    driver.call("stop")
    assert driver.commands.count(CancelRequest(watch)) == 1
    assert ("audit",) not in driver.timers
    refused = tuple(Refused(position, Refusal.INDEX, "failed index check") for position in range(3))
    driver.answer(audited, RolledBack(refused))
    assert driver.all(ReadKey) == []
    driver.answer(driver.one(DestroySession), Done())
    driver.answer(driver.one(ReadSession), SessionRead(None, 901))
    assert driver.commands.count(CancelRequest(watch)) == 1
    assert driver.core.state == "stopped"


def test_a_locker_that_was_busy_a_moment_ago_has_no_hint_yet() -> None:
    driver = holding()
    for _ in range(2):  # with more locks the parts of an audit follow each other sooner
        driver.core.audit.hint.look(0)
    driver.step(TimerFired(("nothing",)))
    assert driver.all(WatchNames) == []
