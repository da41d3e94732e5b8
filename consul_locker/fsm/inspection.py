"""What looks wrong about a table, without running it: `inspect`.

Where an input leads is known from the table. Where a handler goes itself is known when it says so,
``Action(handler, label, goes_to=(...))``, and else guessed: from the names of states that its code, its closure and
the constants it uses contain.
"""

from __future__ import annotations

import functools
import inspect as _inspect
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any, NamedTuple, get_type_hints

from .machine import Fsm
from .parts import CATCH_ALL, Action, Defer, State, function_of, plain_name
from .spec import Table

__all__ = ["Finding", "inspect", "ways"]


class Finding(NamedTuple):
    """Something that looks wrong.

    Attributes:
        kind: ``"unreachable"`` (no way leads to a state), ``"unhandled"`` (no state does anything with an input),
            ``"stranded"`` (an input is deferred until a state that cannot be reached from there), ``"unheeded"`` (it is
            deferred until a state that does not handle it), ``"entry loop"`` (entry actions lead to each other),
            ``"shadowed"`` (a child takes an input away, whatever its name), ``"let go"`` (what a child got is lost by
            the input that tells of it: a lock, when ``lock_acquired`` leads out of the state of its Locker).
        place: where, as ``states['ready'].inputs['go']``; below a child ``states['ready'].child.states[…]``.
        message: what is wrong.
    """

    kind: str
    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


def inspect(machine: Table[Any] | Fsm[Any]) -> list[Finding]:
    """Look for mistakes in a table of which each part is valid.

    Args:
        machine: a table, or a machine of it.

    Returns:
        What was found, state by state; nothing when all looks well.
    """
    return list(_found(machine.table if isinstance(machine, Fsm) else machine, ""))


def ways(table: Table[Any]) -> dict[str, set[str]]:
    """The states that one can go to from each state, in one step."""
    return {name: _leads(table, name) for name in table.states}


def _found(table: Table[Any], above: str) -> Iterator[Finding]:
    steps = ways(table)
    reached = _reached(steps, table.initial_state)
    for name, state in table.states.items():
        place = f"{above}states[{name!r}]"
        if name not in reached:
            yield Finding(
                "unreachable", place, f"no way leads from {table.initial_state!r} to {name!r}; if a handler goes there,"
                " its Action(...) can say so: goes_to",
            )  # fmt: skip
        yield from _of_inputs(table, name, state, place, _reached(steps, name) - {name} | steps[name])
        if isinstance(state.child, Table):
            yield from _found(state.child, f"{place}.child.")
    for input in table.input_names:
        if input != CATCH_ALL and not _handled(table, input):
            place = f"{above}states[{_first_with(table, input)!r}].inputs[{input!r}]"
            yield Finding("unhandled", place, f"no state does anything with {input!r}, but for deferring it")
    yield from _entry_loops(table, above)


def _of_inputs(table: Table[Any], name: str, state: State[Any], place: str, onwards: set[str]) -> Iterator[Finding]:
    taken = isinstance(state.child, Table) and state.child.inputs.get(CATCH_ALL) is not None
    got = _got_by(state.child)
    for input, reaction in state.inputs.items():
        here = f"{place}.inputs[{input!r}]"
        if input in got and isinstance(reaction, str) and reaction != name:
            yield Finding(
                "let go", here, f"{input!r} leads from {name!r} to {reaction!r}, and leaving {name!r} gives up what its"
                f" child has just got; do in {name!r} what needs it",
            )  # fmt: skip
        if taken and reaction is not None:
            yield Finding("shadowed", here, f"the child of {name!r} handles every input, so {input!r} never comes here")
        if not isinstance(reaction, Defer) or reaction.until is None:
            continue
        untils = reaction.until if isinstance(reaction.until, tuple) else (reaction.until,)
        known = [each for each in untils if each in table.states]
        if not onwards.intersection(known):
            yield Finding("stranded", here, f"{input!r} waits for {_listed(untils)}, where no way leads from {name!r}")
        for until in known:
            if input != CATCH_ALL and not _takes(table, until, input):
                yield Finding("unheeded", here, f"{input!r} waits for {until!r}, which does not handle it")


