"""A table as a machine of `transitions` that is no more than its rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import transitions

from .parts import CATCH_ALL, targets_of

__all__ = ["exported"]


def exported(table: Any, cls: Any, options: dict[str, Any]) -> Any:
    """Make the machine; `Table.to_transitions` says what of."""
    cls = transitions.Machine if cls is None else cls
    separator = getattr(cls.state_cls, "separator", None)  # only those whose states can be nested have one
    if separator is not None and any(separator in name for name in _names(table)):
        separator = "."  # as in `composite_state`; their own would split names that contain it
        parted = type(cls.state_cls.__name__, (cls.state_cls,), {"separator": separator})
        cls = type(cls.__name__, (cls,), {"state_cls": parted})
    states, rows = _nested(table, separator, "")
    given = {"initial": table.initial_state, "name": table.namespace, "auto_transitions": False, **options}
    return cls(states=states, transitions=rows, **given)


def _names(table: Any) -> Iterator[str]:
    """The names of all states, those below included."""
    for name, state in table.states.items():
        yield name
        if hasattr(state.child, "states"):
            yield from _names(state.child)


def _nested(table: Any, separator: str | None, above: str) -> tuple[list[Any], list[dict[str, Any]]]:
    """The states, and the rows of them and of those below, which are known by their names from the outermost on."""
    states: list[Any] = []
    rows = []
    for name, state in table.states.items():
        full = f"{above}{name}"
        below = getattr(state.child, "states", None) if separator is not None else None
        if below is None:
            states.append({"name": name})
        else:
            children, inner = _nested(state.child, separator, f"{full}{separator}")
            states.append({"name": name, "children": children, "initial": state.child.initial_state})
            rows += inner
        named = dict(state.inputs)
        if CATCH_ALL not in named and CATCH_ALL in table.inputs:
            named[CATCH_ALL] = table.inputs[CATCH_ALL]
        for input, reaction in named.items():
            for target in targets_of(reaction):
                if target in table.states:
                    dest = None if target == name else f"{above}{target}"  # going to where one is does nothing
                    rows.append({"trigger": input, "source": full, "dest": dest})
            if reaction is not None and not targets_of(reaction):
                rows.append({"trigger": input, "source": full, "dest": None})
    return states, rows
