"""The programs in examples/ run, and tell what they say they tell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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


# ------------------------------------------------------------------------------------------ a worker


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    """One that runs, with an agent of its own."""
    command = [sys.executable, str(ROOT / "examples" / "worker.py")]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, text=True, **streams) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_worker_does_what_comes(worker: subprocess.Popen[str]) -> None:
    told, failed = worker.communicate("a\nb\n\n", timeout=LIMIT)
    assert (worker.returncode, failed) == (0, "")
    for job in "a", "b":
        assert told.index(f"{job}: begun\n") < told.index(f"{job}: done, with fence ")
    assert ": not begun: '' cannot be the id of a lock" in told


def test_a_worker_that_is_told_to_leave_ends_what_it_has_begun(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("a\n")
    worker.stdin.flush()  # and it stays open: more may come
    assert worker.stdout.readline() == "a: begun\n"
    worker.send_signal(signal.SIGTERM)
    told = worker.stdout.read()
    assert sorted(line.partition(",")[0] for line in told.splitlines()) == [
        "a: done",
        "leaving: no job is begun any more",
    ]
    assert worker.wait(LIMIT) == 0
