"""The recorded traces agree with the library, and a falsified trace does not."""

from __future__ import annotations

import copy
import functools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import replay  # noqa: E402 # beside this file, found by the line above
import replay_behavioral  # noqa: E402 # likewise
import replay_machina  # noqa: E402 # likewise

FAMILIES = [family for family in replay.FAMILIES if (HERE / f"replay_{family}.py").exists()]
MACHINA = [t for t in replay.traces(HERE / "machina.jsonl") if t["name"] not in replay_machina.LEFT_OUT]
HIERARCHICAL = list(replay.traces(HERE / "hierarchical.jsonl"))
BEHAVIORAL = [trace for trace in replay.traces(HERE / "behavioral.jsonl") if trace["kind"] == "rule"]

Path_ = tuple[Any, ...]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_trace_agrees(family: str) -> None:
    replayed, differing = replay.replay_all(*replay.replayer(family), replay.traces(HERE / f"{family}.jsonl"))
    assert replayed > 70
    assert differing == []


@pytest.mark.parametrize(("traces", "few"), [(MACHINA, 10), (HIERARCHICAL, 4)])
def test_few_traces_are_compared_up_to_an_error_the_port_decides_otherwise(traces: list[Any], few: int) -> None:
    parted = []
    for trace in traces:
        run = replay_machina.Replayer(trace)
        run.run()
        if run.parted_at is not None:
            parted.append(trace["name"])
    assert len(parted) == few, parted


# --------------------------------------------------------------------------------------- falsified copies


