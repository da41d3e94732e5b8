"""The seeded random walk over LockerCore: ``python tests/walk/walk.py --schedules 50000 --seed 1``.

Each schedule has a seed of its own, ``<seed>/<number>``; a failure prints it with the invariant, and
``--only <seed>/<number>`` plays it again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

if not __package__:  # run as a program: the tests are found from the root of the project
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.walk.simulation import Violation, play

#: Schedules that one process plays in one go.
SHARE = 250


def walk(seed: int, first: int, last: int, breaks: bool = False) -> tuple[int, list[str]]:
    """Play schedules ``first`` to ``last`` (exclusive). Returns how many there were, and the failures in words."""
    failures = []
    for number in range(first, last):
        try:
            play(f"{seed}/{number}", breaks=breaks)
        except Violation as violation:
            failures.append("\n    ".join(str(arg) for arg in violation.args))
    return last - first, failures


def main(arguments: list[str] | None = None) -> int:
    """The command. Returns its exit code."""
    parser = argparse.ArgumentParser(description="A seeded random walk over LockerCore.")
    parser.add_argument("--schedules", type=int, default=2000, help="how many schedules (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="decides all of them (default: %(default)s)")
    parser.add_argument("--breaks", action="store_true", help="steps are broken off, too, as by signal handlers")
    parser.add_argument("--only", metavar="SEED/NUMBER", help="play one schedule again")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    options = parser.parse_args(arguments)
    if options.only:
        play(options.only, breaks=options.breaks)
        print(f"schedule {options.only}: clean")
        return 0
    began = time.monotonic()
    done, failures = 0, []
    starts = range(0, options.schedules, SHARE)
    with ProcessPoolExecutor(options.jobs) as pool:
        shares = [
            pool.submit(walk, options.seed, start, min(start + SHARE, options.schedules), options.breaks)
            for start in starts
        ]
        for share in shares:
            count, found = share.result()
            done += count
            for failure in found:
                print(failure)
            failures += found
    took = time.monotonic() - began
    speed = done / took * 60
    print(f"seed {options.seed}: {done} schedules, {len(failures)} failed, {took:.0f} s ({speed:.0f} a minute)")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
