"""What tables are made of: names, inputs that are passed on, what is due when, and how reactions are drawn."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from consul_locker.fsm import Action, Defer, Input
from consul_locker.fsm.parts import (
    Deferred,
    Queued,
    Row,
    function_of,
    passed_on,
    plain_name,
    plain_names,
    row_of,
    targets_of,
)


class Name(str, Enum):
    GREEN = "green"
    RED = "red"


class Number(Enum):
    ONE = 1


def run() -> None:
    """A handler."""


def test_members_of_an_enum_of_strings_are_names() -> None:
    assert type(plain_name(Name.GREEN)) is str
    assert plain_name(Number.ONE) is Number.ONE
    assert plain_names([Name.GREEN, "red"]) == ("green", "red")
    assert plain_names(Name.RED) == "red"
    assert plain_names(None) is None
    assert Input(Name.RED).name == "red"


def test_an_input_is_passed_on_as_one_object() -> None:
    given = Input("go")
    assert passed_on(given) is given
    assert passed_on("go") == given
    assert passed_on("go") is not given
    deferred = Deferred("go")
    assert passed_on(deferred) is passed_on(deferred)
    assert passed_on(deferred).name == "go"


@pytest.mark.parametrize(
    ("until", "due"), [(None, True), ("green", True), ("red", False), (("red", "green"), True), (("red",), False)]
)
def test_when_a_deferred_input_is_due(until: Any, due: bool) -> None:
    assert Queued(until, "go", ()).due("green") is due


@pytest.mark.parametrize(
    ("reaction", "kind", "target", "label", "goes_to"),
    [
        (None, "nothing", None, "", ()),
        ("green", "goto", "green", "", ()),
        (Defer(), "defer", None, "defer", ()),
        (Defer("green"), "defer", "green", "defer until green", ()),
        (Defer(("red", "green")), "defer", "red", "defer until red or green", ()),
        (Defer(()), "defer", None, "defer", ()),
        (run, "action", None, "", ()),
        (Action(run, "run it", ("red",)), "action", None, "run it", ("red",)),
    ],
)
def test_how_a_reaction_is_drawn(
    reaction: Any, kind: str, target: str | None, label: str, goes_to: tuple[str, ...]
) -> None:
    assert row_of("s", "go", reaction) == Row("s", "go", kind, target, label, goes_to)


def test_where_a_reaction_leads_and_what_it_calls() -> None:
    action = Action(run, goes_to=("red",))
    assert [tuple(targets_of(each)) for each in ("green", action, run, None)] == [("green",), ("red",), (), ()]
    assert function_of(action) is function_of(run) is run
    assert function_of(None) is None
