"""Random walks through a machine, for tests: `walk`, `always_reaches`, `never_reaches`. They need Hypothesis.

A walk makes a machine, gives it inputs, and asks after each whether all is well. When it is not, Hypothesis looks for
the shortest walk on which it is not, and that is what the error shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .errors import TableError
from .machine import Fsm
from .parts import CATCH_ALL
from .spec import Table

__all__ = ["WalkFailed", "always_reaches", "never_reaches", "walk"]

Made = Callable[[], Fsm[Any]]
Step = tuple[str, tuple[Any, ...]]
Inputs = Iterable[str] | Mapping[str, Any] | None

EXAMPLES = 200
"""How many walks are made."""

STEPS = 20
"""How many inputs a walk has at most."""


class WalkFailed(AssertionError):
    """Something is wrong after certain inputs.

    Attributes:
        inputs: those inputs, as few as were found, each as ``(name, args)``.
    """

    def __init__(self, inputs: list[Step], problem: str) -> None:
        self.inputs = inputs
        super().__init__(f"after {_shown(inputs)}: {problem}")


def _shown(inputs: list[Step]) -> str:
    if not inputs:
        return "no input at all"
    return ", ".join(name if not args else f"{name}({', '.join(map(repr, args))})" for name, args in inputs)


def walk(
    make: Made | Table[Any],
    inputs: Inputs = None,
    invariant: Callable[[Any], object] | None = None,
    *,
    examples: int = EXAMPLES,
    steps: int = STEPS,
) -> None:
    """Give a machine inputs at random; after each, all must be well.

    Args:
        make: makes a new machine for each walk; or a table whose machines have no other client. For a `Behavior` it
            returns ``behavior.of(client)`` of a new client, and keeps the client, in a list, say.
        inputs: the names of the inputs, or a mapping of names to strategies of Hypothesis for the tuple of their
            arguments; None: all that the table declares, and those below it, without arguments.
        invariant: called with the machine at the beginning and after each input; it fails when it raises, or returns
            False.
        examples: how many walks.
        steps: how many inputs each has at most.

    Raises:
        WalkFailed: an input, or the invariant, has failed; it shows the fewest inputs that lead there.
        ImportError: Hypothesis is not installed.
        TypeError: ``make`` did not keep the client of a machine of a `Behavior`, so it is gone.
    """
    made = _maker(make)

    below = _below(made)

    def play(taken: list[Step]) -> None:
        _play(made, taken, invariant, below)

    _tried(play, _steps(made, inputs), examples, steps)


def never_reaches(
    make: Made | Table[Any], inputs: Inputs, state: str, *, examples: int = EXAMPLES, steps: int = STEPS
) -> None:
    """No walk leads to a state, which may be a composite one, as ``"on.busy"``.

    Args:
        make: as for `walk`.
        inputs: as for `walk`.
        state: the state.
        examples: as for `walk`.
        steps: as for `walk`.

    Raises:
        WalkFailed: one does; it shows the shortest that was found.
    """
    _known(make, state)

    def elsewhere(fsm: Fsm[Any]) -> None:
        assert not _is_in(fsm, state), f"it is in {fsm.composite_state!r}"

    walk(make, inputs, elsewhere, examples=examples, steps=steps)


def always_reaches(
    make: Made | Table[Any], inputs: Inputs, state: str, *, examples: int = EXAMPLES, steps: int = STEPS
) -> None:
    """From wherever a walk leads, further inputs lead to a state.

    They are looked for among the inputs without arguments and those that the walk had, the nearest first. A state that
    is come to with the same inputs deferred is looked at once.

    Args:
        make: as for `walk`; machines that it makes must do the same at the same inputs.
        inputs: as for `walk`.
        state: the state; it may be a composite one, as ``"on.busy"``.
        examples: as for `walk`.
        steps: as for `walk`.

    Raises:
        WalkFailed: a walk leads to where no further inputs do; it shows the shortest that was found.
    """
    _known(make, state)
    made = _maker(make)
    below = _below(made)
    well: set[Any] = set()
    plain: list[Step] = [(name, ()) for name, args in _arguments(made, inputs).items() if args is None]

    def play(taken: list[Step]) -> None:
        fsm = _play(made, taken, None, below)
        place = _place(fsm)
        if place in well:
            return
        further = plain + [step for step in taken if step not in plain]
        if not _leads(made, taken, further, state, below):
            raise WalkFailed(taken, f"no way leads from {fsm.composite_state!r} to {state!r}")
        well.add(place)

    _tried(play, _steps(made, inputs), examples, steps)


# -------------------------------------------------------------------------------------- how it is done


def _maker(make: Made | Table[Any]) -> Made:
    return (lambda: Fsm(make)) if isinstance(make, Table) else make


def _known(make: Made | Table[Any], state: str) -> None:
    """Refuse the name of a state that does not exist."""
    states = (make if isinstance(make, Table) else make().table).states
    if state not in states and state.partition(".")[0] not in states:
        raise TableError("walk", state, "is not among the states", states)


def _arguments(made: Made, inputs: Inputs) -> dict[str, Any]:
    """The inputs by name: a strategy for their arguments, or None for no arguments."""
    if inputs is None:
        inputs = _declared(made().table)
    if isinstance(inputs, Mapping):
        return dict(inputs)
    return dict.fromkeys(inputs)


def _declared(table: Table[Any]) -> list[str]:
    names = {name: None for name in table.input_names if name != CATCH_ALL}
    for state in table.states.values():
        if isinstance(state.child, Table):
            names.update(dict.fromkeys(_declared(state.child)))
    return list(names)


def _steps(made: Made, inputs: Inputs) -> Any:
    try:
        from hypothesis import strategies
    except ImportError as missing:
        raise ImportError("walks need Hypothesis, which is missing: pip install hypothesis") from missing
    known = _arguments(made, inputs)
    if not known:
        raise ValueError("a walk needs inputs, and the table declares none")
    nothing = strategies.just(())
    return strategies.one_of(
        *(strategies.tuples(strategies.just(name), nothing if args is None else args) for name, args in known.items())
    )


def _tried(play: Callable[[list[Step]], None], step: Any, examples: int, steps: int) -> None:
    from hypothesis import HealthCheck, given, settings, strategies

    few = settings(
        max_examples=examples, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck), print_blob=False, report_multiple_bugs=False,
    )  # fmt: skip
    few(given(strategies.lists(step, max_size=steps))(play))()


def _below(made: Made) -> frozenset[str]:
    """The inputs that only children know; none is given while there is no child that does."""
    table = made().table
    return frozenset(_declared(table)).difference(table.input_names)


def _play(
    made: Made, taken: list[Step], invariant: Callable[[Any], object] | None, below: frozenset[str]
) -> Fsm[Any]:
    fsm = made()
    if fsm.client is None:
        raise TypeError("the client of this machine is gone; a Behavior does not keep clients, so make() must")
    _ask(fsm, [], invariant)
    for number, (name, args) in enumerate(taken, 1):
        if name in below and not fsm.knows(name):
            continue
        try:
            fsm.handle(name, *args)
        except Exception as error:
            raise WalkFailed(taken[:number], f"{type(error).__name__}: {error}") from error
        _ask(fsm, taken[:number], invariant)
    return fsm


def _ask(fsm: Fsm[Any], taken: list[Step], invariant: Callable[[Any], object] | None) -> None:
    if invariant is None:
        return
    try:
        answer = invariant(fsm)
    except Exception as error:
        raise WalkFailed(taken, f"{error}" or type(error).__name__) from error
    if answer is False:
        raise WalkFailed(taken, f"the invariant does not hold in {fsm.composite_state!r}")


def _is_in(fsm: Fsm[Any], state: str) -> bool:
    return state == fsm.state or f"{fsm.composite_state}.".startswith(f"{state}.")


def _place(fsm: Fsm[Any]) -> Any:
    """Where a machine is, as walks compare it: its state, and what is deferred."""
    return fsm.composite_state, frozenset((queued.until, str(queued.input)) for queued in fsm.input_queue)


def _leads(made: Made, taken: list[Step], further: list[Step], state: str, below: frozenset[str]) -> bool:
    """Whether inputs lead on to a state: the nearest places first, each place once."""
    seen: set[Any] = set()
    todo = [list(taken)]
    while todo:
        way = todo.pop(0)
        fsm = _play(made, way, None, below)
        if _is_in(fsm, state):
            return True
        place = _place(fsm)
        if place not in seen:
            seen.add(place)
            todo += [[*way, step] for step in further]
    return False
