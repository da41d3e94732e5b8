"""The programs in benchmarks/ run, say what they found, and name what is missing. How fast anything is, is not told."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks import measuring, scale, suite
from benchmarks.handover import Turn, figures_of
from benchmarks.workloads import ALL, FIGURES, PEERS, Contestant, Goal, Workload, chosen
from consul_locker.fsm import MAX_DEPTH

ROOT = Path(__file__).parents[1]
#: A limit for hangs, in seconds; each takes a few.
LIMIT = 120

#: The smallest run of the suite.
FEW = ("--quick", "--seconds", "0.02", "--held", "1100")


def run(*arguments: str, **variables: str) -> list[str]:
    """Run Python in this tree as a user does, without the variables that Consul's tools read; return its lines."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CONSUL_")}
    answer = subprocess.run(
        [sys.executable, *arguments],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd=ROOT,
    )
    assert (answer.returncode, answer.stderr) == (0, ""), answer.stdout
    return answer.stdout.splitlines()


def run_suite(agent: Any, folder: Path, *names: str) -> tuple[dict[str, Any], list[str]]:
    """Measure these workloads on an agent; return what was written as JSON, and the lines."""
    written = folder / "figures.json"
    where = ("--address", f"http://{agent.address}", "--json", str(written))
    lines = run("-m", "benchmarks", *FEW, *where, "--only", *names)
    return json.loads(written.read_text(encoding="utf-8")), lines


def checked(data: dict[str, Any], expected: dict[str, set[str]]) -> None:
    """Whoever was expected was measured or is named as missing; all figures are numbers."""
    assert data["errors"] == []
    for name, who in expected.items():
        assert set(data["found"][name]) == who - set(data["missing"])
    assert set(data["missing"]) <= {*PEERS, "asyncio on uvloop"}
    for found in data["found"].values():
        for rounds in found.values():
            assert all(isinstance(value, float | int) for one in rounds for value in one.values())


def test_unique_locks(agent: Any, tmp_path: Path) -> None:
    data, lines = run_suite(agent, tmp_path, "threads-10", "asyncio-10", "observed")
    everybody = {one.name: {who.name for who in one.contestants} for one in ALL}
    checked(data, {name: everybody[name] for name in ("threads-10", "asyncio-10", "observed")})
    assert data["goals"]
    text = "\n".join(lines)
    assert "bare loop" in text
    assert "goal 0.70" in text
    for name in data["missing"]:
        assert f"missing, and not measured: {name}: " in text


def test_only_those_are_measured_with_whom_a_goal_is_compared(real_agent: Any, tmp_path: Path) -> None:
    data, lines = run_suite(real_agent, tmp_path, "submit", "lock-many", "pairs", "contended")
    ours = {"threads"}
    checked(data, dict.fromkeys(("threads-10", "submit", "lock-many", "pairs", "contended"), ours))
    checked(data, {"asyncio-100": {"bare loop"}})
    assert any("bare loop, 100 tasks" in line for line in lines)


def test_what_many_locks_and_lockers_cost(real_agent: Any, tmp_path: Path) -> None:
    data, _ = run_suite(real_agent, tmp_path, "held", "lockers", "made", "cached", "released")
    checked(data, {"held": {"threads", "asyncio"}, "lockers": {"threads"}, "made": {"asyncio"}, "cached": {"threads"}})
    assert data["found"]["held"]["threads"][0]["more_threads"] == 0


def test_handovers(real_agent: Any, tmp_path: Path) -> None:
    data, _ = run_suite(real_agent, tmp_path, "handover-8*")
    checked(data, {"handover-8": {"threads", "asyncio", "python-consul2"}, "handover-8-fair": {"threads", "asyncio"}})


def test_an_agent_of_its_own_with_its_log_on_disk(consul_binary: str, tmp_path: Path) -> None:
    drawing = tmp_path / "rates.svg"
    command = ("-m", "benchmarks", *FEW, "--disk", "--only", "threads-10", "--svg", str(drawing))
    lines = run(*command, CONSUL_BINARY=consul_binary)
    assert "with its log on disk" in lines[0]
    if not any(line.startswith("missing, and not drawn: matplotlib") for line in lines):
        assert "<svg" in drawing.read_text(encoding="utf-8")


def test_the_list() -> None:
    lines = run("-m", "benchmarks", "--list")
    assert [line.split()[0] for line in lines] == [one.name for one in ALL]
    assert [line.split()[0] for line in run("-m", "benchmarks", "--list", "--disk")] == [
        "threads-10", "threads-100", "asyncio-100",
    ]  # fmt: skip


