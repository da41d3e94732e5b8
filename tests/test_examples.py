"""The programs in examples/ run, and tell what they say they tell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "two_lockers.py"
#: A limit for hangs, in seconds; the example takes under 2.
LIMIT = 60


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the example as a user does, without the variables that Consul's tools read."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CONSUL_")}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        [sys.executable, str(EXAMPLE), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def check_story(answer: subprocess.CompletedProcess[str]) -> None:
    """What must be told, in this order, whichever agent was asked."""
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    lines = [line.split(maxsplit=3) for line in answer.stdout.splitlines()]
    told = [tuple(words[:3]) for words in lines]
    expected = [
        ("alice", "acquiring", "session-created"),
        ("alice", "ready", "state-changed"),
        ("alice", "ready", "lock-acquired"),
        ("bob", "ready", "lock-denied"),
        ("alice", "ready", "released"),
        ("bob", "ready", "lock-acquired"),
        ("bob", "ready", "released"),
        ("alice", "stopped", "state-changed"),
        ("bob", "stopped", "state-changed"),
    ]
    rest = iter(told)
    assert all(step in rest for step in expected), answer.stdout
    assert "answered from the cache, 1 request so far" in answer.stdout
    assert "it is alice who has it" in answer.stdout


def test_two_lockers_compete(agent: Any) -> None:
    host, _, port = agent.address.rpartition(":")
    check_story(run("--host", host, "--port", port))


def test_without_arguments_it_needs_no_consul() -> None:
    check_story(run())


def test_an_agent_that_is_not_there_is_one_line_and_a_status() -> None:
    answer = run("--port", "1")  # nobody listens there
    assert answer.returncode == 1
    assert "127.0.0.1:1" in answer.stderr
    assert "Traceback" not in answer.stderr
