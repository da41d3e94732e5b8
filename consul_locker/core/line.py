"""Waiting for a lock: the line of callers at each key, and the watch that wakes them.

All calls that wait at a key share one blocking query on it, a watch. When it wakes them, the first call tries at once;
refused again, it goes back to its position in the line. No wake-up is missed: a watch always begins by reading the
present state (index 0). A missing key counts as free; a query on one is also woken by writes to other keys (measured).
A key in its lock-delay is free already, so no watch shows when it can be locked: it is tried again after pauses. After
a watch that is answered with nothing new there is a pause, too: a proxy may not know blocking queries, and answer each
of them at once.

Some versions of Consul take keys in transactions that they refuse in ``/v1/kv`` (1.21.5 to 1.22.4,
docs/consul_versions.rst), where the blocking queries are. While a call waits for such a key, it is polled: read by
transaction again and again.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from math import inf
from typing import Protocol

from ..errors import AlreadyLocked, ConsulLockerError
from .calls import Call, Lock, LockCall, Obstacle, TakePlaces, Wait
from .ledger import Ledger, LockWork, Slot
from .outage import Outage
from .pace import Pace
from .requests import Entry, KeyAnswer, KeysRead, PollKey, RefusedWhole, WatchKey
from .session import Session
from .step import Outbox

__all__ = ["LineGrants", "Waiting", "rider_of"]

#: How long Consul may hold a watch on a key, in seconds. One that no call waits for any more has its connection until
#: then (`runtime.watches`), so calls that give up early must not leave many. A request in 10 s costs next to nothing.
WATCH_WAIT = 10.0
#: Pauses between attempts at a key that is in its lock-delay, in seconds: they double from the first to
#: the longest, with jitter. The default lock-delay of others is 15 s (doc), 60 s the longest.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 1.0
#: The shortest pause between two polls of a key that cannot be watched, in seconds; jitter adds up to a half. Each poll
#: costs Consul a request; each second between them delays a waiting call by half a second on average.
POLL_EVERY = 1.0


def pause_length(count: int, random: float) -> float:
    """The length of the ``count``-th pause in a row (from 1), in seconds, with jitter; ``random`` is in [0, 1)."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(count - 1, 10)) * (0.5 + random / 2)


def poll_pause(random: float) -> float:
    """The pause before a key that cannot be watched is read again, in seconds, with jitter; ``random`` in [0, 1)."""
    return POLL_EVERY * (1 + random / 2)


def next_index(request: WatchKey | PollKey, outcome: KeysRead) -> int:
    """The index of the next watch on a key, after a watch that showed nothing new.

    An index that falls means a restored snapshot: begin at 0 again (doc, measured). The index of a poll is the key's.
    """
    if isinstance(request, PollKey):
        return outcome.index
    return outcome.index if outcome.index == request.index else 0


def _blocked_locally(call: LockCall) -> bool:
    """Whether a waiting call waits for another one of this Locker, so that no watch needs to wake it."""
    return call.waiting is not None and call.waiting.obstacle is Obstacle.LOCAL


def rider_of(call: Call) -> Call:
    """The call of a user's that rides over an outage, for a call in a transaction."""
    return call.call if isinstance(call, TakePlaces) else call


class LineGrants(Protocol):
    """The part of `Grants` that waiting uses."""

    def lock(self, call: LockCall) -> None:
        """Try to lock again."""

    def deny(self, slots: list[Slot], calls: list[LockCall], obstacle: Obstacle) -> None:
        """Refuse the calls."""

    def abandon(self, call: LockCall) -> None:
        """Take a call that was answered out of the line and of its works."""


