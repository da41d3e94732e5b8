"""Planted mistakes are found, each with its place, and tables that are well have no findings."""

from __future__ import annotations

import functools
from enum import Enum
from typing import Any

import pytest

from consul_locker import embed
from consul_locker.core.machine import TABLE
from consul_locker.fsm import Action, Defer, Fsm, State, Table, inspect

ELSEWHERE = "elsewhere"


class Names(str, Enum):
    ELSEWHERE = "elsewhere"


def act(client: Any, *args: Any) -> None:
    """Nothing that leads anywhere."""


def go_by_name(client: Any) -> None:
    client.transition("elsewhere")


def go_by_constant(client: Any) -> None:
    client.transition(ELSEWHERE)


def go_in_a_function(client: Any) -> None:
    def inner() -> None:
        client.transition("elsewhere")

    inner()


def go_by_one_of_these(client: Any) -> None:
    for state in ("elsewhere", "start"):
        client.transition(state)


def go_by_argument(client: Any, state: str = "elsewhere") -> None:
    client.transition(state)


def go_by_enum(client: Any, state: Names = Names.ELSEWHERE) -> None:
    client.transition(state)


def go_to(state: str) -> Any:
    return lambda client: client.transition(state)


def go_with(state: str, client: Any) -> None:
    client.transition(state)


class Service:
    def go(self, client: Any) -> None:
        client.transition("elsewhere")


def found(states: dict[str, State], **options: Any) -> list[tuple[str, str]]:
    table = Table(states, **{"initial_state": next(iter(states)), **options})
    return [(finding.kind, finding.place) for finding in inspect(table)]


def test_the_locker_s_own_table_is_well() -> None:
    assert inspect(TABLE) == []


def test_a_machine_is_inspected_by_its_table() -> None:
    fsm = Fsm.of({"a": State(), "b": State()}, initial_state="a")
    (finding,) = inspect(fsm)
    assert str(finding).startswith("states['b']: no way leads from 'a' to 'b'")


def test_a_state_that_cannot_be_reached() -> None:
    states = {"start": State(inputs={"go": "middle"}), "middle": State(), "elsewhere": State(inputs={"go": "start"})}
    assert found(states) == [("unreachable", "states['elsewhere']")]


@pytest.mark.parametrize(
    "way",
    [
        "elsewhere", go_by_name, go_by_constant, go_in_a_function, go_by_one_of_these, go_by_argument, go_by_enum,
        go_to("elsewhere"), functools.partial(go_with, "elsewhere"), Service().go, Action(go_by_name),
        Action(act, goes_to=("elsewhere",)),
    ],
)  # fmt: skip
def test_whatever_leads_there_counts(way: Any) -> None:
    assert found({"start": State(inputs={"go": way}), "elsewhere": State()}) == []
    assert found({"start": State(), "elsewhere": State()}, inputs={"*": way}, strict=False) == []
    if not isinstance(way, str):
        assert found({"start": State(on_enter=way), "elsewhere": State()}) == []


def test_where_an_action_says_it_goes_counts_alone() -> None:
    states = {"start": State(inputs={"go": Action(go_by_name, goes_to=("start",))}), "elsewhere": State()}
    assert found(states) == [("unreachable", "states['elsewhere']")]


def test_functions_that_tell_nothing_are_no_trouble() -> None:
    def later(client: Any) -> None:
        print(not_there)  # noqa: F821 # deleted below, so that its cell is empty

    kinds = found({"start": State(inputs={"a": [].append, "b": later}), "elsewhere": State()})
    assert kinds == [("unreachable", "states['elsewhere']")]
    not_there = 1
    del not_there
    assert found({"start": State(inputs={"b": later})}) == []


