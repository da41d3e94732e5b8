"""The Locker's table: every state, every input, and what each input does.

This is all that a Locker may do. The diagrams are drawn from it (diagrams/render.py). `Lifecycle` implements the
actions. docs/differences.rst says where the table differs from the original, and why.

=================  =====================================================================================
input              when
=================  =====================================================================================
lock, release      a user's call (`hold`, `lock_many` are kinds of lock; leaving a hold, `release_all` of
                   release)
start              the user's; in paused it tries at once
stop               the user's; final until start, or reboot
reboot             the user's: give the session up, pause, try again; out of stopped, too, as in the original
session_created    Consul answered the attempt that is under way
session_failed     it failed, or its answer made no sense
session_refused    Consul refused it for a lasting reason: a right that the token lacks, or a node, a check or a
                   datacenter that Consul does not know
session_lost       the session in use is gone, or its deadline passed
session_destroyed  the destroy of a stop was answered, or failed, or took too long
retry              the timer of paused is due
give_up            the retries are exhausted
=================  =====================================================================================
"""

from __future__ import annotations

from typing import Protocol

from ..fsm import Action, State, Table
from .calls import Call, LockCall, ReleaseCall

__all__ = ["ACQUIRING", "PAUSED", "READY", "STATES", "STOPPED", "TABLE", "Actions"]

ACQUIRING = "acquiring"
READY = "ready"
PAUSED = "paused"
STOPPED = "stopped"

STATES = (ACQUIRING, READY, PAUSED, STOPPED)


class Actions(Protocol):
    """The actions of the table, as methods of the client of its machines."""

    def create_session(self) -> None:
        """Ask Consul for a session."""

    def enter_ready(self) -> None:
        """There is a session: keep it, and forget the retries."""

    def enter_paused(self) -> None:
        """There is none: count a retry, and wait."""

    def leave_paused(self) -> None:
        """Wait no longer."""

    def enter_stopped(self) -> None:
        """Refuse the calls that wait for a session."""

    def leave_stopped(self) -> None:
        """Begin anew, with all retries."""

    def await_session(self, call: LockCall | ReleaseCall) -> None:
        """Defer a call until ready, or tell it why Consul refuses a session."""

    def release_early(self, call: ReleaseCall) -> None:
        """Answer a release without a session, or defer it behind a lock."""

    def ask_lock(self, call: LockCall) -> None:
        """Answer a lock from the cache, or ask Consul."""

    def ask_release(self, call: ReleaseCall) -> None:
        """Take a lock from the cache, and ask Consul to release it."""

    def start_again(self) -> None:
        """Do nothing; if a stop is under way, begin again after it."""

    def destroy_session(self) -> None:
        """Free every lock by the end of the session."""

    def count_retry(self) -> None:
        """Wait once more, or give up."""

    def refuse(self, call: Call) -> None:
        """Tell a call that the session has ended."""


def _build() -> Table:
    until_ready = Action(lambda client, call: client.await_session(call), "defer until ready; session refused: refuse")
    nothing = Action(lambda client: None, "nothing")
    refuse = Action(lambda client, call: client.refuse(call), "refuse")
    return Table(
        {
            ACQUIRING: State(
                on_enter=Action(lambda client: client.create_session(), "ask Consul for a session"),
                inputs={
                    "lock": until_ready,
                    "release": Action(
                        lambda client, call: client.release_early(call), "answer True; behind a lock: defer until ready"
                    ),
                    "session_created": READY,
                    "session_failed": PAUSED,
                    "session_refused": PAUSED,
                    "session_lost": nothing,
                    "session_destroyed": nothing,
                    "retry": nothing,
                    "give_up": nothing,
                    "start": nothing,
                    "stop": STOPPED,
                    "reboot": PAUSED,
                },
            ),
            READY: State(
                on_enter=Action(lambda client: client.enter_ready(), "keep the session, forget the retries"),
                inputs={
                    "lock": Action(lambda client, call: client.ask_lock(call), "cache, else ask Consul"),
                    "release": Action(lambda client, call: client.ask_release(call), "uncache, ask Consul"),
                    "session_created": nothing,
                    "session_failed": nothing,
                    "session_refused": nothing,
                    "session_lost": ACQUIRING,
                    "session_destroyed": STOPPED,
                    "retry": nothing,
                    "give_up": nothing,
                    "start": Action(
                        lambda client: client.start_again(), "nothing; while stopping: defer until stopped"
                    ),
                    "stop": Action(lambda client: client.destroy_session(), "destroy the session"),
                    "reboot": PAUSED,
                },
            ),
            PAUSED: State(
                on_enter=Action(lambda client: client.enter_paused(), "count a retry, wait"),
                on_exit=Action(lambda client: client.leave_paused(), "wait no longer"),
                inputs={
                    "lock": until_ready,
                    "release": until_ready,
                    "session_created": nothing,
                    "session_failed": nothing,
                    "session_refused": nothing,
                    "session_lost": nothing,
                    "session_destroyed": nothing,
                    "retry": ACQUIRING,
                    "give_up": STOPPED,
                    "start": ACQUIRING,
                    "stop": STOPPED,
                    "reboot": Action(lambda client: client.count_retry(), "count a retry, wait again"),
                },
            ),
            STOPPED: State(
                on_enter=Action(lambda client: client.enter_stopped(), "refuse whoever waits"),
                on_exit=Action(lambda client: client.leave_stopped(), "begin anew, with all retries"),
                inputs={
                    "lock": refuse,
                    "release": refuse,
                    "session_created": nothing,
                    "session_failed": nothing,
                    "session_refused": nothing,
                    "session_lost": nothing,
                    "session_destroyed": nothing,
                    "retry": nothing,
                    "give_up": nothing,
                    "start": ACQUIRING,
                    "stop": nothing,
                    "reboot": PAUSED,
                },
            ),
        },
        initial_state=ACQUIRING,
        namespace="locker",
    )


#: The one machine of all Lockers of the process; each Locker is a model of it.
TABLE = _build()