def test_a_name_that_is_none() -> None:
    with pytest.raises(ValueError, match="no workload is named 'thread-1'; there are threads-1, "):
        chosen(["thread-1"], disk=False)


def test_every_goal_is_about_a_figure_and_somebody_who_takes_part() -> None:
    everybody = {(one.name, who.name) for one in ALL for who in one.contestants}
    for goal in (goal for one in ALL for who in one.contestants for goal in who.goals):
        assert goal.figure in FIGURES
        assert goal.of is None or goal.of in everybody


# ------------------------------------------------------------------------------- what a run makes of it


SETTING = measuring.Setting("", None, None, 1.0, 1, 1, 1, 1, 1.0, 0.0)


def _rate(setting: measuring.Setting, of: float) -> measuring.Figures:
    return {"rate": of}


def _missing(setting: measuring.Setting) -> measuring.Figures:
    raise measuring.Missing("that program")


def _failing(setting: measuring.Setting) -> measuring.Figures:
    raise ZeroDivisionError("nothing")


def test_ratios_goals_what_is_missing_and_what_fails() -> None:
    goals = Goal("rate", 0.5, ("one", "peer"), disk=0.7), Goal("rate", 100.0), Goal("cpu", 1.0)
    who = (
        Contestant("ours", partial(_rate, of=60.0), goals),
        Contestant("peer", partial(_rate, of=100.0)),
        Contestant("absent", _missing),
        Contestant("wrong", _failing),
    )
    said: list[str] = []
    result = suite.run([Workload("one", "One", who)], SETTING, 2, False, said.append)
    ours = ("one", "ours")
    assert result.ratio(ours, ("one", "peer")) == 0.6
    assert [result.reached(ours, goal) for goal in goals] == [(0.6, 0.5, True), (60.0, 100.0, False), None]
    result.disk = True
    assert [result.reached(ours, goal) for goal in goals] == [(0.6, 0.7, False), None, None]
    assert result.missing == {"absent": "that program"}
    assert [re.sub(r" \(.*", "", error) for error in result.errors] == [
        f"one, wrong, round {number}: ZeroDivisionError: nothing" for number in (1, 2)
    ]
    assert [line.rpartition(" ")[2] for line in said] == ["ours", "peer", "absent", "wrong", "peer", "wrong", "ours"]
    assert len(said) <= suite.steps(result.workloads, 2)


def test_a_figure_that_is_no_number_is_none() -> None:
    result = suite.Run([], False)
    result.found["one", "ours"] = {0: {"requests": math.nan}}
    assert result.median(("one", "ours"), "requests") is None


def test_a_ratio_is_one_of_the_same_round() -> None:
    result = suite.Run([], False)
    result.found["one", "ours"] = {0: {"rate": 1.0}, 2: {"rate": 6.0}}
    result.found["one", "peer"] = {1: {"rate": 2.0}, 2: {"rate": 3.0}}
    assert result.ratios(("one", "ours"), ("one", "peer")) == [2.0]


def test_two_at_once_are_a_failure() -> None:
    assert figures_of([Turn(1, 0.0, 1.0, 2.0), Turn(2, 0.0, 2.0, 3.0)])["rate"] == 1.0
    with pytest.raises(RuntimeError, match="two lockers had the lock at once"):
        figures_of([Turn(1, 0.0, 1.0, 2.0), Turn(2, 0.0, 1.9, 3.0)])


def test_what_clients_cost() -> None:
    costs = scale.Costs(renewal=100, write=640, of_many=20, poll=300, check=10)
    assert costs.in_batch(1) == 640
    assert costs.in_batch(64) == pytest.approx(20)
    idle = scale.load(scale.Use("idle", held=1), 1_000, costs)
    assert idle == pytest.approx((200, 1_000, 0, 200, 3_000, 0.02 + 0.001 + 0.002))
    busy = scale.load(scale.Use("busy", pairs=1, waiting=2), 10, costs)
    assert busy == pytest.approx((2, 30, 20, 0, 50, 0.0002 + 0.00003 + 0.0128))


def test_the_model_is_fed_by_what_is_measured(consul_binary: str) -> None:
    said, *table = run("-m", "benchmarks.scale", "--times", "32", CONSUL_BINARY=consul_binary)
    assert re.fullmatch(r"Consul's processor time, in µs: (\w+ [\d.]+(, )?){5}", said)
    assert sum(line.lstrip().startswith("holds one lock") for line in table) == len(scale.CLIENTS)


