"""Whose turn it is in the queue of a fair Locker."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from consul_locker.core.calls import Lock
from consul_locker.core.fair_places import MOST_BUSY, BusyLocks, Contender, Turn, queue_of, turn_of, waiters_of
from consul_locker.core.key import Slot
from consul_locker.core.requests import Entry, WatchKey

from .fair import FREE, KEY, TAKEN, place
from .helpers import entry

B, C, DEAD, OWN = place("B", 1, 150), place("C", 1, 160), place(None, 2, 120), place("S1", 3, 155)


@pytest.mark.parametrize(
    ("found", "before"),
    [
        ((), None),
        ((FREE,), None),
        ((entry(KEY, "S1", 200),), None),  # by another caller of this Locker, whose end is known here
        ((TAKEN,), TAKEN),
        ((FREE, B), B),
        ((TAKEN, C, B), C),
        ((TAKEN, DEAD), TAKEN),
    ],
)
def test_whose_turn_it_is_without_a_place(found: tuple[Entry, ...], before: Entry | None) -> None:
    slot = Slot("a", KEY)
    turn = turn_of(Contender(Lock(("a",)), (slot,)), {each.key: each for each in found}, [_queue(found)], "S1")
    assert turn == Turn(None, [] if before is None else [slot], before)


@pytest.mark.parametrize(
    ("found", "before"),
    [((OWN,), None), ((FREE, OWN, C), None), ((TAKEN, C, OWN), TAKEN), ((TAKEN, C, OWN, B, DEAD), B)],
)
def test_whose_turn_it_is_with_a_place(found: tuple[Entry, ...], before: Entry | None) -> None:
    slot = Slot("a", KEY)
    standing = Contender(Lock(("a",)), (slot,))
    standing.places = {"a": Slot("place", OWN.key, "a")}
    turn = turn_of(standing, {each.key: each for each in found}, [_queue(found)], "S1")
    assert turn == Turn(None, [] if before is None else [slot], before)
    assert turn_of(standing, {}, [_queue([TAKEN, B])], "S1") == Turn(standing.places["a"], [], None)


@pytest.mark.parametrize(
    ("found", "waiters"),
    [
        ([TAKEN, C, B, DEAD], [B, C]),
        ([entry(KEY, "B", 151), C, B], [C]),  # who has the lock keeps the place with which it was got
        ([entry(KEY, "B", 149), C, B], [B, C]),  # got without a place; another caller of that Locker waits
        ([entry(KEY, "C", 200), C, B], [B, C]),  # was faster than the queue
        ([FREE, B], [B]),
        ([TAKEN], []),
    ],
)
def test_who_waits_for_a_lock(found: list[Entry], waiters: list[Entry]) -> None:
    assert waiters_of(KEY, found) == waiters


def test_a_lock_is_busy_while_others_wait_for_it_or_have_it() -> None:
    slot = Slot("a", KEY)
    standing = Contender(Lock(("a",)), (slot,))
    standing.places = {"a": Slot("place", OWN.key, "a")}
    busy = BusyLocks()
    for queue, blocked, expected in [([OWN], [slot], True), ([OWN, DEAD], [], False), ([OWN, C], [], True)]:
        busy.note(standing, [queue], blocked)
        assert busy.has(["b", "a"]) == expected
    standing.watch = WatchKey(1, KEY, 0, 10.0)
    busy.note(standing, [[OWN]], [])
    assert busy.has(["a"])  # others may have come and gone while it waited, and come again
    standing.watch = None
    standing.places = {}
    busy.note(standing, [[]], [])
    assert not busy.has(["a"])


def test_so_many_locks_are_known_as_busy_at_most() -> None:
    busy = BusyLocks()
    for number in range(MOST_BUSY + 1):
        slot = Slot(str(number), KEY)
        busy.note(Contender(Lock((slot.id,)), (slot,)), [[B]], [])
    assert busy.has([str(MOST_BUSY - 1)]) and not busy.has([str(MOST_BUSY)])


def _queue(found: Iterable[Entry]) -> list[Entry]:
    return queue_of(KEY, found)
