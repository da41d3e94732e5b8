"""Who leaves the queue of a fair Locker, and what others do to it."""

from __future__ import annotations

import pytest

from consul_locker.core.requests import (
    Committed,
    KeysRead,
    NamesRead,
    ReadKey,
    ReadPrefix,
    Transact,
    Verb,
    Watch,
    WatchKey,
)
from consul_locker.errors import AlreadyLocked, LockTimeout

from .fair import FREE, KEY, TAKEN, asked, fair, look, place, take_place, waiting
from .helpers import PENDING, away, failure

# --------------------------------------------------------------------------------------------- leaving


@pytest.mark.parametrize("how", ["its time is over", "its limit is over", "abandoned"])
def test_who_leaves_gives_the_place_back(how: str) -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN, wait=1.0, timeout=2.0 if how != "its limit is over" else 0.5)
    watch = driver.all(Watch)[-1]
    if how == "abandoned":
        driver.abandon(call)
        assert driver.result(call) == PENDING
    else:
        driver.fire("wait" if how == "its time is over" else "call", call)
        assert isinstance(driver.result(call), AlreadyLocked if how == "its time is over" else LockTimeout)
    assert watch not in driver.open
    leaving = driver.commit()
    assert [(op.verb, op.key) for op in leaving.operations] == [
        (Verb.CHECK_SESSION, own.key),
        (Verb.DELETE_CAS, own.key),
    ]
    driver.grant(leaving)
    assert driver.core.ledger.slots == {}
    assert driver.emitted("released", "lock_lost") == []
    assert driver.core.counters().get("released", 0) == 0


@pytest.mark.parametrize("outage_timeout", [0.0, 20.0])
def test_who_is_refused_in_an_outage_gives_the_place_back(outage_timeout: float) -> None:
    driver = fair(outage_timeout=outage_timeout)
    call, own = waiting(driver, TAKEN, wait=1.0)
    driver.answer(driver.all(Watch)[-1], KeysRead((FREE,), 206))
    driver.fire("wait", call)
    assert driver.result(call) == PENDING  # an attempt is under way: its answer decides
    driver.answer(driver.commit(), away())
    assert isinstance(driver.result(call), AlreadyLocked)
    if outage_timeout:
        driver.fire("pause")
    assert [op.key for op in driver.commit().operations] == [own.key, own.key]


def test_a_lost_session_takes_the_places_along_and_its_callers_queue_up_with_the_next() -> None:
    driver = fair()
    call, _ = waiting(driver, TAKEN)
    driver.call("reboot")
    assert [watch for watch in driver.all(Watch) if isinstance(watch, WatchKey)] == []
    driver.fire("retry")
    driver.ready("S2")
    look(driver, TAKEN)
    assert driver.commit().operations[0].session == "S2"
    assert driver.result(call) == PENDING


# ------------------------------------------------------------------------------------- what others do to it


def test_who_was_robbed_of_its_place_queues_up_at_the_end() -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN, place("B", 1, 150))
    driver.answer(driver.all(Watch)[-1], KeysRead((place(None, 1, 150),), 310))
    look(driver, TAKEN)  # a place is missing: deleted, or a server that is behind
    assert driver.result(call) == PENDING
    read = driver.one(ReadKey)
    assert (read.key, driver.purpose(read)) == (own.key, "verdict")
    driver.answer(read, KeysRead((), 311))
    again = take_place(driver, TAKEN, created=320)
    assert again.key != own.key
    assert driver.emitted("lock_lost") == []


def test_only_who_was_robbed_of_its_place_queues_up_anew() -> None:
    driver = fair()
    first, own = waiting(driver, TAKEN)
    driver.call("hold", "a", wait=None)
    robbed = take_place(driver, created=310)
    driver.core.releases.lose(driver.core.ledger.slots[f"\0{robbed.key}"], "key deleted")
    driver.call("info", "other")  # so that the step ends
    again = take_place(driver, created=320)
    assert again.key not in (own.key, robbed.key)
    assert driver.core.line.contenders[first].places["a"].key == own.key


def test_a_server_that_is_behind_costs_a_pause() -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN, place("B", 1, 150))
    driver.answer(driver.all(Watch)[-1], KeysRead((place(None, 1, 150),), 310))
    look(driver, TAKEN)
    driver.answer(driver.one(ReadKey), KeysRead((own,), 311))
    driver.fire("pause", call)
    look(driver, TAKEN, own)
    assert driver.all(Watch)[-1].name == KEY


def test_a_watch_that_fails_costs_a_pause() -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN)
    driver.answer(driver.all(Watch)[-1], failure())
    driver.fire("pause", call)
    driver.answer(asked(driver, "turn"), away())
    driver.fire("pause")
    look(driver, TAKEN, own)
    assert driver.all(Watch)[-1].name == KEY


def test_an_answer_that_nobody_waits_for_any_more_changes_nothing() -> None:
    driver = fair()
    call, own = waiting(driver, TAKEN, place("B", 1, 150))
    watch = driver.all(Watch)[-1]
    driver.answer(watch, KeysRead((place(None, 1, 150),), 310))
    late = asked(driver, "turn")
    driver.abandon(call)
    assert [each for each in driver.answer(late, Committed((FREE, own))) if isinstance(each, Transact)] == []
    assert driver.answer(watch, KeysRead((), 311)) == []


def test_after_a_restored_snapshot_a_place_of_ours_that_is_unknown_is_given_back() -> None:
    driver = fair()
    driver.core.audit.sweep()
    driver.fire("audit")
    ghost = place("S1", 5, 80)
    driver.answer(driver.one(ReadPrefix), NamesRead((ghost.key, place("B", 1, 81).key)))
    (check,) = (each for each in driver.all(Transact) if driver.purpose(each) == "sweep")
    driver.answer(check, Committed(()))
    driver.found(driver.one(ReadKey), "S1", 80)
    assert [op.key for op in driver.commit().operations] == [ghost.key, ghost.key]
