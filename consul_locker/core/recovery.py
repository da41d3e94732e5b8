"""After a step that was broken off by an exception: the Locker gives up the session, and serves its calls anew.

A signal handler may raise in the middle of any step. What that step left half done cannot be told from what is done.
"""

from __future__ import annotations

from math import inf

from ..errors import ConsulUnavailable
from ..models import LossReason
from .calls import Call, LockCall, ManyReleases, Question, Release, Stop
from .lifecycle import Lifecycle
from .machine import ACQUIRING, READY

__all__ = ["Recovery"]

#: The reason of losses after a step that was broken off.
BROKEN_OFF: LossReason = "broken off"


class Recovery(Lifecycle):
    """A `Lifecycle` that can go on after a step that was broken off."""

    def _limit(self, call: Call) -> None:
        """Set the timer of a call's ``timeout``; it is in `LockerCore`."""

    def _recover(self) -> None:
        """The step before was broken off in its middle: what is half done cannot be told from what is done.

        So all of it is given up, with the session, as after a loss. Calls that want a lock are served by the next
        session. Releases need nothing more. The outcome of a question, or of a user's own operations, is unknown.
        """
        self._out.warn(f"Locker {self.options.name!r}: a step was broken off in its middle; its session is given up")
        calls = self._out.unanswered()
        for call in calls:
            call.settled = False
        leases, sessions = self._out.begun()
        for lease in leases:
            self._out.end(lease, BROKEN_OFF)
        # Signals follow below: observers may have heard of fewer leases than these, or of more.
        self._grants.end_everything(BROKEN_OFF)
        self.session.recover()
        for lease in leases:
            self._out.count("lost")
            self._out.emit("lock_lost", id=lease.id, key=lease.key, lease=lease, reason=BROKEN_OFF)
        for session_id in sessions:
            self._out.emit("session_ended", session_id=session_id, reason=BROKEN_OFF)
        starting = self._starting
        self.fsm.break_off()
        self._restart(stops=any(isinstance(call, Stop) for call in calls))
        if starting:
            self.fsm.handle("start")
        again = [call for call in calls if isinstance(call, LockCall) and not call.settled]
        for call in again:
            self._limit(call)
            if call.waiting is not None and call.waiting.until < inf:
                self._waiting.limit(call, call.waiting.until)
        for call in calls:
            if isinstance(call, Question):
                unknown = ConsulUnavailable("the call was broken off", operation=call.verb, sent=True)
                self._out.settle(call, error=unknown)
            elif isinstance(call, ManyReleases):
                self._out.settle(call, 0)
            elif not isinstance(call, LockCall):
                self._out.settle(call, False if isinstance(call, Release) else None)
        self._repeat(again)

    def _restart(self, stops: bool) -> None:
        """Leave the state in which the broken step left the machine, as after a lost session or a stop."""
        self._stops = []
        self._interrupted = []
        self._giving_back = False
        self.stopping = None
        self._out.cancel(("stop",))
        self._out.cancel(("stop", "again"))
        if self.state == READY:
            self.fsm.handle("session_destroyed" if stops else "session_lost")
        elif stops:
            self.fsm.handle("stop")
        elif self.state == ACQUIRING:
            self.session.create()
        else:
            self.fsm.handle("retry")
