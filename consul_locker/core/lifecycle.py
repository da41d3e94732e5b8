"""The life of a Locker, from the first session to the last stop: the actions of its table (core/machine.py).

`LockerCore` adds the entrance: it turns events into inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

from ..config.options import LockerOptions
from ..errors import ConsulLockerError, SessionEnded, SessionUnavailable
from ..fsm import Fsm, Queued
from ..models import LossReason
from ..strategies import NoStrategy, Strategy
from .acquire import Grants
from .attempts import Attempts
from .audit import Audit
from .batch import MAX_OPS, Batch
from .calls import Call, LeaveHold, LockCall, ManyReleases, Release, ReleaseAll, ReleaseCall, Stop
from .fair_line import FairLine
from .ledger import Ledger
from .line import Waiting
from .machine import READY, STOPPED, TABLE, Actions
from .outage import Outage
from .pace import Pace
from .pipeline import LeaseType, Parts
from .queries import Questions
from .session import Session, SessionOwner
from .step import Outbox
from .stop import StopOwner, Stopping

__all__ = ["Lifecycle"]


class Lifecycle:
    """The parts of a Locker, and the actions of its table. The arguments are those of `LockerCore`."""

    def __init__(
        self,
        options: LockerOptions,
        *,
        identity: Mapping[str, Any],
        timeout: float,
        clock: Callable[[], float],
        random: Callable[[], float],
        lease_type: LeaseType,
        closed: Callable[[], bool] = lambda: False,
        max_ops: int = MAX_OPS,
        max_in_flight: int | None = 1,
    ) -> None:
        strategy: Strategy = options.strategy if options.strategy is not None else NoStrategy()
        self.options = options
        self._timeout = timeout
        self._closed = closed
        self._out = out = Outbox(random)
        self.commands = out.commands
        owner: SessionOwner = self
        self.outage = Outage(options, out, lambda: self.session.life is None, self._ride_over)
        self.pace = pace = Pace(out, self.outage)
        self.session = Session(options, out, timeout, owner, self.outage)
        self.attempts = Attempts(options, out, lambda: self.fsm.handle("retry"), self._waited_for)
        self.ledger = Ledger(options.name, max_ops)
        self.batch = Batch(max_ops, max_in_flight)
        self._waiting = (FairLine if options.fair else Waiting)(out, self.session, self.ledger, self.outage, pace)
        self._audit = Audit(options, out, self.session, self.ledger, pace, timeout)
        self._grants = Grants(
            Parts(
                options=options,
                identity=identity,
                strategy=strategy,
                lease_type=lease_type,
                clock=clock,
                outbox=out,
                session=self.session,
                ledger=self.ledger,
                batch=self.batch,
                waiting=self._waiting,
                audit=self._audit,
                outage=self.outage,
                pace=pace,
                timeout=timeout,
            )
        )
        self._questions = Questions(options, out, self.ledger, self._audit, self.outage, timeout)
        self._waiting.grants = self._grants
        self._audit.keeper = self._audit.doubts.releaser = self._grants
        self.strategy = strategy
        stopper: StopOwner = self
        self.stop = Stopping(out, self.session, timeout, stopper)
        self._gave_up = False
        actions: Actions = self
        self.fsm = Fsm(TABLE, actions, begin=False, mutex=None)  # under the Locker's mutex, or on its loop
        self.fsm.on("transition", self._tell_transition)
        self.fsm.on("deferred", self._tell_deferred)

    @property
    def state(self) -> str:
        """The machine's state."""
        return self.fsm.state

    # ----------------------------------------------------------------------- the actions of the table

    def create_session(self) -> None:
        """On entering acquiring."""
        self.session.create()

    def enter_ready(self) -> None:
        """On entering ready."""
        self.attempts.retries = 0
        self.session.begin()
        self._audit.begin()

    def enter_paused(self) -> None:
        """On entering paused: if Consul refuses a session for good, calls that wait for one are refused at once."""
        if self.session.refusal is not None:
            self._refuse_buffered()
        self.count_retry()

    def count_retry(self) -> None:
        """One more failed attempt: wait for the next, or give up."""
        if not self.attempts.again():
            self._gave_up = True
            self.fsm.handle("give_up")

    def leave_paused(self) -> None:
        """On leaving paused."""
        self.attempts.cancel()

    def enter_stopped(self) -> None:
        """On entering stopped: deferred calls are refused (the original never answers them)."""
        self.session.abandon_attempt()
        if not self._starting:
            self._refuse_buffered()
        if self._gave_up:
            self._out.warn(f"Locker {self.options.name!r}: retry limit exceeded, stopped")

    @property
    def _starting(self) -> bool:
        """Whether a start that came during a stop follows it. Other deferred calls came after that start."""
        return any(queued.input == "start" for queued in self.fsm.input_queue)

    def _refuse_buffered(self) -> None:
        buffered = [queued.args[0] for queued in self.fsm.input_queue if queued.input in ("lock", "release")]
        self.fsm.discard(lambda queued: queued.input in ("lock", "release"))
        for call in buffered:
            self._out.settle(call, error=self._refusal())

    def leave_stopped(self) -> None:
        """On leaving stopped: a new beginning, with all retries."""
        self.attempts.retries = 0
        self.session.cause = None
        self._gave_up = False

    def await_session(self, call: LockCall | ReleaseCall) -> None:
        """A call without a session: it waits for one, unless Consul refuses one for good."""
        if self.session.refusal is None:
            self._defer(call)
        else:
            self._out.settle(call, error=self._refusal())

    def _defer(self, call: LockCall | ReleaseCall) -> None:
        """A call waits for a session, at most until its ``outage_timeout`` is over."""
        if self.outage.ride(call, self._out.now):
            self.fsm.defer_until_transition(READY)
            self.attempts.hurry()
        else:
            self._out.settle(call, error=self.outage.error(call))

    def _waited_for(self) -> bool:
        """Whether calls wait for a session."""
        return any(queued.input in ("lock", "release") for queued in self.fsm.input_queue)

    def _ride_over(self, call: Call) -> None:
        """The ``outage_timeout`` of a call is over: it is answered, and leaves nothing behind."""
        error = self.outage.error(call)
        if isinstance(call, LockCall) and self.session.life is not None:
            self._grants.fail(call, map(self.ledger.slot, call.ids), error)
        self._out.settle(call, error=error)
        self._withdraw(call)

    def _withdraw(self, call: Call) -> None:
        """A settled call leaves the buffer, the line, and what was not sent yet."""
        self.fsm.discard(lambda queued: bool(queued.args) and queued.args[0] is call)
        if isinstance(call, LockCall):
            self._grants.abandon(call)
        if isinstance(call, Stop) and call in self.stop.calls:
            self.stop.calls.remove(call)
            if not self.stop.calls:
                self.stop.give_up()  # no call waits for it any more, but a stop is final

    def _refusal(self) -> ConsulLockerError:
        if self.session.refusal is not None:
            # A copy for each call: an error collects a traceback wherever it is raised.
            return copy(self.session.refusal)
        if self._gave_up:
            return SessionUnavailable(self.options.name, max(0, self.attempts.retries - 1), self.session.cause)
        return self._ended()

    def _ended(self) -> SessionEnded:
        why, cause = (" since it gave up", self.session.cause) if self._gave_up else ("", None)
        return SessionEnded(self.options.name, why, cause, self._closed())

    def refuse(self, call: Call) -> None:
        """Locks and releases in stopped."""
        self._out.settle(call, error=self._ended())

    def _refuse_all(self, calls: list[LockCall]) -> None:
        for call in calls:
            self.refuse(call)

    def release_early(self, call: ReleaseCall) -> None:
        """A release while there is no session: there is nothing to release, unless a lock stands before it."""
        if self._buffered_locks(call.id if isinstance(call, Release) else None):
            self._defer(call)
        else:
            self._out.settle(call, 0 if isinstance(call, ManyReleases) else True)

    def _buffered_locks(self, id: str | None) -> list[Queued]:
        return [
            queued
            for queued in self.fsm.input_queue
            if queued.input in ("lock", "release") and (id is None or id in queued.args[0].ids)
        ]

    def ask_lock(self, call: LockCall) -> None:
        """A lock in ready."""
        if call.settled:
            return  # its timeout was over while it was deferred
        if self.stop.under_way:
            self._call_while_stopping(call)
        else:
            self._grants.lock(call)

    def _call_while_stopping(self, call: LockCall | ReleaseCall) -> None:
        """A call during a stop: refused, or deferred if a start is to follow."""
        if self._starting:
            self._defer(call)
        else:
            self.refuse(call)

    def ask_release(self, call: ReleaseCall) -> None:
        """A release in ready."""
        if call.settled:
            return
        if isinstance(call, LeaveHold):
            self._grants.leave(call)  # during a stop too: leaving a hold raises nothing (rule 9)
        elif self.stop.under_way:
            self._call_while_stopping(call)
        elif isinstance(call, Release):
            self._grants.release(call)
        else:
            assert isinstance(call, ReleaseAll)  # there is no other kind
            self._grants.release_all(call)

    def start_again(self) -> None:
        """A start in ready: nothing to do, unless a stop is under way; then it begins anew after that."""
        if self.stop.under_way:
            self.fsm.defer_until_transition(STOPPED)

    def destroy_session(self) -> None:
        """A stop in ready: the session is destroyed, and so every lock freed."""
        if self.stop.under_way:
            self.fsm.discard(lambda queued: queued.input == "start")  # the last call decides: stop
            self._refuse_buffered()
        else:
            self.stop.begin()

    def give_back(self) -> bool:
        """A stop begins: calls that wait are refused, and places in queues are given back first."""
        first = self._waiting.begin_stop()
        waits = bool(first)
        self._refuse_all(self._grants.refuse_waiting())
        if self.options.lock_delay > 0 or self.options.delete_on_release:
            # A destroy would leave the keys in their lock-delay, and in Consul; a release does not (measured).
            waits = True
            first += [slot for slot in self.ledger.slots.values() if not slot.is_place]
        leases = [slot.lease for slot in first if slot.lease is not None and slot.lease.live]
        self._grants.leave(LeaveHold(leases))
        return waits

    def gives_back(self) -> bool:
        """Whether works are under way: releases, and locks that no call wants any more."""
        return any(self.ledger.works())

    def end_leases(self) -> None:
        """A stop destroys the session."""
        self._grants.end_leases("stopped")
        self._audit.rest()

    def stop_over(self, confirmed: bool) -> None:
        """The session counts as ended from now on, confirmed or not."""
        life = self.session.current
        self._refuse_all(self._grants.end_generation("stopped", released=confirmed))
        self._end_session("stopped")
        if not confirmed:
            self.session.destroys.add(life.session_id)
        calls, self.stop.calls = self.stop.calls, []
        self.fsm.handle("session_destroyed")
        for call in calls:
            self._out.settle(call)

    # ------------------------------------------------------------------- what becomes of the session

    def session_created(self) -> None:
        """The attempt under way brought a session."""
        self._out.emit("session_created", session_id=self.session.current.session_id)
        self.fsm.handle("session_created")

    def session_failed(self, refused: bool) -> None:
        """The attempt under way failed; ``refused``: for a lasting reason."""
        limit = self.options.max_retries
        # Of an outage the log says that it began and that it is over; and what brings the Locker nearer to its end.
        if self.attempts.counts and (limit is not None or self.outage.since is None):
            count = f"{self.attempts.retries + 1}" + (f" of at most {limit + 1}" if limit is not None else "")
            self._out.warn(f"Locker {self.options.name!r}: no session, attempt {count}: {self.session.cause}")
        self.fsm.handle("session_refused" if refused else "session_failed")

    def renewal_refused(self) -> None:
        """Renewals go first (rule 1). In a stop they do not: the session is about to end."""
        if not self.stop.under_way:
            self.pace.hold_for_renewal()

    def renewal_answered(self) -> None:
        """What waited goes on."""
        self.pace.renewed()

    def snapshot_restored(self) -> None:
        """There is a sign of a restored snapshot."""
        self._audit.sweep()

    def _end_session(self, reason: LossReason) -> None:
        life = self.session.end()
        self._out.emit("session_ended", session_id=life.session_id, reason=reason)

    def _give_up_session(self, reason: LossReason) -> list[LockCall]:
        """Give up the session in use: its locks are lost, and it is destroyed in the background.

        It may still exist in Consul. If it did, its locks would be denied to the next session.

        Returns:
            The calls that still want a lock: they are to be handled again (`_repeat`).
        """
        life = self.session.current
        calls = self._grants.end_generation(reason)
        self._end_session(reason)
        self.session.destroys.add(life.session_id)
        return calls

    def session_lost(self, reason: LossReason) -> None:
        """The session is lost: a new one is created, and calls that still want a lock are served by it."""
        if self.stop.under_way:
            self.stop.finish(confirmed=reason == "session destroyed")
            return
        self._out.warn(f"Locker {self.options.name!r}: session {self.session.current.session_id} is lost ({reason})")
        calls = self._give_up_session(reason)
        self.fsm.handle("session_lost")
        self._repeat(calls)

    def _repeat(self, calls: list[LockCall]) -> None:
        for call in calls:
            if self.state == STOPPED:
                self._out.settle(call, error=self._refusal())  # they came before the Locker gave up
            else:
                self.fsm.handle("lock", call)

    # ---------------------------------------------------------------------------------- signals

    def _tell_transition(self, data: dict[str, Any]) -> None:
        action: str = data["action"]
        self._out.emit(
            "state_changed",
            from_state=data["from_state"],
            to_state=data["to_state"],
            input=action.rpartition(".")[2] or None,
        )

    def _tell_deferred(self, data: dict[str, Any]) -> None:
        for call in data["args"]:  # a deferred start has none
            for id in call.ids:
                self._out.emit("input_deferred", input=data["input"], id=id, until=data["until"])
