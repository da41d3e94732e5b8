"""``python -m benchmarks``: how fast the library is, beside others in the same run. docs/performance.rst has more."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import report, suite
from benchmarks.measuring import Setting
from benchmarks.picture import draw
from benchmarks.servers import Agent, agent, redis
from benchmarks.workloads import chosen

#: How wide tables are where there is no terminal, in columns.
WIDTH = 180


def arguments(given: list[str] | None) -> argparse.Namespace:
    """What the command is told."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition(":")[2].strip())
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--address", metavar="URL", help="a Consul that runs (default: a private one, in memory)")
    where.add_argument("--disk", action="store_true", help="a private one with its Raft log on disk; fewer workloads")
    parser.add_argument("--quick", action="store_true", help="one short round, under a minute: does it work?")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="workloads of --list; threads-*")
    parser.add_argument("--list", action="store_true", help="name the workloads and who takes part")
    parser.add_argument("--rounds", type=int, help="how often each is measured (3)")
    parser.add_argument("--seconds", type=float, help="how long each rate is measured (2)")
    parser.add_argument("--held", type=int, help="how many locks are held where many are (100,000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the rates there (needs matplotlib)")
    return parser.parse_args(given)


def setting_of(options: argparse.Namespace, found: Agent, port: int | None) -> Setting:
    """What each measurement is told."""
    if options.quick:
        short = Setting(found.url, found.process, port, 0.25, 1_000, 3, 2_000, 50, idle=0.5, noticing=0)
    else:
        short = Setting(found.url, found.process, port, 2.0, 10_000, 50, 100_000, 1_000, idle=20.0, noticing=90.0)
    return short._replace(seconds=options.seconds or short.seconds, held=options.held or short.held)


def main(given: list[str] | None = None) -> int:
    """Measure; return the exit status: 1 when a measurement failed. How fast anything is makes no difference to it."""
    options = arguments(given)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    try:
        workloads = chosen(options.only, options.disk)
    except ValueError as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2
    if options.list:
        for workload in workloads:
            names = ", ".join(one.name for one in workload.contestants)
            console.print(f"{workload.name:16} {workload.title}: {names}", highlight=False, soft_wrap=True)
        return 0
    rounds = options.rounds or (1 if options.quick else 3)
    shown = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    with agent(options.address, disk=options.disk) as found, redis() as port:
        setting = setting_of(options, found, port)
        # Drawn when something begins, not by a thread of its own: that would take time from what is measured.
        progress = Progress(
            *shown, console=console, auto_refresh=False, transient=True, disable=not sys.stdout.isatty()
        )
        with progress:
            task = progress.add_task("", total=suite.steps(workloads, rounds), completed=-1)

            def say(what: str) -> None:
                progress.update(task, advance=1, description=what, refresh=True)

            result = suite.run(workloads, setting, rounds, options.disk, say)
        where = report.machine(found.version, options.disk)
    report.show(console, result, where, setting, rounds)
    if options.json is not None:
        options.json.write_text(json.dumps(report.as_data(result, where, setting), indent=1) + "\n", encoding="utf-8")
    if options.svg is not None:
        try:
            draw(result, options.svg)
        except ImportError as error:
            console.print(f"missing, and not drawn: {error.name} (pip install -e '.[benchmarks]')", highlight=False)
    return 1 if result.errors else 0


if __name__ == "__main__":
    sys.exit(main())
