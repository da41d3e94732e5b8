"""What is looked at when a table is made: names always, and all the rest where it is strict."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from types import MappingProxyType
from typing import Any

from .errors import TableError
from .parts import CATCH_ALL, GO, MODEL_ATTRIBUTE, START, Action, Defer, State, plain_name, plain_names

__all__ = ["ANY_STATE", "Check", "plain_inputs", "plain_states"]

ANY_STATE = "(any state)"
"""What stands in drawings for the machine itself, whose catch-all serves every state; no name of a strict state."""

_RESERVED_STATES = frozenset({"", CATCH_ALL, "=", START})
"""No names for states: ``*`` and ``=`` are wildcards of `transitions`, "" means "no state" in its rows."""


def plain_states(states: Any) -> dict[str, State[Any]]:
    """The states by names that are plain strings, or an error."""
    if not isinstance(states, Mapping):
        raise TableError("states", states, "is no mapping of names to State(...)")
    plain = {}
    for given, state in states.items():
        name = plain_name(given)
        if not isinstance(name, str):
            raise TableError("states", given, f"is no name: {_what_names_are(given)}")
        if name in _RESERVED_STATES:
            raise TableError("states", name, "is taken: a state cannot be called so")
        if not isinstance(state, State):
            raise TableError(f"states[{name!r}]", state, "is no State(...)")
        plain[name] = replace(
            state,
            on_enter=_plain_effect(state.on_enter),
            on_exit=_plain_effect(state.on_exit),
            inputs=MappingProxyType(plain_inputs(f"states[{name!r}].inputs", state.inputs)),
        )
    return plain


def _what_names_are(given: object) -> str:
    if isinstance(given, Enum):
        return "make the Enum one of strings, as in 'class Names(str, Enum)'"
    return "a string, or a member of an Enum of strings"


def _plain_effect(effect: Any) -> Any:
    return replace(effect, goes_to=plain_names(effect.goes_to)) if isinstance(effect, Action) else effect


def plain_inputs(place: str, inputs: Any) -> dict[str, Any]:
    """The inputs and states in what is declared by names that are plain strings, or an error."""
    if not isinstance(inputs, Mapping):
        raise TableError(place, inputs, "is no mapping of inputs to what they do")
    plain = {}
    for given, reaction in inputs.items():
        name = plain_name(given)
        if not isinstance(name, str):
            raise TableError(place, given, f"is no name: {_what_names_are(given)}")
        if name.startswith(GO) or name == MODEL_ATTRIBUTE:
            raise TableError(place, name, f"is taken: an input's name cannot begin with {GO!r}, or be fsm_state")
        if isinstance(reaction, Defer):
            reaction = Defer(plain_names(reaction.until))
        plain[name] = _plain_effect(plain_name(reaction))
    return plain


# ------------------------------------------------------------------------------ what strict tables are


class Check:
    """Looks for what is not valid in a table.

    Args:
        table: the table.
        kind: what tables are, so that a child may be one.
    """

    def __init__(self, table: Any, kind: type) -> None:
        self._table = table
        self._kind = kind

    def all(self) -> None:
        """Raise TableError for the first mistake."""
        table = self._table
        if not isinstance(table.namespace, str):
            raise TableError("namespace", table.namespace, "is no string")
        for name, state in table.states.items():
            place = f"states[{name!r}]"
            self._name("states", name)
            if name == ANY_STATE:
                raise TableError("states", name, "cannot be drawn: it stands for the machine itself there")
            self._effect(f"{place}.on_enter", state.on_enter)
            self._effect(f"{place}.on_exit", state.on_exit)
            self._inputs(f"{place}.inputs", state.inputs)
            self._child(f"{place}.child", state.child)
        for name in table.inputs:
            if name != CATCH_ALL:
                raise TableError("inputs", name, "is never looked for on the machine itself, only '*' is")
        self._inputs("inputs", table.inputs)

    def _name(self, place: str, name: str) -> None:
        if not name or name != name.strip() or not name.isprintable():
            raise TableError(place, name, "cannot be drawn: a name has no blanks at its ends, and no line breaks")

    def _inputs(self, place: str, inputs: Mapping[str, Any]) -> None:
        for name, reaction in inputs.items():
            self._name(place, name)
            self._reaction(f"{place}[{name!r}]", reaction, 2 if name == CATCH_ALL else 1)

    def _reaction(self, place: str, reaction: Any, given: int) -> None:
        if reaction is None:
            return
        if isinstance(reaction, str):
            self._state(place, reaction)
        elif isinstance(reaction, Defer):
            self._deferral(place, reaction.until)
        elif isinstance(reaction, Action):
            self._action(place, reaction, given)
        elif callable(reaction):
            _taken(place, reaction, given)
        else:
            raise TableError(
                place, reaction, "is no reaction: the name of a state, Defer(...), Action(...), a function, or None"
            )

    def _state(self, place: str, name: object) -> None:
        if not isinstance(name, str):
            raise TableError(place, name, f"is no name of a state: {_what_names_are(name)}")
        if name not in self._table.states:
            raise TableError(place, name, "is not among the states", self._table.states)

    def _deferral(self, place: str, until: Any) -> None:
        if until is None:
            return
        if until == ():
            raise TableError(place, until, "waits for no state at all; None waits for the next transition")
        for name in until if isinstance(until, tuple) else (until,):
            self._state(f"{place}, Defer", name)

    def _action(self, place: str, action: Action[Any], given: int, exactly: bool = False) -> None:
        if not callable(action.handler):
            raise TableError(f"{place}, Action", action.handler, "cannot be called")
        _taken(f"{place}, Action", action.handler, given, exactly)
        if not isinstance(action.label, str):
            raise TableError(f"{place}, label", action.label, "is no string")
        if not isinstance(action.goes_to, tuple):
            raise TableError(f"{place}, goes_to", action.goes_to, "is no tuple of states")
        for name in action.goes_to:
            self._state(f"{place}, goes_to", name)

    def _effect(self, place: str, effect: Any) -> None:
        if effect is None:
            return
        if isinstance(effect, Action):
            self._action(place, effect, 1, True)
        elif callable(effect):
            _taken(place, effect, 1, True)
        else:
            raise TableError(place, effect, "is no function, and no Action(...)")

    def _child(self, place: str, child: Any) -> None:
        if child is None or isinstance(child, self._kind):
            return
        if not callable(child):
            raise TableError(
                place, child, "is no Table, and no function that makes an Fsm (each parent has a child of its own)"
            )
        _taken(place, child, 1, True)


def _taken(place: str, function: Any, given: int, exactly: bool = False) -> None:
    """Refuse functions that cannot be called with the client, or whose body would not run then.

    Args:
        place: where it stands.
        function: what is to be called.
        given: how many arguments come first in any case: the client, for a catch-all the name of the input too.
        exactly: whether that is all.
    """
    called = type(function).__call__ if not inspect.isroutine(function) else function
    for kind in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
        if kind(function) or kind(called):
            raise TableError(
                place, function, "would not run when it is called: a plain function is needed; it may start a task"
            )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some of those that are written in C do not tell
        return
    parameters = signature.parameters.values()
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    first = "the client" if given == 1 else "the client and the name of the input"
    if len(positional) < given and not any(each.kind is each.VAR_POSITIONAL for each in parameters):
        raise TableError(place, function, f"cannot take {first} as its first argument{'s' * (given > 1)}")
    wanted = [each.name for each in positional[given:] if each.default is each.empty]
    named = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY and each.default is each.empty]
    if named or (exactly and wanted):
        missing = ", ".join([*(wanted if exactly else ()), *named])
        raise TableError(place, function, f"needs more than it is given: {missing}")