def _leaves(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Yield the path of everything in a record that can be altered on its own."""
    if isinstance(value, dict) and "$input" in value:
        yield (*path, "$input")  # its flags are left out: a catch-all of the port gets the name
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(each, (*path, key))
    elif isinstance(value, list) and value:
        for index, each in enumerate(value):
            yield from _leaves(each, (*path, index))
    else:
        yield path


def _altered(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, (int, float)):
        return value + 1
    return "x" if value is None else [*value, 0] if isinstance(value, list) else {**value, "x": 0}


def _with(trace: dict[str, Any], path: Path_) -> dict[str, Any]:
    """The trace with one place altered. Only what is above that place is copied."""
    falsified: dict[str, Any] = dict(trace)
    place: Any = falsified
    for step in path[:-1]:
        place[step] = copy.copy(place[step])
        place = place[step]
    place[path[-1]] = _altered(place[path[-1]])
    return falsified


def _ran(trace: dict[str, Any]) -> replay_machina.Replayer:
    """A run of the script, with which falsified copies of the log are compared."""
    run = replay_machina.Replayer(trace)
    run.run()
    return run


def _kind(record: dict[str, Any]) -> str:
    return str(record.get("event") or next(iter(record)))


def _first_of_each_field(trace: dict[str, Any]) -> Iterator[tuple[str, Path_]]:
    """Yield each field of each kind of record once, with where it occurs first."""
    known = set()
    for number, record in enumerate(trace["log"]):
        for path in _leaves(record):
            field = f"{_kind(record)}/" + "/".join("#" if isinstance(step, int) else step for step in path)
            if field not in known:
                known.add(field)
                yield field, ("log", number, *path)
    for path in _leaves(trace["final"]):
        if path:
            yield f"final/{path[0]}", ("final", *path)


def _complete(trace: dict[str, Any]) -> bool:
    return _ran(trace).parted_at is None


@functools.cache
def sample() -> list[dict[str, Any]]:
    """Traces of machines without children, of which copies are falsified."""
    rules = [t for t in MACHINA if t["kind"] != "random" and _complete(t)]
    return rules + [t for t in MACHINA if t["kind"] == "random" and _complete(t)][::20]


@functools.cache
def below() -> list[dict[str, Any]]:
    """Of machines with children."""
    rules = [t for t in HIERARCHICAL if t["kind"] != "random" and _complete(t)]
    return rules + [t for t in HIERARCHICAL if t["kind"] == "random" and _complete(t)][::10]


def test_every_altered_field_is_caught() -> None:
    fields = set()
    for trace in sample():
        run = _ran(trace)
        for field, path in _first_of_each_field(trace):
            fields.add(field)
            assert replay_machina.compare(_with(trace, path), run) is not None, (trace["name"], path)
    kinds = {field.partition("/")[0] for field in fields}
    events = {"transition", "handling", "handled", "nohandler", "invalidstate", "deferred", "custom"}
    assert kinds == events | {"step", "note", "returned", "raised", "final"}
    assert {f"final/{name}" for name in ("state", "prior_state", "queue", "current_action", "prior_action")} <= fields
    assert {"final/in_exit_handler", "final/target_replay_state", "handling/delegated", "handled/ticket"} <= fields
    assert {"deferred/payload/queuedArgs/untilState", "nohandler/payload/args/#"} <= fields


def test_every_altered_field_of_machines_with_children_is_caught() -> None:
    fields = set()
    for trace in below():
        run = _ran(trace)
        for field, path in _first_of_each_field(trace):
            fields.add(field)
            assert replay_machina.compare(_with(trace, path), run) is not None, (trace["name"], path)
    assert {"composite_state/composite_state", "final/composite_state", "final/children"} <= fields
    for kind in ("transition", "handling", "handled", "deferred", "invalidstate", "note"):
        assert f"{kind}/in" in fields
    for kind in ("handling", "handled", "nohandler", "deferred"):
        assert {f"{kind}/delegated", f"{kind}/ticket"} <= fields
    assert "final/queue" in fields


def test_every_altered_field_of_a_behavior_is_caught() -> None:
    fields = set()
    for trace in BEHAVIORAL:
        run = replay_behavioral.Replayer(trace)
        run.run()
        for field, path in _first_of_each_field(trace):
            fields.add(field)
            assert replay_behavioral.compare(_with(trace, path), run) is not None, (trace["name"], path)
        for number in range(len(trace["log"])):
            shortened = [*trace["log"][:number], *trace["log"][number + 1 :]]
            assert replay_behavioral.compare({**trace, "log": shortened}, run) is not None
    for kind in ("transition", "handling", "handled", "nohandler", "deferred", "invalidstate", "note"):
        assert f"{kind}/client" in fields
    assert {"final/one", "final/two", "returned/returned", "composite_state/composite_state"} <= fields


@pytest.mark.parametrize("traces", [sample, below], ids=lambda traces: traces.__name__)
def test_a_record_too_many_too_few_or_out_of_place_is_caught(traces: Callable[[], list[Any]]) -> None:
    for trace in traces():
        log, run = trace["log"], _ran(trace)
        for number, record in enumerate(log):
            falsified = [
                log[:number] + log[number + 1 :],
                [*log[: number + 1], record, *log[number + 1 :]],
            ]
            if number + 1 < len(log) and log[number + 1] != record:
                falsified.append([*log[:number], log[number + 1], record, *log[number + 2 :]])
            for each in falsified:
                assert replay_machina.compare({**trace, "log": each}, run) is not None


def test_what_comes_before_an_error_the_port_decides_otherwise_is_compared() -> None:
    for trace in MACHINA + HIERARCHICAL:
        run = _ran(trace)
        for number in range(run.parted_at or 0):
            falsified = {**trace, "log": [*trace["log"][:number], {"note": "x"}, *trace["log"][number + 1 :]]}
            assert replay_machina.compare(falsified, run) is not None, (trace["name"], number)
            shortened = {**trace, "log": trace["log"][:number]}
            assert replay_machina.compare(shortened, run) is not None, (trace["name"], number)


# --------------------------------------------------------------------------------------------- the command


def _command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HERE / "replay.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("family", "number"), [("machina", 530), ("hierarchical", 153), ("behavioral", 75)])
def test_the_command_runs_from_anywhere(family: str, number: int, tmp_path: Path) -> None:
    done = _command(family, str(HERE / f"{family}.jsonl"), cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == f"{number} replayed, 0 differ"
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_names_the_trace_and_the_record_that_differ(tmp_path: Path) -> None:
    file = tmp_path / "falsified.jsonl"
    lines = [_with(MACHINA[0], ("log", 0, "to")), MACHINA[1], _with(MACHINA[2], ("final", "state"))]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    done = _command("machina", str(file), cwd=tmp_path)
    first, second, last = done.stdout.splitlines()
    assert first.startswith(f"{MACHINA[0]['name']}: record 0: expected {{'event': 'transition'")
    assert second.startswith(f"{MACHINA[2]['name']}: final: ")
    assert last == "3 replayed, 2 differ"
    assert done.returncode == 1


def test_a_replay_that_breaks_is_a_difference() -> None:
    broken = {**MACHINA[0], "script": [{"unheard of": 1}]}
    replayed, (line,) = replay.replay_all(replay_machina.replay, frozenset(), [broken])
    assert replayed == 1
    assert "the replay itself failed: ValueError: an unknown step" in line


@pytest.mark.parametrize(
    "arguments", [(), ("machina",), ("nonsense", "x"), ("machina", "no-such-file"), ("machina", __file__)]
)
def test_what_cannot_be_replayed_exits_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert replay.main(list(arguments)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(("usage:", "replay.py:"))


def test_a_family_without_a_replayer_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(replay, "HERE", tmp_path)
    assert replay.main(["hierarchical", str(HERE / "hierarchical.jsonl")]) == 2
    assert "cannot be replayed yet" in capsys.readouterr().err
