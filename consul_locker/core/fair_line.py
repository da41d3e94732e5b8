"""The queue of a fair Locker: calls that wait for a lock are served in their order of arrival, across processes.

docs/fairness.rst has the design, and what happens when a waiter dies, gives up or is paused. In short: a call that has
to wait takes a *place*, a key of its own beside the lock's, held by the Locker's session. Places are ordered by their
CreateIndex. A call that gets the lock keeps its place, and both are given back in one transaction. Each call watches
only the place before its own; without one, the lock, which somebody has who has no place. So a release wakes one
waiter, not all. The lock's key alone decides which session has the lock; a place only says whose turn it is.

When the place before is gone, most likely all others before it are, too, so the call asks for the lock: Consul refuses
it if one of them is there. Otherwise a call that may be next reads the queue (a *turn read*, turn_reads.py).

A place is taken, given back, audited and doubted like any lock (`Slot.is_place`). So no fault leaves one behind: all
calls behind it would wait for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import partial

from ..errors import ConsulLockerError, ConsulUnavailable
from .audit import Audit
from .batch import MAX_OPS
from .calls import LockCall, Obstacle, TakePlaces
from .denials import Denials
from .fair_places import BusyLocks, Contender, Move, Standing, leader, queue_of, sharer, successor_of, turn_of
from .key import LockWork, Slot
from .leases import Leases
from .ledger import Ledger
from .line import WATCH_WAIT, overtakes, pause_length, poll_pause
from .outage import Outage
from .pace import Pace
from .pipeline import Pipeline
from .places import Places
from .release import Releases
from .requests import Entry, KeyAnswer, KeysRead, Operation, RefusedWhole, Transact, Verb, WatchKey
from .session import Session
from .step import Outbox
from .turn_reads import TurnReads
from .waits import Locks, Waits

__all__ = ["FairLine"]


class FairLine:
    """The calls of one fair Locker that wait for locks, each in its turn among all Lockers of the name.

    Args:
        outbox, session, ledger, waits, outage, pace, pipeline, leases, releases, denials, audit: of the Locker.
        timeout: the limit on one request, in seconds.

    Attributes:
        locks: takes the calls whose turn it is; set once.
        contenders: the calls in the line, as the queue knows them.
        turn_reads: find out whose turn it is.
    """

    def __init__(
        self, outbox: Outbox, session: Session, ledger: Ledger, waits: Waits, outage: Outage, pace: Pace,
        pipeline: Pipeline, leases: Leases, releases: Releases, denials: Denials, audit: Audit, timeout: float
    ) -> None:  # fmt: skip
        self._out = outbox
        self._session = session
        self._ledger = ledger
        self._waits = waits
        self._outage = outage
        self._pipeline = pipeline
        self._releases = releases
        self._denials = denials
        self._audit = audit
        self._places = Places(session, ledger, pipeline, leases, releases, self)
        self.locks: Locks
        self.contenders: dict[LockCall, Contender] = {}
        self._taking: dict[LockWork, Contender] = {}
        self._busy = BusyLocks()
        self.turn_reads = TurnReads(outbox, session, waits, outage, pace, timeout, self)
        self.flush = self.turn_reads.flush

    # --------------------------------------------------------------------------------------- the line

    def ask(self, call: LockCall, slots: tuple[Slot, ...]) -> None:
        """A call tries when it is its turn. If not, it waits here until it is."""
        contender = self.contenders.get(call)
        if contender is None or not contender.has_turn:
            contender = self._enter(call)
            if not all(map(contender.shares, contender.slots)):
                if not self._waits.may_wait(call):
                    self._read_turn(contender)
                elif any(other.queues for other in self._line(contender.slots[0])):
                    self._wait(contender, contender.slots[0], Obstacle.HELD)  # another call of this Locker waits
                elif self._busy.has(call.ids):
                    self._wait(contender, contender.slots[0], Obstacle.FAILED)  # nothing has refused it yet
                else:
                    self._read_turn(contender)
                return
            self._remove_from_line(contender)
            contender.go(Move.TURN)
        unless, contender.ahead = contender.ahead if contender.places else (), ()  # refused, it looks
        self.locks.want(call, slots, tuple(contender.places.values()), unless, self._granted)

    def overtakes(self, call: LockCall, slot: Slot) -> bool:
        """Whether a hold would overtake another one that waits here. One whose turn it is in the queue does not."""
        contender = self.contenders.get(call)
        return (contender is None or not contender.has_turn) and overtakes(call, slot)

    def wait(self, call: LockCall, slot: Slot, obstacle: Obstacle, error: ConsulLockerError | None = None) -> None:
        """A call has to wait. It keeps its places."""
        contender = self._enter(call)
        if obstacle is not Obstacle.LOCAL:
            slot.contested = slot.lease
        self._wait(contender, slot, obstacle, error)

    def _wait(
        self, contender: Contender, slot: Slot, obstacle: Obstacle, error: ConsulLockerError | None = None
    ) -> None:
        self._waits.begin(contender.call, obstacle, error)
        contender.blocked = slot
        if not contender.places:
            self._take_places(contender)
        elif obstacle is Obstacle.HELD:
            self._read_turn(contender)
        elif obstacle is not Obstacle.LOCAL:  # an obstacle in this Locker calls `serve` when it ends
            self._pause_contender(contender)

    def _enter(self, call: LockCall) -> Contender:
        contender = self.contenders.get(call)
        if contender is None:
            slots = tuple(self._ledger.slot(id) for id in call.ids)
            contender = self.contenders[call] = Contender(call, slots)
        elif contender.has_turn:
            contender.go(Move.BACK)
        for slot in [slot for slot in contender.slots if call not in slot.waiters]:
            slot.add_waiter(call)
        return contender

    def _line(self, slot: Slot) -> Iterator[Contender]:
        return (self.contenders[call] for call in slot.waiters)

    def _take_places(self, contender: Contender) -> None:
        """Take a place at the end of each queue, all in one transaction: sets have one order in all queues."""
        if contender.standing is Standing.TAKING or leader(contender, self._line(contender.slots[0])) is not None:
            return
        self._clear_waits(contender)
        contender.ahead = ()  # of an earlier place
        contender.place_call = place_call = TakePlaces(contender.call)
        # Behind another call of this Locker there is no need to read the queue.
        first = not any(other.queues for slot in contender.slots for other in self._line(slot))
        contender.work = work = self._places.take(place_call, contender.slots, shows=first)
        self._taking[work] = contender
        contender.go(Move.TAKE)

    def placed(self, work: LockWork, entries: Collection[Entry]) -> None:
        """The places are taken; ``entries`` show the queues."""
        contender = self._taken(work)
        contender.places = {place.place_for: place for place in work.slots}
        if work.shows:
            contender.note_ahead(entries)
            self.take_turn(contender, entries)

    def not_placed(self, work: LockWork, error: ConsulLockerError) -> None:
        """The places could not be taken: the call fails."""
        self.fail(self._taken(work), error)

    def _taken(self, work: LockWork) -> Contender:
        contender = self._taking.pop(work)
        contender.work = contender.place_call = None
        contender.go(Move.CAME)
        return contender

    def _granted(self, work: LockWork) -> None:
        """The locks were granted. The places stay until they are given back: whoever is next watches them."""
        for call in work.calls:
            contender = self.contenders.pop(call, None)
            if contender is not None:
                for id, place in contender.places.items():
                    self._releases.keep_place(self._ledger.slot(id), place)

    def lost(self, place: Slot) -> None:
        """A place is gone, for whatever reason: its call takes a new one, at the end."""
        self._releases.lost_place(place)
        for contender in self.contenders.values():
            if contender.places.get(place.place_for) is place:
                del contender.places[place.place_for]
                self._leave_places(contender)
                if not contender.has_turn:
                    self._take_places(contender)
                return

    def leave(self, call: LockCall) -> None:
        """A call waits no longer: its places are given back, or go to a call that shared them."""
        self._waits.end(call)
        contender = self.contenders.get(call)
        if contender is not None:
            self._take_out(contender)
            successor = successor_of(contender, self._line(contender.slots[0]))
            if successor is not None and not successor.places:
                if contender.places:
                    successor.places, contender.places = contender.places, {}
                    successor.ahead = contender.ahead
                    self._read_turn(successor)
                else:
                    self._take_places(successor)
            self._leave_places(contender)
        for id in call.ids:
            self._ledger.tidy(self._ledger.slot(id))

    def _take_out(self, contender: Contender) -> None:
        del self.contenders[contender.call]
        self._remove_from_line(contender)
        if contender.place_call is not None and contender.work is not None:
            contender.place_call.settled = True
            del self._taking[contender.work]
            self._pipeline.withdraw(contender.work)
        elif not contender.has_turn:
            self._clear_waits(contender)

    def _leave_places(self, contender: Contender) -> None:
        places, contender.places = contender.places, {}
        for place in places.values():
            self._releases.give_back(place)

    def _remove_from_line(self, contender: Contender) -> None:
        for slot in contender.slots:
            if contender.call in slot.waiters:
                slot.remove_waiter(contender.call)

    def serve(self, slot: Slot) -> None:
        """Something happened to a key: the first call that waits for nothing else checks whether it is its turn."""
        if slot.is_place and slot.lease is None:
            self.lost(slot)
        lock = self._ledger.slots.get(slot.place_for) if slot.is_place else slot
        if lock is None or lock.works:
            return
        if lock.lease is None:
            self._releases.give_back_place(lock)
        sharing: list[LockCall] = []
        while (contender := sharer(lock, self._line(lock))) is not None:
            self._take_out(contender)
            self._leave_places(contender)
            sharing.append(contender.call)
        for call in sharing:  # they share the lease that another call got, and need no place any more
            self.locks.lock(call)
        line = list(self._line(lock))
        for contender in line:
            if not contender.places and contender.standing is Standing.IDLE:
                self._take_places(contender)  # unless it shares the place of another one
        if lock.lease is not None and lock.lease.exclusive:
            return  # a hold is in the way; its end calls `serve`
        # Only the first call of this Locker checks: when it ends, the next one follows.
        first = min(line, key=lambda contender: contender.turn(lock), default=None)
        if first is not None and first.places and first.standing is Standing.IDLE:
            self._read_turn(first)

    # ------------------------------------------------------------------------------------- whose turn

    def _read_turn(self, contender: Contender) -> None:
        self._clear_waits(contender)
        self.turn_reads.want(contender)

    def take_turn(self, contender: Contender, entries: Iterable[Entry]) -> None:
        """Decide whether it is a call's turn. If not, wait for what is before it."""
        session_id = self._session.current.session_id
        if contender.call.waiting is not None:
            contender.call.waiting.error = None  # of an earlier turn read
        by_key = {entry.key: entry for entry in entries}
        queues = [queue_of(slot.key, by_key.values()) for slot in contender.slots]
        for queue in queues:
            self._tidy_up(queue, session_id)
        turn = turn_of(contender, by_key, queues, session_id)
        self._busy.note(contender, queues, turn.blocked)
        if turn.lost is not None:
            self._audit.suspect(turn.lost)
            self._pause_contender(contender)
        elif turn.before is None:
            self._try_lock(contender)
        elif not self._waits.may_wait(contender.call):  # its ``wait`` may have ended during an outage, too
            self.leave(contender.call)
            self._denials.refuse_queued(contender.call, turn.blocked, by_key.get(turn.blocked[0].key))
        elif not contender.places:
            self._wait(contender, turn.blocked[0], Obstacle.HELD)
        else:
            contender.blocked = turn.blocked[0]
            self._waits.begin(contender.call, Obstacle.HELD)
            # A place of this Locker's own needs no watch: its end is known here, and `serve` follows.
            if turn.before.session != session_id:
                self._watch_before(contender, turn.before.key, turn.before.modify_index)

    def _tidy_up(self, queue: list[Entry], session_id: str) -> None:
        """Delete the places of sessions that have ended, and release those of ours that belong to no call."""
        dead = tuple(
            Operation(Verb.DELETE_CAS, entry.key, index=entry.modify_index) for entry in queue if entry.session is None
        )
        for start in range(0, len(dead), MAX_OPS):
            # Nobody waits for the answer: what is left of them is seen by the next turn read.
            self._out.send(Transact(self._session.current.generation, dead[start : start + MAX_OPS]))
        for entry in queue:
            if entry.session == session_id:
                place = self._ledger.slot_of(entry.key)
                if place is not None and place.lease is None and not place.works:
                    self._releases.release_found(place, entry.modify_index)

    def _try_lock(self, contender: Contender) -> None:
        self._clear_waits(contender)
        self._remove_from_line(contender)
        contender.go(Move.TURN)
        self.locks.lock(contender.call)
        if contender.call.settled:
            self.leave(contender.call)  # answered from the cache, or refused

    def fail(self, contender: Contender, error: ConsulLockerError) -> None:
        """A call gets neither its turn nor places: it fails."""
        call = contender.call
        away = isinstance(error, ConsulUnavailable) and error.outage
        obstacle = self._waits.refused_by(call) if away else None
        self.leave(call)
        if obstacle is not None:
            self._denials.deny([contender.blocked or contender.slots[0]], [call], obstacle)
        else:
            self._denials.fail(call, contender.slots, self._outage.error(call) if away else error)

    # ----------------------------------------------------------------------------------- watches and pauses

    def _watch_before(self, contender: Contender, key: str, index: int) -> None:
        """Watch the place before, or the lock, from the index that was read: no change is missed."""
        if contender.polled:
            self._pause_contender(contender)
            return
        contender.go(Move.WATCH)
        contender.watch = watch = WatchKey(self._session.current.generation, key, index, WATCH_WAIT)
        self._out.ask(watch, partial(self._place_watched, contender, watch))

    def _place_watched(self, contender: Contender, request: WatchKey, outcome: KeyAnswer) -> None:
        """What is before a call was watched."""
        contender.go(Move.CAME)
        if not isinstance(outcome, KeysRead):
            contender.polled = isinstance(outcome, RefusedWhole)
            self._pause_contender(contender)
            return
        news = outcome.index > request.index
        if news:
            contender.pauses = 0
        entry = outcome.entries[0] if outcome.entries else None
        if entry is not None and entry.session not in (None, self._session.current.session_id):
            if news:
                self._watch_before(contender, request.name, outcome.index)
            else:  # a restored snapshot, or an intermediary that answers at once (line.py): read again, after a pause
                self._pause_contender(contender)
        elif [request.name] == [slot.key for slot in contender.slots] or (entry is None and contender.ahead):
            # It was first, and no later call can be before it. Or those before it have most likely gone: Consul checks.
            self._try_lock(contender)
        else:
            self._read_turn(contender)

    def _pause_contender(self, contender: Contender) -> None:
        """A pause before the next turn read: for a lock-delay, which no watch shows, or after a watch that failed."""
        contender.go(Move.PAUSE)
        contender.pauses += 1
        random = self._out.random()
        length = poll_pause(random) if contender.polled else pause_length(contender.pauses, random)
        at = self._out.now + length
        self._out.timer(("pause", contender.call), at, partial(self._contender_pause_over, contender))

    def blocked_at(self, call: LockCall) -> Slot | None:
        """The lock that a waiting call could not have at the last turn read."""
        contender = self.contenders.get(call)
        return contender.blocked or contender.slots[0] if contender is not None and not contender.has_turn else None

    def _contender_pause_over(self, contender: Contender) -> None:
        contender.go(Move.CAME)
        self._read_turn(contender)

    def _clear_waits(self, contender: Contender) -> None:
        """End the read, the watch or the pause of a call: something else follows."""
        if contender.standing is Standing.WATCHING:
            assert contender.watch is not None
            self._out.give_up(contender.watch)
        elif contender.standing is Standing.PAUSED:
            self._out.cancel(("pause", contender.call))
        contender.go(Move.CLEAR)

    def stop(self) -> tuple[list[LockCall], list[Slot]]:
        """A stop begins: no call waits any more. A place that comes yet is given back."""
        places = [place for contender in self.contenders.values() for place in contender.places.values()]
        places += self._releases.take_places()
        calls = [call for call, contender in self.contenders.items() if not (contender.has_turn or call.settled)]
        for call, contender in self.contenders.items():
            self._remove_from_line(contender)
            self._waits.end(call)
        self.end_generation()
        return calls, places

    def end_generation(self) -> None:
        """The session is over, and all places with it."""
        for contender in self.contenders.values():
            if contender.standing not in (Standing.TAKING, Standing.TURN):
                self._clear_waits(contender)
        self.contenders.clear()
        self._taking.clear()
        self._busy = BusyLocks()
        self.turn_reads.clear()
