"""The Locker's table: a row for each state and input, and where each leads."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.core.machine import ACQUIRING, PAUSED, READY, STATES, STOPPED, TABLE
from consul_locker.fsm import Action, Fsm

INPUTS = (
    "lock",
    "release",
    "start",
    "stop",
    "reboot",
    "session_created",
    "session_failed",
    "session_refused",
    "session_lost",
    "session_destroyed",
    "retry",
    "give_up",
)

#: (state, input) -> the state it leads to, the action called on the client, or None for nothing.
EXPECTED: dict[tuple[str, str], str | None] = {
    (ACQUIRING, "lock"): "await_session",
    (ACQUIRING, "release"): "release_early",
    (ACQUIRING, "start"): None,
    (ACQUIRING, "stop"): STOPPED,
    (ACQUIRING, "reboot"): PAUSED,
    (ACQUIRING, "session_created"): READY,
    (ACQUIRING, "session_failed"): PAUSED,
    (ACQUIRING, "session_refused"): PAUSED,
    (READY, "lock"): "ask_lock",
    (READY, "release"): "ask_release",
    (READY, "start"): "start_again",
    (READY, "stop"): "destroy_session",
    (READY, "reboot"): PAUSED,
    (READY, "session_lost"): ACQUIRING,
    (READY, "session_destroyed"): STOPPED,
    (PAUSED, "lock"): "await_session",
    (PAUSED, "release"): "await_session",
    (PAUSED, "start"): ACQUIRING,
    (PAUSED, "stop"): STOPPED,
    (PAUSED, "reboot"): "count_retry",
    (PAUSED, "retry"): ACQUIRING,
    (PAUSED, "give_up"): STOPPED,
    (STOPPED, "lock"): "refuse",
    (STOPPED, "release"): "refuse",
    (STOPPED, "start"): ACQUIRING,
    (STOPPED, "stop"): None,
    (STOPPED, "reboot"): PAUSED,
}

ON_ENTER = {ACQUIRING: "create_session", READY: "enter_ready", PAUSED: "enter_paused", STOPPED: "enter_stopped"}
ON_EXIT = {PAUSED: "leave_paused", STOPPED: "leave_stopped"}


class Client:
    """Notes which actions are called on it."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.called.append(name)


def _machine_in(state: str) -> tuple[Fsm, Client]:
    client = Client()
    fsm = Fsm(TABLE, client)
    fsm.transition(state)
    assert fsm.state == state
    client.called.clear()
    return fsm, client


def test_it_begins_in_acquiring() -> None:
    client = Client()
    fsm = Fsm(TABLE, client)
    assert fsm.state == ACQUIRING
    assert client.called == ["create_session"]


@pytest.mark.parametrize("state", STATES)
def test_every_input_has_a_row_in_every_state(state: str) -> None:
    assert set(TABLE.states[state].inputs) == set(INPUTS)


def test_every_state_is_in_the_table() -> None:
    assert tuple(TABLE.states) == STATES


@pytest.mark.parametrize("input", INPUTS)
@pytest.mark.parametrize("state", STATES)
def test_each_row(state: str, input: str) -> None:
    fsm, client = _machine_in(state)
    calls = ("call",) if input in ("lock", "release") else ()
    fsm.handle(input, *calls)
    expected = EXPECTED.get((state, input))
    assert not fsm.input_queue  # the client's actions decide what is deferred
    if expected in STATES:
        entered = [ON_EXIT[state]] if state in ON_EXIT else []
        assert (fsm.state, client.called) == (expected, [*entered, ON_ENTER[expected]])
    else:
        assert (fsm.state, client.called) == (state, [expected] if expected else [])


def test_the_rows_say_in_words_what_they_do() -> None:
    # The diagrams are drawn from the table, so an action of it needs a label that a reader understands.
    for state in TABLE.states.values():
        for reaction in state.inputs.values():
            if isinstance(reaction, Action):
                assert reaction.label and "lambda" not in reaction.label
            else:
                assert reaction in STATES
