"""Doubts: keys that our session may hold in Consul without a lease; and the looks that check them (rule 5).

docs/safety.rst has the rule. Two kinds of keys are checked:

- keys in doubt: the outcome of an acquire is unknown, or a release was not confirmed. They are checked less and less
  often, until the outcome is known or the session ends;
- former keys: this session asked for them, and they were refused or given back. They are checked for a while, since the
  network may deliver the acquire once more.

A look checks those that are due together, in transactions of reads, which cost Consul no write: all keys in doubt, but
of the former keys, of which nothing says that something is wrong, one transaction at a time, in turn. Each check of our
session must fail. A key for which it does not fail is read, and given back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from math import inf
from typing import Protocol

from .batch import MAX_OPS
from .key import KeyState, Slot
from .ledger import Ledger
from .pace import Pace
from .refused_keys import RefusedKeys, halves
from .requests import (
    Committed,
    KeyAnswer,
    KeysRead,
    Operation,
    ReadKey,
    Refusal,
    RefusedWhole,
    RolledBack,
    Transact,
    TransactAnswer,
    Verb,
)
from .session import Session
from .step import Outbox

__all__ = ["Doubts", "Releaser", "not_ours"]

#: The first look at a key in doubt is this long after the doubt arose, in seconds. A request that timed out mostly
#: commits within a second, or when a leader is back (2 to 4 s measured). Each look that does not find the key ours
#: doubles the pause.
FIRST_PAUSE = 1.0
#: The longest pause between two looks at a key in doubt, in seconds: commits after minutes are rare, and each look is a
#: consistent read.
LONGEST_PAUSE = 60.0
#: The pause between looks at former keys, and after a look without an answer, in seconds: a lock without a lease is of
#: no use to any caller, and blocks all others.
LOOK_EVERY = 5.0
#: Keys that are due within this time are checked by one look, in seconds: fewer requests.
TOGETHER = 1.0
#: The most keys in doubt: 16 transactions of reads. Above that the oldest is given up; if it was granted, that lock
#: lasts until the session ends.
MAX_DOUBTS = 1024
#: How long a former key is checked, in seconds: four times the longest delay after which an acquire was seen to commit
#: (over 30 s, a paused leader; measured).
FORMER_FOR = 120.0
#: The most former keys, the latest. Each has its turn in the time above (24 looks with at least 48 locks each). Older
#: ones are given up; a lock of one that is granted then lasts until the session ends.
MAX_FORMER = 1024
#: The same for places in the queues of a fair Locker, of which each handover leaves one. An older place is found by the
#: Locker's next turn read of its queue.
MAX_FORMER_PLACES = 128
#: The most of these places in one look (all have their turn in 40 s); locks fill up the rest of the transaction.
PLACES_AT_ONCE = 16
#: The refusals of a check of our session on a key that is not ours.
_NOT_OURS = (Refusal.SESSION, Refusal.MISSING)


class Releaser(Protocol):
    """The part of `Releases` that doubts use."""

    def release_found(self, slot: Slot, index: int) -> None:
        """Give a key back that is ours in Consul and has no lease."""


class _Doubt:
    """The time of the next look at a key in doubt, and the pause before it, in seconds."""

    __slots__ = ("due", "pause")

    def __init__(self, now: float) -> None:
        self.pause = FIRST_PAUSE
        self.due = now + FIRST_PAUSE


def not_ours(outcome: TransactAnswer) -> set[int] | None:
    """The positions of the keys that a transaction of checks shows not to be ours; None if it shows nothing."""
    if isinstance(outcome, Committed):
        return set()
    if isinstance(outcome, RolledBack) and all(refused.refusal in _NOT_OURS for refused in outcome.refused):
        return {refused.position for refused in outcome.refused} or None
    return None


class Doubts:
    """The keys that we may have without a lease."""

    __slots__ = (
        "_doubts", "_former", "_former_due", "_ledger", "_looks", "_out", "_pace", "_refused", "_session", "_timeout",
        "_timer", "former_for", "releaser",
    )  # fmt: skip

    def __init__(
        self, outbox: Outbox, session: Session, ledger: Ledger, refused: RefusedKeys, pace: Pace, timeout: float
    ) -> None:
        self._refused = refused
        self._out = outbox
        self._session = session
        self._ledger = ledger
        self._pace = pace
        self._timeout = timeout
        self._doubts: dict[Slot, _Doubt] = {}  # the latest is last
        # id -> until when it is checked; the latest, and those that were checked last, are last. One for locks, one for
        # places in queues.
        self._former: tuple[dict[str, tuple[Slot, float]], dict[str, tuple[Slot, float]]] = ({}, {})
        self._former_due = inf  # when the former keys are checked next
        self.former_for = FORMER_FOR
        self._timer = inf  # when the next look is
        self._looks = 0  # how many requests of the last look were not answered yet
        self.releaser: Releaser  # set once, with the audit's keeper

    def begin(self) -> None:
        """A session is in use: nothing of it is in doubt yet."""
        self._timer = self._former_due = inf
        self._looks = 0
        self._doubts.clear()
        for former in self._former:
            former.clear()

    def end_generation(self) -> None:
        """The session is over."""
        self._out.cancel(("look",))

    # ------------------------------------------------------------------------------------ what arises

    def add(self, slot: Slot) -> None:
        """There is a doubt about a slot. Above the limit the oldest doubt is given up."""
        self._doubts.pop(slot, None)
        self._doubts[slot] = _Doubt(self._out.now)
        if len(self._doubts) > MAX_DOUBTS:
            self._drop(next(iter(self._doubts)))
        self._look_within(FIRST_PAUSE)

    def leftover(self, slot: Slot) -> None:
        """Our session may hold a key in Consul, although there is no lease, or will be none."""
        slot.leftover = True
        self.add(slot)

    def add_former(self, slot: Slot) -> None:
        """The session asked for this key and does not have it now: it was refused, given back, or lost."""
        former, most = (self._former[1], MAX_FORMER_PLACES) if slot.is_place else (self._former[0], MAX_FORMER)
        former.pop(slot.id, None)
        former[slot.id] = slot, self._out.now + self.former_for
        if len(former) > most:
            del former[next(iter(former))]
        self._former_due = min(self._former_due, self._out.now + LOOK_EVERY)
        self._look_within(LOOK_EVERY)

    def _look_within(self, delay: float) -> None:
        at = self._out.now + delay
        if self._session.life is not None and at < self._timer:
            self._timer = at
            self._out.timer(("look",), at, self.look)

    # ----------------------------------------------------------------------------------------- looks

    def look(self) -> None:
        """Check the keys that we may have without a lease, during an outage once that is over."""
        if not self._pace.when_open(self.look):
            return
        self._timer = inf
        if self._looks:  # Consul has not answered the last look: do not send another one
            self._look_within(LOOK_EVERY)
            return
        slots = [*self._in_doubt(), *self._former_slots()]
        for start in range(0, len(slots), MAX_OPS):
            self._look_at(slots[start : start + MAX_OPS])
        # A key in use is not checked here, but it may be idle again at any time.
        then = self._out.now + LOOK_EVERY
        dues = (doubt.due if slot.state is KeyState.UNKNOWN else then for slot, doubt in self._doubts.items())
        due = min(self._former_due, min(dues, default=inf))
        if due < inf:
            self._look_within(due - self._out.now)

    def _look_at(self, part: Sequence[Slot]) -> None:
        life = self._session.current
        operations = tuple(Operation(Verb.CHECK_SESSION, slot.key, session=life.session_id) for slot in part)
        look = Transact(life.generation, operations, consistent=True, timeout=self._timeout)
        self._looks += 1
        self._out.ask(look, partial(self._looked, part))

    def _in_doubt(self) -> Iterable[Slot]:
        """The keys in doubt that are due; not those held or in use."""
        for slot, doubt in list(self._doubts.items()):
            if not (slot.doubts or slot.leftover) or self._ledger.slots.get(slot.id) is not slot:
                del self._doubts[slot]
            elif slot.state is KeyState.UNKNOWN and doubt.due <= self._out.now + TOGETHER:
                doubt.due = self._out.now + LOOK_EVERY  # the answer may set a longer pause
                yield slot

    def _former_slots(self) -> list[Slot]:
        """The former keys whose turn it is, when they are due; not those that are in use again, or in doubt."""
        now = self._out.now
        if self._former_due > now + TOGETHER:
            return []
        locks, places = self._former
        taken = self._take(places, PLACES_AT_ONCE)
        taken += self._take(locks, MAX_OPS - len(taken))
        self._former_due = now + LOOK_EVERY if any(self._former) else inf
        return taken

    def _take(self, former: dict[str, tuple[Slot, float]], most: int) -> list[Slot]:
        """Up to so many former keys: those whose last turn is longest ago. Their next one is after all others."""
        taken: list[Slot] = []
        for id, (slot, until) in list(former.items()):
            if len(taken) == most:
                break
            del former[id]
            if until > self._out.now:
                former[id] = slot, until
                if id not in self._ledger.leases and self._ledger.slots.get(id, slot).state is KeyState.FREE:
                    taken.append(slot)
        return taken

    # ----------------------------------------------------------------------------------------- answers

    def _looked(self, part: Sequence[Slot], outcome: TransactAnswer) -> None:
        """A look was answered. A key for which the check did not fail is ours."""
        self._looks -= 1
        if isinstance(outcome, RefusedWhole):
            if len(part) == 1:
                self._refused_alone(part[0], outcome)
            else:
                for half in halves(part):
                    self._look_at(half)
            return
        others = not_ours(outcome)
        for position, slot in enumerate(part):
            if others is None:
                if isinstance(outcome, RolledBack):
                    self._later(slot)  # Consul may refuse this check again and again
            elif position in others:
                self._clear(slot)
            else:
                self.found(slot)

    def _refused_alone(self, slot: Slot, outcome: RefusedWhole) -> None:
        """Consul refused to check this key. If it does not take the key, we cannot have it: it is checked no more."""
        if not outcome.of_key:
            self._later(slot)
            return
        self._refused.add(slot.key)
        for former in self._former:
            former.pop(slot.id, None)
        if self._idle(slot):
            self._drop(slot)

    def _drop(self, slot: Slot) -> None:
        self._doubts.pop(slot, None)
        slot.forget_doubts()
        slot.leftover = False
        self._ledger.tidy(slot)

    def found(self, known: Slot) -> None:
        """Our session holds a key in Consul: if there is no lease, the key is read and given back."""
        slot = self._ledger.slot_again(known)
        if slot.lease is not None and not slot.works:
            return
        self.leftover(slot)  # during a work of the key: it is checked after that
        if not slot.works:
            read = ReadKey(self._session.current.generation, slot.key, timeout=self._timeout)
            self._out.ask(read, partial(self._read, slot))

    def _read(self, slot: Slot, outcome: KeyAnswer) -> None:
        """A key in doubt was read. If not, the next look checks it again."""
        if isinstance(outcome, RefusedWhole):
            self._refused_alone(slot, outcome)
        if not isinstance(outcome, KeysRead):
            return
        entry = outcome.entries[0] if outcome.entries else None
        if entry is None or entry.session != self._session.current.session_id:
            self._clear(slot)
        elif self._idle(slot):
            slot.saw(entry.value or b"")
            self.releaser.release_found(slot, entry.modify_index)

    def _clear(self, slot: Slot) -> None:
        """A key was checked, and is not ours now."""
        if self._idle(slot):
            slot.leftover = False
            if slot.doubts:
                self._later(slot)  # it may still be granted: check until its tenure is seen, or the generation is over
            else:
                self._doubts.pop(slot, None)
                self._ledger.tidy(slot)

    def _idle(self, slot: Slot) -> bool:
        """Whether an answer about a key still counts: no work was begun for it since."""
        return not slot.works and slot.lease is None and self._ledger.slots.get(slot.id) is slot

    def _later(self, slot: Slot) -> None:
        doubt = self._doubts.get(slot)
        if doubt is not None:
            doubt.pause = min(2 * doubt.pause, LONGEST_PAUSE)
            doubt.due = self._out.now + doubt.pause
            self._look_within(doubt.pause)
