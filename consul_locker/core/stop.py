"""A stop under way, in the state ready: its table, and what is done in each of its states.

The Locker's own state stays ready until the session has ended, as in the original. Meanwhile this table says how far
the stop has come. `Lifecycle` says what a stop means for locks and calls.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

from ..fsm import Action, Fsm, State, Table
from .calls import Stop
from .messages import confirmed_destroy
from .requests import DestroyAnswer, DestroySession, ReadSession, SessionAnswer, SessionRead
from .session import Session
from .step import Outbox

__all__ = ["STOP", "StopOwner", "Stopping"]

#: A stop takes at most this many times the limit of one request, unless the caller says otherwise.
STOP_REQUESTS = 2.0
#: The pause before a stop sends its destroy again, in seconds, when Consul said true and still has the session: one
#: that has just started needs some milliseconds to apply its log.
STOP_PAUSE = 0.25

IDLE = "idle"
GIVING_BACK = "giving_back"
DESTROYING = "destroying"
CONFIRMING = "confirming"
PAUSING = "pausing"


class StopOwner(Protocol):
    """Who stops."""

    def give_back(self) -> bool:
        """Refuse who waits, and begin to give back what must be. Returns whether the destroy waits for that."""

    def gives_back(self) -> bool:
        """Whether something is being given back."""

    def end_leases(self) -> None:
        """The session is about to be destroyed: no lease may be relied on any more."""

    def stop_over(self, confirmed: bool) -> None:
        """The stop is over; ``confirmed``: Consul does not have the session any more."""


def _build() -> Table[Stopping]:
    over = Action(lambda stop: stop.finish(confirmed=False), "the session goes on ending by itself", goes_to=(IDLE,))
    return Table(
        {
            IDLE: State(inputs={"begin": GIVING_BACK}),
            GIVING_BACK: State(
                on_enter=Action(lambda stop: stop.give_back(), "give back what a destroy would leave closed"),
                inputs={"given_back": DESTROYING, "over": over},
            ),
            DESTROYING: State(
                on_enter=Action(lambda stop: stop.destroy(), "end all leases, destroy the session"),
                inputs={"destroyed": CONFIRMING, "failed": over, "over": over},
            ),
            CONFIRMING: State(
                on_enter=Action(lambda stop: stop.confirm(), "have the leader read the session"),
                inputs={
                    "gone": Action(lambda stop: stop.finish(confirmed=True), "the session is gone", goes_to=(IDLE,)),
                    "not_gone": PAUSING,
                    "over": over,
                },
            ),
            PAUSING: State(
                on_enter=Action(lambda stop: stop.pause(), "wait a moment"),
                inputs={"again": DESTROYING, "over": over},
            ),
        },
        initial_state=IDLE,
        namespace="stop",
    )


class Stopping:
    """The stop of one Locker, or none.

    Args:
        outbox: of the Locker.
        session: of the Locker.
        timeout: the limit on one request, in seconds.

    Attributes:
        owner: who stops; set once.
        calls: those that wait for it.
        request: the destroy under way, and then the read that confirms it; else None.
    """

    __slots__ = ("_confirming", "_fsm", "_out", "_session", "_timeout", "calls", "owner", "request")

    def __init__(self, outbox: Outbox, session: Session, timeout: float) -> None:
        self._out = outbox
        self._session = session
        self._timeout = timeout
        self.owner: StopOwner
        self.calls: list[Stop] = []
        self.request: DestroySession | ReadSession | None = None
        self._confirming: ReadSession | None = None  # what is to be asked next
        self._fsm: Fsm[Stopping] | None = None  # made by the first stop

    @property
    def state(self) -> str:
        """How far the stop has come; ``"idle"``: there is none."""
        return IDLE if self._fsm is None else self._fsm.state

    @property
    def under_way(self) -> bool:
        """Whether there is one."""
        return self._fsm is not None and self._fsm.state != IDLE

    def begin(self) -> None:
        """Begin a stop."""
        self._out.timer(("stop",), self._out.now + STOP_REQUESTS * self._timeout, self.give_up)
        if self._fsm is None:
            self._fsm = Fsm(STOP, self, mutex=None)  # as the Locker's own
        self._fsm.handle("begin")

    def _go_on(self, input: str) -> None:
        """Of a stop that has begun."""
        assert self._fsm is not None
        self._fsm.handle(input)

    def give_up(self) -> None:
        """Its time is over, or nobody waits for it: it ends at once, confirmed or not."""
        self._go_on("over")

    def look(self) -> None:
        """Consul has answered something: perhaps all is given back by now."""
        if self.state == GIVING_BACK and not self.owner.gives_back():
            self._go_on("given_back")

    def answer(self) -> None:
        """The Locker is stopped: answer the calls that wait for that."""
        calls, self.calls = self.calls, []
        for call in calls:
            self._out.settle(call)

    # --------------------------------------------------------------------- the actions of the table

    def give_back(self) -> None:
        """On entering giving_back. It waits for works under way, too: locks that no call wants any more."""
        if not self.owner.give_back() or not self.owner.gives_back():
            self._go_on("given_back")

    def destroy(self) -> None:
        """On entering destroying."""
        self.owner.end_leases()
        life = self._session.current
        self.request = request = DestroySession(life.generation, life.session_id, timeout=self._timeout)
        self._out.ask(request, partial(self._destroyed, request))

    def confirm(self) -> None:
        """On entering confirming.

        A server that has just started answers a destroy with true and does nothing (`Destroys`). Only a read that does
        not find the session confirms the destroy. After a read that finds it, or fails, another destroy is sent.
        """
        assert self._confirming is not None
        self.request = self._confirming
        self._out.ask(self._confirming, self._read)

    def pause(self) -> None:
        """On entering pausing."""
        self.request = None
        self._out.timer(("stop", "again"), self._out.now + STOP_PAUSE, partial(self._go_on, "again"))

    def finish(self, confirmed: bool) -> None:
        """It is over."""
        self.request = None
        self._out.cancel(("stop",))
        self._out.cancel(("stop", "again"))
        assert self._fsm is not None
        self._fsm.transition(IDLE)  # inputs that are deferred until stopped must find no stop under way
        self.owner.stop_over(confirmed)

    def _destroyed(self, request: DestroySession, outcome: DestroyAnswer) -> None:
        self._confirming = confirmed_destroy(request, outcome)
        self._go_on("failed" if self._confirming is None else "destroyed")

    def _read(self, outcome: SessionAnswer) -> None:
        gone = isinstance(outcome, SessionRead) and outcome.session is None
        self._go_on("gone" if gone else "not_gone")


#: The one machine of the stops of all Lockers of the process.
STOP = _build()
