"""The audit: does our session still hold each lock in Consul that has a lease here?

Once in each renewal period all held keys are checked by transactions of reads, which cost Consul no
write (measured: 50 of them moved the Raft index by 0). A failed check alone ends no lease, since an audit may cross a
release, or reach a server that has not yet applied its log. A consistent read must confirm it, the verdict; and the
tenure must still be the same, with no work for the key under way (docs/safety.rst, rule 2).

Keys that we may have without a lease are checked by `Doubts`. After a restored snapshot, `Sweep` finds them.
"""

from __future__ import annotations

from typing import Protocol

from ..config.options import LockerOptions
from .batch import MAX_OPS
from .doubts import Doubts, Releaser
from .ledger import Ledger, Slot
from .refused_keys import RefusedKeys, halves
from .requests import (
    KeysRead,
    Operation,
    Outcome,
    ReadKey,
    ReadPrefix,
    ReadSession,
    RefusedWhole,
    RolledBack,
    SessionRead,
    Transact,
    Verb,
)
from .session import READ_EVERY, RENEW_AFTER, Session
from .step import Outbox
from .sweep import Sweep

__all__ = ["Audit", "Keeper"]

#: Keys in one transaction of an audit: two checks each.
KEYS_PER_AUDIT = MAX_OPS // 2
#: The longest time between two audits, in seconds, where a third of the TTL is longer: with a TTL of a day, a change of
#: a key would be noticed only after hours.
LONGEST_PERIOD = 60.0


class Keeper(Releaser, Protocol):
    """The part of `Grants` that the audit uses."""

    def lose(self, slot: Slot, reason: str) -> None:
        """The lease of the key is lost."""


class Audit:
    """Compares the held keys with Consul."""

    def __init__(
        self, options: LockerOptions, outbox: Outbox, session: Session, ledger: Ledger, timeout: float
    ) -> None:
        self._period = READ_EVERY if options.ttl is None else min(options.ttl * RENEW_AFTER, LONGEST_PERIOD)
        self._out = outbox
        self._session = session
        self._ledger = ledger
        self._timeout = timeout
        self._highest = 0  # the highest index seen
        self.refused = RefusedKeys(outbox)
        self.doubts = Doubts(outbox, session, ledger, self.refused, timeout)
        self._sweep = Sweep(options.name, outbox, session, ledger, self.doubts, self.refused, timeout)
        self.keeper: Keeper  # set once, by Lifecycle

    def begin(self) -> None:
        """A session is in use: audit from now on."""
        self._highest = 0
        self.doubts.begin()
        self._sweep.begin()
        self._out.timer(("audit",), self._out.now + self._period)

    def end_generation(self) -> None:
        """The session is over."""
        self._out.cancel(("audit",))
        self.doubts.end_generation()

    def saw_index(self, index: int) -> None:
        """Note an index. One that falls means a restored snapshot: our session may hold keys without a lease."""
        if index < self._highest:
            self.sweep()
            self._highest = index
        self._highest = max(self._highest, index)

    def sweep(self) -> None:
        """A snapshot may have been restored: audit at once, and sweep."""
        if self._sweep.want():
            self._check_held()

    # ------------------------------------------------------------------------------------ requests

    def audit(self) -> None:
        """The period is over: check all held keys."""
        if self._session.life is None:
            return
        self._check_held()
        self._sweep.go_on()
        self._out.timer(("audit",), self._out.now + self._period)

    def _check_held(self) -> None:
        life = self._session.current
        slots = self._ledger.slots.values()
        held = [slot for slot in slots if slot.lease is not None and not slot.works and slot.key not in self.refused]
        for start in range(0, len(held), KEYS_PER_AUDIT):
            part = held[start : start + KEYS_PER_AUDIT]
            operations: list[Operation] = []
            for slot in part:
                assert slot.lease is not None
                operations.append(Operation(Verb.CHECK_SESSION, slot.key, session=life.session_id))
                operations.append(Operation(Verb.CHECK_INDEX, slot.key, index=slot.lease.fence))
            context = [(slot, slot.lease) for slot in part]
            self._out.send(
                Transact(life.generation, tuple(operations), "audit", context=context, timeout=self._timeout)
            )

    def suspect(self, slot: Slot) -> None:
        """There is a sign that the lease of a key is lost: read the key for a verdict."""
        life = self._session.life
        if life is not None and slot.lease is not None and not slot.works:
            self._out.send(
                ReadKey(life.generation, slot.key, "verdict", context=(slot, slot.lease), timeout=self._timeout)
            )

    # ----------------------------------------------------------------------------------- answers

    def audited(self, request: Transact, outcome: Outcome) -> None:
        """An audit was answered; only a refused check matters."""
        if isinstance(outcome, RefusedWhole):
            self._refused_whole(request, outcome)
        if not isinstance(outcome, RolledBack):
            return
        for position in dict.fromkeys(refused.position // 2 for refused in outcome.refused):
            slot, lease = request.context[position]
            if slot.lease is lease:
                self.suspect(slot)

    def _refused_whole(self, request: Transact, outcome: RefusedWhole) -> None:
        if len(request.context) > 1:
            for half in halves(request):
                self._out.send(half)
        elif outcome.of_key:
            ((slot, _),) = request.context
            self.refused.add(slot.key)
            self._out.warn(
                f"the lock {slot.id!r} can neither be checked nor released any more, and ends with the session: "
                f"Consul does not take its key ({outcome.what})"
            )

    def read(self, request: ReadKey, outcome: Outcome) -> None:
        """A key was read, for a verdict or because it is in doubt."""
        if isinstance(outcome, RefusedWhole) and request.purpose == "doubt":
            self.doubts.refused_alone(request.context, outcome)
        if not isinstance(outcome, KeysRead):
            return  # the next audit, or look, checks it again
        entry = outcome.entries[0] if outcome.entries else None
        if request.purpose == "doubt":
            self.doubts.read(request.context, entry)
            return
        slot, lease = request.context
        if slot.lease is not lease or slot.works:
            return
        life = self._session.current
        if entry is None:
            self.keeper.lose(slot, "key deleted")
        elif entry.session == life.session_id:
            if entry.modify_index != lease.fence:
                self.doubts.leftover(slot)  # still ours in Consul: it must be given back
                self.keeper.lose(slot, "key overwritten")
                if not slot.works and slot.lease is None:
                    self.keeper.release_found(slot, entry.modify_index)
        else:
            # Not ours: read the session to find out whether it has ended, or only this lock is lost.
            taken = "key taken over" if entry.session is not None else "released by a stranger"
            self._out.send(
                ReadSession(life.generation, life.session_id, context=(slot, lease, taken), timeout=self._timeout)
            )

    def session_read(self, request: ReadSession, outcome: Outcome) -> None:
        """The session was read, and `Session` has noted the answer. If it exists, only the lock is lost."""
        if not isinstance(outcome, SessionRead) or outcome.session is None:
            return
        if request.context is None:
            self.sweep()  # gone and back again: a snapshot was restored
        elif isinstance(request.context, tuple):
            slot, lease, reason = request.context
            if slot.lease is lease and not slot.works:
                self.keeper.lose(slot, reason)

    def swept(self, request: ReadPrefix | Transact, outcome: Outcome) -> None:
        """A request of the sweep was answered."""
        if isinstance(request, ReadPrefix):
            self._sweep.listed(request, outcome)
        else:
            self._sweep.checked(request, outcome)
