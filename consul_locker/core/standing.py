"""A call that stands in the queue of a fair Locker, and what the queue needs of the locks; see queue.py."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Protocol

from .ledger import Slot, Work
from .messages import Call, Entry, Transact, Watch
from .waiting import Asker
from ..errors import ConsulLockerError
from ..keys import place_number
from ..types import BaseLease

__all__ = ["Standing", "Steward"]


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
        slots: the locks that it wants.
        places: its place in the queue of each of them, by the lock's id; empty as long as it has none.
        work: the operation that takes its places; ``errand`` stands for the call in it.
        look: whether it is to be looked whose turn it is.
        asked: the look that was sent.
        asking: whether it is its turn, and the lock is asked for.
        blocked: the first of its locks that it could not have when it was looked last.
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