# ------------------------------------------------------------------------------------ the other programs


def test_machines() -> None:
    lines = run("benchmarks/bench_fsm.py", "--times", "50", "--rounds", "1")
    table = [line for line in lines if not line.startswith("missing")]
    assert table[0].split() == ["an", "input", "with", "transition", "a", "machine"]
    assert re.fullmatch(r"consul_locker +\d+\.\d\d µs +\d+\.\d\d µs +[\d,]+ bytes", table[1])
    assert re.fullmatch(r"transitions +\d+\.\d\d µs +\d+\.\d\d µs +[\d,]+ bytes", table[4])
    assert int(table[-1].rpartition(" ")[2]) > MAX_DEPTH


def test_the_core_alone() -> None:
    _, head, *rows = run("benchmarks/bench_core.py", "--locks", "100", "--rounds", "1")
    assert head.split() == ["callers", "call", "answer", "sum"]
    assert [row.split()[0] for row in rows] == ["1", "10", "100"]


def test_renewals(consul_binary: str) -> None:
    few = ("--lockers", "3", "--answer", "0.05", "--hangs", "2", "--seconds", "1")
    _, figures = run("-m", "benchmarks.renewals", *few, CONSUL_BINARY=consul_binary)
    assert re.fullmatch(r" +3 +50 ms +2 +- +1 s +\d+\.\d s +3 +0 +\d+ +\d+ +\d+%", figures)


def test_renewals_on_an_agent_that_accepts_what_it_likes(real_agent: Any) -> None:
    left_out = run("-m", "benchmarks.renewals", "--url", f"http://{real_agent.address}", "--cases", "refused")[1]
    assert "left out" in left_out


def test_a_restart_of_consul(consul_binary: str, tmp_path: Path) -> None:
    few = ("--faces", "threaded", "--away", "0.1", "--timeline", str(tmp_path / "restart.json"))
    title, *calls = run("-m", "benchmarks.outages", "restart", *few, CONSUL_BINARY=consul_binary)
    assert re.fullmatch(r"threaded: \d+ of 13 calls served; no leader for \d+\.\d s; \d+ leases lost", title)
    assert len(calls) == 13
    assert re.fullmatch(r"  a new Locker's lock +\d+\.\d s  served", calls[-1])
    events = json.loads((tmp_path / "restart-threaded.json").read_text())
    assert [event["what"] for event in events if event["who"] == "consul"] == ["killed", "started", "leader"]


def test_a_rate_limit() -> None:
    few = ("--faces", "threaded", "--calls", "10", "--rate", "1000")
    title, locks, *rest = run("-m", "benchmarks.outages", "limit", *few)
    assert title == "threaded: 200 calls a second, 1000 writes a second are served"
    assert re.fullmatch(r"  10 of 10 locks served, after \d+\.\d s", locks)
    assert re.fullmatch(r"  10 of 10 releases served, after \d+\.\d s", rest[0])


def test_refused_renewals() -> None:
    (line,) = run("-m", "benchmarks.outages", "renewals", "--faces", "asyncio", "--leases", "2", "--seconds", "0.1")
    assert line == "asyncio: 2 of 2 leases kept; 0 renewals refused and 0 answered in 0.1 s; none lost"


def test_leaders_that_are_killed(consul_binary: str) -> None:
    few = ("--faces", "threaded", "--addresses", "1", "--seconds", "4", "--every", "3", "--away", "1", "--workers", "1")
    title, party, *_ = run("-m", "benchmarks.outages", "leaders", *few, CONSUL_BINARY=consul_binary)
    assert title == "1 leaders killed in 4 s; fences that did not rise: none; leases lost: none"
    assert re.match(r"threaded-1: \d+ of \d+ calls failed, the longest took \d+\.\d s; 5 of 5 leases kept", party)


def test_servers_that_are_restarted_one_after_another(consul_binary: str) -> None:
    few = ("--faces", "asyncio", "--rounds", "1", "--away", "0.1", "--workers", "1")
    title, party, *_ = run("-m", "benchmarks.outages", "rolling", *few, CONSUL_BINARY=consul_binary)
    assert re.fullmatch(r"3 restarts in \d+ s; fences that did not rise: none; leases lost: none", title)
    assert re.fullmatch(r"asyncio-3: 0 of \d+ calls failed, the longest took \d+\.\d s; 5 of 5 leases kept", party)
