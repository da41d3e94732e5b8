"""The Locker's traces agree with the core, and whatever of them is falsified is caught."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import replay  # noqa: E402 # beside this file, found by the line above
import replay_locker  # noqa: E402 # likewise

TRACES = list(replay.traces(HERE / "locker.jsonl"))
#: What has no counterpart, and so is not compared.
NOT_COMPARED = ("handling", "handled")
#: What is said once the script is beyond what the original does well.
READS = ("info", "sessionInfo")

Path_ = tuple[Any, ...]
Record = dict[str, Any]


def _named(name: str) -> Record:
    return copy.deepcopy(next(trace for trace in TRACES if trace["name"] == name))


# ----------------------------------------------------------------------------------------------- as it is


def test_every_trace_agrees() -> None:
    replayed, differing = replay.replay_all(replay_locker.replay, frozenset(), TRACES)
    assert replayed == 379
    assert differing == []


def test_whole_scripts_leave_nobody_hanging() -> None:
    # Beyond the clean steps the records differ by decision, but every call is answered at most once,
    # and none but a read that Consul has not answered is left when the Locker is stopped.
    for trace in TRACES:
        run = replay_locker.Replayer(trace)
        run.run()
        assert all(count == 1 for count in run.settled.values()), trace["name"]
        if run.core.state == "stopped":
            reads = {step["as"] for step in trace["script"] if step.get("call") in READS}
            assert set(run.final()["unsettled"]) <= reads, trace["name"]
            assert run.final()["queue"] == []
            assert run.final()["timers"] == 0


# ---------------------------------------------------------------------------------------------- falsified


def _ran(trace: Record) -> replay_locker.Replayer:
    run = replay_locker.Replayer(trace)
    run.run(trace["clean_steps"])
    return run


def _compared(trace: Record) -> Iterator[tuple[int, Record]]:
    """The records of the log that are compared, with their places."""
    step, ready = -1, False
    for place, record in enumerate(trace["log"]):
        if "step" in record:
            step = record["step"]
        if step >= trace["clean_steps"]:
            return
        event = record.get("event")
        passed_over = "log" in record or event in NOT_COMPARED or (event == "lock.release" and not ready)
        beginning = step == -1 and ("initialState" in trace["options"] or "name" not in trace["options"])
        if not passed_over and not beginning:
            yield place, record
        if "after" in record:
            ready = record["state"] == "ready"


def _leaves(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    if isinstance(value, dict) and value:
        for name, each in value.items():
            if path or name != "action":
                yield from _leaves(each, (*path, name))
    elif isinstance(value, list) and value:
        for place, each in enumerate(value):
            yield from _leaves(each, (*path, place))
    else:
        yield path


def _altered(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, (int, float)):
        return value + 1
    return "x" if value is None else [*value, "x"] if isinstance(value, list) else {**value, "x": "x"}


def _with(record: Record, path: Path_) -> Record:
    falsified = copy.deepcopy(record)
    place: Any = falsified
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = _altered(place[path[-1]])
    return falsified


def _with_log(trace: Record, place: int, *records: Record) -> Record:
    """The trace with other records in the place of one."""
    return {**trace, "log": [*trace["log"][:place], *records, *trace["log"][place + 1 :]]}


def _kind(record: Record) -> str:
    return str(record.get("event") or next(iter(record)))


def test_every_altered_field_is_caught() -> None:
    fields = set()
    for trace in TRACES:
        run = _ran(trace)
        known = set()  # each field of each kind of record once a trace
        for place, record in _compared(trace):
            for path in _leaves(record):
                if (_kind(record), path) in known:
                    continue
                known.add((_kind(record), path))
                fields.add(f"{_kind(record)}/{path[0]}")
                falsified = _with_log(trace, place, _with(record, path))
                assert replay_locker.compare(falsified, run) is not None, (trace["name"], place, path)
    events = {"transition", "deferred", "session.start", "session.end", "lock.request", "lock.response", "lock.release"}
    assert {field.partition("/")[0] for field in fields} == events | {"step", "after", "call", "settled", "timer"}
    assert {"call/args", "call/nth", "settled/ok", "settled/fail", "deferred/args", "deferred/until"} <= fields
    assert {"after/state", "after/reboots", "after/queued", "session.end/session", "lock.response/value"} <= fields


def test_a_record_too_many_or_too_few_is_caught() -> None:
    for trace in TRACES:
        run = _ran(trace)
        for place, record in _compared(trace):
            for records in ((), (record, record)):
                falsified = _with_log(trace, place, *records)
                assert replay_locker.compare(falsified, run) is not None, (trace["name"], place)


def test_calls_out_of_order_and_events_out_of_order_are_caught() -> None:
    swapped = {"call": 0, "event": 0}
    for trace in TRACES:
        run = _ran(trace)
        last: dict[str, tuple[int, Record]] = {}
        for place, record in _compared(trace):
            kind = next(iter(record))
            if kind not in swapped:
                last = last if kind in ("settled", "timer") else {}
                continue
            before = last.get(kind)
            if before is not None and before[1] != record:
                falsified = _with_log(_with_log(trace, place, before[1]), before[0], record)
                assert replay_locker.compare(falsified, run) is not None, (trace["name"], place)
                swapped[kind] += 1
            last[kind] = place, record
    assert min(swapped.values()) > 30


def test_the_same_records_of_different_kinds_may_come_in_another_order() -> None:
    trace = _named("lock-granted")
    place = next(n for n, record in enumerate(trace["log"]) if record.get("call") == "kv.set")
    request, call = trace["log"][place - 1 : place + 1]
    trace["log"][place - 1 : place + 1] = [call, request]
    assert replay_locker.replay(trace) is None


def test_an_altered_final_state_is_caught() -> None:
    fields = set()
    for trace in TRACES:
        if trace["touches"]:
            continue
        run = _ran(trace)
        for path in _leaves(trace["final"]):
            if path[0] != "unhandled_rejections":
                fields.add(path[0])
                falsified = {**trace, "final": _with(trace["final"], path)}
                assert replay_locker.compare(falsified, run) is not None, (trace["name"], path)
    assert fields == set(trace["final"]) - {"unhandled_rejections"}


def test_false_in_the_cache_is_as_good_as_absent() -> None:
    trace = _named("lock-granted")
    trace["final"]["cache"]["svc/free/lock"] = False
    assert replay_locker.replay(trace) is None


def test_what_comes_after_the_first_corner_is_not_compared() -> None:
    trace = _named("release-clears-cache")
    place = next(n for n, record in enumerate(trace["log"]) if record.get("step") == trace["clean_steps"])
    del trace["log"][place:]
    trace["final"] = None
    assert replay_locker.replay(trace) is None


def test_a_step_that_the_format_does_not_know_is_a_difference() -> None:
    trace = _named("lock-granted")
    trace["script"][0] = {"unheard of": 1}
    (line,) = replay.replay_all(replay_locker.replay, frozenset(), [trace])[1]
    assert "the replay itself failed: ValueError: an unknown step" in line


def test_the_answer_to_a_read_is_compared_in_its_own_fields() -> None:
    trace = _named("info")
    answer = {"Key": "svc/a/lock", "Session": "S9", "Flags": 7, "LockIndex": 3, "ModifyIndex": 55, "Other": "kept"}
    trace["script"][1]["ok"] = answer
    place = next(n for n, record in enumerate(trace["log"]) if record.get("settled") == "i1")
    trace["log"][place]["ok"] = answer
    assert replay_locker.replay(trace) is None
    for path in _leaves(answer):
        assert replay_locker.replay(_with_log(trace, place, {"settled": "i1", "ok": _with(answer, path)})) is not None


def test_the_command_catches_one_falsified_record(tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "falsified.jsonl"
    trace = _named("lock-denied")
    place = next(n for n, record in enumerate(trace["log"]) if record.get("event") == "lock.response")
    lines = [trace, _with_log(trace, place, _with(trace["log"][place], ("value",)))]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert replay.main(["locker", str(file)]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("lock-denied: step 2: expected")
    assert last == "2 replayed, 1 differ"
