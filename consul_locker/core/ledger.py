"""The ledger: what this Locker knows of each key, and the order of its operations on it.

For each key there is a `Slot`. It has the lease held, the works (wanted operations) in order, the calls that wait, and
the doubts: tenures of acquires whose outcome is unknown (rule 5). Only the first work is under way: none is sent before
the one ahead of it was answered (rule 6). A key that is held and idle has a lease and nothing else, so what holds the
rest is made when it is needed.

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

from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Union

from ..keys import lock_id, lock_key, lock_key_of, place_key
from ..lease import BaseLease
from .calls import Call, LockCall, ReleaseCall
from .requests import Entry

__all__ = ["Ledger", "LockWork", "ReleaseWork", "Slot", "Work"]


class _Work:
    """One operation wanted on one key, or on several at once.

    Attributes:
        slots: the keys that it locks, or the one that it releases.
        started: whether it is under way: it became the first work of all its slots.
        sent: whether it is in a transaction that was sent, and cannot be taken back.
        landings: how many transactions with it Consul may have processed: sent, and not refused unread.
        rounds: how many transactions with it were rolled back because of others.
        failures: how many transactions with it failed by an outage.
        unanswered: whether one of them may still be done, or was done unseen.
        limit: the most works in a transaction with it.
    """

    __slots__ = ("failures", "landings", "limit", "rounds", "sent", "slots", "started", "unanswered")

    def __init__(self, slots: tuple[Slot, ...], limit: int) -> None:
        self.slots = slots
        self.started = False
        self.sent = False
        self.landings = 0
        self.rounds = 0
        self.failures = 0
        self.unanswered = False
        self.limit = limit

    @property
    def keys(self) -> tuple[Slot, ...]:
        """The slots that it changes; no other work may change them meanwhile (rule 6)."""
        return self.slots

    def failed(self, sent: bool) -> None:
        """A transaction with it failed. ``sent``: whether it may have taken effect, or may still do so."""
        if sent:
            self.unanswered = True
        else:
            self.landings -= 1


class LockWork(_Work):
    """Locks one key, or several at once (`lock_many`): then it is never split, and has a transaction of its own.

    Attributes:
        calls: the calls that it answers; calls that share it are added while it is wanted or in flight.
        exclusive: whether the grant is a hold.
        places: places in the queues of a fair Locker that it gives back when it is granted.
        shows: whether it takes places, and its answer shows their queues.
        tenures: the number of the tenure that it writes into each key (rule 4); 0 for a key of a set that is held
            already, and only checked.
    """

    __slots__ = ("calls", "exclusive", "places", "shows", "tenures")

    def __init__(
        self,
        slots: tuple[Slot, ...],
        calls: list[LockCall],
        limit: int,
        *,
        exclusive: bool = False,
        places: tuple[Slot, ...] = (),
        shows: bool = False,
    ) -> None:
        super().__init__(slots, limit)
        self.calls = calls
        self.exclusive = exclusive
        self.places = places
        self.shows = shows
        self.tenures: tuple[int, ...] = ()

    @property
    def many(self) -> bool:
        """Whether it is a set of locks."""
        return len(self.slots) > 1

    @property
    def keys(self) -> tuple[Slot, ...]:
        """The slots that it changes."""
        return self.slots + self.places

    @property
    def answers(self) -> Sequence[Call]:
        """The calls whose answer depends on it."""
        return self.calls

    @property
    def takes_places(self) -> bool:
        """Whether it takes places in queues, not locks; see `Slot.is_place`."""
        return self.slots[0].is_place

    def live(self) -> list[LockCall]:
        """The calls that still want an answer."""
        return [call for call in self.calls if not call.settled]

    @property
    def unwanted(self) -> bool:
        """Whether all its callers have gone."""
        return bool(self.calls) and all(call.settled for call in self.calls)


class ReleaseWork(_Work):
    """Releases one key.

    Attributes:
        call: the call that it answers; None for a release of the core's own.
        lease: the lease that it ends; None when it ends a lock that was found in Consul.
        index: the ModifyIndex that it is guarded by; None until it is known.
    """

    __slots__ = ("call", "index", "lease")

    def __init__(self, slot: Slot, call: ReleaseCall | None, limit: int) -> None:
        super().__init__((slot,), limit)
        self.call = call
        self.lease: BaseLease | None = None
        self.index: int | None = None

    @property
    def slot(self) -> Slot:
        """The key that it releases."""
        return self.slots[0]

    @property
    def answers(self) -> Sequence[Call]:
        """The call whose answer depends on it."""
        return () if self.call is None else (self.call,)


Work = Union[LockWork, ReleaseWork]


#: What stands for an empty list: nothing can be put into it. A list of its own for each of 100,000 keys takes 6 MB.
_NOTHING: Any = ()
_NO_DOUBTS: Mapping[int, int] = MappingProxyType({})


class Slot:
    """One key. See the module's description.

    Attributes:
        works: the wanted operations; `add_work`, `remove_work`.
        waiters: the calls that wait, in the order in which they came; `add_waiter`, `remove_waiter`.
        doubts: tenures that may still be granted -> how many transactions with that number Consul may have processed;
            `doubt`, `forget_doubts`.
    """

    __slots__ = (
        "contested",
        "doubts",
        "entry",
        "fence",
        "id",
        "key",
        "lease",
        "leftover",
        "place_for",
        "unsure",
        "waiters",
        "works",
    )

    def __init__(self, id: str, key: str, place_for: str = "") -> None:
        self.id = id
        self.key = key
        self.place_for = place_for  # the id of the lock in whose queue it is a place; empty for a lock
        self.lease: BaseLease | None = None
        self.contested: BaseLease | None = None  # the lease for whose lock Consul refused a call: most likely lost
        self.works: list[Work] = _NOTHING
        self.waiters: list[LockCall] = _NOTHING
        self.doubts: Mapping[int, int] = _NO_DOUBTS
        self.entry: Entry | None = None  # the other holder, as a watch showed it: for errors
        self.fence = 0  # of the last lease, or 0
        self.leftover = False  # whether our session may hold the key in Consul although there is no lease
        self.unsure = 0  # the last number of a tenure when a release was not confirmed

    @property
    def is_place(self) -> bool:
        """Whether it is a place in the queue of a fair Locker, and not a lock.

        A place is taken, given back, audited and doubted like a lock, but it belongs to the queue. It has no signals
        and no counters, and no call gets its lease. The queue decides what a call does when its place is granted,
        refused or lost. Its key is used once, and deleted when it is given back.
        """
        return bool(self.place_for)

    def saw(self, value: bytes) -> None:
        """The value of the key was read: the tenure in it is in doubt no longer.

        Unless its number was sent more than once: then it does not tell which of them was seen.
        """
        for tenure, landings in self.doubts.items():
            if landings == 1 and value.endswith(f'"tenure":{tenure}}}'.encode()):
                self.doubts = {other: count for other, count in self.doubts.items() if other != tenure} or _NO_DOUBTS
                break

    def doubt(self, tenure: int, landings: int) -> None:
        """So many more transactions with this number of a tenure may have been, or may be, processed by Consul."""
        self.doubts = {**self.doubts, tenure: self.doubts.get(tenure, 0) + landings}

    def forget_doubts(self) -> None:
        """No tenure is in doubt any more."""
        self.doubts = _NO_DOUBTS

    def add_waiter(self, call: LockCall) -> None:
        """A call waits from now on."""
        if not self.waiters:
            self.waiters = []
        insort(self.waiters, call, key=attrgetter("order"))

    def remove_waiter(self, call: LockCall) -> None:
        """A call waits no longer."""
        self.waiters.remove(call)
        if not self.waiters:
            self.waiters = _NOTHING

    def add_work(self, work: Work) -> None:
        """An operation is wanted, after all others."""
        if not self.works:
            self.works = []
        self.works.append(work)

    def remove_work(self, work: Work) -> None:
        """An operation is wanted no more."""
        self.works.remove(work)
        if not self.works:
            self.works = _NOTHING

    @property
    def is_shared(self) -> bool:
        """Whether callers of this Locker share the lock: got by ``lock`` and not by ``hold``."""
        return self.lease is not None and not self.lease.exclusive

    @property
    def state(self) -> str:
        """The slot's state, one of those above."""
        if self.works:
            return "acquiring" if isinstance(self.works[0], LockWork) else "releasing"
        if self.lease is not None:
            return "held"
        return "unknown" if self.doubts or self.leftover else "free"


