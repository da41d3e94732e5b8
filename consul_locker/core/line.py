"""Waiting for a lock: the line of callers at each key, and the watch that wakes them.

Those who wait at a key share one blocking query on it. Woken, the first of them tries at once; refused
again, it goes back to its place. No wake-up is missed: a watch always begins with a look at the present
state (index 0), and a query on a missing key, which Consul wakes for the writes of others (measured),
counts as a free key. A key in its lock-delay is free already, so no watch can tell when it opens: it
is tried again after pauses. A watch that comes back with nothing newer is repeated after a pause, too: an
intermediary may not know of blocking queries, and answer each of them at once.

Some Consuls take keys in transactions that they refuse in ``/v1/kv`` (1.21.5 to 1.22.4, docs/consul_versions.rst),
where the blocking queries are. Such a key is read by transaction from time to time instead, as long as somebody waits.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Protocol

from ..errors import AccessDenied, AlreadyLocked, ConsulLockerError, InvalidLockId
from .ledger import Ledger, Slot, Work
from .messages import Call, CancelRequest
from .requests import Entry, KeysRead, Outcome, RefusedWhole, Transact, Watch
from .session import Session
from .step import Outbox

__all__ = ["LineGrants", "Waiting"]

#: How long Consul may hold a watch on a key, in seconds; see `session.WATCH_WAIT`.
WATCH_WAIT = 300.0
#: Pauses between attempts at a key that is in its lock-delay, in seconds: they double from the first to
#: the longest, with jitter. The default lock-delay of others is 15 s (doc), 60 s the longest.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 1.0
#: The shortest pause before a key that cannot be watched is read again, in seconds; jitter adds up to a half. Each read
#: costs Consul a request, each second between them costs whoever waits half a second on average.
POLL_EVERY = 1.0


def pause_length(count: int, random: float) -> float:
    """The length of the ``count``-th pause in a row (from 1), in seconds, with jitter; ``random`` is in [0, 1)."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(count - 1, 10)) * (0.5 + random / 2)


def poll_pause(random: float) -> float:
    """The pause before a key that cannot be watched is read again, in seconds, with jitter; ``random`` in [0, 1)."""
    return POLL_EVERY * (1 + random / 2)


def next_index(request: Watch, outcome: KeysRead) -> int:
    """Where to go on watching a key, after a watch that showed nothing newer.

    An index that falls means a restored snapshot: begin at nought again (doc, measured). That of a poll is the key's.
    """
    if request.target == "poll":
        return outcome.index
    return outcome.index if outcome.index == request.index else 0


#: What Consul refuses for these reasons it will refuse again: nobody waits for that.
FOR_GOOD = (AccessDenied, InvalidLockId)


class LineGrants(Protocol):
    """What waiting needs of `Grants`."""

    def lock(self, call: Call) -> None:
        """Try again."""

    def deny(self, slots: list[Slot], calls: list[Call], reason: str) -> None:
        """Refuse."""


