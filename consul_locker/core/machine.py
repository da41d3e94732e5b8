"""The Locker's table: every state, every input, and where each input leads.

This is all that a Locker may do. The diagrams are drawn from it (diagrams/render.py); what the actions
do in detail stands in `LockerCore`, which implements `Actions`. docs/differences.rst says where the table
departs from the original, and why.

=================  =====================================================================================
input              when
=================  =====================================================================================
lock, release      a user's call (`hold`, `lock_many` are kinds of lock; leaving a hold, `release_all` of
                   release)
start              the user's; in paused it tries at once
stop               the user's; final until start
reboot             the user's: give the session up, pause, try again
session_created    Consul answered the attempt that is under way
session_failed     it failed, or its answer made no sense
session_lost       the session in use is gone, or its deadline passed
session_destroyed  the destroy of a stop was answered, or failed, or took too long
retry              the timer of paused is due
give_up            the retries are exhausted
=================  =====================================================================================
"""

from __future__ import annotations

from typing import Any, Protocol

from ..fsm import Action, Defer, State, Table

__all__ = ["ACQUIRING", "PAUSED", "READY", "STATES", "STOPPED", "TABLE", "Actions"]

ACQUIRING = "acquiring"
READY = "ready"
PAUSED = "paused"
STOPPED = "stopped"

STATES = (ACQUIRING, READY, PAUSED, STOPPED)


class Actions(Protocol):
    """What the table's actions are done on: the client of its machines."""

    def create_session(self) -> None: ...
    def enter_ready(self) -> None: ...
    def enter_paused(self) -> None: ...
    def leave_paused(self) -> None: ...
    def enter_stopped(self) -> None: ...
    def leave_stopped(self) -> None: ...
    def release_early(self, call: Any) -> None: ...
    def ask_lock(self, call: Any) -> None: ...
    def ask_release(self, call: Any) -> None: ...
    def start_again(self) -> None: ...
    def destroy_session(self) -> None: ...
    def count_retry(self) -> None: ...
    def refuse(self, call: Any) -> None: ...


def _build() -> Table:
    until_ready = Defer(READY)
    nothing = Action(lambda client: None, "nothing")
    refuse = Action(lambda client, call: client.refuse(call), "refuse")
    return Table(
        {
            ACQUIRING: State(
                on_enter=lambda client: client.create_session(),
                inputs={
                    "lock": until_ready,
                    "release": Action(
                        lambda client, call: client.release_early(call), "answer True; behind a lock: defer until ready"
                    ),
                    "session_created": READY,
                    "session_failed": PAUSED,
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
                on_enter=lambda client: client.enter_ready(),
                inputs={
                    "lock": Action(lambda client, call: client.ask_lock(call), "cache, else ask Consul"),
                    "release": Action(lambda client, call: client.ask_release(call), "uncache, ask Consul"),
                    "session_created": nothing,
                    "session_failed": nothing,
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
                on_enter=lambda client: client.enter_paused(),
                on_exit=lambda client: client.leave_paused(),
                inputs={
                    "lock": until_ready,
                    "release": until_ready,
                    "session_created": nothing,
                    "session_failed": nothing,
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
                on_enter=lambda client: client.enter_stopped(),
                on_exit=lambda client: client.leave_stopped(),
                inputs={
                    "lock": refuse,
                    "release": refuse,
                    "session_created": nothing,
                    "session_failed": nothing,
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
