"""Walks find what is wrong, and show the fewest inputs that lead there."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import strategies as st

from consul_locker.fsm import (
    Behavior,
    Defer,
    Fsm,
    State,
    Table,
    TableError,
    WalkFailed,
    always_reaches,
    never_reaches,
    walk,
)


class Door:
    def __init__(self) -> None:
        self.opened = 0

    def open(self) -> None:
        self.opened += 1


DOOR = Table[Door](
    {
        "closed": State(inputs={"open": "open", "lock": "locked", "knock": Defer("open")}),
        "open": State(on_enter=Door.open, inputs={"close": "closed", "knock": lambda door: None}),
        "locked": State(inputs={"unlock": "closed", "break": "broken"}),
        "broken": State(),
    },
    initial_state="closed",
)


def make() -> Fsm[Door]:
    return Fsm(DOOR, Door())


def test_a_machine_that_is_well() -> None:
    walk(make, None, lambda fsm: fsm.client.opened < 50)
    walk(make, ["open", "close"])


def test_the_fewest_inputs_are_shown() -> None:
    def never_twice(fsm: Fsm[Door]) -> None:
        assert fsm.client.opened < 2, "opened twice"

    with pytest.raises(WalkFailed, match="after open, close, open: opened twice") as caught:
        walk(make, None, never_twice)
    assert caught.value.inputs == [("open", ()), ("close", ()), ("open", ())]


def test_an_invariant_may_return_false_or_raise_without_words() -> None:
    with pytest.raises(WalkFailed, match="after no input at all: the invariant does not hold in 'closed'"):
        walk(make, None, lambda fsm: False)

    def silent(fsm: Any) -> None:
        raise ValueError

    with pytest.raises(WalkFailed, match="after no input at all: ValueError"):
        walk(make, None, silent)


def test_inputs_may_have_arguments_and_what_they_raise_is_shown() -> None:
    def divide(me: Any, by: int) -> float:
        return 1 / by

    table = Table({"s": State(inputs={"divide": divide, "other": lambda me: None})}, initial_state="s")
    with pytest.raises(WalkFailed, match=r"after divide\(0\): ZeroDivisionError"):
        walk(table, {"divide": st.tuples(st.integers(-5, 5)), "other": None})


def test_a_walk_needs_inputs() -> None:
    with pytest.raises(ValueError, match="needs inputs"):
        walk(Table({"s": State()}, initial_state="s"))


def test_never_reaches() -> None:
    never_reaches(make, ["open", "close", "lock", "unlock", "knock"], "broken")
    with pytest.raises(WalkFailed, match="after lock, break: it is in 'broken'"):
        never_reaches(make, None, "broken")
    with pytest.raises(TableError, match="did you mean 'broken'"):
        never_reaches(DOOR, None, "brokn")


def test_always_reaches() -> None:
    always_reaches(make, ["open", "close", "lock", "unlock", "knock"], "closed")
    with pytest.raises(WalkFailed, match="after lock, break: no way leads from 'broken' to 'closed'"):
        always_reaches(make, None, "closed")


def test_always_reaches_goes_on_with_arguments_that_the_walk_had() -> None:
    table = Table(
        {
            "a": State(inputs={"go": lambda me, where: me.transition(where)}),
            "b": State(inputs={"back": "a"}),
        },
        initial_state="a",
    )
    with pytest.raises(WalkFailed, match="after no input at all: no way leads"):
        always_reaches(table, {"go": st.just(("b",)), "back": None}, "b")
    always_reaches(table, {"go": st.just(("b",)), "back": None}, "a")


def test_states_below_count() -> None:
    lamp = Table({"dark": State(inputs={"press": "bright"}), "bright": State()}, initial_state="dark")
    house = Table(
        {"out": State(inputs={"in": "in"}), "in": State(child=lamp, inputs={"out": "out"})}, initial_state="out"
    )
    with pytest.raises(WalkFailed, match=r"after in, press: it is in 'in.bright'"):
        never_reaches(house, None, "in.bright")
    always_reaches(house, None, "in.dark")
    always_reaches(house, None, "in")


def test_without_hypothesis_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ImportError, match="pip install hypothesis"):
        walk(make)


def test_a_client_of_a_behavior_is_kept_by_make() -> None:
    doors = Behavior(DOOR)
    kept: list[Door] = []

    def kept_door() -> Fsm[Door]:
        kept.append(Door())
        return doors.of(kept[-1])

    walk(kept_door, ["open", "close"], examples=5)
    with pytest.raises(TypeError, match=r"a Behavior does not keep clients, so make\(\) must"):
        walk(lambda: doors.of(Door()), ["open", "close"], examples=5)
