"""The ledger: all keys of a Locker, and the order of the operations on each."""

from __future__ import annotations

from collections.abc import Iterator

from ..keys import lock_id, lock_key, lock_key_of, place_key
from ..lease import PLACE, BaseLease
from .key import LockWork, Slot, Stage, Work

__all__ = ["Ledger"]


class Ledger:
    """All keys of a Locker.

    A key that is held and idle has no slot: its lease says all. So `slot` and `idle` are asked, and no slot of such a
    key is kept from one step to the next.

    Attributes:
        slots: of the keys that are neither free nor held and idle; and of places.
        leases: id -> lease, of all locks that are held; the fast path reads it.
        resting: slots of keys that are held, and perhaps idle at the end of the step.
        parting: id -> lease, of the locks without a slot whose leases have ended, of which observers are not told yet.
        tenure: the number of the last tenure.
    """

    __slots__ = ("_name", "leases", "parting", "resting", "slots", "tenure")

    def __init__(self, name: str) -> None:
        self._name = name
        self.tenure = 0
        self.slots: dict[str, Slot] = {}
        self.leases: dict[str, BaseLease] = {}
        self.parting: dict[str, BaseLease] = {}
        self.resting: list[Slot] = []

    def slot(self, id: str) -> Slot:
        """The slot of an id, made when there is none."""
        slot = self.slots.get(id)
        if slot is None:
            slot = self.slots[id] = Slot(id, lock_key(self._name, id))
            lease = self.leases.get(id)
            if lease is None and self.parting:
                lease = self.parting.pop(id, None)
            if lease is not None:
                slot.lease, slot.fence = lease, lease.fence
                self.resting.append(slot)
        return slot

    def slot_again(self, known: Slot) -> Slot:
        """The slot of a key that may have been forgotten since: the one that there is, or this one, put back."""
        if known.id in self.leases or known.id in self.parting:
            return self.slot(known.id)
        return self.slots.setdefault(known.id, known)

    def idle(self, lease: BaseLease) -> bool:
        """Whether a key still has this lease, and nothing is wanted of it."""
        slot = self.slots.get(lease.id)
        if slot is None:
            return self.leases.get(lease.id) is lease
        return slot.lease is lease and lease.live and not slot.works

    def held(self) -> list[BaseLease]:
        """The leases of all keys that are held, the latest last; those of places come after those of locks."""
        places = [slot.lease for slot in self.slots.values() if slot.is_place and slot.lease is not None]
        return [*self.leases.values(), *places]

    def rest(self) -> None:
        """At the end of a step: forget the slots of keys that are held and idle."""
        for slot in self.resting:
            if slot.works or slot.waiters or slot.doubts or slot.leftover or slot.contested or slot.lease is None:
                continue
            if self.leases.get(slot.id) is slot.lease and self.slots.get(slot.id) is slot:
                del self.slots[slot.id]
                slot.lease = None  # what still refers to it must not take it for the key's
        self.resting.clear()

    def part(self) -> None:
        """All leases have ended; observers are told later."""
        self.parting.update((id, lease) for id, lease in self.leases.items() if id not in self.slots)
        self.leases.clear()

    def clear(self) -> list[BaseLease]:
        """The session is over: all is forgotten. Returns the leases of the keys without a slot."""
        leases = [lease for id, lease in self.leases.items() if id not in self.slots]
        leases += self.parting.values()
        self.slots.clear()
        self.leases.clear()
        self.parting.clear()
        return leases

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
        id = lock_id(self._name, key) or _place_id(key)
        slot = self.slots.get(id)
        if slot is not None or id in self.leases:
            return slot is not None and slot.lease is None
        return lock_id(self._name, key) is not None or (f"/{session_id}." in key and bool(lock_key_of(key)))

    def tidy(self, slot: Slot) -> None:
        """Remove a slot that is free; one that is held and idle goes at the end of the step.

        A caller may still have a slot that was removed before; by now there may be another one for the key.
        """
        if slot.works or slot.waiters or slot.doubts or slot.leftover:
            return
        if slot.lease is not None:
            self.resting.append(slot)
        elif self.slots.get(slot.id) is slot:
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

    def want(self, work: Work) -> bool:
        """Put a work at the end of the line of each of its keys, all at once: so sets cannot block each other.

        Returns:
            Whether it is the first on all of them.
        """
        first = True
        for slot in work.keys:
            if slot.works:
                first = False
            slot.add_work(work)
        return first

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
            if slot.works:
                if slot.works[0] not in following:
                    following.append(slot.works[0])
            else:
                self.tidy(slot)
        return [next_work for next_work in following if self.startable(next_work)] if following else following

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
