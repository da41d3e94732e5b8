"""The programs in benchmarks/ run and print their tables. How fast anything is, is not looked at here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from consul_locker.fsm import MAX_DEPTH

ROOT = Path(__file__).parents[1]
#: A limit for hangs, in seconds; each takes a few.
LIMIT = 120


def run(program: str, *arguments: str, **variables: str) -> list[str]:
    """Run a benchmark as a user does, without the variables that Consul's tools read; return its lines."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CONSUL_")}
    answer = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / program), *arguments],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    return answer.stdout.splitlines()


def test_locks(real_agent: Any) -> None:
    few = ("--ids", "20", "--rounds", "1", "--callers", "2", "--tasks", "2")
    title, _, threads, tasks, *cached = run("bench_locks.py", "--url", f"http://{real_agent.address}", *few)
    assert title.startswith("20 unique ids")
    for line, what in ((threads, "2 threads"), (tasks, "2 tasks")):
        assert re.fullmatch(rf" *{what} +[\d,]+/s +[\d,]+/s +\d+\.\d\d +\d+\.\d\d - \d+\.\d\d", line)
    for line, who in zip(cached, ("thread", "task"), strict=True):
        assert line.startswith(f"a cached lock takes a {who} ")


@pytest.mark.parametrize("fair", [(), ("--fair",)], ids=["whoever is fastest", "fair"])
def test_handovers(consul_binary: str, fair: tuple[str, ...]) -> None:
    few = ("--lockers", "3", "--processes", "2", "--turns", "2", "--rounds", "2", *fair)
    title, _, ours, tasks, theirs, *ratios = run("bench_handover.py", *few, CONSUL_BINARY=consul_binary)
    assert title.startswith("3 lockers in 2 processes")
    for line, what in ((ours, "consul_locker"), (tasks, "its tasks"), (theirs, "python-consul2")):
        assert re.fullmatch(rf" *{what} +[\d,]+/s +\d+\.\d\d +\d+% +\d+\.\d\d", line)
    for ratio, what in zip(ratios, ("consul_locker", "its tasks"), strict=True):
        assert re.fullmatch(rf" *ratio, {what} +\d+\.\d\d  \(\d+\.\d\d - \d+\.\d\d\)", ratio)


def test_handovers_on_an_agent_that_does_not_count(real_agent: Any) -> None:
    few = ("--lockers", "2", "--processes", "1", "--turns", "2", "--rounds", "1")
    ours = run("bench_handover.py", "--url", f"http://{real_agent.address}", *few)[2]
    assert re.fullmatch(r" *consul_locker +[\d,]+/s +- +\d+% +\d+\.\d\d", ours)


def test_machines() -> None:
    lines = run("bench_fsm.py", "--times", "50", "--rounds", "1")
    table = [line for line in lines if not line.startswith("missing")]
    assert table[0].split() == ["an", "input", "with", "transition", "a", "machine"]
    assert re.fullmatch(r"consul_locker +\d+\.\d\d µs +\d+\.\d\d µs +[\d,]+ bytes", table[1])
    assert re.fullmatch(r"transitions +\d+\.\d\d µs +\d+\.\d\d µs +[\d,]+ bytes", table[4])
    assert int(table[-1].rpartition(" ")[2]) > MAX_DEPTH


def test_renewals(consul_binary: str) -> None:
    few = ("--lockers", "3", "--answer", "0.05", "--hangs", "2", "--seconds", "1")
    _, figures = run("renewals.py", *few, CONSUL_BINARY=consul_binary)
    assert re.fullmatch(r" +3 +50 ms +2 +- +1 s +\d+\.\d s +3 +0 +\d+ +\d+ +\d+%", figures)


def test_renewals_on_an_agent_that_accepts_what_it_likes(real_agent: Any) -> None:
    left_out = run("renewals.py", "--url", f"http://{real_agent.address}", "--cases", "refused")[1]
    assert "left out" in left_out
