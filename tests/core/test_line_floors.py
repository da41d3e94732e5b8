"""An intermediary that does not know of blocking queries answers each of them at once: nothing may go round for it.

It ignores ``?index``: a watch comes back with what is there, and with the index that was seen before.
"""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.core.line import FIRST_PAUSE, LONGEST_PAUSE
from consul_locker.core.requests import (
    Committed,
    KeysRead,
    NamesRead,
    Outcome,
    ReadPrefix,
    Request,
    SessionRead,
    Transact,
    Verb,
    Watch,
    WatchKey,
)

from ..told import purpose_of
from .helpers import PENDING, STRANGER, Driver, entry, held, not_ours, session_info

KEY = "svc/a/lock"
TAKEN = KeysRead((entry(KEY, STRANGER, 200),), 200)
#: The time that a request takes to the intermediary, in seconds.
ROUND_TRIP = 0.001


def key_watches(driver: Driver) -> list[Watch]:
    return [each for each in driver.all(Watch) if isinstance(each, WatchKey)]


def waiter(**options: Any) -> tuple[Driver, Any]:
    """A call that waits for a lock of a stranger's, and sees it taken."""
    driver = Driver(ttl=86_400.0, **options).ready()
    call = driver.call("lock", "a", wait=None)
    if options.get("fair"):
        lock, places = entry(KEY, STRANGER, 200), ()
        while not key_watches(driver):
            (request,) = (each for each in driver.all(Transact) if driver.purpose(each) in ("commit", "turn"))
            places = tuple(
                entry(op.key, op.session, 300, op.value) for op in request.operations if op.verb is Verb.LOCK
            )
            driver.answer(request, Committed((lock, *places)))
    else:
        driver.answer(driver.commit(), held())
        driver.answer(*_answered(key_watches(driver)[0]))
    return driver, call


def _answered(request: Request) -> tuple[Request, Outcome]:
    """What the intermediary answers, at once."""
    if isinstance(request, ReadPrefix):
        return request, NamesRead((KEY,))
    if isinstance(request, Transact):
        ours = purpose_of(request) == "audit"
        return request, Committed(()) if ours else not_ours(*range(len(request.operations)))
    assert isinstance(request, Watch)
    return request, TAKEN if isinstance(request, WatchKey) else SessionRead(session_info("S1"), 50)


def in_ten_seconds(driver: Driver, kind: type[Request]) -> int:
    """How many requests of a kind are made while the intermediary answers everything at once."""
    before, end = len(driver.sent(kind)), driver.now + 10.0
    while driver.now < end:
        due = min(driver.timers, key=lambda name: driver.timers[name])
        if driver.open and driver.now + ROUND_TRIP < driver.timers[due]:
            driver.answer(*_answered(driver.open[0]), driver.now + ROUND_TRIP)
        else:
            driver.fire(*due)
    return len(driver.sent(kind)) - before


def test_a_key_is_watched_about_once_a_second() -> None:
    driver, call = waiter()
    driver.open = key_watches(driver)
    assert 10 <= in_ten_seconds(driver, Watch) <= 20
    assert driver.result(call) is PENDING


def test_the_key_s_release_is_noticed_all_the_same() -> None:
    driver, _ = waiter()
    for _ in range(5):
        driver.answer(key_watches(driver)[0], TAKEN)
        driver.fire("pause", "a")
    driver.answer(key_watches(driver)[0], KeysRead((), 201))
    assert driver.commit().operations[0].key == KEY


def test_pauses_grow_and_begin_anew_with_news() -> None:
    driver, _ = waiter()
    pauses = []
    for index in (200, 200, 200, 200, 200, 200, 201, 201):
        driver.answer(key_watches(driver)[0], KeysRead((entry(KEY, STRANGER, index),), index))
        if not key_watches(driver):
            pauses.append(driver.timers["pause", "a"] - driver.now)
            driver.fire("pause", "a")
    shortest, longest = FIRST_PAUSE * 0.75, LONGEST_PAUSE * 0.75
    assert pauses == pytest.approx([shortest, 2 * shortest, 4 * shortest, 8 * shortest, longest, longest, shortest])


def test_who_comes_during_the_pause_waits_with_the_others() -> None:
    driver, _ = waiter()
    driver.answer(key_watches(driver)[0], TAKEN)
    driver.call("lock", "a", wait=None)
    assert key_watches(driver) == []
    driver.fire("pause", "a")
    assert [watch.index for watch in key_watches(driver)] == [200]


def test_when_nobody_waits_any_more_the_pause_is_over_and_forgotten() -> None:
    driver, call = waiter()
    driver.answer(key_watches(driver)[0], TAKEN)
    driver.abandon(call)
    assert ("pause", "a") not in driver.timers
    driver.call("lock", "a", wait=None)
    driver.answer(driver.commit(), held())
    assert [watch.index for watch in key_watches(driver)] == [0]


def test_a_fair_locker_looks_about_once_a_second() -> None:
    driver, call = waiter(fair=True)
    watches = 0
    began = driver.now
    while driver.now < began + 10.0:
        driver.answer(key_watches(driver)[0], TAKEN)
        watches += 1
        driver.fire("pause", call)
        (look,) = (each for each in driver.all(Transact) if driver.purpose(each) == "turn")
        own = next(iter(driver.core.line.contenders[call].places.values()))  # type: ignore[attr-defined]
        driver.answer(look, Committed((entry(KEY, STRANGER, 200), entry(own.key, "S1", 300))))
    assert 10 <= watches <= 20


def test_sweeps_have_a_floor() -> None:
    driver = Driver(ttl=86_400.0).ready()
    assert in_ten_seconds(driver, ReadPrefix) <= 2
