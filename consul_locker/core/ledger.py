"""The ledger: all keys of a Locker, and the order of the operations on each."""

from __future__ import annotations

from collections.abc import Iterator

from ..keys import lock_id, lock_key, lock_key_of, place_key
from ..lease import PLACE, BaseLease
from .key import LockWork, Slot, Stage, Work

__all__ = ["Ledger"]


class Ledger:
    """All slots of a Locker.

    Attributes:
        slots: all slots that are not free.
        leases: id -> lease, of the leases that calls may share; the fast path reads it.
        tenure: the number of the last tenure.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.tenure = 0
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

    def _place(self, key: str, lock: str) -> Slot:
        slot = self.slots[_place_id(key)] = Slot(_place_id(key), key, lock)
        return slot

    def slot_of(self, key: str) -> Slot | None:
        """The slot of a key below this Locker's name, made when there is none; None if it is no lock and no place."""
        known = self.slots.get(_place_id(key))
        if known is not None:
            return known
        lock = lock_key_of(key)
        id = lock_id(self._name, lock or key)
        if id is None:
            return None
        return self._place(key, id) if lock else self.slot(id)

    def may_be_unknown(self, key: str, session_id: str) -> bool:
        """Whether the session may have this key although there is no lease: a lock, or a place of this session."""
        slot = self.slots.get(lock_id(self._name, key) or _place_id(key))
        if slot is not None:
            return slot.lease is None
        return lock_id(self._name, key) is not None or (f"/{session_id}." in key and bool(lock_key_of(key)))

    def tidy(self, slot: Slot) -> None:
        """Remove a slot that is free.

        A caller may still have a slot that was removed before; by now there may be another one for the key.
        """
        if slot.lease is not None or slot.works or slot.waiters or slot.doubts or slot.leftover:
            return
        if self.slots.get(slot.id) is slot:
            del self.slots[slot.id]

    def next_tenure(self) -> int:
        """The number of a new tenure; each acquire of this Locker has its own (rule 4)."""
        self.tenure += 1
        return self.tenure

    def tenures_of(self, work: LockWork) -> tuple[int, ...]:
        """The numbers of the tenures that a lock writes into its keys (rules 4 and 5).

        A key in doubt keeps its number, so that a late copy of the acquire in doubt changes nothing under the new
        tenure. But a late copy of a release must not free the new tenure, and the old lease must not seem to be the
        new one: then the number is new.
        """
        tenures: list[int] = []
        new = 0
        for slot in work.slots:
            if work.many and slot.lease is not None:
                tenures.append(0)
            elif slot.lease is None and slot.doubts and not (slot.leftover and max(slot.doubts) <= slot.unsure):
                tenures.append(max(slot.doubts))
            else:
                new = new or self.next_tenure()
                tenures.append(new)
        return tuple(tenures)

    def want(self, work: Work) -> None:
        """Put a work at the end of the line of each of its keys, all at once: so sets cannot block each other."""
        for slot in work.keys:
            slot.add_work(work)

    def startable(self, work: Work) -> bool:
        """Whether it is first in line on all its keys, and not yet under way."""
        return work.stage is Stage.IN_LINE and all(slot.works and slot.works[0] is work for slot in work.keys)

    def finish(self, work: Work) -> list[Work]:
        """Remove a work from its lines.

        Returns:
            The works that are first in line now, and not under way yet.
        """
        following: list[Work] = []
        for slot in work.keys:
            if work in slot.works:
                slot.remove_work(work)
            if slot.works and slot.works[0] not in following:
                following.append(slot.works[0])
            self.tidy(slot)
        return [next_work for next_work in following if self.startable(next_work)]

    def grant(self, slot: Slot, lease: BaseLease) -> None:
        """The slot is held from now on."""
        slot.lease = lease
        slot.entry = None
        slot.fence = lease.fence
        if not slot.is_place:
            self.leases[slot.id] = lease

    def drop(self, slot: Slot) -> None:
        """The slot is held no longer; its lease answers no call from now on."""
        slot.lease = slot.contested = None
        self.leases.pop(slot.id, None)

    def works(self) -> Iterator[Work]:
        """All wanted operations, each once."""
        seen: set[Work] = set()
        for slot in self.slots.values():
            for work in slot.works:
                if work not in seen:
                    seen.add(work)
                    yield work


def _place_id(key: str) -> str:
    """The id of the slot of a place."""
    return PLACE + key
