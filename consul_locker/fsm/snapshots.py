"""Snapshots of machines: how they are taken, as data that `json` can write, and put into a new machine."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from .children import Ticket
from .errors import TableError
from .parts import START, Input, Queued
from .rows import rows_of

__all__ = ["put", "taken"]

FORMAT = 1
"""The number of the form that snapshots have."""


def taken(fsm: Any, depth: int) -> dict[str, Any]:
    """Take a snapshot; `Fsm.snapshot` says what of."""
    if fsm.state == START:
        raise RuntimeError("a machine that has not begun has no snapshot")
    if depth:
        raise RuntimeError("in the middle of an input a snapshot is not whole; take it after handle() has returned")
    child = fsm.child
    below = getattr(child, "snapshot", None)
    return {
        "format": FORMAT,
        "namespace": fsm.namespace,
        "state": fsm.state,
        "prior_state": fsm.prior_state,
        "queue": [_written(queued) for queued in fsm.input_queue],
        "child": None if below is None else below(),
    }


def _written(queued: Queued) -> dict[str, Any]:
    given = queued.input
    written: dict[str, Any] = {"until": queued.until, "input": given, "args": queued.args}
    if isinstance(given, Input):
        ticket = None if isinstance(given.ticket, Ticket) else given.ticket
        written.update(input=given.name, delegated=given.delegated, ticket=ticket, bubbling=given.bubbling)
    try:
        return dict(json.loads(json.dumps(written, allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise TypeError(f"the deferred input {written['input']!r} cannot be kept: {error}") from None


def put(fsm: Any, snapshot: Any) -> None:
    """Put a machine that has not begun where a snapshot was taken."""
    states = fsm.table.states
    state = _field(snapshot, "state", str)
    if _field(snapshot, "format", int) != FORMAT:
        raise TableError("snapshot['format']", snapshot["format"], f"is not {FORMAT}: another version has written it")
    _one_of("snapshot['state']", state, states)
    prior = snapshot.get("prior_state")
    if prior is not None:
        _one_of("snapshot['prior_state']", prior, states)
    queue = [_read(each, fsm, f"snapshot['queue'][{n}]") for n, each in enumerate(_field(snapshot, "queue", list))]
    rows_of(fsm.table).machine.set_state(state, fsm)
    fsm._prior_state = prior
    fsm._queue = queue
    below, nest = snapshot.get("child"), fsm._nest
    maker = states[state].child
    if below is not None and maker is None:
        raise TableError("snapshot['child']", below, f"has no place: the state {state!r} has no child")
    if maker is not None:
        child = nest.children[state] = nest.made(state, begin=below is None)
        if below is not None:
            put(child, below)
        nest.entered(state)


def _read(written: Any, fsm: Any, place: str) -> Queued:
    until = written.get("until") if isinstance(written, Mapping) else None
    name = _field(written, "input", object, place)
    for each in until if isinstance(until, list) else () if until is None else (until,):
        _one_of(f"{place}['until']", each, fsm.table.states)
    args = tuple(_field(written, "args", list, place))
    given: Any = name
    if "delegated" in written:
        given = Input(name, bool(written["delegated"]), written.get("ticket"), bool(written.get("bubbling")))
    return Queued(tuple(until) if isinstance(until, list) else until, given, args)


def _field(data: Any, name: str, kind: type, place: str = "snapshot") -> Any:
    if not isinstance(data, Mapping):
        raise TableError(place, data, "is no snapshot")
    if name not in data or not isinstance(data[name], kind):
        raise TableError(f"{place}[{name!r}]", data.get(name), f"is missing, or no {kind.__name__}")
    return data[name]


def _one_of(place: str, name: Any, states: Collection[str]) -> None:
    if not isinstance(name, str) or name not in states:
        raise TableError(place, name, "is not among the states", states)
