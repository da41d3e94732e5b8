"""The line in which whoever is fastest gets the lock: the callers at each key, and the watch that wakes them.

All calls that wait at a key share one blocking query on it, a watch. When it wakes them, the first call tries at once;
refused again, it goes back to its position in the line. No wake-up is missed: a watch always begins by reading the
present state (index 0).

Where many Lockers wait for a key, each release would wake all of them, and all but one would ask in vain. So one that
was woken and refused has lost a *race*, and pauses before it watches again. The more races it loses in a row the longer
it pauses, so that few are awake at each release, whatever their number.

A missing key counts as free; a query on one is also woken by writes to other keys (measured). A key in its lock-delay
is free already, so no watch shows when it can be locked: it is tried again after pauses. After a watch that is answered
with nothing new there is a pause, too: a proxy may not know blocking queries, and answer each of them at once.

Some versions of Consul take keys in transactions that they refuse in ``/v1/kv`` (1.21.5 to 1.22.4,
docs/consul_versions.rst), where the blocking queries are. While a call waits for such a key, it is polled: read by
transaction again and again.
"""

from __future__ import annotations

from functools import partial

from ..errors import ConsulLockerError
from .calls import Lock, LockCall, Obstacle
from .key import Slot
from .ledger import Ledger
from .requests import KeyAnswer, KeysRead, PollKey, RefusedWhole, WatchKey
from .session import Session
from .step import Outbox
from .waits import Locks, Waits

__all__ = ["FastestLine", "overtakes"]

#: How long Consul may hold a watch on a key, in seconds. One that no call waits for any more has its connection until
#: then (`runtime.watches`), so calls that give up early must not leave many. A request in 10 s costs next to nothing.
WATCH_WAIT = 10.0
#: Pauses between attempts at a key that is in its lock-delay, in seconds: they double from the first to
#: the longest, with jitter. The default lock-delay of others is 15 s (doc), 60 s the longest.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 1.0
#: The longest pause after the first race lost, in seconds; it doubles with each one lost in a row, up to the second
#: figure. The first is a few handovers of a lock that is held for a millisecond (3 to 5 ms each, measured): enough to
#: let the others go by, and little to wait in vain. The second is how long a free lock may go unnoticed by one who
#: waits. With them 8 Lockers in 4 processes send less than half of the requests, for half as many handovers again;
#: the longest waits are half as long again (docs/performance.rst).
FIRST_RACE_PAUSE = 0.01
LONGEST_RACE_PAUSE = 0.1
#: The shortest pause between two polls of a key that cannot be watched, in seconds; jitter adds up to a half. Each poll
#: costs Consul a request; each second between them delays a waiting call by half a second on average.
POLL_EVERY = 1.0


