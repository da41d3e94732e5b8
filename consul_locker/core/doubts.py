"""Doubts: keys that we do not have, and may have all the same; and the looks that find out (docs/safety.rst, rule 5).

Two kinds of keys are looked at:

- keys in doubt: an acquire of them has an unknown outcome, or a release was not confirmed. They are looked at less and
  less often, until it is clear what became of them, or the session ends;
- former keys: they were asked for, and refused or given back. They are looked at for a while, since something on the
  way may deliver the acquire once more.

All of them together by transactions of reads, which cost Consul no write, in which each check of our session must fail.
One that does not is read, and given back.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Protocol

from .batch import MAX_OPS
from .ledger import Ledger, Slot
from .refused_keys import RefusedKeys, halves
from .requests import Committed, Entry, Operation, Outcome, ReadKey, Refusal, RefusedWhole, RolledBack, Transact, Verb
from .session import Session
from .step import Outbox

__all__ = ["Doubts", "Releaser", "not_ours"]

#: A doubt is looked into this long after it arose, in seconds. A request that timed out mostly commits within a second,
#: or when a leader is back (2 to 4 s measured). Each look that does not find the key ours doubles the pause.
FIRST_PAUSE = 1.0
#: The longest pause between two looks at a key in doubt, in seconds: what commits after minutes is rare, and each look
#: is a consistent read.
LONGEST_PAUSE = 60.0
#: Former keys, and those at which a look was not answered, are looked at this often, in seconds: what comes of them is
#: in nobody's hands, and in everybody's way.
LOOK_EVERY = 5.0
#: What is due within this time is looked at together, in seconds: fewer requests.
TOGETHER = 1.0
#: So many keys in doubt at most: 16 transactions of reads. Above that the oldest is given up, and what comes of it
#: lasts until the session ends.
MAX_DOUBTS = 1024
#: A key that this session asked for is looked at for so long after it was refused or given back, in seconds: four times
#: the longest delay that an acquire was seen to commit after (over 30 s, a paused leader; measured).
FORMER_FOR = 120.0
#: So many of these keys at most, the latest: 16 transactions of reads in a look. Older ones are given up, and what
#: comes of them then lasts until the session ends.
MAX_FORMER = 1024
#: The same for places in the queues of a fair Locker, of which each handover leaves one: two transactions. The next
#: look of the Locker at a queue finds an older one.
MAX_FORMER_PLACES = 128
#: What a check of our session fails with on a key that is not ours.
_NOT_OURS = (Refusal.SESSION, Refusal.MISSING)


class Releaser(Protocol):
    """What doubts need of `Grants`."""

    def release_found(self, slot: Slot, index: int) -> None:
        """Give a key back that is ours in Consul and has no lease."""


class _Doubt:
    """When a key in doubt is looked at next, and how long the pause before that is, in seconds."""

    __slots__ = ("due", "pause")

    def __init__(self, now: float) -> None:
        self.pause = FIRST_PAUSE
        self.due = now + FIRST_PAUSE


def not_ours(outcome: Outcome) -> set[int] | None:
    """Which of the keys, by position, a transaction of checks shows not to be our session's; None: it says nothing."""
    if isinstance(outcome, Committed):
        return set()
    if isinstance(outcome, RolledBack) and all(refused.refusal in _NOT_OURS for refused in outcome.refused):
        return {refused.position for refused in outcome.refused} or None
    return None


