"""What a table must have, and what machines that share it have of their own."""

from __future__ import annotations

import gc
import weakref

import pytest

from consul_locker.fsm import START, Defer, Fsm, State, Table
from consul_locker.fsm.rows import rows_of

from .tools import Log, note


def test_the_initial_state_is_needed() -> None:
    with pytest.raises(ValueError, match="an initial state is needed"):
        Table({"s0": State()}, initial_state=None)


def test_the_initial_state_must_exist() -> None:
    with pytest.raises(ValueError, match="'nope' is not among the states"):
        Table({"s0": State()}, initial_state="nope")


def test_the_initial_state_has_a_default() -> None:
    assert Fsm.of({"uninitialized": State()}).state == "uninitialized"


@pytest.mark.parametrize("name", ["", "*", "=", START])
def test_reserved_states_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a state cannot be called"):
        Table({"s0": State(), name: State()}, initial_state="s0")


@pytest.mark.parametrize("name", ["go to s0", "fsm_state"])
def test_reserved_inputs_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Table({"s0": State(inputs={name: "s0"})}, initial_state="s0")


def test_an_input_may_have_the_name_of_anything_on_a_model() -> None:
    log: Log = []
    odd = ["state", "trigger", "handle", "__init__", "__class__", "s0", "is_s0"]
    fsm = Fsm.of({"s0": State(inputs={name: note(log, name) for name in odd})}, initial_state="s0")
    for name in odd:
        fsm.handle(name)
    assert log == [(name,) for name in odd]


def test_many_machines_share_one_table_and_nothing_else() -> None:
    table = Table({"s0": State(inputs={"go": "s1", "later": Defer()}), "s1": State()}, initial_state="s0")
    one, two = Fsm(table), Fsm(table)
    one.handle("later")
    one.handle("go")
    assert (one.state, two.state) == ("s1", "s0")
    assert one.table is two.table
    assert rows_of(table).machine.models == []


def test_a_machine_goes_away_with_its_last_user() -> None:
    table = Table({"s0": State()}, initial_state="s0")
    fsm = Fsm(table, client=object())
    gone = weakref.ref(fsm)
    gc.disable()  # at once, not only when somebody looks for cycles
    try:
        del fsm
        assert gone() is None
    finally:
        gc.enable()


def test_the_client_is_what_handlers_get() -> None:
    log: Log = []
    states = {"s0": State(on_enter=log.append, inputs={"a": lambda client: log.append(client)})}
    client = object()
    Fsm.of(states, initial_state="s0", client=client).handle("a")
    assert log == [client, client]
    log.clear()
    fsm = Fsm.of(states, initial_state="s0")
    assert log == [fsm]