class Waiting:
    """The lines of callers at the keys of one Locker."""

    def __init__(self, outbox: Outbox, session: Session, ledger: Ledger) -> None:
        self._out = outbox
        self._session = session
        self._ledger = ledger
        self._watches: dict[str, Watch] = {}  # id -> the query under way
        self._ids: dict[Watch, str] = {}  # and back
        self._paused: set[str] = set()  # ids whose next attempt has a timer
        self._watch_next: dict[str, int] = {}  # those of them that are to be watched then, and from which index on
        self._pauses: dict[str, int] = {}  # id -> how many pauses were made in a row
        self._polled: set[str] = set()  # ids whose key Consul does not let us watch
        self.grants: LineGrants  # set once, by Lifecycle

    # ------------------------------------------------------------- what only a fair Locker has: see fair_line.py

    def admits(self, call: Call) -> bool:
        """Whether the call may ask for its locks now."""
        return True

    def admitted(self, call: Call) -> bool:
        """Whether it was said to be the call's turn."""
        return False

    def places(self, call: Call) -> tuple[Slot, ...]:
        """What is to be given back by the transaction that grants the call its locks."""
        return ()

    def granted(self, work: Work) -> None:
        """Locks were granted."""

    def placed(self, work: Work, entries: Iterable[Entry]) -> None:
        """Places were taken; ``entries`` show the queues."""

    def not_placed(self, work: Work, error: ConsulLockerError) -> None:
        """Places could not be taken."""

    def lost(self, place: Slot) -> None:
        """A place is gone."""

    def turn_reads(self, generation: int, timeout: float) -> list[Transact]:
        """What is to be asked at the end of a step."""
        return []

    def turn_answered(self, request: Transact, entries: Iterable[Entry], failure: ConsulLockerError | None) -> None:
        """What was asked is answered by ``entries``; or by nothing, and ``failure`` says why."""

    def split_turn_read(self, request: Transact) -> None:
        """What was asked was refused as a whole."""

    def begin_stop(self) -> list[Slot]:
        """A stop begins. Returns what is to be given back first."""
        return []

    # --------------------------------------------------------------------------------------- the line

    def may_wait(self, call: Call) -> bool:
        """Whether a refused call has time left to wait for another holder; one that is only spared has not."""
        if call.wait == 0.0 or call.wait_until is None:
            return call.wait != 0.0
        return self._out.now < call.wait_until

    def outlasts(self, call: Call, error: ConsulLockerError) -> bool:
        """Whether a call that waits goes on in spite of a failure: what Consul forbids it will forbid again."""
        return call.wait_until is not None and self.may_wait(call) and not isinstance(error, FOR_GOOD)

    def known_taken(self, slot: Slot) -> bool:
        """Whether something will tell when to try again: no need to ask before.

        A watch under way is enough, also one that was not answered yet: it begins with a look.
        """
        return slot.id in self._paused or slot.id in self._watches

    def wait_or_deny(self, call: Call, slot: Slot, reason: str) -> None:
        """A call that another caller of this Locker is in the way of."""
        if self.may_wait(call):
            self.add(call, slot, reason)
        else:
            self.remove(call)
            self._out.count("denied")
            self._out.settle(call, error=AlreadyLocked(slot.id, slot.key, reason, shared=slot.is_shared))

    def add(self, call: Call, slot: Slot, reason: str = "held", error: ConsulLockerError | None = None) -> None:
        """Put a call into the line of a key, at the place that its arrival gives it."""
        self._begin(call, reason, error)
        self._add_to_line(call, slot)
        if reason == "held":
            if slot.id not in self._watches and slot.id not in self._watch_next:
                self._watch(slot, 0)
        elif reason != "local":
            self._pause(slot)

    def _begin(self, call: Call, reason: str, error: ConsulLockerError | None) -> None:
        """The time to wait counts from the first time that a call has to."""
        call.reason = reason
        call.error = error
        if call.wait_until is None:
            if call.wait is None:
                call.wait_until = float("inf")
            else:
                call.wait_until = self._out.now + call.wait
                self._out.timer(("wait", call), call.wait_until)

    @staticmethod
    def _add_to_line(call: Call, slot: Slot) -> None:
        insort(slot.waiters, call, key=attrgetter("order"))

    def remove(self, call: Call) -> None:
        """Take a call out of its line; the last one out stops the watch."""
        for id in call.ids:
            slot = self._ledger.slots.get(id)
            if slot is not None and call in slot.waiters:
                slot.waiters.remove(call)
                self._end_unneeded_watch(slot)
            elif slot is not None:
                self._ledger.tidy(slot)
        if call.wait_until is not None:
            self._out.cancel(("wait", call))

    def obstacle(self, call: Call) -> Slot | None:
        """The lock at which a call waits; None while it does not."""
        slots = (self._ledger.slots.get(id) for id in call.ids)
        return next((slot for slot in slots if slot is not None and call in slot.waiters), None)

    def over(self, call: Call) -> None:
        """A call's time to wait is over."""
        if call.settled:
            return
        slot = self.obstacle(call)
        if slot is None:
            return  # an attempt is under way; its answer decides
        self.remove(call)
        if call.error is not None:
            self._out.settle(call, error=call.error)
        elif call.reason == "local":
            self._out.count("denied")
            self._out.settle(call, error=AlreadyLocked(slot.id, slot.key, "local", shared=slot.is_shared))
        else:
            self.grants.deny([slot], [call], call.reason)

    def serve(self, slot: Slot) -> None:
        """The key is idle: whoever can go on does, in order of arrival."""
        if slot.works:
            return
        told = self.known_taken(slot)
        if told and slot.lease is None:
            return
        for call in list(slot.waiters):
            if call not in slot.waiters:
                continue  # what was done for one before it has served it too
            if slot.works and call.verb != "lock":
                break  # an attempt is under way, which only callers of lock may share
            if slot.lease is not None and (slot.lease.exclusive or call.verb in ("hold", "hold_many")):
                continue
            if told and call.reason != "local":
                continue  # refused although we have a lease on it: what told so tells when to go on, no hot loop
            slot.waiters.remove(call)
            self.grants.lock(call)
        self._end_unneeded_watch(slot)

    def _end_unneeded_watch(self, slot: Slot) -> None:
        """Stop what nobody waits for."""
        if any(call.reason != "local" for call in slot.waiters):
            return
        watch = self._watches.pop(slot.id, None)
        if watch is not None:
            del self._ids[watch]
            self._out.send(CancelRequest(watch))
        paused = slot.id in self._paused
        if paused:
            self._paused.remove(slot.id)
            self._watch_next.pop(slot.id, None)
            self._out.cancel(("pause", slot.id))
        if not slot.works:  # else an attempt is under way; refused again, whoever makes it goes on with longer pauses
            self._pauses.pop(slot.id, None)
            self._polled.discard(slot.id)
        slot.entry = None  # nothing shows any more who has the key
        if (watch is not None or paused) and slot.waiters and slot.lease is None:
            self.serve(slot)  # they stood behind a waiter who has gone, and nothing else would tell them
        self._ledger.tidy(slot)

    # ----------------------------------------------------------------------------------- being woken

    def _watch(self, slot: Slot, index: int) -> None:
        target, wait = ("poll", 0.0) if slot.id in self._polled else ("key", WATCH_WAIT)
        watch = Watch(self._session.current.generation, target, slot.key, index, wait)
        self._watches[slot.id] = watch
        self._ids[watch] = slot.id
        self._out.send(watch)

    def watched(self, request: Watch, outcome: Outcome) -> None:
        """A watch on a key was answered."""
        id = self._ids.pop(request, None)
        if id is None:
            return  # given up meanwhile
        slot = self._ledger.slots[id]
        del self._watches[id]
        if isinstance(outcome, RefusedWhole) and request.target == "key":
            self._polled.add(id)
            self._watch(slot, 0)
            return
        if not isinstance(outcome, KeysRead):
            self._pause(slot)
            return
        if outcome.index > request.index:
            self._pauses.pop(id, None)
        entry = outcome.entries[0] if outcome.entries else None
        if entry is None or entry.session in (None, self._session.current.session_id):
            slot.entry = None
            self.serve(slot)
            return
        slot.entry = entry
        if outcome.index > request.index and request.target == "key":
            self._watch(slot, outcome.index)
        else:
            self._pause(slot)
            self._watch_next[id] = next_index(request, outcome)

    def _pause(self, slot: Slot) -> None:
        """A pause before the next attempt: for a lock-delay, which no watch shows, or after a failure.

        Or before the next watch, where `_watch_next` says so.
        """
        if slot.id in self._paused:
            return
        self._paused.add(slot.id)
        self._pauses[slot.id] = count = self._pauses.get(slot.id, 0) + 1
        random = self._out.random()
        length = poll_pause(random) if slot.id in self._polled else pause_length(count, random)
        self._out.timer(("pause", slot.id), self._out.now + length)

    def pause_over(self, id: Any) -> None:
        """A pause before the next attempt at a key is over."""
        if id not in self._paused:
            return
        self._paused.remove(id)
        index = self._watch_next.pop(id, None)
        slot = self._ledger.slots.get(id)
        if slot is not None and index is not None:
            self._watch(slot, index)
        elif slot is not None:
            slot.entry = None  # the watch broke off before the pause: it may be another by now
            self.serve(slot)

    def end_generation(self) -> None:
        """The session is over: the callers are taken care of elsewhere, watches and timers end here."""
        for watch in self._watches.values():
            self._out.send(CancelRequest(watch))
        for id in self._paused:
            self._out.cancel(("pause", id))
        self._watches.clear()
        self._ids.clear()
        self._paused.clear()
        self._watch_next.clear()
        self._pauses.clear()
        self._polled.clear()
