"""What is declared: states, what each input does in each of them, and the table that holds it all.

A `Table` is checked when it is made. With ``strict=True``, the default, everything in it must make sense; with
``strict=False`` it may hold what machina.js lets pass, and what is wrong shows at work, if at all.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, NoReturn, TypeAlias, TypeVar

from .errors import TableError

if TYPE_CHECKING:
    from typing_extensions import Protocol, TypeVar as TypeVarWithDefault  # their stubs alone

    Client = TypeVarWithDefault("Client", contravariant=True, default=Any)

    class Handler(Protocol[Client]):
        """Takes the client, and the arguments of the input."""

        def __call__(self, client: Client, /, *args: Any, **options: Any) -> Any: ...

    #: What an input does: call a handler, go to the state of that name, defer, or explicitly nothing.
    Reaction: TypeAlias = "Handler[Client] | str | Defer | Action[Client] | None"
    #: What is done on entering or leaving a state.
    Effect: TypeAlias = "Callable[[Client], object] | Action[Client] | None"
    #: What a state has below it: a machine of that table for each entry, or what a function makes of the client.
    Child: TypeAlias = "Table[Client] | Callable[[Client], Any] | None"
else:
    Client = TypeVar("Client", contravariant=True)
    Handler = Reaction = Effect = Child = Any

__all__ = [
    "CATCH_ALL", "GO", "MODEL_ATTRIBUTE", "RESET", "START", "Action", "Client", "Defer", "Effect", "Handler", "Input",
    "Queued", "Reaction", "Row", "State", "Table", "plain_name",
]  # fmt: skip

CATCH_ALL = "*"
"""The input that stands for every input without a handler, and the event that stands for all events."""

START = "(start)"
"""The pseudo-state before the first transition, so that the first one is a transition like any other."""

RESET = "_reset"
"""The input that a child gets when its parent's state is entered; it never bubbles."""

GO = "go to "
"""Begins the names of the triggers behind `Fsm.transition`; inputs are triggers too, so none may begin so."""

MODEL_ATTRIBUTE = "fsm_state"
"""Where `transitions` keeps the state of a model, so that it refuses a trigger of that name."""

_RESERVED_STATES = frozenset({"", CATCH_ALL, "=", START})
"""No names for states: ``*`` and ``=`` are wildcards of `transitions`, "" means "no state" in its rows."""


def plain_name(name: Any) -> Any:
    """The value of a member of a str-Enum, whose hash is another one; all else as it is."""
    return name.value if isinstance(name, Enum) and isinstance(name, str) else name


def _names(names: Any) -> Any:
    """The same for several."""
    return tuple(map(plain_name, names)) if isinstance(names, (tuple, list, set, frozenset)) else plain_name(names)


class Defer(NamedTuple):
    """A reaction that defers the input, ``until`` a state is entered, or one of several.

    None stands for the next transition.
    """

    until: str | tuple[str, ...] | None = None


@dataclass(frozen=True)
class Action(Generic[Client]):
    """A handler, or an entry or exit action, with what is to be known of it.

    Attributes:
        handler: called as ``handler(client, *args)``.
        label: what it does, for drawings.
        goes_to: the states that it may go to itself (by ``transition``), for drawings and inspection.
    """

    handler: Handler[Client]
    label: str = ""
    goes_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class State(Generic[Client]):
    """One state of a table.

    Attributes:
        on_enter: called as ``on_enter(client)`` after the transition's event and before the replay.
        on_exit: called as ``on_exit(client)`` while still in the state; inputs and transitions that
            it asks for are ignored.
        inputs: what each input does here; handlers are called as ``handler(client, *args)``, the
            catch-all ``"*"`` as ``handler(client, name, *args)``.
        child: a machine below this state, which handles inputs first: a table (each entry begins a new machine of it,
            with the client of its parent), or a function that is called as ``child(client)`` at each entry and returns
            an Fsm. One that always returns the same keeps it; its input ``_reset`` is its chance to start over.
    """

    on_enter: Effect[Client] = None
    on_exit: Effect[Client] = None
    inputs: Mapping[str, Reaction[Client]] = field(default_factory=dict)
    child: Child[Client] = None


@dataclass(init=False)
class Input:
    """An input with flags, for machines that pass inputs on to each other; elsewhere its name is enough.

    The machines set the flags of the object itself as it goes from one to the other.

    Attributes:
        name: the input's name.
        delegated: a parent has given it to its child.
        ticket: by what the parent knows it again when it bubbles.
        bubbling: it began in a child that does not handle it.
    """

    __slots__ = ("bubbling", "delegated", "name", "ticket")

    name: Any
    delegated: bool
    ticket: str | None
    bubbling: bool

    def __init__(self, name: Any, delegated: bool = False, ticket: str | None = None, bubbling: bool = False) -> None:
        self.name = plain_name(name)
        self.delegated = delegated
        self.ticket = ticket
        self.bubbling = bubbling


class Queued(NamedTuple):
    """A deferred input: handled again once ``until`` is entered (None: at the next transition)."""

    until: str | tuple[str, ...] | None
    input: Any
    args: tuple[Any, ...]

    def due(self, state: str) -> bool:
        """Whether it is to be handled again in a state."""
        until = self.until
        return until is None or until == state or (isinstance(until, tuple) and state in until)


class Row(NamedTuple):
    """One declared row of a table, for drawings.

    Attributes:
        state: the state, or ``"*"`` for what is declared on the machine itself.
        input: the input's name, or ``"*"``.
        kind: ``"goto"``, ``"defer"``, ``"action"`` or ``"nothing"``.
        target: the state that is gone to, or waited for by a deferral (the first of several); else None.
        label: what to write beside the input (``"defer until ready"``, an action's label), or "".
        goes_to: the states that an action says it may go to.
    """

    state: str
    input: str
    kind: str
    target: str | None
    label: str
    goes_to: tuple[str, ...] = ()


