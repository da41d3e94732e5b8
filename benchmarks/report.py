"""What a run found: tables for people, JSON for programs."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

import consul_locker
from benchmarks.measuring import Setting
from benchmarks.suite import Run, title_of
from benchmarks.workloads import BARE, PEERS, Contestant, Goal, Workload, figure_of


def written(figure: str, value: float) -> str:
    """A figure with its unit."""
    return figure_of(figure)[1].format(value)


def limit_of(goal: Goal, limit: float) -> str:
    """What a goal asks for."""
    which = "at most" if goal.at_most else "at least"
    return f"{which} {written(goal.figure, limit) if goal.of is None else f'{limit:.2f}'}"


def of_whom(goal: Goal, workload: Workload) -> str:
    """Whose figure a goal's is divided by."""
    assert goal.of is not None
    name, contestant = goal.of
    return contestant if name == workload.name else f"{contestant}, {title_of(name)}"


def ours(run: Run) -> Iterator[tuple[Workload, Contestant]]:
    """All that was measured of the library."""
    for workload in run.workloads:
        for contestant in workload.contestants:
            if contestant.name not in PEERS and (workload.name, contestant.name) in run.found:
                yield workload, contestant


def goals(run: Run) -> Iterator[tuple[Workload, Contestant, Goal]]:
    """All goals that can be looked at."""
    for workload, contestant in ours(run):
        for goal in contestant.goals:
            if run.reached((workload.name, contestant.name), goal) is not None:
                yield workload, contestant, goal


def beside(run: Run, workload: Workload, contestant: Contestant, peer: str) -> Text:
    """The cell of a peer: its rate, our ratio to it, and the goal."""
    who, other = (workload.name, contestant.name), (workload.name, peer)
    rate, ratio = run.median(other, "rate"), run.ratio(who, other)
    goal = next((one for one in contestant.goals if one.of == other), None)
    if rate is None or ratio is None:
        needed = peer in run.missing and any(one.name == peer for one in workload.contestants)
        return Text("missing" if needed else "")
    text = Text(f"{written('rate', rate)}\n{ratio:.2f}")
    reached = None if goal is None else run.reached(who, goal)
    if reached is not None:
        text.append(f" (goal {reached.limit:.2f})", style="green" if reached.met else "red")
    return text


def cpu(run: Run, workload: Workload, contestant: Contestant) -> str:
    """The client's processor time for each, and the bare loop's, where there is one."""
    both = (run.median((workload.name, name), "cpu") for name in (contestant.name, BARE))
    return " / ".join(written("cpu", one) for one in both if one is not None)


def further(run: Run, workload: Workload, contestant: Contestant) -> Text:
    """The cell for goals beside figures of other workloads."""
    text = Text()
    for goal in contestant.goals:
        reached = run.reached((workload.name, contestant.name), goal)
        if goal.of is not None and goal.of[0] != workload.name and reached is not None:
            text.append(f"{of_whom(goal, workload)}\n{reached.value:.2f}")
            text.append(f" (goal {reached.limit:.2f})", style="green" if reached.met else "red")
    return text


def rates(run: Run) -> Table:
    """Rates beside those of the peers."""
    table = Table(title="A second, medians; below each peer's: ours divided by its", title_justify="left", box=SIMPLE)
    for name in ("", "ours", "CPU, bare's", *PEERS, "beside"):
        table.add_column(name, justify="right" if name else "left")
    for workload, contestant in ours(run):
        who = workload.name, contestant.name
        rate = run.median(who, "rate")
        if rate is not None:
            table.add_row(
                f"{workload.title}\n{contestant.name}",
                written("rate", rate),
                cpu(run, workload, contestant),
                *(beside(run, workload, contestant, peer) for peer in PEERS),
                further(run, workload, contestant),
            )
    return table


def absolute(run: Run) -> Table:
    """All other figures."""
    table = Table(title="Other figures", title_justify="left", box=SIMPLE)
    for column in ("", "", "what", "figure"):
        table.add_column(column, justify="right" if column == "figure" else "left")
    for workload in run.workloads:
        for one in workload.contestants:
            who = workload.name, one.name
            for figure in next(iter(run.found.get(who, {}).values()), {}):
                value = run.median(who, figure)
                if figure not in ("rate", "cpu") and value is not None:
                    table.add_row(workload.title, one.name, figure_of(figure)[0], written(figure, value))
    return table


def goals_table(run: Run) -> Table:
    """What the goals say."""
    table = Table(title="Goals", title_justify="left", box=SIMPLE)
    for column in ("", "", "what", "goal", "reached", ""):
        table.add_column(column, justify="right" if column in ("goal", "reached") else "left")
    for workload, contestant, goal in goals(run):
        reached = run.reached((workload.name, contestant.name), goal)
        assert reached is not None
        what = figure_of(goal.figure)[0] if goal.of is None else f"/ {of_whom(goal, workload)}"
        value = written(goal.figure, reached.value) if goal.of is None else f"{reached.value:.2f}"
        met = Text("met", style="green") if reached.met else Text("missed", style="red")
        table.add_row(workload.title, contestant.name, what, limit_of(goal, reached.limit), value, met)
    return table


def machine(version: str | None, disk: bool) -> dict[str, Any]:
    """Where and when it was."""
    return {
        "when": time.strftime("%Y-%m-%d %H:%M %Z"),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[1], 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "consul": "given" if version is None else f"{version} {'with its log on disk' if disk else 'in memory'}",
        "consul_locker": consul_locker.__version__,
    }


def show(console: Console, run: Run, where: dict[str, Any], setting: Setting, rounds: int) -> None:
    """Print the tables."""
    console.print(
        f"{where['when']}; Consul {where['consul']}; "
        f"Python {where['python']}; {where['cores']} cores, load {where['load']}; "
        f"{rounds} rounds of {setting.seconds:g} s, {setting.held:,} locks held, {setting.lockers:,} Lockers",
        highlight=False,
    )
    for table in (rates(run), absolute(run), goals_table(run)):
        if table.row_count:
            console.print(table)
    for name, what in run.missing.items():
        console.print(f"missing, and not measured: {name}: {what}", highlight=False)
    for error in run.errors:
        console.print(Text(f"FAILED: {error}", style="red"))


def as_data(run: Run, where: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """All of it, as JSON can write it."""
    found: dict[str, dict[str, list[Any]]] = {}
    for (name, who), figures in run.found.items():
        found.setdefault(name, {})[who] = [{"round": number + 1, **one} for number, one in figures.items()]
    reached = []
    for workload, contestant, goal in goals(run):
        became = run.reached((workload.name, contestant.name), goal)
        assert became is not None
        told = {"workload": workload.name, "who": contestant.name, "figure": goal.figure, "of": goal.of}
        reached.append({**told, **became._asdict()})
    was_told = {name: value for name, value in setting._asdict().items() if name not in ("url", "consul", "redis")}
    return {
        "machine": where,
        "disk": run.disk,
        "setting": was_told,
        "found": found,
        "goals": reached,
        "missing": run.missing,
        "errors": run.errors,
    }
