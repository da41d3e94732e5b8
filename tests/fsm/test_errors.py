"""The errors of the machine framework name the place, the value, and the right name that is nearest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consul_locker.fsm import TableError, UnknownInput
from consul_locker.fsm.errors import TooDeep, WrongThread, nearest

names = st.lists(st.text("abcdef_", min_size=1, max_size=12), unique=True)


@given(st.text(max_size=12), names)
def test_the_nearest_name_is_one_of_the_names(name: str, known: list[str]) -> None:
    assert nearest(name, known) in (None, *known)


@given(names.filter(bool))
def test_a_right_name_is_nearest_to_itself(known: list[str]) -> None:
    assert nearest(known[0], known) == known[0]


def test_a_table_error_says_where_what_and_what_was_meant() -> None:
    error = TableError("states['idle'].inputs['go']", "bsuy", "is no state", ["busy", "idle"])
    assert str(error) == "states['idle'].inputs['go']: 'bsuy' is no state; did you mean 'busy'?"
    assert (error.place, error.value, error.nearest) == ("states['idle'].inputs['go']", "bsuy", "busy")
    assert isinstance(error, ValueError)
    assert TableError("initial_state", 7, "is no name", ["busy"]).nearest is None


def test_without_a_near_name_the_right_ones_are_listed_if_they_are_few() -> None:
    few = UnknownInput("lamp", "quux", "dark", ["on", "off"])
    assert str(few) == (
        "no state of the machine 'lamp', which is in 'dark', knows the input 'quux'; it is one of 'on', 'off'"
    )
    many = UnknownInput("lamp", "quux", "dark", [f"input_{number}" for number in range(13)])
    assert str(many).endswith("knows the input 'quux'")
    assert (few.input, few.state, few.nearest) == ("quux", "dark", None)


@pytest.mark.parametrize("error, builtin", [(WrongThread, RuntimeError), (TooDeep, RecursionError)])
def test_the_other_errors_are_of_pythons_own_kinds(error: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(error, builtin)
