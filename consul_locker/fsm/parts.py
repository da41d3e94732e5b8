"""What a table is made of: states, and what each input does in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar

if TYPE_CHECKING:
    from typing_extensions import Protocol  # their stubs alone
    from typing_extensions import TypeVar as TypeVarWithDefault

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

    from .spec import Table  # a table is made of these, and one of these may be a table
else:
    Client = TypeVar("Client", contravariant=True)
    Handler = Reaction = Effect = Child = Any

__all__ = [
    "CATCH_ALL", "GO", "MODEL_ATTRIBUTE", "RESET", "START", "Action", "Client", "Defer", "Deferred", "Effect",
    "Handler", "Input", "Queued", "Reaction", "Row", "State", "function_of", "passed_on", "plain_name", "plain_names",
    "row_of", "targets_of",
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

def plain_name(name: Any) -> Any:
    """The value of a member of a str-Enum, which has another hash than its value; all else unchanged."""
    return name.value if isinstance(name, Enum) and isinstance(name, str) else name


def plain_names(names: Any) -> Any:
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


class Deferred(str):
    """The name of an input that was deferred: one `Input`, however often, once machines pass it on to each other."""

    __slots__ = ("_passed",)

    _passed: Input

    @property
    def passed(self) -> Input:
        """The input itself."""
        try:
            return self._passed
        except AttributeError:
            self._passed = Input(str(self))
            return self._passed


def passed_on(given: Any) -> Input:
    """An input as machines pass it on to each other."""
    if isinstance(given, Input):
        return given
    return given.passed if isinstance(given, Deferred) else Input(given)


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


def row_of(state: str, name: str, reaction: Any) -> Row:
    """How a reaction is drawn."""
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


def targets_of(reaction: object) -> Iterable[str]:
    """The states that a declared reaction leads to."""
    if isinstance(reaction, str):
        return (reaction,)
    return reaction.goes_to if isinstance(reaction, Action) else ()


def function_of(effect: Any) -> Callable[..., Any] | None:
    """What an effect, or a handler, calls."""
    return effect.handler if isinstance(effect, Action) else effect
