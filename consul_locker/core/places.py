"""Places in the queues of a fair Locker: how they are taken and given back.

A place is a key of its own beside the lock's, and is taken like a lock (`LockWork`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

from ..errors import ConsulLockerError, ConsulUnavailable
from .calls import Call, TakePlaces
from .key import LockWork, Slot
from .leases import Leases
from .ledger import Ledger
from .pipeline import Pipeline
from .release import Releases
from .requests import Entry, Operation, Refused
from .session import Session

__all__ = ["PlaceTaker", "Places"]


class PlaceTaker(Protocol):
    """Who takes places: `FairLine`."""

    def placed(self, work: LockWork, entries: Collection[Entry]) -> None:
        """The places are taken; ``entries`` show the queues."""

    def not_placed(self, work: LockWork, error: ConsulLockerError) -> None:
        """The places could not be taken."""


class Places:
    """The places of one Locker: the owner of the works that take them.

    Args:
        session, ledger, pipeline, leases, releases: of the Locker.
        taker: is told what becomes of places, unless its call is settled.
    """

    def __init__(
        self, session: Session, ledger: Ledger, pipeline: Pipeline, leases: Leases, releases: Releases,
        taker: PlaceTaker
    ) -> None:  # fmt: skip
        self._session = session
        self._ledger = ledger
        self._pipeline = pipeline
        self._leases = leases
        self._releases = releases
        self._taker = taker

    def take(self, call: TakePlaces, locks: Iterable[Slot], shows: bool) -> LockWork:
        """Take a place at the end of each queue, all or none. `PlaceTaker` is told, unless the call is settled then.

        Args:
            call: stands for the call that waits.
            locks: in whose queues.
            shows: whether the answer shows the queues.
        """
        session_id = self._session.current.session_id
        places = tuple(self._ledger.place(lock, session_id) for lock in locks)
        work = LockWork(self, places, [call], shows=shows)
        self._pipeline.want(work)
        return work

    # ---------------------------------------------------------------------------- what becomes of a work

    def start(self, work: LockWork) -> None:
        """Ask Consul for the places."""
        self._pipeline.send_lock(work)

    def done(self, work: LockWork, entries: dict[str, Entry]) -> None:
        """Consul has granted the places."""
        if not work.live():
            self._releases.give_back_granted(work, [(place, entries[place.key].modify_index) for place in work.slots])
            return
        for place in work.slots:
            self._leases.grant(place, entries[place.key].modify_index, self._session.current, exclusive=False)
        self._taker.placed(work, entries.values())
        self._pipeline.finish(work)

    def refused(self, work: LockWork, found: list[tuple[Operation, Refused]]) -> None:
        """Consul refused them."""
        self.failed(work, self._pipeline.refusal_error("lock", found))

    def failed(self, work: LockWork, error: ConsulLockerError) -> None:
        """No usable answer, and no outage; or a refusal."""
        work.may_come_again(error)
        if work.live():
            self._taker.not_placed(work, error)
        self._pipeline.finish(work)

    def left_behind(self, work: LockWork, calls: list[Call], error: ConsulUnavailable) -> None:
        """An attempt failed by an outage, and the call does not ride on."""
        if not work.sent:
            return
        if work.live():
            self._taker.not_placed(work, error)
        self._pipeline.finish(work)
