"""The audit: does our session still hold each lock in Consul that has a lease here?

Once in each renewal period all held keys are checked by transactions of reads, which cost Consul no
write (measured: 50 of them moved the Raft index by 0). A failed check alone ends no lease, since an audit may cross a
release, or reach a server that has not yet applied its log. A consistent read must confirm it, the verdict; and the
tenure must still be the same, with no work for the key under way (docs/safety.rst, rule 2).

Keys that we may have without a lease are checked by `Doubts`. After a restored snapshot, `Sweep` finds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from ..config.options import LockerOptions
from ..lease import BaseLease
from ..models import LossReason
from .batch import MAX_OPS
from .doubts import Doubts, Releaser
from .key import Slot
from .ledger import Ledger
from .pace import Pace
from .refused_keys import RefusedKeys, halves
from .requests import KeyAnswer, KeysRead, Operation, ReadKey, RefusedWhole, RolledBack, Transact, TransactAnswer, Verb
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
    """The part of `Releases` that the audit uses."""

    def lose(self, slot: Slot, reason: LossReason) -> None:
        """The lease of the key is lost."""


#: A key, and the lease that it had when it was checked.
Held = tuple[Slot, BaseLease]


class Audit:
    """Compares the held keys with Consul."""

    def __init__(
        self, options: LockerOptions, outbox: Outbox, session: Session, ledger: Ledger, pace: Pace, timeout: float
    ) -> None:
        self._period = READ_EVERY if options.ttl is None else min(options.ttl * RENEW_AFTER, LONGEST_PERIOD)
        self._out = outbox
        self._session = session
        self._ledger = ledger
        self._pace = pace
        self._timeout = timeout
        self._highest = 0  # the highest index seen
        self.refused = RefusedKeys(outbox)
        self.doubts = Doubts(outbox, session, ledger, self.refused, pace, timeout)
        self._sweep = Sweep(options.name, outbox, session, ledger, self.doubts, self.refused, pace, timeout)
        self.keeper: Keeper  # set once

    def begin(self) -> None:
        """A session is in use: audit from now on."""
        self._highest = 0
        self.doubts.begin()
        self._sweep.begin()
        self._out.timer(("audit",), self._out.now + self._period, self.audit)

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
        """The period is over: check all held keys, during an outage once that is over."""
        if not self._pace.when_open(self.audit):
            return
        self._check_held()
        self._sweep.go_on()
        self._out.timer(("audit",), self._out.now + self._period, self.audit)

    def _check_held(self) -> None:
        slots = self._ledger.slots.values()
        held = [
            (slot, slot.lease)
            for slot in slots
            if slot.lease is not None and not slot.works and slot.key not in self.refused
        ]
        for start in range(0, len(held), KEYS_PER_AUDIT):
            self._check(held[start : start + KEYS_PER_AUDIT])

    def _check(self, part: Sequence[Held]) -> None:
        life = self._session.current
        operations: list[Operation] = []
        for slot, lease in part:
            operations.append(Operation(Verb.CHECK_SESSION, slot.key, session=life.session_id))
            operations.append(Operation(Verb.CHECK_INDEX, slot.key, index=lease.fence))
        self._out.ask(
            Transact(life.generation, tuple(operations), timeout=self._timeout), partial(self.audited, part)
        )

    def suspect(self, slot: Slot) -> None:
        """There is a sign that the lease of a key is lost: read the key for a verdict."""
        life = self._session.life
        if life is not None and slot.lease is not None and not slot.works:
            read = ReadKey(life.generation, slot.key, timeout=self._timeout)
            self._out.ask(read, partial(self._judge, slot, slot.lease))

    # ----------------------------------------------------------------------------------- answers

    def audited(self, part: Sequence[Held], outcome: TransactAnswer) -> None:
        """An audit was answered; only a refused check matters."""
        if isinstance(outcome, RefusedWhole):
            self._refused_whole(part, outcome)
        if not isinstance(outcome, RolledBack):
            return
        for position in dict.fromkeys(refused.position // 2 for refused in outcome.refused):
            slot, lease = part[position]
            if slot.lease is lease:
                self.suspect(slot)

    def _refused_whole(self, part: Sequence[Held], outcome: RefusedWhole) -> None:
        if len(part) > 1:
            for half in halves(part):
                self._check(half)
        elif outcome.of_key:
            ((slot, _),) = part
            self.refused.add(slot.key)
            self._out.warn(
                f"the lock {slot.id!r} can neither be checked nor released any more, and ends with the session: "
                f"Consul does not take its key ({outcome.what})"
            )

    def _judge(self, slot: Slot, lease: BaseLease, outcome: KeyAnswer) -> None:
        """The key of a lease was read for a verdict. If not, the next audit checks it again."""
        if not isinstance(outcome, KeysRead) or slot.lease is not lease or slot.works:
            return
        entry = outcome.entries[0] if outcome.entries else None
        if entry is None:
            self.keeper.lose(slot, "key deleted")
        elif entry.session == self._session.current.session_id:
            if entry.modify_index != lease.fence:
                self.doubts.leftover(slot)  # still ours in Consul: it must be given back
                self.keeper.lose(slot, "key overwritten")
                if not slot.works and slot.lease is None:
                    self.keeper.release_found(slot, entry.modify_index)
        else:
            # Not ours: read the session to find out whether it has ended, or only this lock is lost.
            taken: LossReason = "key taken over" if entry.session is not None else "released by a stranger"
            self._session.read(if_alive=partial(self._lose_alone, slot, lease, taken))

    def _lose_alone(self, slot: Slot, lease: BaseLease, reason: LossReason) -> None:
        """The session exists: only the lock is lost."""
        if slot.lease is lease and not slot.works:
            self.keeper.lose(slot, reason)
