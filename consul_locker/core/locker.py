"""LockerCore: a Locker without I/O. Events and the time go in, commands come out.

Here the parts come together. The table (machine.py) says what an input does in each state; its actions are in
lifecycle.py. A core whose step was broken off is replaced by another one (runtime/fail_stop.py).

- The session: its life is in session.py, the proof of its end in gone.py, what is given up in destroys.py, refusals
  that time alone does not mend in refusals.py.
- A key: what is known of it is in ledger.py, the order of its operations in pipeline.py, group commit in batch.py. A
  lock is in acquire.py, its refusal in denials.py, its end in endings.py, a release in release.py. A call whose caller
  is gone is abandoned: ``_abandoned`` here, and ``abandon`` and ``withdraw`` in acquire.py.
- Waiting: line.py, and for a fair Locker fair_line.py and fair_places.py.
- Watching over what is held: audit.py; keys in doubt: doubts.py; all keys of the name: sweep.py.
- Questions (`info`, `holder`, `session_info`) are in queries.py, `guarded` in guarded.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import LockTimeout
from .calls import LOCKS, RELEASES
from .lifecycle import Lifecycle
from .machine import ACQUIRING, READY, STOPPED
from .messages import Abandoned, Answered, Call, Event, TimerFired
from .queries import lock_info
from .requests import (
    CreateSession,
    DestroySession,
    FindNode,
    Outcome,
    RawTransact,
    ReadKey,
    ReadPrefix,
    ReadSession,
    RenewSession,
    Request,
    Transact,
    Watch,
)

__all__ = ["LockerCore"]


class LockerCore(Lifecycle):
    """One Locker.

    Attributes:
        commands: those not carried out yet, in their order; the runtime takes each out when it has carried it out.

    Args:
        options: validated.
        identity: what goes into every lock's value: pid, host, name.
        timeout: the limit on one request, in seconds.
        clock: the clock of ``now``, for leases; the core itself never reads it.
        random: gives floats in [0, 1), for jitter.
        lease_type: the leases of the face.
        closed: whether nothing will begin the Locker again: calls that are refused are told so.
        max_ops: the most operations in a transaction.
        max_in_flight: the most transactions of the batch in flight at a time; None for no limit.
    """

    _order = 0  # of the last call that came

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
        self.session.generation = self.session.destroys.generation = old.session.generation + 1
        self.ledger.tenure = old.ledger.tenure
        self._out.counters = old.counters()
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

    def step(self, event: Event, now: float) -> None:
        """Take one event. What follows from it is put at the end of `commands`.

        It raises nothing by itself. After an exception, from a signal handler, a stack that is too deep, or a lack of
        memory, this core must not be used any more: another one `follow`s it.

        Args:
            event: what happened.
            now: the time, in seconds, on a clock that never goes back.
        """
        self._out.now = now
        if self.session.deadline_passed():
            self._lose("deadline passed")
        if isinstance(event, Call):
            self._called(event)
        elif isinstance(event, Answered):
            self._answered(event.request, event.outcome)
        elif isinstance(event, TimerFired):
            self._timer(event.name)
        else:
            self._abandoned(event)
        self._grants.flush()

    @property
    def ended(self) -> bool:
        """Whether new calls are refused: stopped, or a stop is under way."""
        return self.state == STOPPED or bool(self._stops)

    def counters(self) -> dict[str, int]:
        """What was counted so far, by name."""
        return dict(self._out.counters)

    # --------------------------------------------------------------------------------------- calls

    def _called(self, call: Call) -> None:
        self._order += 1
        call.order = self._order
        if call.timeout is not None:
            call.deadline = self._out.now + call.timeout
            self._out.limit(call)
        if call.verb in LOCKS:
            self.fsm.handle("lock", call)
        elif call.verb == "leave" and not any(lease.live for lease in call.argument):
            self._out.settle(call, 0)  # lost before; the Locker's state does not matter
        elif call.verb in RELEASES:
            self.fsm.handle("release", call)
        elif call.verb == "stop":
            self._stops.append(call)
            self.fsm.handle("stop")
            self._check_stopped()
        elif call.verb == "start":
            self.session.refusal = None  # the cause may be gone by now: the next attempt shows it
            self.fsm.handle("start")
            self._out.settle(call)
        elif call.verb == "reboot":
            self._reboot(call)
        else:
            self._questions.ask(call, self.session.generation)

    def _reboot(self, call: Call) -> None:
        if not self._stops:
            if self.state == READY:
                self._give_up_session("rebooted")
            elif self.state == ACQUIRING:
                self.session.abandon_attempt()
            calls, self._interrupted = self._interrupted, []
            self.fsm.handle("reboot")
            self._repeat(calls)
        self._out.settle(call)

    def _abandoned(self, event: Abandoned) -> None:
        call = event.call
        if call.settled:
            # It was answered while its caller went.
            if not self.ended:
                self._grants.return_unused(call)
            return
        call.settled = True
        if call.deadline is not None:
            self._out.cancel(("call", call))
        self._withdraw(call)

    def _withdraw(self, call: Call) -> None:
        """A settled call leaves the buffer, the line, and what was not sent yet."""
        self.fsm.discard(lambda queued: bool(queued.args) and queued.args[0] is call)
        if call.verb in LOCKS:
            self._grants.abandon(call)
        if call in self._stops:
            self._stops.remove(call)
            if not self._stops and self.state == READY:
                self._finish_stop(confirmed=False)  # no call waits for it any more, but a stop is final

    # ---------------------------------------------------------------------------------------- answers

    def _answered(self, request: Request, outcome: Outcome) -> None:
        if isinstance(request, CreateSession):
            self._session_answered(request, outcome)
        elif isinstance(request, DestroySession) or (isinstance(request, ReadSession) and request.confirms):
            if request is self.stopping:
                self._stop_answered(request, outcome)
            else:
                self.session.destroys.answered(request, outcome)
        elif isinstance(request, (ReadKey, ReadSession, RawTransact)) and request.call is not None:
            self._questions.answered(request, outcome)
        elif isinstance(request, FindNode):
            self._attempted(self.session.nodes_found(request, outcome))
        elif request.generation == self.session.generation and self.session.life is not None:
            reason = self._of_this_generation(request, outcome)
            if reason == "sweep":
                self._audit.sweep()
            elif reason is not None:
                self._lose(reason)
            elif self._giving_back:
                self._destroy_when_given_back()

    def _of_this_generation(self, request: Request, outcome: Outcome) -> str | None:
        """An answer that counts. Returns the reason when it shows the session lost."""
        if isinstance(request, Transact):
            if request.purpose == "commit":
                return self._grants.answered(request, outcome)
            if request.purpose == "holder":
                self._grants.named(request, outcome)
            elif request.purpose == "turn":
                self._grants.turn_answered(request, outcome)
            elif request.purpose == "unheld":
                self._audit.doubts.looked(request, outcome)
            elif request.purpose == "sweep":
                self._audit.swept(request, outcome)
            elif request.purpose == "audit":
                self._audit.audited(request, outcome)
        elif isinstance(request, RenewSession):
            return self.session.renewed(request, outcome)
        elif isinstance(request, ReadSession):
            if self.session.is_renewal(request):
                return self.session.renewed(request, outcome)
            reason = self.session.read(request, outcome)
            if reason is None:
                self._audit.session_read(request, outcome)
            return reason
        elif isinstance(request, Watch):
            if request.target == "session":
                return self.session.watched(request, outcome)
            self._waiting.watched(request, outcome)
        elif isinstance(request, ReadKey):
            if request.purpose == "release":
                self._grants.read_for_release(request.context, outcome)
            else:
                self._audit.read(request, outcome)
        else:
            assert isinstance(request, ReadPrefix)  # the last kind of request there is
            self._audit.swept(request, outcome)
        return None

    def _session_answered(self, request: CreateSession, outcome: Outcome) -> None:
        self._attempted(self.session.created(request, outcome))

    def _attempted(self, verdict: str) -> None:
        """The attempt under way has a verdict: one of those that `Session.created` returns."""
        if verdict == "created":
            self._out.emit("session_created", session_id=self.session.current.session_id)
            self.fsm.handle("session_created")
        elif verdict in ("failed", "refused"):
            limit = self.options.max_retries
            count = f"{self.session.retries + 1}" + (f" of at most {limit + 1}" if limit is not None else "")
            self._out.warn(f"Locker {self.options.name!r}: no session, attempt {count}: {self.session.cause}")
            self.fsm.handle("session_failed" if verdict == "failed" else "session_refused")

    # ----------------------------------------------------------------------------------------- timers

    def _timer(self, name: tuple[Any, ...]) -> None:
        # The timer of the session's deadline needs no branch: each step checks the deadline first.
        kind = name[0]
        if kind == "retry":
            self.fsm.handle("retry")
        elif kind == "renew":
            self.session.renew(fresh=len(name) > 1)
        elif kind == "audit":
            self._audit.audit()
        elif kind == "look":
            self._audit.doubts.look()
        elif kind == "watch":
            if self.session.rewatch():
                self._audit.sweep()
        elif kind == "pause":
            self._waiting.pause_over(name[1])
        elif kind == "wait":
            self._waiting.over(name[1])
        elif kind == "destroy":
            self.session.destroys.again(name[1])
        elif name == ("stop", "again"):
            self._destroy_again()
        elif kind == "stop" and self.state == READY and self._stops:
            self._finish_stop(confirmed=False)
        elif kind == "call":
            self._time_over(name[1])

    def _time_over(self, call: Call) -> None:
        """A call's ``timeout`` is over: it is answered, and leaves nothing behind."""
        if call.settled:
            return
        if call.verb == "stop" and self.state == READY:
            self._finish_stop(confirmed=False)
            return
        self._out.settle(call, error=self._too_late(call))
        self._withdraw(call)

    def _too_late(self, call: Call) -> LockTimeout:
        """The error of a call whose ``timeout`` is over: what it waits for, what failed last, or no answer."""
        slot = self._waiting.obstacle(call) if call.reason and call.error is None else None
        if slot is None:
            cause = call.error if self.session.life is not None else call.error or self.session.cause
            return LockTimeout(call.ids[0] if call.ids else None, call.timeout, self.state, call.verb, cause=cause)
        entry = slot.entry if call.reason == "held" and self.options.identify_holder else None
        holder = lock_info(slot.id, entry) if entry is not None else None
        return LockTimeout(slot.id, call.timeout, self.state, call.verb, call.reason, holder, self.options.fair)
