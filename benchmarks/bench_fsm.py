"""How fast machines are, and how much memory one takes, beside other libraries for machines, in the same run.

Each has two states, an input that leads from one to the other, and an input with a handler and no transition.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this tree, not an installed version

from consul_locker.fsm import Fsm, State, Table

#: How many machines are made to see how much memory one takes.
MACHINES = 1000


class Measured(NamedTuple):
    """A library: how an input is given to one machine, and how a machine is made."""

    name: str
    act: Callable[[], Any]
    go: Callable[[], Any]
    make: Callable[[], Any]


def done(*_: Any) -> None:
    """What each handler does: nothing."""


def ours() -> Measured:
    """`consul_locker.fsm`: a table, and a machine of it."""
    inputs = {"act": done}
    table = Table(
        {"s0": State(inputs={**inputs, "go": "s1"}), "s1": State(inputs={**inputs, "go": "s0"})}, initial_state="s0"
    )
    fsm = Fsm(table)
    return Measured("consul_locker", lambda: fsm.handle("act"), lambda: fsm.handle("go"), lambda: Fsm(table))


def ours_with_mutex() -> Measured:
    """The same, for any thread."""
    table = Table(
        {"s0": State(inputs={"act": done, "go": "s1"}), "s1": State(inputs={"act": done, "go": "s0"})},
        initial_state="s0",
    )
    fsm = Fsm(table, mutex=True)
    return Measured(
        "  with a mutex", lambda: fsm.handle("act"), lambda: fsm.handle("go"), lambda: Fsm(table, mutex=True)
    )


def ours_with_child() -> Measured:
    """The same, by a machine below a state, which handles the input; leaving and entering makes a new one."""
    below = Table({"c": State(inputs={"act": done})}, initial_state="c")
    table = Table(
        {"s0": State(child=below, inputs={"go": "s1"}), "s1": State(child=below, inputs={"go": "s0"})},
        initial_state="s0",
    )
    fsm = Fsm(table)
    return Measured("  with a child", lambda: fsm.handle("act"), lambda: fsm.handle("go"), lambda: Fsm(table))


def theirs_transitions() -> Measured:
    """`transitions`: one machine of many models."""
    import transitions

    class Model:
        pass

    machine = transitions.Machine(
        model=None,
        states=["s0", "s1"],
        transitions=[
            ["go", "s0", "s1"],
            ["go", "s1", "s0"],
            {"trigger": "act", "source": ["s0", "s1"], "dest": None, "before": done},
        ],
        initial="s0",
        auto_transitions=False,
    )

    def make() -> Any:
        model = Model()
        machine.add_model(model)
        return model

    model = make()
    return Measured("transitions", lambda: model.act(), lambda: model.go(), make)


def theirs_statemachine() -> Measured:
    """`python-statemachine`."""
    import statemachine

    class Machine(statemachine.StateMachine):
        s0 = statemachine.State(initial=True)
        s1 = statemachine.State()
        go = s0.to(s1) | s1.to(s0)
        act = s0.to.itself(internal=True, on="do") | s1.to.itself(internal=True, on="do")

        def do(self) -> None:
            """Nothing."""

    machine = Machine()
    return Measured("python-statemachine", lambda: machine.act(), lambda: machine.go(), Machine)


def theirs_automat() -> Measured:
    """`automat`."""
    import automat

    class Machine:
        _machine = automat.MethodicalMachine()

        @_machine.state(initial=True)
        def s0(self) -> None:
            """The first."""

        @_machine.state()
        def s1(self) -> None:
            """The other."""

        @_machine.input()
        def go(self) -> None:
            """Go to the other."""

        @_machine.input()
        def act(self) -> None:
            """Do it."""

        @_machine.output()
        def do(self) -> None:
            """Nothing."""

        s0.upon(go, enter=s1, outputs=[])
        s1.upon(go, enter=s0, outputs=[])
        s0.upon(act, enter=s0, outputs=[do])
        s1.upon(act, enter=s1, outputs=[do])

    machine = Machine()

    def make() -> Machine:
        made = Machine()
        made.act()  # the state is kept from the first input on
        return made

    return Measured("automat", lambda: machine.act(), lambda: machine.go(), make)


ALL = (ours, ours_with_mutex, ours_with_child, theirs_transitions, theirs_statemachine, theirs_automat)


def measured() -> Iterator[Measured]:
    """All that are installed; those that are not are named."""
    for library in ALL:
        try:
            yield library()
        except ImportError as error:
            print(f"missing, and not measured: {error.name} ({library.__doc__})")


def microseconds(call: Callable[[], Any], times: int) -> float:
    """How long a call takes, in µs."""
    begin = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - begin) / times * 1e6


def memory(make: Callable[[], Any]) -> float:
    """How much memory a machine takes, in bytes."""
    make()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = [make() for _ in range(MACHINES)]
    taken = tracemalloc.get_traced_memory()[0] - before - sys.getsizeof(kept)
    tracemalloc.stop()
    return taken / MACHINES


def depth() -> int:
    """How many inputs can be one inside the other before Python's own stack ends, without the guard's limit."""
    reached = 0

    def deeper(fsm: Fsm) -> None:
        nonlocal reached
        reached += 1
        fsm.handle("deeper")

    fsm = Fsm.of({"s": State(inputs={"deeper": deeper})}, initial_state="s", strict=False)  # strict has a limit
    with contextlib.suppress(RecursionError):
        fsm.handle("deeper")
    return reached


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20_000, help="inputs in each round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds; the fastest counts (default: %(default)s)")
    options = parser.parse_args()
    libraries = list(measured())
    acts: list[list[float]] = [[] for _ in libraries]
    goes: list[list[float]] = [[] for _ in libraries]
    for number in range(options.rounds):
        first = number % len(libraries)  # what else this computer does falls on all alike
        for which in (*range(first, len(libraries)), *range(first)):
            acts[which].append(microseconds(libraries[which].act, options.times))
            goes[which].append(microseconds(libraries[which].go, options.times))
    print(f"{'':<22}{'an input':>14}{'with transition':>18}{'a machine':>16}")
    for library, act, go in zip(libraries, acts, goes, strict=True):
        print(f"{library.name:<22}{min(act):>11.2f} µs{min(go):>15.2f} µs{memory(library.make):>10,.0f} bytes")
    print(f"inputs one inside the other, with Python's {sys.getrecursionlimit()} frames: {depth()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
