"""A call in the queue of a fair Locker (`Contender`), and whose turn it is (`turn_of`).

fair_line.py keeps the calls and moves them on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import Enum
from math import inf
from typing import NamedTuple

from ..keys import is_place, place_number
from .calls import Lock, LockCall, TakePlaces
from .key import LockWork, Slot
from .requests import Entry, Transact, WatchKey

__all__ = [
    "MOST_AHEAD",
    "MOST_BUSY",
    "STANDINGS",
    "BusyLocks",
    "Contender",
    "Move",
    "Standing",
    "Turn",
    "leader",
    "queue_of",
    "sharer",
    "successor_of",
    "turn_of",
    "waiters_of",
]

#: So many locks are known as busy at most: some 100 KB. One that is not known costs one request more.
MOST_BUSY = 1024
#: Behind so many others at most a lock is asked for without a look: half of a transaction's operations.
MOST_AHEAD = 32


class Standing(Enum):
    """What a call in the queue waits for."""

    IDLE = "for `FairLine.serve`: nothing is under way that will move it on"
    READ_DUE = "a turn read is to be sent at the end of the step"
    READING = "a turn read was sent, and not answered yet"
    WATCHING = "a query on what is before it"
    PAUSED = "a pause before the next turn read"
    TAKING = "its places are being taken"
    TURN = "it is its turn, and the lock is being taken"


class Move(Enum):
    """What happens to a call in the queue."""

    READ = "it is to read whether it is its turn"
    SENT = "its turn read was sent"
    WATCH = "what is before it is watched"
    PAUSE = "a pause begins"
    TAKE = "places are taken for it"
    CAME = "what it waited for came, or failed"
    CLEAR = "something else follows: what it waited for is wanted no more"
    TURN = "it is its turn"
    BACK = "it did not get the lock, and is in the line again"


#: The standing of a call after a move. No other pair occurs: it would be a KeyError.
STANDINGS = {
    (Standing.IDLE, Move.READ): Standing.READ_DUE,
    (Standing.IDLE, Move.WATCH): Standing.WATCHING,
    (Standing.IDLE, Move.PAUSE): Standing.PAUSED,
    (Standing.IDLE, Move.TAKE): Standing.TAKING,
    (Standing.IDLE, Move.TURN): Standing.TURN,
    (Standing.IDLE, Move.CLEAR): Standing.IDLE,
    (Standing.READ_DUE, Move.SENT): Standing.READING,
    (Standing.READ_DUE, Move.CLEAR): Standing.IDLE,
    (Standing.READING, Move.SENT): Standing.READING,  # once more, with fewer others
    (Standing.READING, Move.CAME): Standing.IDLE,
    (Standing.READING, Move.CLEAR): Standing.IDLE,
    (Standing.WATCHING, Move.CAME): Standing.IDLE,
    (Standing.WATCHING, Move.CLEAR): Standing.IDLE,
    (Standing.PAUSED, Move.CAME): Standing.IDLE,
    (Standing.PAUSED, Move.CLEAR): Standing.IDLE,
    (Standing.TAKING, Move.CAME): Standing.IDLE,
    (Standing.TURN, Move.BACK): Standing.IDLE,
}


class Contender:
    """A call that waits, and what it waits for.

    Attributes:
        call: the call.
        slots: the locks that it wants.
        standing: what it waits for.
        places: its place in the queue of each of them, by the lock's id; empty as long as it has none.
        work: the operation that takes its places; in it, ``place_call`` stands for the call.
        turn_read: the turn read that was sent last.
        watch: the query on what is before it that was sent last.
        pauses: how many pauses it made in a row.
        blocked: the first of its locks that it could not have at the last turn read.
        ahead: the keys of the places before its own, when it took it; empty if there are more than `MOST_AHEAD`, or
            other calls of this Locker among them.
        polled: whether Consul refuses a watch on what is before it: then the queue is read after pauses instead.
    """

    __slots__ = (
        "ahead",
        "blocked",
        "call",
        "pauses",
        "place_call",
        "places",
        "polled",
        "slots",
        "standing",
        "turn_read",
        "watch",
        "work",
    )

    def __init__(self, call: LockCall, slots: tuple[Slot, ...]) -> None:
        self.call = call
        self.slots = slots
        self.standing = Standing.IDLE
        self.places: dict[str, Slot] = {}
        self.work: LockWork | None = None
        self.place_call: TakePlaces | None = None
        self.turn_read: Transact | None = None
        self.watch: WatchKey | None = None
        self.pauses = 0
        self.blocked: Slot | None = None
        self.ahead: tuple[str, ...] = ()
        self.polled = False

    def note_ahead(self, entries: Iterable[Entry]) -> None:
        """Its place was taken, and the answer showed the queue. Who comes later stands behind it."""
        self.ahead = ()
        if len(self.slots) == 1:
            (lock,) = self.slots
            queue = [entry for entry in queue_of(lock.key, entries) if entry.session is not None]
            own = next(entry for entry in queue if entry.key == self.places[lock.id].key)
            ahead = queue[: queue.index(own)]
            if len(ahead) <= MOST_AHEAD and all(entry.session != own.session for entry in ahead):
                self.ahead = tuple(entry.key for entry in ahead)

    def go(self, move: Move) -> None:
        """Something happens to it."""
        self.standing = STANDINGS[self.standing, move]

    @property
    def has_turn(self) -> bool:
        """Whether it is its turn."""
        return self.standing is Standing.TURN

    def reads(self, request: Transact) -> bool:
        """Whether it waits for the answer to this turn read."""
        return self.standing is Standing.READING and self.turn_read is request

    def shares(self, slot: Slot) -> bool:
        """Whether this Locker has the lock already, and the call may share it."""
        lease = slot.lease
        return (
            lease is not None
            and not slot.works  # it may be about to be given back
            and not lease.exclusive
            and lease is not slot.contested
            and not self.call.exclusive
        )

    @property
    def queues(self) -> bool:
        """Whether it has places, or is taking them."""
        return bool(self.places) or self.standing is Standing.TAKING

    def turn(self, lock: Slot) -> tuple[float, float]:
        """Where its place is in the queue of a lock, as a value to sort by; infinite while it has none."""
        place = self.places.get(lock.id)
        if place is None or place.lease is None:
            return inf, inf
        return place.lease.fence, place_number(place.key)  # nothing has changed it, so this is its CreateIndex

    @property
    def is_new(self) -> bool:
        """Whether it came just now: its first turn read is not answered yet."""
        return not self.places and self.standing in (Standing.READ_DUE, Standing.READING)


class BusyLocks:
    """The locks for which others waited when their queues were read last.

    Whoever wants one of them takes a place at once, without a look before. If nobody waits any more, that costs as many
    requests as the look.
    """

    def __init__(self) -> None:
        self._ids: set[str] = set()

    def has(self, ids: Iterable[str]) -> bool:
        """Whether one of these locks is busy."""
        return not self._ids.isdisjoint(ids)

    def note(self, contender: Contender, queues: Iterable[Iterable[Entry]], blocked: Collection[Slot]) -> None:
        """The queues of the locks of a call were read; ``blocked``: those of them that it cannot have now."""
        for slot, queue in zip(contender.slots, queues, strict=True):
            place = contender.places.get(slot.id)
            own = place.key if place is not None else None
            if slot not in blocked and not any(entry.session and entry.key != own for entry in queue):
                if contender.watch is None:  # it came just now; else those who came with it may come again as well
                    self._ids.discard(slot.id)
            elif len(self._ids) < MOST_BUSY:
                self._ids.add(slot.id)


def leader(contender: Contender, line: Iterable[Contender]) -> Contender | None:
    """The call of `lock` in the line that has a place which ``contender`` shares, if there is one."""
    if not isinstance(contender.call, Lock):
        return None
    sharing = (other for other in line if isinstance(other.call, Lock) and other.queues)
    return next((other for other in sharing if other is not contender), None)


def successor_of(contender: Contender, line: Iterable[Contender]) -> Contender | None:
    """The first call in the line that shared the place of ``contender``, which leaves, and so takes it over."""
    if not isinstance(contender.call, Lock):
        return None
    others = (other for other in line if isinstance(other.call, Lock))
    return next((other for other in others if other.standing is not Standing.TAKING and not other.is_new), None)


def sharer(lock: Slot, line: Iterable[Contender]) -> Contender | None:
    """The first call in the line that shares the lease that this Locker has of the lock."""
    if lock.lease is None or lock.lease.exclusive:
        return None  # there is nothing to share: do not go through the line, which may be long
    return next((one for one in line if isinstance(one.call, Lock) and one.shares(lock)), None)


class Turn(NamedTuple):
    """Whether it is a call's turn, as a turn read shows it.

    Attributes:
        lost: a place of its own that is missing, or a lock that it shares and that this Locker does not have:
            it was deleted, or the server is behind. Then the rest is empty.
        blocked: the locks that it cannot have now: other calls wait before it, or another session has them.
        before: the key that it waits for: the last place before its own; without one, the lock. None: it is its turn.
    """

    lost: Slot | None
    blocked: list[Slot]
    before: Entry | None


def turn_of(
    contender: Contender, locks: Mapping[str, Entry], queues: Iterable[list[Entry]], session_id: str
) -> Turn:
    """Whether it is a call's turn.

    Args:
        contender: the call.
        locks: the entries of its locks, by key.
        queues: of each of its locks, the entries of the places in its queue, as `queue_of` has them.
        session_id: the session of its Locker.
    """
    blocked: list[Slot] = []  # the locks that the call cannot have now
    ahead: list[Entry] = []  # the last place before its own, in each queue that has one
    closed: list[Entry] = []  # where there is none, the lock that another session has
    for slot, queue in zip(contender.slots, queues, strict=True):
        live = [entry for entry in queue if entry.session is not None]
        place = contender.places.get(slot.id)
        if place is not None:
            own = next((at for at, entry in enumerate(live) if entry.key == place.key), None)
            if own is None:
                return Turn(place, [], None)
            live = live[:own]
        lock = locks.get(slot.key)
        if contender.shares(slot):
            if lock is not None and lock.session == session_id:
                continue
            if place is not None:
                return Turn(slot, [], None)  # counted as shared, it would be locked before the calls that wait for it
        if live:
            blocked.append(slot)
            ahead.append(live[-1])
        elif lock is not None and lock.session not in (None, session_id):
            blocked.append(slot)
            closed.append(lock)
    return Turn(None, blocked, next(iter(ahead + closed), None))


def queue_of(lock: str, entries: Iterable[Entry]) -> list[Entry]:
    """The places in the queue of a lock, in their order; those of ended sessions too."""
    return sorted((entry for entry in entries if is_place(entry.key, lock)), key=_order)


def waiters_of(lock: str, entries: Sequence[Entry]) -> list[Entry]:
    """The places of those who wait for a lock: without those of ended sessions, and that of who has the lock.

    That one is the first, and was taken before the lock was.
    """
    queue = [entry for entry in queue_of(lock, entries) if entry.session is not None]
    held = next((entry for entry in entries if entry.key == lock and entry.session is not None), None)
    if held is not None and queue and queue[0].session == held.session and queue[0].create_index < held.modify_index:
        del queue[0]
    return queue


def _order(entry: Entry) -> tuple[int, int]:
    """The order of places: by CreateIndex. Those of one transaction, all of one Locker, by their number."""
    return entry.create_index, place_number(entry.key)