class Waiting:
    """The lines of callers at the keys of one Locker."""

    def __init__(self, outbox: Outbox, session: Session, ledger: Ledger, outage: Outage, pace: Pace) -> None:
        self._out = outbox
        self._session = session
        self._ledger = ledger
        self._outage = outage
        self._pace = pace
        self._watches: dict[str, WatchKey | PollKey] = {}  # id -> the query under way
        self._paused: set[str] = set()  # ids with a timer for the next attempt
        self._watch_next: dict[str, int] = {}  # paused id -> the index from which to watch it after the pause
        self._pauses: dict[str, int] = {}  # id -> how many pauses were made in a row
        self._polled: set[str] = set()  # ids of keys that Consul does not let us watch
        self.grants: LineGrants  # set once, by Lifecycle

    # ------------------------------------------------------------- for a fair Locker only: see fair_line.py

    def admits(self, call: LockCall) -> bool:
        """Whether the call may ask for its locks now."""
        return True

    def admitted(self, call: LockCall) -> bool:
        """Whether it is the call's turn in the queue."""
        return False

    def places(self, call: LockCall) -> tuple[Slot, ...]:
        """The places that the transaction gives back which grants the call its locks."""
        return ()

    def granted(self, work: LockWork) -> None:
        """Locks were granted."""

    def placed(self, work: LockWork, entries: Iterable[Entry]) -> None:
        """Places were taken; ``entries`` show the queues."""

    def not_placed(self, work: LockWork, error: ConsulLockerError) -> None:
        """Places could not be taken."""

    def lost(self, place: Slot) -> None:
        """A place is gone."""

    def read_turns(self, generation: int, timeout: float) -> None:
        """Send the turn reads that are due at the end of a step."""

    def begin_stop(self) -> list[Slot]:
        """A stop begins. Returns the places to give back first."""
        return []

    # --------------------------------------------------------------------------------------- the line

    def may_wait(self, call: LockCall) -> bool:
        """Whether a refused call has time left to wait for another holder (not only for a former session)."""
        if call.wait == 0.0 or call.waiting is None:
            return call.wait != 0.0
        return self._out.now < call.waiting.until

    def rides(
        self, call: Call, since: float, error: ConsulLockerError | None = None, *, sent: bool = False
    ) -> bool:
        """A call meets an outage: see `Outage.ride`. One that waits for a lock has to wait from now on.

        Returns:
            Whether it rides on; if not, whoever asks answers it: see `refused_by`.
        """
        rider = rider_of(call)
        if isinstance(rider, LockCall):
            if rider.wait != 0.0 and rider.waiting is None:
                self._begin(rider, Obstacle.FAILED, None)
            if self.refused_by(rider) is not None:
                return False
        return self._outage.ride(rider, since, error, sent=sent)

    def refused_by(self, call: LockCall) -> Obstacle | None:
        """What Consul refused a call for whose ``wait`` is over: then it is refused, outage or not. Else None."""
        waiting = call.waiting
        if waiting is None or waiting.obstacle is Obstacle.FAILED or self._out.now < waiting.until:
            return None
        return waiting.obstacle

    def known_taken(self, slot: Slot) -> bool:
        """Whether a watch or a timer will wake the line, so that no attempt is needed before.

        A watch that was not answered yet counts too: it begins by reading the present state.
        """
        return slot.id in self._paused or slot.id in self._watches

    def wait_or_deny(self, call: LockCall, slot: Slot) -> None:
        """A call is blocked by another call of this Locker: it waits, or is refused."""
        if self.may_wait(call):
            self.add(call, slot, Obstacle.LOCAL)
        else:
            self.remove(call)
            self._deny_local(call, slot)

    def _deny_local(self, call: LockCall, slot: Slot) -> None:
        self._out.count("denied")
        error = AlreadyLocked(slot.id, slot.key, Obstacle.LOCAL.value, shared=slot.is_shared)
        self._out.settle(call, error=error)

    def add(
        self, call: LockCall, slot: Slot, obstacle: Obstacle = Obstacle.HELD, error: ConsulLockerError | None = None
    ) -> None:
        """Put a call into the line of a key, in the order of arrival."""
        self._begin(call, obstacle, error)
        slot.add_waiter(call)
        if obstacle is Obstacle.HELD:
            if slot.id not in self._watches and slot.id not in self._watch_next:
                self._watch(slot, 0)
        elif obstacle is not Obstacle.LOCAL:
            self._pause(slot)

    def _begin(self, call: LockCall, obstacle: Obstacle, error: ConsulLockerError | None) -> None:
        """A call has to wait. Its ``wait`` counts from the first time that it has to."""
        if call.waiting is None:
            call.waiting = Wait(inf if call.wait is None else self._out.now + call.wait)
            if call.wait is not None:
                self.limit(call, call.waiting.until)
        call.waiting.obstacle = obstacle
        call.waiting.error = error

    def limit(self, call: LockCall, at: float) -> None:
        """Set the moment at which a call waits no longer."""
        self._out.timer(("wait", call), at, partial(self._over, call))

    def remove(self, call: LockCall) -> None:
        """Take a call out of its line; after the last one the watch ends."""
        for id in call.ids:
            slot = self._ledger.slots.get(id)
            if slot is not None and call in slot.waiters:
                slot.remove_waiter(call)
                self._end_unneeded_watch(slot)
            elif slot is not None:
                self._ledger.tidy(slot)
        if call.waiting is not None:
            self._out.cancel(("wait", call))

    def obstacle(self, call: LockCall) -> Slot | None:
        """The lock that a call waits for; None while it does not wait."""
        slots = (self._ledger.slots.get(id) for id in call.ids)
        return next((slot for slot in slots if slot is not None and call in slot.waiters), None)

    def _over(self, call: LockCall) -> None:
        """A call's ``wait`` is over."""
        slot, waiting = self.obstacle(call), call.waiting
        if waiting is None or (waiting.obstacle is Obstacle.FAILED and waiting.error is None):
            return  # Consul never refused it: it rides over the outage
        if slot is None:
            if self._pace.pausing:
                self._over_in_outage(call, waiting.obstacle)
            return  # an attempt is under way; its answer decides
        self.remove(call)
        if waiting.error is not None:
            self._out.settle(call, error=waiting.error)
        elif waiting.obstacle is Obstacle.LOCAL:
            self._deny_local(call, slot)
        else:
            self.grants.deny([slot], [call], waiting.obstacle)

    def _over_in_outage(self, call: LockCall, obstacle: Obstacle) -> None:
        """The ``wait`` of a call is over that Consul refused before: it does not wait for the end of the outage."""
        self.grants.deny([self._ledger.slot(call.id)], [call], obstacle)
        self.grants.abandon(call)

    def serve(self, slot: Slot) -> None:
        """The key is idle: each waiting call that can go on does, in order of arrival."""
        if slot.works:
            return
        taken = self.known_taken(slot)
        if taken and slot.lease is None:
            return
        for call in list(slot.waiters):
            if call not in slot.waiters:
                continue  # an earlier iteration of this loop has served it too
            if slot.works and not isinstance(call, Lock):
                break  # an attempt is under way, which only callers of lock may share
            if slot.lease is not None and (slot.lease.exclusive or call.exclusive):
                continue
            if taken and not _blocked_locally(call):
                continue  # Consul refused it although we have a lease: a watch or timer wakes it, no hot loop
            slot.remove_waiter(call)
            self.grants.lock(call)
        self._end_unneeded_watch(slot)

    def _end_unneeded_watch(self, slot: Slot) -> None:
        """End the watch and the pause of a key that no call waits for."""
        if not all(map(_blocked_locally, slot.waiters)):
            return
        watch = self._watches.pop(slot.id, None)
        if watch is not None:
            self._out.give_up(watch)
        paused = slot.id in self._paused
        if paused:
            self._paused.remove(slot.id)
            self._watch_next.pop(slot.id, None)
            self._out.cancel(("pause", slot.id))
        if not slot.works:  # during an attempt keep the count: refused again, its call makes longer pauses
            self._pauses.pop(slot.id, None)
            self._polled.discard(slot.id)
        slot.entry = None  # without a watch the holder is unknown
        if (watch is not None or paused) and slot.waiters and slot.lease is None:
            self.serve(slot)  # the rest waited behind a call that has gone, and nothing else would wake it
        self._ledger.tidy(slot)

    # ----------------------------------------------------------------------------------- watches and pauses

    def _watch(self, slot: Slot, index: int) -> None:
        generation = self._session.current.generation
        watch: WatchKey | PollKey
        if slot.id in self._polled:
            watch = PollKey(generation, slot.key, index, 0.0)
        else:
            watch = WatchKey(generation, slot.key, index, WATCH_WAIT)
        self._watches[slot.id] = watch
        self._out.ask(watch, partial(self._watched, slot, watch))

    def _watched(self, slot: Slot, request: WatchKey | PollKey, outcome: KeyAnswer) -> None:
        """A watch on a key was answered."""
        id = slot.id
        del self._watches[id]
        if isinstance(outcome, RefusedWhole) and isinstance(request, WatchKey):
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
        if outcome.index > request.index and isinstance(request, WatchKey):
            self._watch(slot, outcome.index)
        else:
            self._pause(slot)
            self._watch_next[id] = next_index(request, outcome)

    def _pause(self, slot: Slot) -> None:
        """Pause before the next attempt: in a lock-delay, which no watch shows, or after a watch that failed.

        If the key is in `_watch_next`, the pause is followed by a watch and not by an attempt.
        """
        if slot.id in self._paused:
            return
        self._paused.add(slot.id)
        self._pauses[slot.id] = count = self._pauses.get(slot.id, 0) + 1
        random = self._out.random()
        length = poll_pause(random) if slot.id in self._polled else pause_length(count, random)
        self._out.timer(("pause", slot.id), self._out.now + length, partial(self._pause_over, slot.id))

    def _pause_over(self, id: str) -> None:
        """A pause before the next attempt at a key is over."""
        self._paused.remove(id)
        index = self._watch_next.pop(id, None)
        slot = self._ledger.slots.get(id)
        if slot is not None and index is not None:
            self._watch(slot, index)
        elif slot is not None:
            slot.entry = None  # there was no watch during the pause: the holder may have changed
            self.serve(slot)

    def end_generation(self) -> None:
        """The session is over: watches and timers end. The calls are answered elsewhere (`Lifecycle`)."""
        for id in self._paused:
            self._out.cancel(("pause", id))
        self._watches.clear()
        self._paused.clear()
        self._watch_next.clear()
        self._pauses.clear()
        self._polled.clear()
