"""All locks and operations of a Locker end at once: a stop, or the end of the session."""

from __future__ import annotations

from ..lease import BaseLease
from ..models import LossReason
from .audit import Audit
from .calls import LockCall, ManyReleases
from .denials import Denials
from .key import LockWork, ReleaseWork, Slot
from .leases import Leases
from .ledger import Ledger
from .pipeline import Pipeline
from .release import Releases
from .step import Outbox
from .waits import Line

__all__ = ["Endings"]


class Endings:
    """The end of a stop, and of a generation. The arguments are parts of the Locker."""

    __slots__ = ("_audit", "_denials", "_leases", "_ledger", "_line", "_out", "_pipeline", "_releases")

    def __init__(
        self, outbox: Outbox, ledger: Ledger, pipeline: Pipeline, leases: Leases, releases: Releases, denials: Denials,
        line: Line, audit: Audit
    ) -> None:  # fmt: skip
        self._out = outbox
        self._ledger = ledger
        self._pipeline = pipeline
        self._leases = leases
        self._releases = releases
        self._denials = denials
        self._line = line
        self._audit = audit

    def stop(self) -> tuple[list[LockCall], list[Slot]]:
        """A stop begins: take out every call that wants a lock, and every operation not sent yet.

        Returns:
            The calls, in the order in which they came, for the caller to refuse; and the places in queues, to be given
            back.
        """
        wanting = self._pipeline.stop()
        waiting, places = self._line.stop()
        return sorted([*wanting, *waiting], key=lambda call: call.order), places

    @staticmethod
    def _ends_with_session(work: ReleaseWork) -> bool:
        """Whether a release counts as done when the session ends: it was to be made again after an outage."""
        return work.failures > 0 or (work.call is not None and work.call.riding is not None)

    def end_generation(self, reason: LossReason, released: bool = False) -> list[LockCall]:
        """The session is over: every lease with it, and every operation.

        Args:
            reason: why, for the leases.
            released: whether each lease counts as released (a stop that Consul confirmed).

        Returns:
            The calls that still want a lock, in the order in which they came.
        """
        ledger = self._ledger
        calls: list[LockCall] = []
        gone: list[tuple[BaseLease, bool]] = []
        releases: list[ManyReleases] = []
        for work in ledger.works():
            if isinstance(work, LockWork) and not work.takes_places:  # else its call is in the line, or gone
                calls.extend(work.live())
            if not isinstance(work, ReleaseWork):
                continue
            done = self._ends_with_session(work)
            if work.lease is not None:
                # One that a stop has ended, and no release, is free only if the end of the session is confirmed.
                gone.append((work.lease, released or (done and work.lease.reason == "released")))
            if isinstance(work.call, ManyReleases):
                work.call.released += done
                releases.append(work.call)
            elif work.call is not None:
                self._out.settle(work.call, done)
        for call in releases:
            self._out.settle(call, call.released)
        slots = list(ledger.slots.values())
        for slot in slots:
            if slot.waiters:
                calls.extend(waiter for waiter in slot.waiters if not waiter.settled)
        leases = [slot.lease for slot in slots if slot.lease is not None] + ledger.clear()
        for lease in leases:
            self._out.end(lease, reason)
        self._pipeline.end_generation()
        self._releases.end_generation()
        self._line.end_generation()
        self._audit.end_generation()
        self._denials.end_generation()
        for lease, done in gone:
            self._tell_end(lease, reason, done)
        for lease in leases:
            self._tell_end(lease, reason, released)
        for slot in slots:
            slot.lease = slot.contested = None
        return sorted(dict.fromkeys(calls), key=lambda call: call.order)

    def _tell_end(self, lease: BaseLease, reason: LossReason, released: bool) -> None:
        if released:
            self._leases.tell("released", lease, "released", lease=lease)
        else:
            self._leases.tell_lost(lease, reason)
