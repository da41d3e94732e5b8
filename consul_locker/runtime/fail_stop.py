"""What puts a new core in the place of one whose step was broken off by an exception.

A step is the core's work on one event and the carrying out of its commands. A signal handler may raise in the middle
of any, and what it left half done cannot be told from what is done. So nothing is repaired: the core is thrown away,
and another one begins anew, with a new session. All that is needed for this stands outside the core, in registers that
say what is promised to others: the calls that have no answer yet, and what observers have heard begin and not end.
"""

from __future__ import annotations

from collections.abc import Callable

from ..core.calls import LeaveHold, Reboot, Start, Stop
from ..core.locker import LockerCore
from ..core.machine import STOPPED
from ..core.messages import Abandoned, Answered, Call, Emit, Event, Forget, LeaseEnded, Settle
from ..core.requests import SessionCreated
from ..errors import ConsulUnavailable
from ..lease import BaseLease

__all__ = ["BROKEN_OFF", "FailStop"]

#: The reason of losses after a step that was broken off.
BROKEN_OFF = "broken off"
#: What calls are answered that raise nothing: the end of the session, and the new beginning, have done their work.
_ANSWERS: dict[type[Call], int | None] = {LeaveHold: 0, Stop: None, Start: None, Reboot: None}


class _Once:
    """A job for the observers that is done once, although an interrupted step may have queued it twice."""

    __slots__ = ("_job",)

    def __init__(self, job: Callable[[], object]) -> None:
        self._job: Callable[[], object] | None = job

    def __call__(self) -> object:
        job, self._job = self._job, None
        return None if job is None else job()


class FailStop:
    """The core of one Locker, and the registers from which another one can begin in its place.

    It is used where steps are taken: under the Locker's mutex, or on its event loop. Only `answered` is called outside.

    Args:
        make: makes a core that has not begun yet.
        put: queues a job for the observers.

    Attributes:
        core: the present one.
        calls: the calls of users that have no answer yet, in the order in which they came.
        leases: those of which observers heard that they begin, and not that they end.
        session_id: the session of which they heard that.
        state: the state of which they heard last; None for none.
        stopped: whether the Locker is to be stopped: its user's last word, or it gave up.
    """

    __slots__ = (
        "_broken", "_event", "_make", "_put", "_telling", "calls", "core", "leases", "session_id", "state", "stopped",
    )  # fmt: skip

    def __init__(self, make: Callable[[], LockerCore], put: Callable[[Callable[[], object]], object]) -> None:
        self._make = make
        self._put = put
        self.core = make()
        self.calls: dict[Call, None] = {}
        self.leases: dict[BaseLease, None] = {}
        self.session_id: str | None = None
        self.state: str | None = None
        self.stopped = False
        self._event: Event | None = None  # of the step that was begun, and has not ended
        self._broken: LockerCore | None = None  # of which a step was broken off, maybe after its `end`
        self._telling: tuple[_Once | None, Emit] | None = None  # the signal that is being queued

    def begin(self, event: Event) -> None:
        """A step begins: until `end` it counts as broken off."""
        self._event = event
        if type(event) is Answered:
            return
        if isinstance(event, Abandoned):
            self.answered(event.call)
        elif isinstance(event, Call) and not event.settled:
            self.calls[event] = None
            if isinstance(event, (Stop, Start, Reboot)):
                self._begin_or_end(event)

    def _begin_or_end(self, event: Stop | Start | Reboot) -> None:
        if isinstance(event, Stop):
            self.stopped = True
        elif isinstance(event, Start) or not any(isinstance(call, Stop) for call in self.open()):
            self.stopped = False  # during a stop a Reboot does nothing

    def end(self) -> None:
        """The step has ended."""
        self._event = None

    def break_off(self, core: LockerCore) -> None:
        """A step of a core was broken off, perhaps after its `end`. May be called anywhere."""
        self._broken = core

    @property
    def broken(self) -> bool:
        """Whether a step of the core was broken off: `replace` must come before the next."""
        return self._event is not None or self._broken is self.core

    def open(self) -> tuple[Call, ...]:
        """The calls that have no answer yet: a copy, since another thread may be giving one its answer."""
        return tuple(self.calls)

    def answered(self, call: Call) -> None:
        """A call has its answer, or nobody waits for it any more."""
        self.calls.pop(call, None)

    def tell(self, command: Emit, job: Callable[[], object] | None) -> None:
        """Queue a signal for the observers, and note what they hear.

        Args:
            command: the signal.
            job: calls the observers; None if there are none.
        """
        if job is None and command.signal == "lock_acquired":
            self.leases[command.facts["lease"]] = None
            return
        self._telling = None if job is None else _Once(job), command
        self._queue()

    def _queue(self) -> None:
        if self._telling is None:
            return
        job, command = self._telling
        if job is not None:
            self._put(job)
        signal, facts = command.signal, command.facts
        if signal == "lock_acquired":
            self.leases[facts["lease"]] = None
        elif signal in ("released", "lock_lost"):
            self.leases.pop(facts["lease"], None)
        elif signal == "session_created":
            self.session_id = facts["session_id"]
        elif signal == "session_ended":
            self.session_id = None
        elif signal == "state_changed":
            self.state = facts["to_state"]
            self.stopped = self.stopped or (self.state == STOPPED and facts["input"] == "give_up")
        self._telling = None

    def replace(self, now: float) -> None:
        """Put a new core in the place of the broken one. Its first commands end all that the old one has begun.

        `end` must follow when they are carried out. If that is broken off, too, it is done again.
        """
        self._queue()
        old, new = self.core, self._make()
        event = self._event
        sessions = dict.fromkeys(old.session.destroys.pending)
        if self.session_id is not None:
            sessions[self.session_id] = None
        if isinstance(event, Answered) and isinstance(event.outcome, SessionCreated):
            sessions[event.outcome.session_id] = None
        if isinstance(event, Abandoned):
            event.call.settled = True
        leases = dict.fromkeys((*self.leases, *old.ledger.leases.values()))  # nobody heard of some of the latter yet
        for lease in leases:
            lease.end(BROKEN_OFF)
        if old.session.life is not None:
            old.session.life.deadline = float("-inf")
        new.commands.append(Forget())
        new.commands.extend(LeaseEnded(lease) for lease in leases)
        for lease in self.leases:
            facts = {"id": lease.id, "key": lease.key, "lease": lease, "reason": BROKEN_OFF}
            new.commands.append(Emit("lock_lost", facts))
        if self.session_id is not None:
            facts = {"session_id": self.session_id, "reason": BROKEN_OFF}
            new.commands.append(Emit("session_ended", facts))
        for call in self.open():
            call.settled = True
            new.commands.append(self._answer(call))
        lost = len(self.leases)
        new.follow(old, now, sessions=sessions, lost=lost, state=self.state, stopped=self.stopped)
        self.core = new

    @staticmethod
    def _answer(call: Call) -> Settle:
        if type(call) in _ANSWERS:
            return Settle(call, _ANSWERS[type(call)])
        text = "a step of the Locker was broken off by an exception, and its session was given up with all its locks"
        return Settle(call, error=ConsulUnavailable(text, operation=call.verb, sent=True))

    def run(self, event: Event, now: float, more: bool = False) -> None:
        """Let the core take a step that was begun; not for a call that was answered when this core came."""
        if not (isinstance(event, Call) and event.settled):
            self.core.step(event, now, more)
