"""The audit: does our session still hold each lock in Consul that has a lease here?

It rolls: held keys are checked 64 at a time, by transactions of reads, which cost Consul no write (measured: 50 of them
moved the Raft index by 0). The next one is sent when it is due and the one before was answered. So all keys are checked
once in each renewal period when they are few, else once in a minute, evenly spread, and no step is long.

A key is checked by its index alone: whatever changes who holds it changes its ModifyIndex. A failed check alone ends no
lease, since an audit may cross a release, or reach a server that has not yet applied its log. A consistent read must
confirm it, the verdict; and the tenure must still be the same, with no work for the key under way (docs/safety.rst,
rule 2).

Keys that we may have without a lease are checked by `Doubts`. After a restored snapshot, `Sweep` finds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import ceil
from typing import Protocol

from ..config.options import LockerOptions
from ..lease import BaseLease
from ..models import LossReason
from .batch import MAX_OPS
from .doubts import Doubts, Releaser
from .hint import Hint
from .key import Slot
from .ledger import Ledger
from .pace import Pace
from .refused_keys import RefusedKeys, halves
from .requests import (
    Committed,
    KeyAnswer,
    KeysRead,
    Operation,
    ReadKey,
    RefusedWhole,
    RolledBack,
    Transact,
    TransactAnswer,
    Verb,
)
from .session import READ_EVERY, RENEW_AFTER, Session
from .step import Outbox
from .sweep import Sweep

__all__ = ["Audit", "Keeper"]

#: Up to so many keys are all checked in each renewal period: 8 transactions, as many as a session has in 40 s. Of twice
#: as many each is checked in every second period, and so on.
FEW = 8 * MAX_OPS
#: The longest time between two checks of a key, in seconds, with more keys or a longer TTL. A check costs Consul some
#: 10 us and a Locker 6 us (measured): with 100,000 keys 1.7 % and 1 % of a core.
LONGEST_PERIOD = 60.0


class Keeper(Releaser, Protocol):
    """The part of `Releases` that the audit uses."""

    def lose(self, slot: Slot, reason: LossReason) -> None:
        """The lease of the key is lost."""


class Audit:
    """Compares the held keys with Consul.

    Attributes:
        highest: the highest index that an answer to a lock has shown.
    """

    __slots__ = (
        "_due", "_hurries", "_interval", "_late", "_ledger", "_out", "_pace", "_pending", "_period", "_round",
        "_session", "_sweep", "_timeout", "_urgent", "doubts", "highest", "hint", "keeper", "refused",
    )  # fmt: skip

    def __init__(
        self, options: LockerOptions, outbox: Outbox, session: Session, ledger: Ledger, pace: Pace, timeout: float
    ) -> None:
        self._period = READ_EVERY if options.ttl is None else min(options.ttl * RENEW_AFTER, LONGEST_PERIOD)
        self._out = outbox
        self._session = session
        self._ledger = ledger
        self._pace = pace
        self._timeout = timeout
        self.refused = RefusedKeys(outbox)
        self.doubts = Doubts(outbox, session, ledger, self.refused, pace, timeout)
        self._sweep = Sweep(options.name, outbox, session, ledger, self.doubts, self.refused, pace, timeout)
        self.hint = Hint(options.name, outbox, session, ledger, timeout, FEW, self._check_now)
        self.keeper: Keeper  # set once
        self._reset()

    def _reset(self) -> None:
        self.highest = 0
        self._round: list[BaseLease] = []  # to be checked yet in the round under way; the next one is last
        self._urgent: list[Sequence[BaseLease]] = []  # parts to be checked without a pause
        self._hurries = False  # whether the rest of the round is
        self._interval = self._period  # between two parts of the round
        self._due = 0.0  # when the next part is
        self._pending = 0  # requests that were not answered yet
        self._late = False  # whether the next part is due, but not sent for these

    def begin(self) -> None:
        """A session is in use: audit from now on."""
        self._reset()
        self.doubts.begin()
        self._sweep.begin()
        self.hint.begin()
        self._due = self._out.now
        self._set_timer()

    def end_generation(self) -> None:
        """The session is over."""
        self.rest()
        self.doubts.end_generation()

    def rest(self) -> None:
        """The session is over, or a stop is about to destroy it, and has ended all leases: nothing is to be noticed."""
        self._out.cancel(("audit",))
        self._reset()  # the leases are let go
        self.hint.end()

    def saw_index(self, index: int, floor: int) -> None:
        """Note an index. One that falls means a restored snapshot: our session may hold keys without a lease.

        Args:
            index: of an answer.
            floor: `highest` when its request was sent. Of two requests in flight the later one may be answered first.
        """
        if index < floor:
            self.sweep()
            self.highest = index
        elif index > self.highest:
            self.highest = index

    def sweep(self) -> None:
        """A snapshot may have been restored: audit all keys without a pause, and sweep."""
        if self._sweep.want():
            self._begin_round()
            self._hurries = True
            self._go_on()

    # ------------------------------------------------------------------------------------ requests

    def _set_timer(self) -> None:
        self._due = max(self._due + self._interval, self._out.now)
        self._out.timer(("audit",), self._due, self.audit)

    def audit(self) -> None:
        """A part of the round is due; during an outage once that is over."""
        if not self._pace.when_open(self.audit):
            return
        self._sweep.go_on()
        self.hint.look(self.highest)
        if not self._round:
            self._begin_round()
        self._set_timer()
        self._late = True
        self._go_on()

    def _begin_round(self) -> None:
        """Begin with the latest keys: a key that is granted during a round comes first in the next one."""
        self._round = self._ledger.held()
        count = len(self._round)
        length = min(self._period * max(1, ceil(count / FEW)), LONGEST_PERIOD)
        self._interval = length / max(1, ceil(count / MAX_OPS))

    def _check_now(self, held: Sequence[BaseLease]) -> None:
        """Something speaks against these locks."""
        self._urgent += [held[start : start + MAX_OPS] for start in range(0, len(held), MAX_OPS)]
        self._go_on()

    def _go_on(self) -> None:
        """Check the next part, if it is due and no request is under way."""
        while not self._pending and (self._urgent or self._hurries or self._late):
            if self._urgent:
                self._check(self._urgent.pop())
            else:
                self._late = False
                self._hurries = self._hurries and bool(self._round)
                self._check(self._next_part())

    def _next_part(self) -> Sequence[BaseLease]:
        part = self._round[: -MAX_OPS - 1 : -1]
        del self._round[-MAX_OPS:]
        return part

    def _check(self, part: Sequence[BaseLease]) -> None:
        """Check some keys; not those that are in use, or whose lease has ended by now."""
        part = [lease for lease in part if self._ledger.idle(lease) and lease.key not in self.refused]
        if part:
            operations = tuple([Operation(Verb.CHECK_INDEX, lease.key, index=lease.fence) for lease in part])
            self._pending += 1
            self._out.ask(
                Transact(self._session.current.generation, operations, timeout=self._timeout),
                partial(self.audited, part),
            )

    def suspect(self, slot: Slot) -> None:
        """There is a sign that the lease of a key is lost: read the key for a verdict."""
        if slot.lease is not None:
            self.suspect_lease(slot.lease)

    def suspect_lease(self, lease: BaseLease) -> None:
        """The same, for one that had this lease at least."""
        life = self._session.life
        if life is not None and self._ledger.idle(lease):
            self._pending += 1
            read = ReadKey(life.generation, lease.key, timeout=self._timeout)
            self._out.ask(read, partial(self._judge, lease))

    # ----------------------------------------------------------------------------------- answers

    def audited(self, part: Sequence[BaseLease], outcome: TransactAnswer) -> None:
        """An audit was answered; only a refused check matters."""
        self._pending -= 1
        if isinstance(outcome, RefusedWhole):
            self._refused_whole(part, outcome)
        elif isinstance(outcome, RolledBack):
            for position in dict.fromkeys(refused.position for refused in outcome.refused):
                self.suspect_lease(part[position])
        elif not isinstance(outcome, Committed):
            self._round[:0] = part  # again, after all others
        self._go_on()

    def _refused_whole(self, part: Sequence[BaseLease], outcome: RefusedWhole) -> None:
        if len(part) > 1:
            self._urgent += reversed(halves(part))
        elif outcome.of_key:
            (lease,) = part
            self.refused.add(lease.key)
            self._out.warn(
                f"the lock {lease.id!r} can neither be checked nor released any more, and ends with the session: "
                f"Consul does not take its key ({outcome.what})"
            )

    def _judge(self, lease: BaseLease, outcome: KeyAnswer) -> None:
        """The key of a lease was read for a verdict."""
        self._pending -= 1
        self._believe(lease, outcome)
        self._go_on()

    def _believe(self, lease: BaseLease, outcome: KeyAnswer) -> None:
        """What the read of a key shows. If nothing, the next audit checks it again."""
        if not isinstance(outcome, KeysRead) or not self._ledger.idle(lease):
            return
        entry = outcome.entries[0] if outcome.entries else None
        if entry is None:
            self.keeper.lose(self._ledger.slot(lease.id), "key deleted")
        elif entry.session == self._session.current.session_id:
            if entry.modify_index != lease.fence:
                slot = self._ledger.slot(lease.id)
                self.doubts.leftover(slot)  # still ours in Consul: it must be given back
                self.keeper.lose(slot, "key overwritten")
                if not slot.works and slot.lease is None:
                    self.keeper.release_found(slot, entry.modify_index)
        else:
            # Not ours: read the session to find out whether it has ended, or only this lock is lost.
            taken: LossReason = "key taken over" if entry.session is not None else "released by a stranger"
            self._session.read(if_alive=partial(self._lose_alone, lease, taken))

    def _lose_alone(self, lease: BaseLease, reason: LossReason) -> None:
        """The session exists: only the lock is lost."""
        if self._ledger.idle(lease):
            self.keeper.lose(self._ledger.slot(lease.id), reason)
