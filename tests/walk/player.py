"""Player: one LockerCore under observation. Every step of it is checked against the invariants of the walk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

from consul_locker.config.options import LockerOptions
from consul_locker.core.audit import FEW
from consul_locker.core.calls import LockCall, LockMany, Release, ReleaseAll
from consul_locker.core.locker import LockerCore
from consul_locker.core.machine import ACQUIRING, READY, STOPPED
from consul_locker.core.messages import (
    GATHERED,
    Abandoned,
    Answered,
    Call,
    CancelRequest,
    CancelTimer,
    Command,
    Emit,
    Event,
    Forget,
    LeaseEnded,
    SetTimer,
    Settle,
    TimerFired,
)
from consul_locker.core.requests import (
    Committed,
    CreateSession,
    DestroySession,
    ReadSession,
    Renewed,
    RenewSession,
    Request,
    SessionCreated,
    SessionRead,
    Transact,
    Verb,
)
from consul_locker.core.session import TRUST_AFTER_READ
from consul_locker.errors import InvalidLockId
from consul_locker.keys import lock_key, lock_key_of, place_number
from consul_locker.lease import BaseLease
from consul_locker.runtime.fail_stop import FailStop

from ..told import purpose_of
from .around import Around, Violation
from .breaks import BrokenOff
from .key_rules import KeyRules
from .outage_rules import OutageRules
from .signal_rules import SignalRules


class WalkLease(BaseLease):
    """The end of each is told, as if somebody waited for it."""

    __slots__ = ()
    awaited = True

#: After each so many events what is wanted is sent a little later, as on asyncio: other events may come between.
GATHERS = 4


class Player:
    """One Locker of the walk.

    Attributes:
        open: calls that were neither settled nor abandoned.
        failed: calls that were answered with an error.
        live: leases granted, and not yet told to be released or lost.
        holds: the leases of each hold that a caller has.
        answered: the call that was given leases last.
        timeout: the limit on one request, in seconds.
        timers: name -> when it is due.
        seen: the places that a call saw when it looked last.
        places: of each call that waits in a queue, its places before the present step.
        kept: the places before the present step with which this Locker got the locks that it has.
        breaks: how many steps were broken off.
        doubtful: keys of requests that failed, or were carried out twice: a release of them may seem refused.
    """

    def __init__(self, around: Around, number: int, options: LockerOptions, timeout: float, **batch: Any) -> None:
        self.around = around
        self.number = number
        self.options = options
        self.open: dict[Call, None] = {}
        self.ever: set[Call] = set()
        self.failed: dict[Call, BaseException] = {}
        self.live: dict[BaseLease, None] = {}
        self.ended_leases: set[BaseLease] = set()
        self.holds: dict[Call, list[BaseLease]] = {}
        self.old: list[BaseLease] = []
        self.timers: dict[tuple[Any, ...], float] = {}
        self.trust: dict[str, float] = {}
        self.sent_at: dict[Request, float] = {}
        self.in_flight: dict[str, Transact] = {}
        self.session: str | None = None
        self.doubtful: set[str] = set()
        self.answered: Call | None = None
        self.seen: dict[Call, set[str]] = {}
        self.places: dict[Call, set[str]] = {}
        self.kept: set[str] = set()
        self.first: dict[bytes, int] = {}  # the value of a lock -> Consul's index when it was first asked for
        self.breaks = 0
        self._taken = 0  # how many events
        self._replacing = False
        self._asked: list[Call] = []
        self._effects: deque[Callable[[], object]] = deque()
        #: Ended in this step: a release that stood in line behind a lock ends its lease in the step that grants it.
        self._ending: set[BaseLease] = set()
        self.rules = OutageRules(self, timeout)
        self._signals = SignalRules(self)
        self.former_for: float | None = None
        self.hint_above = FEW
        self.timeout = timeout
        self._batch = batch
        self.fail_stop = FailStop(self._make_core, self._effects.append)

    @property
    def core(self) -> LockerCore:
        return self.fail_stop.core

    def _make_core(self) -> LockerCore:
        core = LockerCore(
            self.options,
            identity={"pid": self.number},
            timeout=self.timeout,
            clock=lambda: self.around.now,
            random=self.around.random,
            lease_type=WalkLease,
            **self._batch,
        )
        if self.former_for is not None:
            core.audit.doubts.former_for = self.former_for
        core.audit.hint.more_than = self.hint_above
        self._key_rules = KeyRules()
        for event in ("nohandler", "invalidstate"):
            core.fsm.on(event, self._no_row)
        for name in ("ask_lock", "ask_release"):
            self._overhear(core, name)
        return core

    def _overhear(self, core: LockerCore, name: str) -> None:
        ask = getattr(core.lifecycle, name)

        def overheard(call: Call) -> None:
            self._asked.append(call)
            ask(call)

        setattr(core.lifecycle, name, overheard)

    def _no_row(self, data: dict[str, Any]) -> None:
        raise Violation("every state has a row for every input", f"{self.core.state}: {data}")

    def begin(self) -> None:
        """The Locker begins its session."""
        self.core.begin(self.around.now)
        self._carry_out()
        self._take_effect()

    # ----------------------------------------------------------------------------------------- steps

    def call(self, call: Call) -> None:
        """A user calls."""
        self.open[call] = None
        self.ever.add(call)
        self.rules.arrived(call)
        before = self.knows(call.ids[0]) if isinstance(call, Release) else None
        holds = [lease for lease in self.live if lease.exclusive and lease.live]
        ready = self.core.state == READY and not self.core.ended
        breaks = self.breaks
        self.take(call)
        if self.breaks > breaks:
            return
        if before is not None and ready and not before.exclusive and before.live:
            raise Violation("no lease is valid once its release is submitted", f"{call} {before}")
        if isinstance(call, (Release, ReleaseAll)) and self.core.state == READY:
            for lease in holds:
                if not lease.live:
                    raise Violation("a release never ends a hold", f"{call}: {lease}")

    def abandon(self, call: Call) -> None:
        """The caller is gone, perhaps in the moment in which it was answered."""
        self.take(Abandoned(call))  # which may settle it yet, when the session's deadline passed before
        self.open.pop(call, None)
        self.holds.pop(call, None)

    def fire(self, name: tuple[Any, ...]) -> None:
        """A timer is due."""
        self.timers.pop(name, None)
        self.take(TimerFired(name))

    def answer(self, request: Request, outcome: Any) -> None:
        """Consul answered, or did not."""
        if isinstance(request, Transact) and purpose_of(request) == "commit":
            for op in request.operations:
                if self.in_flight.get(op.key) is request:
                    del self.in_flight[op.key]
        self.rules.answered(request, outcome)
        present = request.generation == self.core.session.generation  # the core looks at no other
        turn = isinstance(request, Transact) and purpose_of(request) == "turn"
        if turn and isinstance(outcome, Committed) and present:
            for call in request.calls:
                keys = {lock_key(self.options.name, id) for id in call.ids}
                self.seen[call] = {
                    entry.key for entry in outcome.entries if entry.session and lock_key_of(entry.key) in keys
                }
        since = self.sent_at.get(request, 0.0)
        if isinstance(request, CreateSession) and isinstance(outcome, SessionCreated):
            self.trust.setdefault(outcome.session_id, since + (request.ttl or TRUST_AFTER_READ))
        elif isinstance(request, RenewSession) and isinstance(outcome, Renewed):
            lasts = outcome.ttl or TRUST_AFTER_READ
            self.trust[request.session_id] = max(self.trust[request.session_id], since + lasts)
        elif isinstance(request, ReadSession) and self.core.session.is_renewal(request) and _exists(outcome):
            self.trust[request.session_id] = max(self.trust.get(request.session_id, 0.0), since + TRUST_AFTER_READ)
        self.take(Answered(request, outcome))

    def take(self, event: Event) -> None:
        """One step of the core, with all that must be true of it."""
        core = self.core
        session = core.session
        state, queue = core.state, [queued.args[0] for queued in core.fsm.input_queue if queued.args]
        stale = (
            isinstance(event, Answered)
            and event.request.generation != session.generation
            and not isinstance(event.request, (CreateSession, DestroySession))
            and not event.request.question
            and not getattr(event.request, "confirms", False)
            and not session.deadline_passed()
            and not (session.life is not None and self.around.now >= session.life.deadline)
        )
        self._asked = []
        line = getattr(core.line, "contenders", {})  # only a fair Locker has one
        self.places = {call: {place.key for place in one.places.values()} for call, one in line.items()}
        self.kept = {place.key for place in core.releases.places.values()}
        self.session_before = session.life.session_id if session.life is not None else None
        self._taken += 1
        more = isinstance(event, (Call, Answered)) and self._taken % GATHERS == 0
        self.fail_stop.begin(event)
        try:
            with self.around.breaks():
                self.fail_stop.run(event, self.around.now, more)
        except Violation:
            raise
        except BrokenOff as broken:
            self._broken_off(event, broken)
            return
        except Exception as error:
            raise Violation("no exception comes out of a step", f"{event!r:.300} in {state}: {error!r}") from error
        if stale and core.commands:
            raise Violation("events of an ended generation change nothing", f"{event!r:.300}: {core.commands!r:.300}")
        self._check_buffer(state, queue)
        try:
            with self.around.breaks():
                self._carry_out()
                self.fail_stop.end()
        except BrokenOff as broken:
            self._broken_off(event, broken)
            return
        self._take_effect()
        self._check_leases()
        self._key_rules.stepped(self.core.ledger)
        if isinstance(event, Answered):
            self.rules.stepped(event.request, event.outcome)
        if more:
            self.around.soon(self, partial(self.take, GATHERED))

    def _broken_off(self, event: Event, broken: BrokenOff) -> None:
        """The step broke off: another core comes, unless that is broken off, too; then it comes all the same."""
        self.around.log.append(f"{self.around.now:.3f} {self.number} {event!r:.60} broken off at {broken}")
        self.breaks += 1
        self._asked = []
        if isinstance(event, Abandoned):
            self.open.pop(event.call, None)
        self._replacing = True  # it may be told twice that a lease is over
        try:
            with self.around.breaks():
                self.fail_stop.replace(self.around.now)
                self._carry_out()
                self.fail_stop.end()
        except BrokenOff as again:
            self._broken_off(event, again)
            return
        self._take_effect()
        self._replacing = False
        self._check_replaced()

    def _check_replaced(self) -> None:
        """Everybody is answered, and all that observers heard of has ended."""
        if self.open or self.fail_stop.calls:
            raise Violation("every call ends", f"{list(self.open)} {list(self.fail_stop.calls)} after a broken step")
        if self.live or self.session is not None:
            raise Violation("a grant ends in one of released and lock-lost", f"{list(self.live)} {self.session}")
        if self.core.state != (STOPPED if self.fail_stop.stopped else ACQUIRING):
            raise Violation("a broken step ends in a new beginning", self.core.state)
        self._check_leases()

    def _check_buffer(self, state: str, before: list[Call]) -> None:
        """Deferred calls are neither lost nor doubled, and come back first in, first out."""
        queue = [queued.args[0] for queued in self.core.fsm.input_queue if queued.args]
        orders = [call.order for call in queue]
        if orders != sorted(set(orders)):
            raise Violation("deferred inputs are kept once each, in order", f"{queue}")
        for call in before:
            if not call.settled and call not in queue and call not in self._asked:
                raise Violation("no deferred input is lost", f"{call} in {state}")
        if state != READY and self.core.state == READY:
            replayed = [call.order for call in self._asked]
            if replayed != sorted(set(replayed)):
                raise Violation("deferred inputs come back first in, first out, once each", f"{self._asked}")
        if self.core.state != READY:
            for call in self.open:
                if isinstance(call, LockCall) and not call.settled and call not in queue:
                    raise Violation("no deferred input is lost", f"{call} is not in the buffer of {self.core.state}")

    def _check_sessions(self) -> None:
        """Whatever was created is in use, or ended, or on the list of what is to be destroyed."""
        sim, session = self.around.sim, self.core.session
        if sim.restored:
            return  # which brings back what ended long ago
        known = {session.life.session_id} if session.life is not None else set()
        left = (self.trust.keys() & sim.sessions.keys()) - known - session.destroys.pending
        if left:
            raise Violation("a session given up is destroyed", f"{left} of {self.number} in {self.core.state}")

    def _check_leases(self) -> None:
        self._check_sessions()
        life = self.core.session.life
        if life is not None and life.deadline > self.trust[life.session_id]:
            raise Violation("a lease ends with its deadline", f"{life.deadline} {self.trust[life.session_id]}")
        for lease in self.core.ledger.leases.values():
            if not lease.live or life is None or lease.session_id != life.session_id:
                raise Violation("nothing is answered from the cache outside ready", f"{lease} in {self.core.state}")

    # -------------------------------------------------------------------------------------- commands

    def _carry_out(self) -> None:
        """What a runtime does within a step. What that brings about comes after it, in `_take_effect`."""
        effects = self._effects
        while self.core.commands:
            command = self.core.commands.popleft()
            if isinstance(command, Emit):
                self.fail_stop.tell(command, partial(self._signals.heard, command.signal, command.facts))
            elif isinstance(command, Settle):
                effects.append(partial(self._settled, command))
                self.fail_stop.answered(command.call)
            elif isinstance(command, LeaseEnded):
                self._ending.add(command.lease)
                effects.append(partial(self._ended, command.lease))
            else:
                effects.append(partial(self._for_the_loop, command))

    def _take_effect(self) -> None:
        while self._effects:
            self._effects.popleft()()
        self._ending.clear()

    def _for_the_loop(self, command: Command) -> None:
        if isinstance(command, Request):
            self._ask(command)
        elif isinstance(command, CancelRequest):
            self.around.cancel(self, command.request)
        elif isinstance(command, SetTimer):
            self.timers[command.name] = command.at
        elif isinstance(command, CancelTimer):
            self.timers.pop(command.name, None)
        elif isinstance(command, Forget):
            self.timers.clear()
            self.around.cancel(self, None)

    def _ended(self, lease: BaseLease) -> None:
        if lease.live or (lease in self.ended_leases and not self._replacing):
            raise Violation("the end of a lease is told once", f"{lease}")
        if self.around.fences.get((lease.key, lease.fence)) is lease:  # else observers have not heard of it
            self.ended_leases.add(lease)

    def _ask(self, request: Request) -> None:
        self.sent_at[request] = self.around.now
        self.rules.asked(request)
        if isinstance(request, Transact) and purpose_of(request) == "commit":
            for key in {op.key for op in request.operations if op.verb not in (Verb.CHECK_INDEX, Verb.GET_TREE)}:
                other = self.in_flight.get(key)
                if other is not None and other.generation == request.generation:
                    raise Violation("one operation of a key in flight", f"{key}: {request!r:.200} and {other!r:.200}")
            verbs = (Verb.LOCK, Verb.UNLOCK, Verb.DELETE_CAS, Verb.DELETE)
            writes = [op.key for op in request.operations if op.verb in verbs]
            if len(writes) != len(set(writes)):
                raise Violation("one operation of a key in flight", f"{writes} in one transaction")
            for op in request.operations:
                if op.verb is not Verb.GET_TREE:
                    self.in_flight[op.key] = request
                if op.verb is Verb.LOCK and op.value is not None:
                    self.first.setdefault(op.value, self.around.sim.index)
        self.around.ask(self, request)

    def _settled(self, command: Settle) -> None:
        call = command.call
        if call not in self.ever:
            return  # a call of the core's own
        if call not in self.open:
            if self._replacing:
                return  # answered just before the step was broken off: it may be answered again
            raise Violation("every call is settled once", f"{call} again: {command.value!r} {command.error!r}")
        del self.open[call]
        if isinstance(command.error, InvalidLockId):
            if self.around.sim.spoilt not in map(self.key, call.ids):
                raise Violation("a key that Consul does not take spoils no other call", f"{call}: {command.error}")
        if command.error is not None:
            self.failed[call] = command.error
        if not isinstance(call, LockCall) or command.error is not None:
            return
        leases: list[BaseLease] = command.value if isinstance(command.value, list) else [command.value]
        for lease in leases:
            if lease in self._ending and lease not in self.ended_leases:
                if lease.exclusive and lease.reason == "released":
                    raise Violation("a release never ends a hold", f"{call}: {lease}")
                continue
            if isinstance(call, LockMany) and lease.reason == "released":
                continue  # of a lock that was held when the set was sent, and given back since
            if not lease.valid or self.core.state != READY:
                raise Violation("nothing is answered from the cache outside ready", f"{call}: {lease}")
            if lease.exclusive != call.exclusive:
                raise Violation("a hold is exclusive", f"{call}: {lease}")
            for hold, others in self.holds.items():
                if any(other is lease or (other.id == lease.id and other.valid) for other in others):
                    raise Violation("a hold is exclusive", f"{call} beside {hold}: {lease}")
            self._check_order(call, lease)
        self.answered = call
        if call.exclusive:
            self.holds[call] = leases

    def _check_order(self, call: Call, lease: BaseLease) -> None:
        """A fair Locker overtakes nobody who waits in the queue, unless a snapshot put the queue into disorder.

        A call may share what was asked for before those came who wait now, and is asked for again after an outage.
        Nobody waits in the place of a lock that this Locker has, or has just lost.
        """
        queue = self.around.sim.grants.pop((lease.key, lease.fence), [])
        given = self.places.get(call, set())
        seen = self.seen.pop(call, set())
        if not self.options.fair or self.around.sim.restored:
            return
        created = self.around.sim.created
        own = min((created[key] for key in given), default=None)
        entry = self.around.sim.keys.get(lease.key)
        asked = self.first.get(entry.value or b"", inf) if entry is not None else inf
        for place in queue:
            if place.key in self.kept or (own is None and place.create_index > asked):
                continue
            if place.key in seen if own is None else (place.create_index, place_number(place.key)) < own:
                raise Violation("nobody is overtaken", f"{call}: {lease} before {place}, with {given or 'no place'}")

    def knows(self, id: str) -> BaseLease | None:
        """The lease that the core believes to have on an id."""
        slot = self.core.ledger.slots.get(id)
        return slot.lease if slot is not None else self.core.ledger.leases.get(id)

    def key(self, id: str) -> str:
        """The key of an id."""
        return lock_key(self.options.name, id)


def _exists(outcome: Any) -> bool:
    return isinstance(outcome, SessionRead) and outcome.session is not None
