"""LockerCore: a Locker without I/O. Events and the time go in, commands come out.

Here the parts are made, each given those that it needs. The table (machine.py) says what an input does in each state;
its actions are in lifecycle.py. A core whose step was broken off is replaced by another one (runtime/fail_stop.py).

- The session: its life is in session.py, the proof of its end in gone.py, what is given up in destroys.py, refusals
  that time alone does not mend in refusals.py.
- A key: what is known of it is in ledger.py, its lease in leases.py, the order of its operations in pipeline.py, group
  commit in batch.py. A lock is in acquire.py, its refusal in denials.py, a release in release.py, the end of all at
  once in endings.py. A call whose caller is gone is abandoned: ``_abandoned`` here, `Grants.abandon`.
- Waiting: waits.py, line.py, and for a fair Locker fair_line.py with fair_places.py, places.py and turn_reads.py.
- Watching over what is held: audit.py; keys in doubt: doubts.py; all keys of the name: sweep.py.
- Questions (`info`, `holder`, `session_info`) are in queries.py, `guarded` in guarded.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..config.options import LockerOptions
from ..errors import LockTimeout
from ..strategies import NoStrategy, Strategy
from .acquire import Grants
from .attempts import Attempts
from .audit import Audit
from .batch import MAX_OPS, Batch
from .calls import Call, LeaveHold, LockCall, Obstacle, Question, Reboot, ReleaseCall, Start, Stop
from .deadlines import Deadlines
from .denials import Denials
from .endings import Endings
from .fair_line import FairLine
from .leases import Leases, LeaseType
from .ledger import Ledger
from .lifecycle import Lifecycle
from .line import FastestLine
from .machine import ACQUIRING, READY, STOPPED
from .messages import Abandoned, Answered, Event, TimerFired
from .outage import Outage
from .pace import Pace
from .pipeline import Pipeline
from .queries import Questions, lock_info
from .release import Releases
from .requests import SessionCreated
from .session import Session
from .step import Outbox
from .stop import Stopping
from .waits import Waits

__all__ = ["LockerCore"]


class LockerCore:
    """One Locker.

    Attributes:
        commands: those not carried out yet, in their order; the runtime takes each out when it has carried it out.
        fsm: its machine.
        ledger, session, attempts, outage, pace, stop: what is known of its keys, its session, and so on.
        audit, releases, grants, line, lifecycle: its other parts, for tests.

    Args:
        options: validated.
        identity: what goes into every lock's value: pid, host, name.
        timeout: the limit on one request, in seconds.
        clock: the clock of ``now``, for leases; the core itself never reads it.
        random: gives floats in [0, 1), for jitter.
        lease_type: the leases of the face.
        closed: whether nothing will begin the Locker again: calls that are refused are told so.
        max_ops: the most operations in a transaction.
        max_in_flight: the most transactions of the batch in flight at a time; None for no limit. A fair Locker has
            one.
    """

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
        self.options = options
        self.strategy: Strategy = options.strategy if options.strategy is not None else NoStrategy()
        self._order = 0  # of the last call that came
        self._out = out = Outbox(random)
        self.commands = out.commands
        self._deadlines = Deadlines(out, self._time_over)
        # The session.
        self.outage = outage = Outage(options, out)
        self.pace = pace = Pace(out, outage)
        self.session = session = Session(options, out, timeout, outage, clock)
        self.attempts = Attempts(options, out)
        self.stop = Stopping(out, session, timeout)
        # The keys.
        self.ledger = ledger = Ledger(options.name)
        # Of two transactions in flight Consul may do the later one first: the calls of a fair Locker would be in a
        # queue in another order than they came.
        self.batch = batch = Batch(max_ops, 1 if options.fair else max_in_flight)
        self.audit = audit = Audit(options, out, session, ledger, pace, timeout)
        leases = Leases(out, ledger, audit.doubts, self.strategy, lease_type)
        waits = Waits(out, outage)
        pipeline = Pipeline(
            options, out, session, ledger, batch, audit, waits, outage, pace, identity=identity, timeout=timeout
        )
        self.releases = releases = Releases(
            options, out, session, ledger, pipeline, leases, audit.doubts, outage, pace, timeout
        )
        denials = Denials(options, out, session, ledger, leases, waits, pace, timeout)
        self._pipeline, self._denials = pipeline, denials
        self.line: FairLine | FastestLine
        if options.fair:
            self.line = FairLine(
                out, session, ledger, waits, outage, pace, pipeline, leases, releases, denials, audit, timeout
            )
        else:
            self.line = FastestLine(out, session, ledger, waits)
        self.grants = grants = Grants(
            self.strategy, out, session, ledger, pipeline, leases, releases, denials, self.line, waits, audit,
            outage, pace
        )  # fmt: skip
        endings = Endings(out, ledger, pipeline, leases, releases, denials, self.line, audit)
        self._questions = Questions(options, out, ledger, audit, outage, timeout)
        self.lifecycle = life = Lifecycle(
            options, closed, out, outage, pace, session, self.attempts, self.stop, ledger, leases, audit, denials,
            releases, grants, endings
        )  # fmt: skip
        self.fsm = life.fsm
        # Who is called back was made after those who call.
        outage.owner = session.owner = self.attempts.owner = self.stop.owner = life
        pipeline.on_idle = grants.idle
        waits.over = grants.wait_over
        denials.line = self.line
        self.line.locks = grants
        audit.keeper = audit.doubts.releaser = releases

    @property
    def state(self) -> str:
        """The machine's state."""
        return self.fsm.state

    # ---------------------------------------------------------------------------------- the one entrance

    def begin(self, now: float) -> None:
        """The first step: the machine enters its first state, and a session is asked for."""
        self._out.now = now
        self.fsm.begin()

    def follow(
        self, old: LockerCore, now: float, *, sessions: Iterable[str], lost: int, state: str | None, stopped: bool
    ) -> None:
        """The first step in the place of a core whose step was broken off: its numbers go on.

        Args:
            old: that core.
            now: as for `step`.
            sessions: the sessions that are to be destroyed.
            lost: how many leases were lost.
            state: the state that was told last; None for none.
            stopped: whether the Locker is stopped.
        """
        self._out.now = now
        self.session.generation = old.session.generation + 1
        self.ledger.tenure = old.ledger.tenure
        self._out.counters.update(old.counters())
        self._out.count("lost", lost)
        self._out.warn(f"Locker {self.options.name!r}: a step was broken off in its middle; its session is given up")
        for session_id in sessions:
            self.session.destroys.add(session_id)
        if state is None:
            self.fsm.begin()
            return
        self.fsm.fsm_state = state
        if stopped:
            self.fsm.transition(STOPPED)
        elif state == ACQUIRING:
            self.session.create()
        else:
            self.fsm.transition(ACQUIRING)

    def step(self, event: Event, now: float, more: bool = False) -> None:
        """Take one event. What follows from it is put at the end of `commands`.

        It raises nothing by itself. After an exception, from a signal handler, a stack that is too deep, or a lack of
        memory, this core must not be used any more: another one `follow`s it.

        Args:
            event: what happened.
            now: the time, in seconds, on a clock that never goes back.
            more: whether the next event is there already: then nothing of the batch is sent before it, and more goes
                together.
        """
        self._out.now = now
        if self.session.deadline_passed():
            self.lifecycle.session_lost("deadline passed")
        if isinstance(event, Call):
            self._called(event)
        elif isinstance(event, Answered):
            known = self._out.answered(event.request, event.outcome)
            if not known and isinstance(event.outcome, SessionCreated):
                self.session.destroy_stray(event.outcome.session_id)
            if self.stop.calls:
                self.stop.look()
        elif isinstance(event, TimerFired):
            self._out.fired(event.name)
        else:
            self._abandoned(event)
        if self.session.life is not None and not more:  # send what may be sent
            self._pipeline.flush()
            self.releases.flush()
            self.line.flush()
            self.pace.settle()
            self._denials.flush()
        if self.ledger.resting:
            self.ledger.rest()
        if self.state == STOPPED:
            self._deadlines.look()  # a stopped Locker leaves no timer

    @property
    def ended(self) -> bool:
        """Whether new calls are refused: stopped, or a stop is under way."""
        return self.state == STOPPED or self.stop.under_way

    def counters(self) -> dict[str, int]:
        """What was counted so far, by name."""
        return dict(self._out.counters)

    # --------------------------------------------------------------------------------------- calls

    def _called(self, call: Call) -> None:
        self._order += 1
        call.order = self._order
        if call.timeout is not None:
            self._deadlines.add(call, call.timeout)
        if isinstance(call, LockCall):
            self.fsm.handle("lock", call)
        elif isinstance(call, LeaveHold) and not any(lease.live for lease in call.leases):
            self._out.settle(call, 0)  # lost before; the Locker's state does not matter
        elif isinstance(call, ReleaseCall):
            self.fsm.handle("release", call)
        elif isinstance(call, Question):
            self._questions.ask(call, self.session.generation)
        elif isinstance(call, Stop):
            self.stop.calls.append(call)
            self.fsm.handle("stop")
            if self.state == STOPPED:
                self.stop.answer()
        elif isinstance(call, Start):
            self.session.refusal = None  # the cause may be gone by now: the next attempt shows it
            self.fsm.handle("start")
            self._out.settle(call)
        else:
            assert isinstance(call, Reboot)  # there is no other kind
            self._reboot(call)

    def _reboot(self, call: Reboot) -> None:
        if not self.stop.under_way:
            calls: list[LockCall] = []
            if self.state == READY:
                calls = self.lifecycle.give_up_session("rebooted")
            elif self.state == ACQUIRING:
                self.session.abandon_attempt()
            self.fsm.handle("reboot")
            self.lifecycle.repeat(calls)
        self._out.settle(call)

    def _abandoned(self, event: Abandoned) -> None:
        call = event.call
        if call.settled:
            # It was answered while its caller went.
            if isinstance(call, LockCall) and not self.ended:
                self.releases.return_unused(call)
            return
        call.settled = True
        self._out.limited.pop(call.order, None)
        self.outage.answered(call)  # nobody waits for an answer any more
        self.lifecycle.withdraw(call)

    # ------------------------------------------------------------------------------------ time limits

    def _time_over(self, call: Call) -> None:
        """A call's ``timeout`` is over: it is answered, and leaves nothing behind."""
        if isinstance(call, Stop) and self.stop.under_way:
            self.stop.give_up()
            return
        self._out.settle(call, error=self._too_late(call))
        self.lifecycle.withdraw(call)

    def _too_late(self, call: Call) -> LockTimeout:
        """The error of a call whose ``timeout`` is over: what it waits for, what failed last, or no answer."""
        waiting = call.waiting
        error = waiting.error if waiting is not None else None
        met = call.riding.cause if call.riding is not None else None
        cause = error or met or (self.session.cause if self.session.life is None else self.outage.cause)
        if isinstance(call, LockCall) and waiting is not None and error is None:
            slot, obstacle = self.line.blocked_at(call), waiting.obstacle
            if slot is not None and obstacle is not Obstacle.FAILED:  # else Consul has refused it nothing yet
                entry = slot.entry if obstacle is Obstacle.HELD and self.options.identify_holder else None
                holder = lock_info(slot.id, entry) if entry is not None else None
                return LockTimeout(
                    slot.id, call.timeout, self.state, call.verb, obstacle.value, holder, self.options.fair, cause
                )
        return LockTimeout(call.ids[0] if call.ids else None, call.timeout, self.state, call.verb, cause=cause)