def pause_length(count: int, random: float) -> float:
    """The length of the ``count``-th pause in a row (from 1), in seconds, with jitter; ``random`` is in [0, 1)."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(count - 1, 10)) * (0.5 + random / 2)


def race_pause(lost: int, random: float) -> float:
    """The pause after so many races lost in a row, in seconds; anything up to its longest, so that few meet again."""
    return random * min(LONGEST_RACE_PAUSE, FIRST_RACE_PAUSE * 2.0 ** min(lost - 1, 10))


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


def overtakes(call: LockCall, slot: Slot) -> bool:
    """Whether another hold of this Locker waits for a key, and came before a call."""
    return any(other.order < call.order for other in slot.waiters if not isinstance(other, Lock))


class FastestLine:
    """The lines of callers at the keys of one Locker.

    Args:
        outbox, session, ledger, waits: of the Locker.

    Attributes:
        locks: takes the calls that try; set once.
    """

    def __init__(self, outbox: Outbox, session: Session, ledger: Ledger, waits: Waits) -> None:
        self._out = outbox
        self._session = session
        self._ledger = ledger
        self._waits = waits
        self._watches: dict[str, WatchKey | PollKey] = {}  # id -> the query under way
        self._paused: set[str] = set()  # ids with a timer for the next attempt
        self._watch_next: dict[str, int] = {}  # paused id -> the index from which to watch it after the pause
        self._pauses: dict[str, int] = {}  # id -> how many pauses were made in a row
        self._races: dict[str, int] = {}  # id -> how often a watch showed it free, since it was granted last
        self._polled: set[str] = set()  # ids of keys that Consul does not let us watch
        self.locks: Locks

    # --------------------------------------------------------------------------------------- the line

    def ask(self, call: LockCall, slots: tuple[Slot, ...]) -> None:
        """A call tries at once, unless it is known that the lock is taken."""
        slot = slots[0]
        if isinstance(call, Lock) and not slot.works and call.wait != 0.0 and self._known_taken(slot):
            self.wait(call, slot, Obstacle.HELD)
        else:
            self.locks.want(call, slots)

    def overtakes(self, call: LockCall, slot: Slot) -> bool:
        """Whether a hold would overtake another one that waits here."""
        return overtakes(call, slot)

    def _known_taken(self, slot: Slot) -> bool:
        """Whether a watch or a timer will wake the line, so that no attempt is needed before.

        A watch that was not answered yet counts too: it begins by reading the present state.
        """
        return slot.id in self._paused or slot.id in self._watches

    def _attended(self, slot: Slot) -> bool:
        """Whether anything is kept of a key here besides the calls that wait."""
        id = slot.id
        return (
            id in self._races
            or id in self._pauses
            or id in self._watches
            or id in self._paused
            or id in self._polled
        )

    def wait(self, call: LockCall, slot: Slot, obstacle: Obstacle, error: ConsulLockerError | None = None) -> None:
        """Put a call into the line of a key; the first one there has the key watched."""
        self._waits.begin(call, obstacle, error)
        slot.add_waiter(call)
        if obstacle is Obstacle.HELD:
            if slot.id not in self._watches and slot.id not in self._watch_next:
                self._await_release(slot)
        elif obstacle is not Obstacle.LOCAL:
            self._pause(slot)

    def leave(self, call: LockCall) -> None:
        """Take a call out of its line; after the last one the watch ends."""
        for id in call.ids:
            slot = self._ledger.slots.get(id)
            if slot is not None and call in slot.waiters:
                slot.remove_waiter(call)
                self._end_unneeded_watch(slot)
            elif slot is not None:
                self._ledger.tidy(slot)
        self._waits.end(call)

    def blocked_at(self, call: LockCall) -> Slot | None:
        """The key in whose line a call is."""
        slots = (self._ledger.slots.get(id) for id in call.ids)
        return next((slot for slot in slots if slot is not None and call in slot.waiters), None)

    def serve(self, slot: Slot) -> None:
        """The key is idle: each waiting call that can go on does, in order of arrival."""
        if slot.works or not (slot.waiters or self._attended(slot)):
            return
        taken = self._known_taken(slot)
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
            self.locks.lock(call)
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
            self._races.pop(slot.id, None)
            self._polled.discard(slot.id)
        slot.entry = None  # without a watch the holder is unknown
        if (watch is not None or paused) and slot.waiters and slot.lease is None:
            self.serve(slot)  # the rest waited behind a call that has gone, and nothing else would wake it
        self._ledger.tidy(slot)

    def flush(self) -> None:
        """Nothing of it waits for the end of a step."""

    def stop(self) -> tuple[list[LockCall], list[Slot]]:
        """A stop begins: take all calls out. There are no places."""
        calls = []
        for slot in list(self._ledger.slots.values()):
            for call in [call for call in slot.waiters if not call.settled]:
                calls.append(call)
                self.leave(call)
        return calls, []

    def end_generation(self) -> None:
        """The session is over: watches and timers end."""
        for id in self._paused:
            self._out.cancel(("pause", id))
        self._watches.clear()
        self._paused.clear()
        self._watch_next.clear()
        self._pauses.clear()
        self._races.clear()
        self._polled.clear()

    # ----------------------------------------------------------------------------------- watches and pauses

    def _await_release(self, slot: Slot) -> None:
        """Another session has a key: watch it, after a pause if an attempt was made because a watch showed it free."""
        lost = self._races.get(slot.id, 0)
        if lost and slot.id not in self._paused:
            self._watch_next[slot.id] = 0
            self._set_pause(slot, race_pause(lost, self._out.random()))
        else:
            self._watch(slot, 0)

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
            self._races[id] = self._races.get(id, 0) + 1
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
        self._pauses[slot.id] = count = self._pauses.get(slot.id, 0) + 1
        random = self._out.random()
        self._set_pause(slot, poll_pause(random) if slot.id in self._polled else pause_length(count, random))

    def _set_pause(self, slot: Slot, length: float) -> None:
        self._paused.add(slot.id)
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