class Doubts:
    """Watches over keys that we may have without a lease."""

    def __init__(
        self, outbox: Outbox, session: Session, ledger: Ledger, refused: RefusedKeys, timeout: float
    ) -> None:
        self._refused = refused
        self._out = outbox
        self._session = session
        self._ledger = ledger
        self._timeout = timeout
        self._doubts: dict[Slot, _Doubt] = {}  # the latest stands last
        # id -> until when it is looked at; the latest stands last. Locks, and places in queues.
        self._former: tuple[dict[str, tuple[Slot, float]], dict[str, tuple[Slot, float]]] = ({}, {})
        self._former_due = inf  # when the former keys are looked at next
        self.former_for = FORMER_FOR
        self._timer = inf  # when the next look is
        self._looks: set[Transact] = set()  # those of the last one that were not answered yet
        self.releaser: Releaser  # set once, with the audit's keeper

    def begin(self) -> None:
        """A session is in use: nothing of it is in doubt yet."""
        self._timer = self._former_due = inf
        self._looks.clear()
        self._doubts.clear()
        for former in self._former:
            former.clear()

    def end_generation(self) -> None:
        """The session is over."""
        self._out.cancel(("look",))

    # ------------------------------------------------------------------------------------ what arises

    def add(self, slot: Slot) -> None:
        """A doubt arose; the slot says which. Above the limit the oldest goes."""
        self._doubts.pop(slot, None)
        self._doubts[slot] = _Doubt(self._out.now)
        if len(self._doubts) > MAX_DOUBTS:
            self._drop(next(iter(self._doubts)))
        self._look_within(FIRST_PAUSE)

    def leftover(self, slot: Slot) -> None:
        """Consul may show our session at a key, although there is no lease of it, or will be none."""
        slot.leftover = True
        self.add(slot)

    def add_former(self, slot: Slot) -> None:
        """The session asked for this key, and does not have it now: refused, given back, or lost."""
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
            self._out.timer(("look",), at)

    # ----------------------------------------------------------------------------------------- looking

    def look(self) -> None:
        """Look at the keys that we do not have, and may have all the same."""
        life = self._session.life
        if life is None:
            return
        self._timer = inf
        if self._looks:  # a Consul that does not answer is asked once
            self._look_within(LOOK_EVERY)
            return
        slots = [*self._in_doubt(), *self._former_slots()]
        for start in range(0, len(slots), MAX_OPS):
            part = slots[start : start + MAX_OPS]
            operations = tuple(Operation(Verb.CHECK_SESSION, slot.key, session=life.session_id) for slot in part)
            look = Transact(life.generation, operations, "unheld", context=part, consistent=True, timeout=self._timeout)
            self._looks.add(look)
            self._out.send(look)
        # One in use is looked at as that; it may be idle again at any time.
        then = self._out.now + LOOK_EVERY
        dues = (doubt.due if slot.state == "unknown" else then for slot, doubt in self._doubts.items())
        due = min(self._former_due, min(dues, default=inf))
        if due < inf:
            self._look_within(due - self._out.now)

    def _in_doubt(self) -> Iterable[Slot]:
        """The keys in doubt at which it is time to look; not what is held or in use."""
        for slot, doubt in list(self._doubts.items()):
            if not (slot.doubts or slot.leftover) or self._ledger.slots.get(slot.id) is not slot:
                del self._doubts[slot]
            elif slot.state == "unknown" and doubt.due <= self._out.now + TOGETHER:
                doubt.due = self._out.now + LOOK_EVERY  # its answer may say less often
                yield slot

    def _former_slots(self) -> Iterable[Slot]:
        """The former keys, when it is time to look at them; not those that are in use again, or in doubt."""
        now = self._out.now
        if self._former_due > now + TOGETHER:
            return
        for former in self._former:
            for id, (_, until) in list(former.items()):
                if until > now:
                    break
                del former[id]
            yield from (slot for id, (slot, _) in former.items() if self._ledger.slots.get(id, slot).state == "free")
        self._former_due = now + LOOK_EVERY if any(self._former) else inf

    # ----------------------------------------------------------------------------------------- answers

    def looked(self, request: Transact, outcome: Outcome) -> None:
        """Keys that we do not have were checked: one for which the check did not fail is ours all the same."""
        self._looks.discard(request)
        if isinstance(outcome, RefusedWhole):
            self._refused_whole(request, outcome)
            return
        others = not_ours(outcome)
        for position, slot in enumerate(request.context):
            if others is None:
                if isinstance(outcome, RolledBack):
                    self._later(slot)  # refused, it may be so for good
            elif position in others:
                self._clear(slot)
            else:
                self.found(slot)

    def _refused_whole(self, request: Transact, outcome: RefusedWhole) -> None:
        if len(request.context) == 1:
            self.refused_alone(request.context[0], outcome)
            return
        for half in halves(request):
            self._looks.add(half)
            self._out.send(half)

    def refused_alone(self, slot: Slot, outcome: RefusedWhole) -> None:
        """Consul refused to look at this key. One that it does not take is not ours there, and is looked at no more."""
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
        slot.doubts.clear()
        slot.leftover = False
        self._ledger.tidy(slot)

    def found(self, known: Slot) -> None:
        """Consul shows our session at a key: unless that is known, it is read and given back."""
        slot = self._ledger.slots.setdefault(known.id, known)
        if slot.lease is not None and not slot.works:
            return
        self.leftover(slot)  # with an operation under way: it is looked into afterwards
        if not slot.works:
            generation = self._session.current.generation
            self._out.send(ReadKey(generation, slot.key, "doubt", context=slot, timeout=self._timeout))

    def read(self, slot: Slot, entry: Entry | None) -> None:
        """A key in doubt was read."""
        if entry is None or entry.session != self._session.current.session_id:
            self._clear(slot)
        elif self._idle(slot):
            value = entry.value or b""  # the tenure stands last in it; the one that is seen is in doubt no longer
            slot.doubts = {tenure for tenure in slot.doubts if not value.endswith(f'"tenure":{tenure}}}'.encode())}
            self.releaser.release_found(slot, entry.modify_index)

    def _clear(self, slot: Slot) -> None:
        """A key was looked at, and is not ours now."""
        if self._idle(slot):
            slot.leftover = False
            if slot.doubts:
                self._later(slot)  # it may be granted yet: until its tenure is seen, or the generation is over
            else:
                self._doubts.pop(slot, None)
                self._ledger.tidy(slot)

    def _idle(self, slot: Slot) -> bool:
        """Whether what was seen of a key still counts: nothing was begun with it since."""
        return not slot.works and slot.lease is None and self._ledger.slots.get(slot.id) is slot

    def _later(self, slot: Slot) -> None:
        doubt = self._doubts.get(slot)
        if doubt is not None:
            doubt.pause = min(2 * doubt.pause, LONGEST_PAUSE)
            doubt.due = self._out.now + doubt.pause
            self._look_within(doubt.pause)