class Ledger:
    """All slots of a Locker.

    Attributes:
        slots: all slots that are not free.
        leases: id -> lease, of the leases that calls may share; the fast path reads it.
        tenure: the number of the last tenure.
    """

    def __init__(self, name: str, max_ops: int) -> None:
        self._name = name
        self._max_ops = max_ops
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

    def want_lock(
        self,
        slots: tuple[Slot, ...],
        calls: list[LockCall],
        *,
        exclusive: bool = False,
        places: tuple[Slot, ...] = (),
        shows: bool = False,
    ) -> LockWork:
        """Put a lock at the end of the line of each of its keys, all at once: so sets cannot block each other."""
        work = LockWork(slots, calls, self._max_ops, exclusive=exclusive, places=places, shows=shows)
        for slot in work.keys:
            slot.add_work(work)
        return work

    def want_release(self, slot: Slot, call: ReleaseCall | None) -> ReleaseWork:
        """Put a release at the end of the line of its key."""
        work = ReleaseWork(slot, call, self._max_ops)
        slot.add_work(work)
        return work

    def startable(self, work: Work) -> bool:
        """Whether it is first in line on all its keys, and not yet under way."""
        return not work.started and all(slot.works and slot.works[0] is work for slot in work.keys)

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
    """The id of the slot of a place. No lock has such an id, since it has a NUL in it."""
    return f"\0{key}"