def test_an_input_that_no_state_handles() -> None:
    states = {"a": State(inputs={"x": None, "y": Defer(), "go": "b"}), "b": State(inputs={"y": Defer()})}
    assert found(states) == [("unhandled", "states['a'].inputs['x']"), ("unhandled", "states['a'].inputs['y']")]
    assert found(states, inputs={"*": act}) == []
    child = Table({"c": State(inputs={"x": act, "y": act})}, initial_state="c")
    assert found({**states, "b": State(child=child)}) == []


def test_an_input_that_waits_for_what_never_comes() -> None:
    states = {
        "a": State(inputs={"go": "b"}),
        "b": State(inputs={"wait": Defer("a")}),
    }
    states["a"] = State(inputs={"go": "b", "wait": act})
    assert found(states) == [("stranded", "states['b'].inputs['wait']")]
    assert found({**states, "b": State(inputs={"wait": Defer(("a", "b")), "back": "a"})}) == []


def test_an_input_that_waits_for_a_state_that_does_not_handle_it() -> None:
    states = {
        "a": State(inputs={"go": "b", "wait": Defer("b")}),
        "b": State(inputs={"on": "c"}),
        "c": State(inputs={"wait": act}),
    }
    assert found(states) == [("unheeded", "states['a'].inputs['wait']")]
    with_child = {**states, "b": State(inputs={"on": "c"}, child=lambda client: None)}
    assert found(with_child) == []
    assert found({**states, "a": State(inputs={"go": "b", "*": Defer("b")})}) == []
    lenient = {**states, "a": State(inputs={"go": "b", "wait": Defer("nowhere")})}
    assert found(lenient, strict=False) == [("stranded", "states['a'].inputs['wait']")]
    nowhere = {**states, "a": State(inputs={"go": "b"}), "b": State(inputs={"on": "c", "gone": "nowhere"})}
    assert found(nowhere, strict=False) == []


def test_entry_actions_that_lead_to_each_other() -> None:
    states = {
        "a": State(on_enter=go_to("b"), inputs={"on": "d"}),
        "b": State(on_enter=Action(act, goes_to=("c",))),
        "c": State(on_enter=lambda client: client.transition("a")),
        "d": State(on_enter=go_to("a")),
        "e": State(on_enter=go_to("e")),
    }
    states["a"] = State(on_enter=go_to("b"), inputs={"on": "d", "to e": "e"})
    assert found(states) == [("entry loop", "states['a'].on_enter")]
    (finding,) = inspect(Table(states, initial_state="a"))
    assert "a -> b -> c -> a" in finding.message


def test_a_child_that_takes_every_input_away() -> None:
    child = Table({"c": State()}, initial_state="c", inputs={"*": act})
    assert found({"a": State(inputs={"x": act, "no": None}, child=child)}) == [("shadowed", "states['a'].inputs['x']")]


def test_children_are_inspected_too() -> None:
    child = Table({"c": State(), "lost": State()}, initial_state="c")
    assert found({"a": State(child=child)}) == [("unreachable", "states['a'].child.states['lost']")]


class Getting:
    GOT = ("got",)


def getting(client: Any) -> Getting:
    return Getting()


def test_what_a_child_got_is_not_let_go_by_the_input_that_tells_of_it() -> None:
    def inputs(reaction: Any) -> dict[str, Any]:
        return {"got": reaction, "on": "b"}

    for child in (getting, lambda client: getting(client)):
        states = {"a": State(child=child, inputs=inputs("b")), "b": State()}
        assert found(states) == [("let go", "states['a'].inputs['got']")]
        for well in ("a", act, Action(act, goes_to=("b",)), None):
            assert found({**states, "a": State(child=child, inputs=inputs(well))}) == []
    for other in (lambda client: act(client), lambda client: None, functools.partial(act)):
        assert found({"a": State(child=other, inputs=inputs("b")), "b": State()}) == []


def test_a_locker_below_a_state_that_its_lock_leads_out_of() -> None:
    states = {"a": State(child=lambda client: embed(client), inputs={"lock_acquired": "b"}), "b": State()}
    assert found(states) == [("let go", "states['a'].inputs['lock_acquired']")]
