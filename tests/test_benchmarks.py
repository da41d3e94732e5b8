"""The programs in benchmarks/ run and print their tables. How fast anything is, is not looked at here."""

from __future__ import annotations

import json
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


def test_a_restart_of_consul(consul_binary: str, tmp_path: Path) -> None:
    few = ("--faces", "threaded", "--away", "0.1", "--timeline", str(tmp_path / "restart.json"))
    title, *calls = run("outages.py", "restart", *few, CONSUL_BINARY=consul_binary)
    assert re.fullmatch(r"threaded: \d+ of 13 calls served; no leader for \d+\.\d s; \d+ leases lost", title)
    assert len(calls) == 13
    assert re.fullmatch(r"  a new Locker's lock +\d+\.\d s  served", calls[-1])
    events = json.loads((tmp_path / "restart-threaded.json").read_text())
    assert [event["what"] for event in events if event["who"] == "consul"] == ["killed", "started", "leader"]


def test_a_rate_limit() -> None:
    title, locks, *rest = run("outages.py", "limit", "--faces", "threaded", "--calls", "10", "--rate", "1000")
    assert title == "threaded: 200 calls a second, 1000 writes a second are served"
    assert re.fullmatch(r"  10 of 10 locks served, after \d+\.\d s", locks)
    assert re.fullmatch(r"  10 of 10 releases served, after \d+\.\d s", rest[0])


def test_refused_renewals() -> None:
    (line,) = run("outages.py", "renewals", "--faces", "asyncio", "--leases", "2", "--seconds", "0.1")
    assert line == "asyncio: 2 of 2 leases kept; 0 renewals refused and 0 answered in 0.1 s; none lost"


def test_leaders_that_are_killed(consul_binary: str) -> None:
    few = ("--faces", "threaded", "--addresses", "1", "--seconds", "4", "--every", "3", "--away", "1", "--workers", "1")
    title, party, *_ = run("outages.py", "leaders", *few, CONSUL_BINARY=consul_binary)
    assert title == "1 leaders killed in 4 s; fences that did not rise: none"
    assert re.match(r"threaded-1: \d+ of \d+ calls failed, the longest took \d+\.\d s; 5 of 5 leases kept", party)