def _got_by(child: Any) -> tuple[str, ...]:
    """The inputs by which a child tells that it has got something, which it has until its state is left.

    They are the attribute ``GOT`` of what the child's function makes. That is known where its annotation says it, or
    that of a function that it uses by name, as ``lambda client: embed(...)`` does.
    """
    if child is None or isinstance(child, Table):
        return ()
    names = getattr(getattr(child, "__code__", None), "co_names", ())
    for each in (child, *(child.__globals__.get(name) for name in names)):
        try:
            got: tuple[str, ...] = getattr(get_type_hints(each).get("return"), "GOT", ())
        except (AttributeError, NameError, TypeError):  # no function, or a name that is not known at run time
            continue
        if got:
            return got
    return ()


def _listed(names: tuple[str, ...]) -> str:
    return " or ".join(map(repr, names))


def _takes(table: Table[Any], state: str, input: str) -> bool:
    """Whether a state, or the machine for it, or a child there, does something with an input."""
    declared = table.states[state]
    own = (declared.inputs.get(input), declared.inputs.get(CATCH_ALL), table.inputs.get(CATCH_ALL))
    if any(each is not None for each in own):
        return True
    child = declared.child
    return child is not None and (not isinstance(child, Table) or child.knows(input))


def _handled(table: Table[Any], input: str) -> bool:
    """Whether any state does more with an input than defer it."""
    for state in table.states.values():
        reactions = (state.inputs.get(input) or state.inputs.get(CATCH_ALL), table.inputs.get(CATCH_ALL))
        if any(each is not None and not isinstance(each, Defer) for each in reactions):
            return True
        if state.child is not None and (not isinstance(state.child, Table) or state.child.knows(input)):
            return True
    return False


def _first_with(table: Table[Any], input: str) -> str:
    return next(name for name, state in table.states.items() if input in state.inputs)


def _entry_loops(table: Table[Any], above: str) -> Iterator[Finding]:
    moves = {name: _effect_leads(table, state.on_enter) - {name} for name, state in table.states.items()}
    told: set[frozenset[str]] = set()
    for name in table.states:
        loop = _loop(moves, name)
        if loop and frozenset(loop) not in told:
            told.add(frozenset(loop))
            place = f"{above}states[{name!r}].on_enter"
            yield Finding("entry loop", place, f"entry actions lead back to {name!r}: {' -> '.join([*loop, name])}")


def _loop(moves: dict[str, set[str]], start: str) -> list[str]:
    """A way from a state back to it, or nothing."""
    ways_here = [[start]]
    seen: set[str] = set()
    while ways_here:
        way = ways_here.pop(0)
        for onward in sorted(moves[way[-1]]):
            if onward == start:
                return way
            if onward not in seen:
                seen.add(onward)
                ways_here.append([*way, onward])
    return []


def _reached(steps: dict[str, set[str]], start: str) -> set[str]:
    """All states that one can get to from one, itself included."""
    reached, todo = {start}, [start]
    while todo:
        new = steps[todo.pop()] - reached
        reached |= new
        todo += new
    return reached


# ------------------------------------------------------------------------------- where a step leads


def _leads(table: Table[Any], name: str) -> set[str]:
    state = table.states[name]
    reactions = [*state.inputs.values(), table.inputs.get(CATCH_ALL)]
    led = set().union(*(_reaction_leads(table, each) for each in reactions))
    led |= _effect_leads(table, state.on_enter)
    return led


def _reaction_leads(table: Table[Any], reaction: Any) -> set[str]:
    if isinstance(reaction, str):
        return {reaction} & set(table.states)
    return set() if isinstance(reaction, Defer) else _effect_leads(table, reaction)


def _effect_leads(table: Table[Any], effect: Any) -> set[str]:
    if isinstance(effect, Action) and effect.goes_to:
        return set(effect.goes_to)
    function = function_of(effect)
    return set() if function is None else set(_mentioned(function)) & set(table.states)


def _mentioned(function: Callable[..., Any]) -> Iterator[str]:
    """The strings that a function's code contains, or uses by name."""
    if isinstance(function, functools.partial):
        yield from (each for each in (*function.args, *function.keywords.values()) if isinstance(each, str))
        function = function.func
    function = _inspect.unwrap(getattr(function, "__func__", function))
    code = getattr(function, "__code__", None)
    if code is None:
        return
    names = set()
    codes = [code]
    while codes:
        code = codes.pop()
        names |= set(code.co_names)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                codes.append(constant)
            yield from _strings(constant)
    outside = [function.__globals__.get(name) for name in names]
    for each in (*outside, *_cells(function), *(function.__defaults__ or ())):
        yield from _strings(each)


def _cells(function: Any) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it is filled later
            continue


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield plain_name(value)
    elif isinstance(value, (tuple, frozenset)):
        yield from (plain_name(each) for each in value if isinstance(each, str))
