"""One key: what this Locker knows of it (`Slot`), and what is wanted of it (`Work`).

A slot has the lease held, the works in order, the calls that wait, and the doubts: tenures of acquires whose outcome is
unknown (rule 5). Only the first work is under way: none is sent before the one ahead of it was answered (rule 6). A key
that is held and idle has no slot, but its lease alone (`Ledger`): what waits, doubts or is under way is made when it is
needed.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from math import inf
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from ..errors import ConsulLockerError, ConsulUnavailable, InvalidLockId
from ..lease import BaseLease
from .calls import Call, LockCall, ReleaseCall
from .requests import Entry, Operation, Refused

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "CHANGES", "WAY", "KeyNews", "KeyState", "LockWork", "Owner", "Progress", "ReleaseWork", "Slot", "Stage", "Work",
]  # fmt: skip


class KeyState(Enum):
    """The state of a key. It is not kept but follows from what the slot has (`Slot.state`)."""

    FREE = "no lease, nothing wanted"
    ACQUIRING = "the first wanted operation is a lock"
    HELD = "a lease, nothing wanted"
    RELEASING = "the first wanted operation is a release"
    UNKNOWN = "a doubt, or a release that was not confirmed"

    __hash__ = object.__hash__  # there is one of each, and Enum's own is slow


class KeyNews(Enum):
    """What changes the state of a key."""

    LOCK = "a lock of it is the first that is wanted"
    GRANTED = "Consul has granted the lock"
    REFUSED = "Consul refused the lock, or nobody wants it any more"
    RELEASE = "a release of it is the first that is wanted"
    RELEASED = "Consul released it, or it was not held"
    LOST = "the lease is lost, or its session is over"
    IN_DOUBT = "Consul may have done what was not answered, or shows our session on it"
    KNOWN = "Consul shows that it is not ours"


#: How the state of a key changes; no other change occurs. The walk checks it: above all, a lease comes only from an
#: acquire (rule 4).
CHANGES = {
    (KeyState.FREE, KeyNews.LOCK): KeyState.ACQUIRING,
    (KeyState.FREE, KeyNews.RELEASE): KeyState.RELEASING,
    (KeyState.FREE, KeyNews.IN_DOUBT): KeyState.UNKNOWN,
    (KeyState.ACQUIRING, KeyNews.GRANTED): KeyState.HELD,
    (KeyState.ACQUIRING, KeyNews.REFUSED): KeyState.FREE,
    (KeyState.ACQUIRING, KeyNews.RELEASE): KeyState.RELEASING,
    (KeyState.ACQUIRING, KeyNews.IN_DOUBT): KeyState.UNKNOWN,
    (KeyState.HELD, KeyNews.LOCK): KeyState.ACQUIRING,
    (KeyState.HELD, KeyNews.RELEASE): KeyState.RELEASING,
    (KeyState.HELD, KeyNews.LOST): KeyState.FREE,
    (KeyState.HELD, KeyNews.IN_DOUBT): KeyState.UNKNOWN,
    (KeyState.RELEASING, KeyNews.RELEASED): KeyState.FREE,
    (KeyState.RELEASING, KeyNews.LOCK): KeyState.ACQUIRING,
    (KeyState.RELEASING, KeyNews.IN_DOUBT): KeyState.UNKNOWN,
    (KeyState.UNKNOWN, KeyNews.LOCK): KeyState.ACQUIRING,
    (KeyState.UNKNOWN, KeyNews.RELEASE): KeyState.RELEASING,
    (KeyState.UNKNOWN, KeyNews.KNOWN): KeyState.FREE,
}


class Stage(Enum):
    """How far a work has come."""

    IN_LINE = "behind other works of its keys"
    WANTED = "the first on all its keys: in the batch, or its key is being read"
    SENT = "in a transaction that was sent, and cannot be taken back"

    __hash__ = object.__hash__  # there is one of each, and Enum's own is slow


class Progress(Enum):
    """What moves a work on."""

    FIRST = "it became the first on all its keys"
    PACKED = "its transaction was sent"
    AGAIN = "that was rolled back, or failed by an outage: it is to be sent again"

    __hash__ = object.__hash__


#: The stage of a work after some progress. No other pair occurs: it would be a KeyError.
WAY = {
    (Stage.IN_LINE, Progress.FIRST): Stage.WANTED,
    (Stage.WANTED, Progress.PACKED): Stage.SENT,
    (Stage.SENT, Progress.AGAIN): Stage.WANTED,
    (Stage.SENT, Progress.PACKED): Stage.SENT,  # a release that was refused: its key was read, and shows another index
}

WorkT = TypeVar("WorkT", contravariant=True)


class Owner(Protocol[WorkT]):
    """Who wanted a work, and is told what becomes of it."""

    def start(self, work: WorkT) -> None:
        """It is the first on all its keys: have it sent."""

    def done(self, work: WorkT, entries: dict[str, Entry]) -> None:
        """Consul did it; ``entries`` of the answer by key."""

    def refused(self, work: WorkT, found: list[tuple[Operation, Refused]]) -> None:
        """Consul refused these operations of it."""

    def failed(self, work: WorkT, error: ConsulLockerError) -> None:
        """There is no usable answer, and no outage; or Consul did not take it."""

    def left_behind(self, work: WorkT, calls: list[Call], error: ConsulUnavailable) -> None:
        """An attempt failed by an outage: answer these calls, which do not ride on. A work not wanted again ends.

        One that is wanted again does not count as sent any more.
        """


class Work:
    """One operation wanted on one key, or on several at once.

    Attributes:
        owner: is told what becomes of it.
        slots: the keys that it locks, or the one that it releases.
        keys: these, and places in the queues of a fair Locker; no other work may change them meanwhile (rule 6).
        answers: the calls whose answer depends on it.
        stage: how far it has come.
        landings: how many transactions with it Consul may have processed: sent, and not refused unread.
        rounds: how many transactions with it were rolled back because of others.
        failures: how many transactions with it failed by an outage.
        unanswered: whether one of them may still be done, or was done unseen.
        limit: the most works in a transaction with it; infinite: as many as fit.
    """

    __slots__ = ("answers", "failures", "keys", "landings", "limit", "owner", "rounds", "slots", "stage", "unanswered")

    owner: Owner[Self]
    #: Whether it is made again after an outage, whoever waits for it.
    persists: ClassVar[bool]
    #: The number of the tenure that it writes into each key (rule 4); none for a release.
    tenures: tuple[int, ...] = ()

    def __init__(
        self, owner: Owner[Self], slots: tuple[Slot, ...], keys: tuple[Slot, ...], answers: Sequence[Call]
    ) -> None:
        self.owner = owner
        self.slots = slots
        self.keys = keys
        self.answers = answers
        self.stage = Stage.IN_LINE
        self.landings = 0
        self.rounds = 0
        self.failures = 0
        self.unanswered = False
        self.limit = inf

    def go_on(self, progress: Progress) -> None:
        """Move it on."""
        self.stage = WAY[self.stage, progress]

    @property
    def sent(self) -> bool:
        """Whether it cannot be taken back any more."""
        return self.stage is Stage.SENT

    def failed(self, sent: bool) -> None:
        """A transaction with it failed. ``sent``: whether it may have taken effect, or may still do so."""
        if sent:
            self.unanswered = True
        else:
            self.landings -= 1


class LockWork(Work):
    """Locks one key, or several at once (`lock_many`): then it is never split, and has a transaction of its own.

    For a fair Locker it takes places in queues in the same way.

    Attributes:
        calls: the calls that it answers; calls that share it are added while it is wanted or in flight.
        exclusive: whether the grant is a hold.
        places: places in the queues of a fair Locker, whose turn it is.
        unless: keys of places of others: if one of them is there, Consul refuses the work.
        shows: whether it takes places, and its answer shows their queues.
        granted: called when Consul has granted it, before its calls are answered; None: nobody else is to be told.
        tenures: the number of the tenure that it writes into each key (rule 4); 0 for a key of a set that is held
            already, and only checked.
    """

    __slots__ = ("calls", "exclusive", "granted", "places", "shows", "tenures", "unless")

    persists = False

    def __init__(
        self,
        owner: Owner[LockWork],
        slots: tuple[Slot, ...],
        calls: list[LockCall],
        *,
        exclusive: bool = False,
        places: tuple[Slot, ...] = (),
        unless: tuple[str, ...] = (),
        shows: bool = False,
        granted: Callable[[LockWork], None] | None = None,
    ) -> None:
        super().__init__(owner, slots, slots + places if places else slots, calls)
        self.calls = calls
        self.exclusive = exclusive
        self.places = places
        self.unless = unless
        self.shows = shows
        self.granted = granted
        self.tenures = ()

    @property
    def many(self) -> bool:
        """Whether it is a set of locks."""
        return len(self.slots) > 1

    @property
    def takes_places(self) -> bool:
        """Whether it takes places in queues, not locks; see `Slot.is_place`."""
        return self.slots[0].is_place

    @property
    def taken(self) -> Sequence[Slot]:
        """The keys that it locks: of a set not those that are held already, and only checked."""
        return [slot for slot in self.slots if slot.lease is None] if self.many else self.slots

    def may_come_again(self, error: ConsulLockerError) -> None:
        """It failed. A transaction that was rolled back may be delivered once more, unless Consul refuses its key."""
        if self.rounds and not isinstance(error, InvalidLockId):
            self.unanswered = True

    def live(self) -> list[LockCall]:
        """The calls that still want an answer."""
        return [call for call in self.calls if not call.settled]

    @property
    def unwanted(self) -> bool:
        """Whether all its callers have gone."""
        for call in self.calls:
            if not call.settled:
                return False
        return bool(self.calls)


class ReleaseWork(Work):
    """Releases one key.

    Attributes:
        call: the call that it answers; None for a release of the core's own.
        lease: the lease that it ends; None when it ends a lock that was found in Consul.
        index: the ModifyIndex that it is guarded by; None until it is known.
        place: the place in the queue of a fair Locker that is given back together with the lock; None: there is none.
    """

    __slots__ = ("call", "index", "lease", "place")

    persists = True

    def __init__(self, owner: Owner[ReleaseWork], slot: Slot, call: ReleaseCall | None) -> None:
        slots = (slot,)
        super().__init__(owner, slots, slots, () if call is None else (call,))
        self.call = call
        self.lease: BaseLease | None = None
        self.index: int | None = None
        self.place: Slot | None = None

    def take_along(self, place: Slot) -> None:
        """It is to give back a place, too."""
        self.place = place
        self.keys += (place,)
        place.add_work(self)

    @property
    def slot(self) -> Slot:
        """The key that it releases."""
        return self.slots[0]


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
        "is_place",
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
        # The id of the lock in whose queue it is a place; empty for a lock. A place is taken, given back, audited and
        # doubted like a lock, but it belongs to the queue. It has no signals and no counters, and no call gets its
        # lease. The queue decides what a call does when its place is granted, refused or lost. Its key is used once,
        # and deleted when it is given back.
        self.place_for = place_for
        self.is_place = bool(place_for)
        self.lease: BaseLease | None = None
        self.contested: BaseLease | None = None  # the lease for whose lock Consul refused a call: most likely lost
        self.works: list[Work] = _NOTHING
        self.waiters: list[LockCall] = _NOTHING
        self.doubts: Mapping[int, int] = _NO_DOUBTS
        self.entry: Entry | None = None  # the other holder, as a watch showed it: for errors
        self.fence = 0  # of the last lease, or 0
        self.leftover = False  # whether our session may hold the key in Consul although there is no lease
        self.unsure = 0  # the last number of a tenure when a release was not confirmed

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
    def state(self) -> KeyState:
        """The state of the key."""
        if self.works:
            return KeyState.ACQUIRING if isinstance(self.works[0], LockWork) else KeyState.RELEASING
        if self.lease is not None:
            return KeyState.HELD
        return KeyState.UNKNOWN if self.doubts or self.leftover else KeyState.FREE
