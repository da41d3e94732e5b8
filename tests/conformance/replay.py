"""Hold the library against recorded traces of the originals: ``replay.py FAMILY FILE``.

Replays every trace of the file (the format: README.md beside this script), prints for each trace that
differs its name and the first record that differs, and as its last line ``N replayed, M differ``.
Exits 0 when none differs, 1 when one does, 2 when it cannot replay.
"""

from __future__ import annotations

import importlib
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FAMILIES = ("machina", "locker", "hierarchical", "behavioral")

Replay = Callable[[dict[str, Any]], "str | None"]


def replayer(family: str) -> tuple[Replay, frozenset[str]]:
    """Return the family's ``replay(trace)`` (None, or the first record that differs) and the names it leaves out.

    Raises:
        LookupError: there is none for that family.
    """
    if family not in FAMILIES:
        raise LookupError(f"no such family: {family!r} (one of {', '.join(FAMILIES)})")
    for path in (str(HERE), str(HERE.parents[1])):  # the replayers beside this script, and the library itself
        if path not in sys.path:
            sys.path.insert(0, path)
    if not (HERE / f"replay_{family}.py").exists():
        raise LookupError(f"the family {family!r} cannot be replayed yet")
    module = importlib.import_module(f"replay_{family}")
    return module.replay, getattr(module, "LEFT_OUT", frozenset())


def traces(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the traces of a file, one JSON object a line."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def replay_all(replay: Replay, left_out: frozenset[str], given: Iterable[dict[str, Any]]) -> tuple[int, list[str]]:
    """Replay traces; return how many, and a line for each that differs."""
    replayed = 0
    differing: list[str] = []
    for trace in given:
        if trace["name"] in left_out:
            continue
        replayed += 1
        try:
            difference = replay(trace)
        except Exception as error:  # a replay that breaks is a difference like any other, not the end of the run
            difference = f"the replay itself failed: {type(error).__name__}: {error}"
        if difference is not None:
            differing.append(f"{trace['name']}: {difference}")
    return replayed, differing


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status."""
    if len(arguments) != 2:
        print(f"usage: replay.py {{{','.join(FAMILIES)}}} FILE", file=sys.stderr)
        return 2
    logging.getLogger("consul_locker").addHandler(logging.NullHandler())  # its lines are no part of the answer
    family, file = arguments
    try:
        replay, left_out = replayer(family)
        replayed, differing = replay_all(replay, left_out, traces(Path(file)))
    except (LookupError, OSError, json.JSONDecodeError) as error:
        print(f"replay.py: {error}", file=sys.stderr)
        return 2
    for line in differing:
        print(line)
    print(f"{replayed} replayed, {len(differing)} differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
