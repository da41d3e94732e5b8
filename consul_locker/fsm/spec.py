"""What is declared: states, what each input does in each of them, and the table that holds it all.

A `Table` is checked when it is made. With ``strict=True``, the default, everything in it must make sense; with
``strict=False`` it may hold what machina.js lets pass, and what is wrong shows at work, if at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Generic, NoReturn

from .checks import Check, plain_inputs, plain_states
from .errors import TableError
from .export import exported
from .parts import CATCH_ALL, START, Action, Client, Defer, Input, Queued, Reaction, Row, State, plain_name, row_of

__all__ = [
    "CATCH_ALL", "START", "Action", "Defer", "Input", "Queued", "Reaction", "Row", "State", "Table", "extend",
]  # fmt: skip


class Table(Generic[Client]):
    """What each input does in each state: one `transitions.Machine` that many `Fsm` share.

    Args:
        states: the states by name; names are strings, or members of an Enum of strings.
        initial_state: where an Fsm begins.
        inputs: what the machine does itself with inputs that the present state does not handle: only a
            catch-all ``"*"`` is ever looked for (machina's rule; others are refused where it is strict).
        namespace: the name that events carry.
        safe_emit: log errors of listeners instead of raising them.
        strict: refuse what is not valid, here and in inputs; False accepts all that machina accepts.

    Raises:
        TableError: something is not valid; it says where that is, and which name is nearest. A ValueError.
    """

    __slots__ = (
        "__weakref__", "_rows", "has_children", "initial_state", "input_names", "inputs", "namespace", "open",
        "safe_emit", "states", "strict",
    )  # fmt: skip

    def __init__(
        self,
        states: Mapping[Any, State[Client]],
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
        self.states: Mapping[str, State[Client]] = MappingProxyType(plain_states(states))
        if initial_state is None:
            raise TableError("initial_state", None, "cannot be: an initial state is needed")
        self.initial_state: str = plain_name(initial_state)
        if self.initial_state not in self.states:
            raise TableError("initial_state", initial_state, "is not among the states", self.states)
        self.inputs: Mapping[str, Reaction[Client]] = MappingProxyType(plain_inputs("inputs", inputs or {}))
        declared = {name: None for state in self.states.values() for name in state.inputs}
        self.input_names: tuple[str, ...] = tuple(declared)
        """What the states declare, in order; the catch-all among them."""
        self.open = any(given.get(CATCH_ALL) is not None for given in (self.inputs, *self._inputs_of_states()))
        """Whether a catch-all anywhere takes inputs of any name."""
        self.has_children = any(state.child is not None for state in self.states.values())
        self._rows: Any = None  # made of this at the first use: rows.py, which needs this module
        if strict:
            Check(self, Table).all()

    def _inputs_of_states(self) -> Iterator[Mapping[str, Reaction[Client]]]:
        return (state.inputs for state in self.states.values())

    def knows(self, name: object) -> bool:
        """Whether any state handles, or declares, an input of that name."""
        return self.open or name in self.input_names

    def rows(self) -> Iterator[Row]:
        """Yield what is declared, state by state, then the machine's own catch-all; no fallbacks."""
        for state, declared in self.states.items():
            for name, reaction in declared.inputs.items():
                yield row_of(state, name, reaction)
        if CATCH_ALL in self.inputs:
            yield row_of(CATCH_ALL, CATCH_ALL, self.inputs[CATCH_ALL])

    def to_transitions(self, cls: Any = None, **options: Any) -> Any:
        """A machine of `transitions` of its own, with the declared rows: for drawing, for markup, for nesting.

        Inputs that go to a state are transitions of it, so are the states that an `Action` says it may go to; all else
        stays where it is. It has no handlers, and nothing that happens to it reaches an `Fsm`.

        Args:
            cls: `transitions.Machine`, or any other: GraphMachine, MarkupMachine, a HierarchicalMachine (with the
                tables below as nested states; what a function makes cannot be known here).
            options: more for its constructor.

        Returns:
            The machine.
        """
        return exported(self, cls, options)

    def __repr__(self) -> str:
        return f"<Table {self.namespace!r}: {', '.join(self.states)}>"

    def __copy__(self) -> Table[Client]:
        return self  # nothing in it changes

    def __deepcopy__(self, memo: object) -> Table[Client]:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a table cannot be pickled, since it holds functions; import it where it is needed")


def extend(
    states: Table[Any] | Mapping[Any, State[Any]], more: Table[Any] | Mapping[Any, State[Any]]
) -> dict[str, State[Any]]:
    """The states of one table and those of another in one, as machina's ``extend`` merges them.

    A state that both have has the inputs of both. Where both say something, the second wins: None for an input is
    something said; no entry action, exit action or child is not.

    Args:
        states: the first: a table, or states by name.
        more: the second.

    Returns:
        The states, for `Table`.
    """
    merged, added = ({**plain_states(each.states if isinstance(each, Table) else each)} for each in (states, more))
    for name, state in added.items():
        old = merged.get(name)
        merged[name] = state if old is None else replace(
            state,
            on_enter=state.on_enter or old.on_enter,
            on_exit=state.on_exit or old.on_exit,
            inputs=MappingProxyType({**old.inputs, **state.inputs}),
            child=state.child or old.child,
        )  # fmt: skip
    return merged
