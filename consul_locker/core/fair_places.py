"""A call that stands in the queue of a fair Locker, whose turn it is there, and what the queue needs of the locks.

See queue.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import NamedTuple, Protocol

from ..errors import ConsulLockerError
from ..keys import is_place, place_number
from ..lease import BaseLease
from .batch import MAX_OPS
from .ledger import Slot, Work
from .line import Asker
from .messages import Call
from .requests import Entry, Transact, Watch

__all__ = ["Standing", "Steward", "Turn", "packed", "queue_of", "turn_of"]


class Steward(Asker, Protocol):
    """What the queue needs of `Grants`."""

    def take_places(self, places: tuple[Slot, ...], errand: Call, show: bool) -> Work:
        """Ask for places, all or none; `Queue.placed` or `Queue.not_placed` follows, unless the errand is settled.

        ``show``: the answer shows how the queues stand.
        """

    def leave_place(self, place: Slot) -> None:
        """Give a place back."""

    def given_back(self, place: Slot) -> None:
        """A place was given back by another operation than its own."""

    def withdraw(self, work: Work) -> None:
        """Take an operation back if it was not sent yet; one that was sent is given back when it is answered."""

    def refuse_queued(self, call: Call, slots: list[Slot], lock: Entry | None) -> None:
        """Refuse a call that does not wait; ``lock`` is the first slot's key, where it is there."""

    def fail(self, call: Call, slots: Iterable[Slot], error: ConsulLockerError) -> None:
        """Answer a call with an error."""

    def release_found(self, slot: Slot, index: int) -> None:
        """Give back what is ours in Consul and has no lease."""

    def suspect(self, slot: Slot) -> None:
        """Something spoke against the lease of a key: have it read."""


class Standing:
    """A call that waits, and what it waits for: a look, a watch, a pause, or its places. None of these: `Queue.serve`.

    Attributes:
        call: the call.
        slots: the locks that it wants.
        places: its place in the queue of each of them, by the lock's id; empty as long as it has none.
        work: the operation that takes its places; ``errand`` stands for the call in it.
        look: whether it is to be looked whose turn it is.
        asked: the look that was sent.
        watch: the query on what is before it.
        paused: whether it makes a pause before the next attempt; ``pauses``: how many it made in a row.
        asking: whether it is its turn, and the lock is asked for.
        blocked: the first of its locks that it could not have when it was looked last.
        polled: whether Consul does not let us watch what is before it: it is looked again and again instead.
        doubtful: the lease that this Locker has of a lock for which Consul refused the call: it is lost, most likely.
    """

    __slots__ = (
        "asked",
        "asking",
        "blocked",
        "call",
        "doubtful",
        "errand",
        "look",
        "paused",
        "pauses",
        "places",
        "polled",
        "slots",
        "watch",
        "work",
    )

    def __init__(self, call: Call, slots: tuple[Slot, ...]) -> None:
        self.call = call
        self.slots = slots
        self.places: dict[str, Slot] = {}
        self.work: Work | None = None
        self.errand: Call | None = None
        self.look = False
        self.asked: Transact | None = None
        self.watch: Watch | None = None
        self.paused = False
        self.pauses = 0
        self.asking = False
        self.blocked: Slot | None = None
        self.polled = False
        self.doubtful: BaseLease | None = None

    def shares(self, slot: Slot) -> bool:
        """Whether this Locker has the lock already, and the call shares it: who waits for it waits for this Locker."""
        lease = slot.lease
        return (
            lease is not None
            and not slot.works  # it may be about to be given back
            and not lease.exclusive
            and lease is not self.doubtful
            and self.call.verb in ("lock", "lock_many")
        )

    @property
    def queues(self) -> bool:
        """Whether it has places, or will have them."""
        return bool(self.places) or self.work is not None

    def turn(self, lock: Slot) -> tuple[float, float]:
        """The order of its place in the queue of a lock; infinite while it has none."""
        place = self.places.get(lock.id)
        if place is None or place.lease is None:
            return inf, inf
        return place.lease.fence, place_number(place.key)  # nothing has changed it, so this is its CreateIndex

    @property
    def looking(self) -> bool:
        """Whether it came just now, and has not been told to wait."""
        return not self.places and (self.look or self.asked is not None)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way that will tell when to go on."""
        return not (self.look or self.asked or self.watch or self.paused or self.work or self.asking)


def packed(standings: Iterable[Standing]) -> list[list[Standing]]:
    """Those who look, in parts whose looks fit into one transaction each."""
    parts: list[list[Standing]] = []
    room = 0
    for standing in standings:
        if len(standing.slots) > room:
            parts.append([])
            room = MAX_OPS
        parts[-1].append(standing)
        room -= len(standing.slots)
    return parts


class Turn(NamedTuple):
    """What the keys of a call's locks, and of the places in their queues, say of its turn.

    Attributes:
        lost: a place of its own that is not there, or a lock that it shares and that this Locker does not have:
            deleted by somebody, or the server is behind. Then nothing else is said.
        blocked: the locks that it cannot have now, since others wait before it, or somebody else has them.
        before: the key that it waits for: the last place before its own, or, where nobody waits before it, the lock.
            None: it is its turn.
    """

    lost: Slot | None
    blocked: list[Slot]
    before: Entry | None


def turn_of(
    standing: Standing, locks: Mapping[str, Entry], queues: Iterable[list[Entry]], session_id: str
) -> Turn:
    """Whether it is a call's turn.

    Args:
        standing: the call.
        locks: the entries of its locks, by key.
        queues: of each of its locks, the entries of the places in its queue, as `queue_of` has them.
        session_id: the session of its Locker.
    """
    blocked: list[Slot] = []  # the locks that cannot be had now,
    ahead: list[Entry] = []  # since others wait before us: the last of them in each queue,
    closed: list[Entry] = []  # or, where nobody does, since somebody else has the lock
    for slot, queue in zip(standing.slots, queues, strict=True):
        live = [entry for entry in queue if entry.session is not None]
        place = standing.places.get(slot.id)
        if place is not None:
            own = next((at for at, entry in enumerate(live) if entry.key == place.key), None)
            if own is None:
                return Turn(place, [], None)
            live = live[:own]
        lock = locks.get(slot.key)
        if standing.shares(slot):
            if lock is not None and lock.session == session_id:
                continue
            if place is not None:
                return Turn(slot, [], None)  # taken as shared, it would be asked for before those who wait for it
        if live:
            blocked.append(slot)
            ahead.append(live[-1])
        elif lock is not None and lock.session not in (None, session_id):
            blocked.append(slot)
            closed.append(lock)
    return Turn(None, blocked, next(iter(ahead + closed), None))


def queue_of(lock: str, entries: Iterable[Entry]) -> list[Entry]:
    """The places in the queue of a lock, also those of sessions that have ended, in their order."""
    return sorted((entry for entry in entries if is_place(entry.key, lock)), key=_order)


def _order(entry: Entry) -> tuple[int, int]:
    """The order of places: as they were made; those of one transaction, all of one Locker, by their number."""
    return entry.create_index, place_number(entry.key)
