"""A run: all measurements in turn, round by round, with progress; and what its goals say."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.measuring import Figures, Missing, Setting, apart
from benchmarks.workloads import ALL, Contestant, Goal, Workload

#: A workload's name and a contestant's.
Who = tuple[str, str]


class Run:
    """What was measured.

    Attributes:
        workloads: those of the run.
        disk: whether Consul had its log on disk.
        found: for each who took part, the figures of each round, by its number; one that failed is not there.
        missing: what was not installed, by the contestant's name.
        errors: what failed.
    """

    def __init__(self, workloads: Sequence[Workload], disk: bool) -> None:
        self.workloads, self.disk = tuple(workloads), disk
        self.found: dict[Who, dict[int, Figures]] = {}
        self.missing: dict[str, str] = {}
        self.errors: list[str] = []

    def median(self, who: Who, figure: str) -> float | None:
        """Over the rounds; None where there is no such figure."""
        rounds = self.found.get(who, {}).values()
        values = [one[figure] for one in rounds if not math.isnan(one.get(figure, math.nan))]
        return statistics.median(values) if values else None

    def ratios(self, who: Who, of: Who, figure: str = "rate") -> list[float]:
        """One divided by the other, in each round in which both were measured."""
        mine, other = self.found.get(who, {}), self.found.get(of, {})
        return [mine[number][figure] / other[number][figure] for number in mine if number in other]

    def ratio(self, who: Who, of: Who) -> float | None:
        """The median of those."""
        ratios = self.ratios(who, of)
        return statistics.median(ratios) if ratios else None

    def reached(self, who: Who, goal: Goal) -> Reached | None:
        """What became of a goal; None where it is none here, or was not measured."""
        limit = goal.disk if self.disk else goal.limit
        value = self.median(who, goal.figure) if goal.of is None else self.ratio(who, goal.of)
        if value is None or limit is None:
            return None
        return Reached(value, limit, value <= limit if goal.at_most else value >= limit)


class Reached(NamedTuple):
    """A goal that was measured: the value, its limit, and whether it is met."""

    value: float
    limit: float
    met: bool


def in_turn(contestants: Sequence[Contestant], number: int) -> list[Contestant]:
    """The one that begins changes from round to round, so what else the machine does falls on all alike."""
    first = number % len(contestants)
    return [*contestants[first:], *contestants[:first]]


def run(workloads: Sequence[Workload], setting: Setting, rounds: int, disk: bool, say: Callable[[str], None]) -> Run:
    """Measure all.

    Args:
        workloads: what, as `workloads.chosen` gives it.
        setting: what each measurement is told.
        rounds: how often.
        disk: whether Consul has its log on disk.
        say: is told what begins.
    """
    result = Run(workloads, disk)
    for number in range(rounds):
        for workload in workloads:
            for contestant in in_turn(workload.contestants, number):
                if contestant.name in result.missing or (workload.once and number):
                    continue
                say(f"round {number + 1} of {rounds}: {workload.title}, {contestant.name}")
                try:
                    figures = apart(contestant.measure, setting)
                except Missing as missing:
                    result.missing[contestant.name] = str(missing)
                except RuntimeError as error:
                    result.errors.append(f"{workload.name}, {contestant.name}, round {number + 1}: {error}")
                else:
                    result.found.setdefault((workload.name, contestant.name), {})[number] = figures
    return result


def steps(workloads: Sequence[Workload], rounds: int) -> int:
    """How many measurements a run makes at most."""
    return sum(len(one.contestants) * (1 if one.once else rounds) for one in workloads)


def title_of(name: str) -> str:
    """A workload's title."""
    return next(one.title for one in ALL if one.name == name)
