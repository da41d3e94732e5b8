"""The ledger: what this Locker knows of each key, and the order of its operations on it.

For each key there is a `Slot`: the lease held, the operations wanted in order (the first of them is
under way, and none of them is sent before the one ahead of it was answered, rule 6), the calls that
wait, and the doubts: tenures of acquires whose outcome is unknown (rule 5).

The state of a slot:

=========  ======================================================
free       no lease, nothing wanted
acquiring  the first wanted operation is a lock
held       a lease, nothing wanted
releasing  the first wanted operation is a release
unknown    a doubt, or a release that was not confirmed
=========  ======================================================
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum

from .messages import Call, Entry
from ..keys import lock_key, lock_key_of, place_key
from ..types import BaseLease

__all__ = ["Kind", "Ledger", "Slot", "Work"]


class Kind(Enum):
    """What a `Work` wants of its keys."""

    LOCK = "lock"
    RELEASE = "release"


class Work:
    """One operation wanted on one key, or on several at once (`lock_many`).

    Attributes:
        calls: whose outcome it decides; callers who share it are added while it is wanted or in flight.
        exclusive: whether the grant is a hold.
        many: whether it is a set that is never split: a transaction of its own.
        places: places in the queues of a fair Locker that it gives back when it is granted.
        shows: whether it takes places, and its answer is to show how their queues stand.
        tenure: the number of the tenure that a lock writes into the key (rule 4).
        lease: the lease that a release ends, or None when it ends what was found in Consul.
        index: the ModifyIndex that a release is guarded by; None until it is known.
        started: whether it is the first of all its slots, and under way.
        reading: whether the key is being read for a release, whose index is not known, or was refused.
        rounds: how many transactions with it were rolled back because of others.
        limit: at most so many works may be in a transaction with it.
    """

    __slots__ = (
        "calls",
        "exclusive",
        "index",
        "kind",
        "lease",
        "limit",
        "many",
        "places",
        "reading",
        "rounds",
        "sent",
        "shows",
        "slots",
        "started",
        "tenure",
    )

    def __init__(
        self,
        kind: Kind,
        slots: tuple[Slot, ...],
        calls: list[Call],
        limit: int,
        exclusive: bool = False,
        places: tuple[Slot, ...] = (),
    ) -> None:
        self.kind = kind
        self.slots = slots
        self.places = places
        self.shows = False
        self.calls = calls
        self.exclusive = exclusive
        self.many = len(slots) > 1
        self.tenure = 0
        self.lease: BaseLease | None = None
        self.index: int | None = None
        self.started = False
        self.sent = False
        self.rounds = 0
        self.limit = limit
        self.reading = False

    @property
    def keys(self) -> tuple[Slot, ...]:
        """All that it changes, and that nothing else may change meanwhile (rule 6)."""
        return self.slots + self.places

    def live(self) -> list[Call]:
        """The calls that still want an answer."""
        return [call for call in self.calls if not call.settled]


class Slot:
    """One key. See the module's description."""

    __slots__ = ("doubts", "entry", "id", "key", "lease", "leftover", "place_for", "queue", "waiters")

    def __init__(self, id: str, key: str, place_for: str = "") -> None:
        self.id = id
        self.key = key
        self.place_for = place_for  # the id of the lock in whose queue it is a place; empty for a lock
        self.lease: BaseLease | None = None
        self.queue: deque[Work] = deque()
        self.waiters: list[Call] = []  # in the order in which they came
        # Tenures that may still be granted; a negative one is never seen, so it stays until the generation ends.
        self.doubts: set[int] = set()
        self.leftover = False  # Consul may show our session here although there is no lease
        self.entry: Entry | None = None  # the foreign holder, as last seen

    @property
    def state(self) -> str:
        """The slot's state, one of those above."""
        if self.queue:
            return "acquiring" if self.queue[0].kind is Kind.LOCK else "releasing"
        if self.lease is not None:
            return "held"
        return "unknown" if self.doubts or self.leftover else "free"


class Ledger:
    """All slots of a Locker.

    Attributes:
        slots: the slots that say anything; a free one is forgotten.
        leases: id -> lease, of the leases that callers may share; what the fast path looks into.
    """

    def __init__(self, name: str, max_ops: int) -> None:
        self._name = name
        self._max_ops = max_ops
        self._tenure = 0
        self.slots: dict[str, Slot] = {}
        self.leases: dict[str, BaseLease] = {}

    def slot(self, id: str) -> Slot:
        """The slot of an id, made when there is none."""
        slot = self.slots.get(id)
        if slot is None:
            slot = self.slots[id] = Slot(id, lock_key(self._name, id))
        return slot

    def place(self, lock: Slot, session_id: str) -> Slot:
        """A new place in the queue of a lock, for a fair Locker."""
        return self._place(place_key(lock.key, session_id, self.next_tenure()), lock.id)

    def _place(self, key: str, lock_id: str) -> Slot:
        # No id of a user's has a NUL in it.
        return self.slots.setdefault(f"\0{key}", Slot(f"\0{key}", key, lock_id))

    def slot_of(self, key: str) -> Slot | None:
        """The slot of a key of this Locker's name, a lock's or a place's; made when there is none. None: neither."""
        prefix, lock = f"{self._name}/", lock_key_of(key)
        if lock:
            return self._place(key, lock[len(prefix) : -len("/lock")])
        return self.slot(key[len(prefix) : -len("/lock")]) if key.endswith("/lock") else None

    def tidy(self, slot: Slot) -> None:
        """Forget a slot that says nothing.

        One that was forgotten before may be in somebody's hands yet; another may stand in its place by now.
        """
        if slot.lease is not None or slot.queue or slot.waiters or slot.doubts or slot.leftover:
            return
        if self.slots.get(slot.id) is slot:
            del self.slots[slot.id]

    def next_tenure(self) -> int:
        """A number that no acquire of this Locker has had (rule 4)."""
        self._tenure += 1
        return self._tenure

    def want(
        self,
        kind: Kind,
        slots: tuple[Slot, ...],
        calls: list[Call],
        exclusive: bool = False,
        places: tuple[Slot, ...] = (),
    ) -> Work:
        """Put an operation at the end of the line of each of its keys, in one go: sets cannot cross."""
        work = Work(kind, slots, calls, self._max_ops, exclusive, places)
        for slot in work.keys:
            slot.queue.append(work)
        return work

    def startable(self, work: Work) -> bool:
        """Whether it is first in line on all its keys, and not yet under way."""
        return not work.started and all(slot.queue and slot.queue[0] is work for slot in work.keys)

    def finish(self, work: Work) -> list[Work]:
        """Take an operation off its lines.

        Returns:
            The operations that are first in line now.
        """
        following: list[Work] = []
        for slot in work.keys:
            if work in slot.queue:
                slot.queue.remove(work)
            if slot.queue and slot.queue[0] not in following:
                following.append(slot.queue[0])
            self.tidy(slot)
        return [next_work for next_work in following if self.startable(next_work)]

    def grant(self, slot: Slot, lease: BaseLease) -> None:
        """The slot is held from now on."""
        slot.lease = lease
        slot.entry = None
        if not slot.place_for:
            self.leases[slot.id] = lease

    def drop(self, slot: Slot) -> BaseLease | None:
        """The slot is held no longer; its lease is no longer given to anybody."""
        lease, slot.lease = slot.lease, None
        self.leases.pop(slot.id, None)
        return lease

    def works(self) -> Iterator[Work]:
        """All wanted operations, each once."""
        seen: set[int] = set()
        for slot in self.slots.values():
            for work in slot.queue:
                if id(work) not in seen:
                    seen.add(id(work))
                    yield work
