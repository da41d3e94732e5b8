#!/usr/bin/env python3
"""Draws a Locker's machine from the table that runs, and a run of it, into files beside this one.

With ``--check`` nothing is written: it fails when a text (.mmd, .dot) is not that of the table. The pictures are not
compared, since where things are in them depends on the fonts of the machine and on Graphviz's version.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # the table of this tree, not that of an installed version

from consul_locker import LockerFactory  # noqa: E402
from consul_locker.core.fair_places import STANDINGS  # noqa: E402
from consul_locker.core.key import CHANGES, WAY  # noqa: E402
from consul_locker.core.machine import TABLE  # noqa: E402
from consul_locker.core.stop import STOP  # noqa: E402
from consul_locker.embedded import Agent  # noqa: E402
from consul_locker.fsm import State, Table  # noqa: E402
from consul_locker.fsm.diagrams import Recording, dot, mermaid, png, record, svg  # noqa: E402

#: Who gives the inputs of a Locker's machine that are none of a user's.
CALLERS = dict.fromkeys(("session_created", "session_destroyed"), "Consul")


def table_of(after: Mapping[tuple[Enum, Enum], Enum], name: str) -> Table:
    """A table of states that is a dictionary in the core: (state, what happens) -> state. The first one is initial."""
    inputs: dict[str, dict[str, str]] = {}
    for (state, happens), then in after.items():
        inputs.setdefault(state.name.lower(), {})[happens.name.lower()] = then.name.lower()
    states = {state: State(inputs=found) for state, found in inputs.items()}
    return Table(states, initial_state=next(iter(states)), namespace=name)


#: The changes of a key, and the ways of a work, and of a call in the queue of a fair Locker.
KEY, WORK, WAITER = table_of(CHANGES, "key"), table_of(WAY, "work"), table_of(STANDINGS, "waiter")


def buffered_lock() -> Recording:
    """Record a lock that is asked for before there is a session: it is kept, and done then."""
    with Agent() as agent, LockerFactory.embedded(agent) as factory:
        with agent.pause():  # so slow that there is time to call
            locker = factory.create("invoices")
            recording = record(locker.fsm, callers=CALLERS, without=("session_created",))
            call = locker.submit_lock("invoice-7")
        call.result()  # its observers were called before
        locker.release("invoice-7")
        recording.stop()
    return recording


def texts() -> dict[str, str]:
    """The drawings that are the same everywhere."""
    return {
        "locker.mmd": mermaid(TABLE), "locker.dot": dot(TABLE), "stop.mmd": mermaid(STOP), "stop.dot": dot(STOP),
        "key.mmd": mermaid(KEY), "key.dot": dot(KEY),
        "work.mmd": mermaid(WORK), "work.dot": dot(WORK), "waiter.mmd": mermaid(WAITER), "waiter.dot": dot(WAITER),
        "buffered-lock.mmd": buffered_lock().mermaid(),
    }  # fmt: skip


def pictures() -> dict[str, bytes]:
    """The others."""
    return {
        "locker.svg": svg(TABLE).encode(), "locker.png": png(TABLE), "stop.svg": svg(STOP).encode(),
        "key.svg": svg(KEY).encode(), "work.svg": svg(WORK).encode(), "waiter.svg": svg(WAITER).encode(),
        "buffered-lock.svg": buffered_lock().svg().encode(),
    }  # fmt: skip


def main(arguments: list[str] | None = None, folder: Path = HERE) -> int:
    """Draw, or check; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a text is out of date")
    check = parser.parse_args(arguments).check
    drawings = {name: text.encode() for name, text in texts().items()}
    stale = [
        name for name, drawing in drawings.items()
        if not (folder / name).exists() or (folder / name).read_bytes() != drawing
    ]  # fmt: skip
    if check:
        if stale:
            print(f"out of date: {', '.join(stale)}; run diagrams/render.py", file=sys.stderr)
        return bool(stale)
    for name, drawing in (drawings | pictures()).items():
        (folder / name).write_bytes(drawing)
        print(f"{name}: drawn")
    return 0


if __name__ == "__main__":
    sys.exit(main())