class Table(Generic[Client]):
    """What each input does in each state: one `transitions.Machine` that many `Fsm` share.

    Args:
        states: the states by name; names are strings, or members of an Enum of strings.
        initial_state: where an Fsm begins.
        inputs: what the machine does itself with inputs that the present state does not handle: only a
            catch-all ``"*"`` is ever looked for (machina's rule; others are refused where it is strict).
        namespace: the name that events carry.
        safe_emit: log errors of listeners instead of raising them.
        strict: refuse all that cannot be meant, here and in inputs; False lets pass what machina does.

    Raises:
        TableError: something cannot be meant; it says where that is, and which name is nearest. A ValueError.
    """

    __slots__ = (
        "__weakref__", "_rows", "has_children", "initial_state", "input_names", "inputs", "namespace", "open",
        "safe_emit", "states", "strict",
    )  # fmt: skip

    def __init__(
        self,
        states: Mapping[str, State[Client]] | Mapping[Any, State[Client]],
        *,
        initial_state: str | None = "uninitialized",
        inputs: Mapping[str, Reaction[Client]] | None = None,
        namespace: str = "fsm",
        safe_emit: bool = False,
        strict: bool = True,
    ) -> None:
        self.strict = strict
        self.namespace = namespace
        self.safe_emit = safe_emit
        self.states: Mapping[str, State[Client]] = MappingProxyType(_plain_states(states))
        if initial_state is None:
            raise TableError("initial_state", None, "cannot be: an initial state is needed")
        self.initial_state: str = plain_name(initial_state)
        if self.initial_state not in self.states:
            raise TableError("initial_state", initial_state, "is not among the states", self.states)
        self.inputs: Mapping[str, Reaction[Client]] = MappingProxyType(_plain_inputs("inputs", inputs or {}))
        declared = {name: None for state in self.states.values() for name in state.inputs}
        self.input_names: tuple[str, ...] = tuple(declared)
        """What the states declare, in order; the catch-all among them."""
        self.open = any(given.get(CATCH_ALL) is not None for given in (self.inputs, *self._inputs_of_states()))
        """Whether a catch-all anywhere takes inputs of any name."""
        self.has_children = any(state.child is not None for state in self.states.values())
        self._rows: Any = None  # made of this at the first use: rows.py, which needs this module
        if strict:
            _Check(self).all()

    def _inputs_of_states(self) -> Iterator[Mapping[str, Reaction[Client]]]:
        return (state.inputs for state in self.states.values())

    def knows(self, name: object) -> bool:
        """Whether any state handles, or declares, an input of that name."""
        return self.open or name in self.input_names

    def rows(self) -> Iterator[Row]:
        """Yield what is declared, state by state, then the machine's own catch-all; no fallbacks."""
        for state, declared in self.states.items():
            for name, reaction in declared.inputs.items():
                yield _row(state, name, reaction)
        if CATCH_ALL in self.inputs:
            yield _row(CATCH_ALL, CATCH_ALL, self.inputs[CATCH_ALL])

    def __repr__(self) -> str:
        return f"<Table {self.namespace!r}: {', '.join(self.states)}>"

    def __copy__(self) -> Table[Client]:
        return self  # nothing in it changes

    def __deepcopy__(self, memo: object) -> Table[Client]:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a table cannot be pickled, since it holds functions; import it where it is needed")


def _row(state: str, name: str, reaction: Any) -> Row:
    if reaction is None:
        return Row(state, name, "nothing", None, "")
    if isinstance(reaction, str):
        return Row(state, name, "goto", reaction, "")
    if isinstance(reaction, Defer):
        several = isinstance(reaction.until, tuple)
        until = " or ".join(reaction.until) if isinstance(reaction.until, tuple) else reaction.until
        target = reaction.until[0] if several and reaction.until else None if several else until
        return Row(state, name, "defer", target, f"defer until {until}" if until else "defer")
    if isinstance(reaction, Action):
        return Row(state, name, "action", None, reaction.label, reaction.goes_to)
    return Row(state, name, "action", None, "")


# -------------------------------------------------------------------------- what is needed in any case


def _plain_states(states: Any) -> dict[str, State[Any]]:
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
            inputs=MappingProxyType(_plain_inputs(f"states[{name!r}].inputs", state.inputs)),
        )
    return plain


def _what_names_are(given: object) -> str:
    if isinstance(given, Enum):
        return "make the Enum one of strings, as in 'class Names(str, Enum)'"
    return "a string, or a member of an Enum of strings"


def _plain_effect(effect: Any) -> Any:
    return replace(effect, goes_to=_names(effect.goes_to)) if isinstance(effect, Action) else effect


def _plain_inputs(place: str, inputs: Any) -> dict[str, Any]:
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
            reaction = Defer(_names(reaction.until))
        plain[name] = _plain_effect(plain_name(reaction))
    return plain


# ------------------------------------------------------------------------------ what strict tables are


class _Check:
    """Looks for what cannot be meant in a table."""

    def __init__(self, table: Table[Any]) -> None:
        self._table = table

    def all(self) -> None:
        """Raise TableError for the first mistake."""
        table = self._table
        if not isinstance(table.namespace, str):
            raise TableError("namespace", table.namespace, "is no string")
        for name, state in table.states.items():
            place = f"states[{name!r}]"
            self._name("states", name)
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
        if child is None or isinstance(child, Table):
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


def targets_of(reaction: object) -> Iterable[str]:
    """The states that a declared reaction leads to."""
    if isinstance(reaction, str):
        return (reaction,)
    return reaction.goes_to if isinstance(reaction, Action) else ()
