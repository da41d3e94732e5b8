"""The examples of machines in examples/ run, and tell what they say they tell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
#: A limit for hangs, in seconds; each takes under 3.
LIMIT = 90

STORY = [
    "anna: leads",
    "bert: leading",
    "bert: standby",
    "anna: standby",
    "anna: gone",
    "bert: leads",
    "bert: standby",
    "bert: leads",
    "bert: standby",
    "bert: gone",
]


def run(name: str, *arguments: str) -> list[str]:
    """The lines that an example prints; run as a user does, without the variables that Consul's tools read."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CONSUL_")}
    answer = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / name), *arguments],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (0, ""), answer.stdout
    return answer.stdout.splitlines()


def test_traffic_light() -> None:
    assert run("traffic_light.py") == [
        "people walk",
        "red -> green",
        "green -> yellow",
        "yellow -> red",
        "people walk",
    ]
    source = (ROOT / "examples" / "traffic_light.py").read_text(encoding="utf-8")
    assert len([line for line in source.partition("light = ")[2].splitlines() if line]) <= 11


def test_order() -> None:
    lines = run("order.py")
    assert [line for line in lines if not line.startswith("kept")] == [
        "order 1: paid",
        "order 1: shipped",
        "order 1: it is too late to cancel",
        "order 2: paid",
        "order 2: refunded",
        "order 2: cancelled",
        "order 3: paid",
        "order 3: shipped",
    ]


def check_leader(lines: list[str]) -> None:
    rest = iter(lines)
    assert all(step in rest for step in STORY), lines


@pytest.mark.parametrize("face", [[], ["--asyncio"]], ids=["threads", "asyncio"])
def test_leader(agent: Any, face: list[str]) -> None:
    check_leader(run("leader.py", "--address", agent.address, *face))


def test_leader_needs_no_consul() -> None:
    check_leader(run("leader.py"))


def check_jobs(lines: list[str]) -> None:
    done = sorted(line.partition(": ")[2] for line in lines)
    assert done == sorted(
        f"{job} of {minute}" for job in ("backup", "report") for minute in ("12:00", "12:01", "12:02")
    )


def test_each_job_runs_on_one_host(agent: Any) -> None:
    check_jobs(run("job_runner.py", "--address", agent.address))


def test_jobs_need_no_consul() -> None:
    check_jobs(run("job_runner.py"))


def test_an_agent_that_refuses_is_one_line_and_a_status() -> None:
    answer = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "job_runner.py"), "--address", "nowhere:port"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith("job_runner: ")
    assert "Traceback" not in answer.stderr
