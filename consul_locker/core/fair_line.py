"""The queue of a fair Locker: who waits for a lock is served in the order in which he came, across processes.

The design, and what happens when a waiter dies, gives up or is paused, stands in docs/fairness.rst. In short: a call
that has to wait takes a *place*, a key of its own beside the lock's, held by the Locker's session. Places stand in the
order of their CreateIndex. Each waiter watches only the place before its own, the first one watches the lock; so a
release wakes one waiter and not all. The lock's key alone decides who has the lock; a place gives nothing but a turn.

A place is taken, given back, audited and doubted like any lock (`Slot.is_place`), so that one is left behind by no
fault: it would keep everybody behind it waiting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import ConsulLockerError
from .batch import MAX_OPS
from .fair_places import Standing, Steward, packed, queue_of, turn_of
from .ledger import Ledger, Slot, Work
from .line import WATCH_WAIT, Waiting, pause_length, poll_pause
from .messages import Call, CancelRequest
from .requests import Entry, KeysRead, Operation, Outcome, RefusedWhole, Transact, Verb, Watch
from .session import Session
from .step import Outbox

__all__ = ["Queue"]


class Queue(Waiting):
    """The callers who wait at the keys of one Locker, each in its turn among all Lockers of the name."""

    asker: Steward

    def __init__(self, outbox: Outbox, session: Session, ledger: Ledger) -> None:
        super().__init__(outbox, session, ledger)
        self._standings: dict[Call, Standing] = {}
        self._watched: dict[Watch, Standing] = {}
        self._taking: dict[Work, Standing] = {}
        self._to_look: list[Standing] = []

    # --------------------------------------------------------------------------------------- the line

    def admits(self, call: Call) -> bool:
        """Whether it is the call's turn to ask for the lock; if not, it hears of it by and by."""
        standing = self._standings.get(call)
        if standing is not None and standing.asking:
            return True
        standing = self._stand(call)
        if all(map(standing.shares, standing.slots)):
            self._line_out(standing)
            standing.asking = True
            return True
        if self.may_wait(call) and any(other.queues for other in self._line(standing.slots[0])):
            self._wait(standing, standing.slots[0], "held")  # somebody waits already: a caller of this Locker
        else:
            self._look(standing)
        return False

    def admitted(self, call: Call) -> bool:
        """Whether the queue said that it is the call's turn: then the order among the local callers says nothing."""
        standing = self._standings.get(call)
        return standing is not None and standing.asking

    def known_taken(self, slot: Slot) -> bool:
        """Nothing is known but by a look."""
        return False

    def places(self, call: Call) -> tuple[Slot, ...]:
        """The places of a call, to be given back by the transaction that takes its locks."""
        standing = self._standings.get(call)
        return tuple(standing.places.values()) if standing is not None else ()

    def add(self, call: Call, slot: Slot, reason: str = "held", error: ConsulLockerError | None = None) -> None:
        """A call has to wait; it keeps the places that it has."""
        standing = self._stand(call)
        if reason != "local":
            standing.doubtful = slot.lease
        self._wait(standing, slot, reason, error)

    def _wait(self, standing: Standing, slot: Slot, reason: str, error: ConsulLockerError | None = None) -> None:
        self._begin(standing.call, reason, error)
        standing.blocked = slot
        if not standing.places:
            self._queue_up(standing)
        elif reason == "held":
            self._look(standing)
        elif reason != "local":  # what is in the way here will say when it is gone
            self._pause_standing(standing)

    def _stand(self, call: Call) -> Standing:
        standing = self._standings.get(call)
        if standing is None:
            slots = tuple(self._ledger.slot(id) for id in call.ids)
            standing = self._standings[call] = Standing(call, slots)
        standing.asking = False
        for slot in standing.slots:
            if call not in slot.waiters:
                self._line_up(call, slot)
        return standing

    def _leader(self, standing: Standing) -> Standing | None:
        """The caller of `lock` with whom another one shares place and grant, if there is one."""
        if standing.call.verb != "lock":
            return None
        sharing = (other for other in self._line(standing.slots[0]) if other.call.verb == "lock" and other.queues)
        return next((other for other in sharing if other is not standing), None)

    def _line(self, slot: Slot) -> Iterator[Standing]:
        return (self._standings[call] for call in slot.waiters)

    def _queue_up(self, standing: Standing) -> None:
        """Take a place at the end of each queue, all in one transaction: so sets stand in one order everywhere."""
        if standing.work is not None or self._leader(standing) is not None:
            return
        life = self._session.current
        self._rest(standing)
        standing.errand = errand = Call("queue", standing.call.ids, waiter=standing.call.waiter)
        errand.deadline, errand.wait_until = standing.call.deadline, standing.call.wait_until
        # Behind another caller of this Locker nothing of the queue needs to be known.
        first = not any(other.queues for slot in standing.slots for other in self._line(slot))
        places = tuple(self._ledger.place(slot, life.session_id) for slot in standing.slots)
        standing.work = work = self.asker.take_places(places, errand, show=first)
        self._taking[work] = standing

    def placed(self, work: Work, entries: Iterable[Entry]) -> None:
        """The places are taken, and this is how the queues stand."""
        standing = self._taken(work)
        standing.places = {place.place_for: place for place in work.slots}
        if work.shows:
            self._take_turn(standing, entries)

    def not_placed(self, work: Work, error: ConsulLockerError) -> None:
        """No places could be had. That does not end the wait."""
        self._failed(self._taken(work), error)

    def _taken(self, work: Work) -> Standing:
        standing = self._taking.pop(work)
        standing.work = standing.errand = None
        return standing

    def granted(self, work: Work) -> None:
        """The locks were granted, and the transaction gave the places back."""
        used: set[Slot] = set()
        for call in work.calls:
            standing = self._standings.pop(call, None)
            if standing is not None:
                used.update(standing.places.values())
                standing.places = {id: place for id, place in standing.places.items() if place not in work.places}
                self._vacate(standing)  # it shared what another call asked for
        for place in work.places:
            self.asker.given_back(place)
            if place not in used:
                self.lost(place)  # of a call that was gone by then; who inherited it queues up anew

    def lost(self, place: Slot) -> None:
        """A place is gone, by whomever: its call queues up anew, at the end."""
        for standing in self._standings.values():
            if standing.places.get(place.place_for) is place:
                del standing.places[place.place_for]
                self._vacate(standing)
                if not standing.asking:
                    self._queue_up(standing)
                return

    def remove(self, call: Call) -> None:
        """A call waits no longer: its places are given back, or go to a caller who shares them."""
        standing = self._standings.get(call)
        if standing is None:
            super().remove(call)
            return
        self._out.cancel(("wait", call))
        self._take_out(standing)
        heir = self._heir(standing)
        if heir is not None and standing.places:
            heir.places, standing.places = standing.places, heir.places
            self._look(heir)
        elif heir is not None and not heir.places:
            self._queue_up(heir)
        self._vacate(standing)
        for slot in standing.slots:
            self._ledger.tidy(slot)

    def _take_out(self, standing: Standing) -> None:
        del self._standings[standing.call]
        self._rest(standing)
        self._line_out(standing)
        if standing.errand is not None and standing.work is not None:
            standing.errand.settled = True
            del self._taking[standing.work]
            self.asker.withdraw(standing.work)

    def _heir(self, standing: Standing) -> Standing | None:
        """The first of those who share a place with a caller of `lock` who leaves."""
        if standing.call.verb != "lock":
            return None
        others = (other for other in self._line(standing.slots[0]) if other.call.verb == "lock")
        return next((other for other in others if other.work is None and not other.looking), None)

    def _vacate(self, standing: Standing) -> None:
        places, standing.places = standing.places, {}
        for place in places.values():
            self.asker.leave_place(place)

    def _line_out(self, standing: Standing) -> None:
        for slot in standing.slots:
            if standing.call in slot.waiters:
                slot.waiters.remove(standing.call)

    def serve(self, slot: Slot) -> None:
        """Something happened to a key: whoever was told nothing else looks whether it is his turn."""
        lock = self._ledger.slots.get(slot.place_for) if slot.is_place else slot
        if lock is None or lock.works:
            return
        sharing: list[Call] = []
        while (standing := self._sharer(lock)) is not None:
            self._take_out(standing)
            self._vacate(standing)
            sharing.append(standing.call)
        for call in sharing:  # what another caller got is theirs too, and they need no place any more
            self.asker.lock(call)
        line = list(self._line(lock))
        for standing in line:
            if not standing.places and standing.idle:
                self._queue_up(standing)  # unless another one does, whose place it shares
        if lock.lease is not None and lock.lease.exclusive:
            return  # it is in the way, and its end will be heard here
        # The others stand behind the first of this Locker's, and hear of its end.
        first = min(line, key=lambda standing: standing.turn(lock), default=None)
        if first is not None and first.places and first.idle:
            self._look(first)

    def _sharer(self, lock: Slot) -> Standing | None:
        if lock.lease is None or lock.lease.exclusive:
            return None  # there is nothing to share: the line, which may be long, need not be asked
        sharers = (one for one in self._line(lock) if one.call.verb == "lock" and one.shares(lock))
        return next(sharers, None)

    # ------------------------------------------------------------------------------------- whose turn

    def _look(self, standing: Standing) -> None:
        self._rest(standing)
        standing.look = True
        self._to_look.append(standing)

    def looks(self, generation: int, timeout: float) -> list[Transact]:
        """At the end of a step: the transactions of reads that show the queues."""
        wanted, self._to_look = [one for one in dict.fromkeys(self._to_look) if one.look], []
        return [self._look_of(part, generation, timeout) for part in packed(wanted)]

    @staticmethod
    def _look_of(part: list[Standing], generation: int, timeout: float | None) -> Transact:
        operations = tuple(
            dict.fromkeys(Operation(Verb.GET_TREE, slot.key) for standing in part for slot in standing.slots)
        )
        calls = tuple(standing.call for standing in part)
        request = Transact(generation, operations, "look", calls, context=part, timeout=timeout)
        for standing in part:
            standing.look, standing.asked = False, request
        return request

    def look_in_halves(self, request: Transact) -> None:
        """A look was refused as a whole: those who still wait for it look in two."""
        part = [standing for standing in request.context if standing.asked is request]
        middle = (len(part) + 1) // 2
        for half in filter(None, (part[:middle], part[middle:])):
            self._out.send(self._look_of(half, request.generation, request.timeout))

    def looked(self, request: Transact, entries: Iterable[Entry], failure: ConsulLockerError | None) -> None:
        """A look was answered by ``entries``; or by nothing, and ``failure`` says why."""
        for standing in request.context:
            if standing.asked is not request:
                continue  # it waits for something else by now, or no longer
            standing.asked = None
            if failure is not None:
                self._failed(standing, failure)
            else:
                self._take_turn(standing, entries)

    def _take_turn(self, standing: Standing, entries: Iterable[Entry]) -> None:
        """Is it its turn? If not, what shows when to look again?"""
        session_id = self._session.current.session_id
        standing.call.error = None  # of a look before
        by_key = {entry.key: entry for entry in entries}
        queues = [queue_of(slot.key, by_key.values()) for slot in standing.slots]
        for queue in queues:
            self._tidy_up(queue, session_id)
        turn = turn_of(standing, by_key, queues, session_id)
        if turn.lost is not None:
            self.asker.suspect(turn.lost)
            self._pause_standing(standing)
        elif turn.before is None:
            self._ask(standing)
        elif not standing.places and self.may_wait(standing.call):
            self._wait(standing, turn.blocked[0], "held")
        elif not standing.places:
            self.remove(standing.call)
            self.asker.refuse_queued(standing.call, turn.blocked, by_key.get(turn.blocked[0].key))
        else:
            standing.blocked = turn.blocked[0]
            # A place of this Locker's own needs no watch: its end is known here, and `serve` follows.
            if turn.before.session != session_id:
                self._watch_standing(standing, turn.before.key, turn.before.modify_index)

    def _tidy_up(self, queue: list[Entry], session_id: str) -> None:
        """Take away the places of sessions that have ended, and any of ours that nobody stands in."""
        dead = tuple(
            Operation(Verb.DELETE_CAS, entry.key, index=entry.modify_index) for entry in queue if entry.session is None
        )
        for start in range(0, len(dead), MAX_OPS):
            self._out.send(Transact(self._session.current.generation, dead[start : start + MAX_OPS], "tidy"))
        for entry in queue:
            if entry.session == session_id:
                place = self._ledger.slot_of(entry.key)
                if place is not None and place.lease is None and not place.works:
                    self.asker.release_found(place, entry.modify_index)

    def _ask(self, standing: Standing) -> None:
        self._rest(standing)
        self._line_out(standing)
        standing.asking = True
        self.asker.lock(standing.call)
        if standing.call.settled:
            self.remove(standing.call)  # answered from the cache, or refused

    def _failed(self, standing: Standing, error: ConsulLockerError) -> None:
        """Consul did not answer. Whoever has waited before goes on waiting, as with any failure."""
        call = standing.call
        if self.outlasts(call, error):
            call.error = error
            self._pause_standing(standing)
        else:
            self.remove(call)
            self.asker.fail(call, standing.slots, error)

    # ----------------------------------------------------------------------------------- being woken

    def _watch_standing(self, standing: Standing, key: str, index: int) -> None:
        """Watch the place before, or the lock, from what was seen of it on: no change is missed."""
        if standing.polled:
            self._pause_standing(standing)
            return
        self._rest(standing)
        standing.watch = watch = Watch(self._session.current.generation, "key", key, index, WATCH_WAIT)
        self._watched[watch] = standing
        self._out.send(watch)

    def watched(self, request: Watch, outcome: Outcome) -> None:
        """A watch was answered."""
        standing = self._watched.pop(request, None)
        if standing is None:
            return  # given up meanwhile
        standing.watch = None
        if not isinstance(outcome, KeysRead):
            standing.polled = isinstance(outcome, RefusedWhole)
            self._pause_standing(standing)
            return
        news = outcome.index > request.index
        if news:
            standing.pauses = 0
        entry = outcome.entries[0] if outcome.entries else None
        if entry is not None and entry.session not in (None, self._session.current.session_id):
            if news:
                self._watch_standing(standing, request.name, outcome.index)
            else:  # a restored snapshot, or an intermediary that answers at once (waiting.py): look again, not too soon
                self._pause_standing(standing)
        elif any(slot.key == request.name for slot in standing.slots) and len(standing.slots) == 1:
            self._ask(standing)  # it stood first, and nobody can have come before it since
        else:
            self._look(standing)

    def _pause_standing(self, standing: Standing) -> None:
        """A pause before the next look: for a lock-delay, which no watch shows, or after a failure."""
        self._rest(standing)
        standing.paused = True
        standing.pauses += 1
        random = self._out.random()
        length = poll_pause(random) if standing.polled else pause_length(standing.pauses, random)
        self._out.timer(("pause", standing.call), self._out.now + length)

    def obstacle(self, call: Call) -> Slot | None:
        """The lock that a waiting call could not have when it was looked last."""
        standing = self._standings.get(call)
        return standing.blocked or standing.slots[0] if standing is not None and not standing.asking else None

    def pause_over(self, name: Any) -> None:
        """A pause is over."""
        standing = self._standings.get(name)
        if standing is None or not standing.paused:
            return
        standing.paused = False
        if standing.places:
            self._look(standing)
        else:
            self._queue_up(standing)

    def _rest(self, standing: Standing) -> None:
        """Nothing is waited for any more but what comes next."""
        standing.look, standing.asked = False, None
        if standing.watch is not None:
            self._watched.pop(standing.watch, None)
            self._out.send(CancelRequest(standing.watch))
            standing.watch = None
        if standing.paused:
            standing.paused = False
            self._out.cancel(("pause", standing.call))

    def disband(self) -> list[Slot]:
        """A stop begins: nobody waits any more. Returns the places to be given back."""
        places = [place for standing in self._standings.values() for place in standing.places.values()]
        for standing in self._standings.values():
            if standing.errand is not None:
                standing.errand.settled = True  # a place that comes yet is given back
        self.end_generation()
        return places

    def end_generation(self) -> None:
        """The session is over, and all places with it; the callers are taken care of elsewhere."""
        for standing in self._standings.values():
            self._rest(standing)
        for watch in self._watched:  # one that its standing does not know yet, or no more: a step was broken off
            self._out.send(CancelRequest(watch))
        self._watched.clear()
        self._standings.clear()
        self._taking.clear()
        self._to_look.clear()
