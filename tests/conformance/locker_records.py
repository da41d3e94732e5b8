"""The records of a Locker's trace in the words of the port, and what is compared of them (replay_locker.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Json = Any
Record = dict[str, Json]
#: Events without a counterpart; a console line (``log``) has none either.
NOT_COMPARED = frozenset({"handling", "handled"})


@dataclass
class _Step:
    """What is compared of one step."""

    number: int
    records: list[Record] = field(default_factory=list)
    after: Record = field(default_factory=dict)


def _text(id: Json) -> str:
    """An id as JavaScript puts it into a key."""
    if isinstance(id, str):
        return id
    if isinstance(id, float) and id.is_integer():
        return str(int(id))
    return json.dumps(id)


def _expected(trace: Record, count: int) -> Iterator[_Step | str]:
    """The steps of a log, the construction first, in the words of this module; a str where it is no log of steps."""
    log = iter(trace["log"])
    script = trace["script"]
    released: dict[str, str] = {}  # label -> key of a release that went to Consul
    for number in range(-1, count):
        if number >= 0 and (begin := next(log, None)) != {"step": number}:
            yield f"step {number}: expected {{'step': {number}}}, the log has {begin}"
            return
        step = _Step(number)
        done = script[number] if number >= 0 else {}
        for record in log:
            if "after" in record:
                step.after = record
                break
            step.records.extend(_translated(record, done, released))
        yield step
    following = next(log, None)
    if following is not None and "step" not in following:
        yield f"expected the next step, the log has {following}"


def _translated(record: Record, step: Record, released: dict[str, str]) -> Iterator[Record]:
    """A record in the words of this module: none, one, or one and a ``released``."""
    event = record.get("event")
    if "log" in record or event in NOT_COMPARED:
        return
    if event == "transition":
        yield {name: value for name, value in record.items() if name != "action"}
    elif event == "deferred":
        yield {**record, "args": [_text(id) for id in record["args"]]}
    elif event == "lock.response":
        # The signal carries the error, which is the one that the script told of.
        yield {**record, "error": None if record["value"] is True else step.get("fail", "Already locked")}
    elif event == "lock.release":
        if step.get("call") == "release":
            released[step["as"]] = record["key"]
        yield record
    else:
        if "settled" in record and record.get("ok") == [True] and record["settled"] in released:
            yield {"event": "released", "key": released.pop(record["settled"])}
        yield record


def _kind(record: Record) -> str:
    """Records of one kind are in order; the others of a step may come in any."""
    return next((kind for kind in ("call", "event") if kind in record), "other")


def _first_difference(expected: _Step, seen: _Step, ready: bool) -> str | None:
    """The first record of a step that differs. ``ready``: the step began in that state."""
    wanted, found = expected.records, seen.records
    if not ready:  # outside ready the original tells of releases that it does not send
        wanted = [record for record in wanted if record.get("event") != "lock.release"]
        found = [record for record in found if record.get("event") != "lock.release"]
    for kind in ("call", "event", "other"):
        theirs = [json.dumps(record, sort_keys=True) for record in wanted if _kind(record) == kind]
        ours = [json.dumps(record, sort_keys=True) for record in found if _kind(record) == kind]
        if kind == "other":
            theirs, ours = sorted(theirs), sorted(ours)
        for place in range(max(len(theirs), len(ours))):
            one = theirs[place] if place < len(theirs) else "nothing"
            other = ours[place] if place < len(ours) else "nothing"
            if one != other:
                return f"expected {one}, the port has {other}"
    if expected.after != seen.after:
        return f"expected {expected.after}, the port has {seen.after}"
    return None


def _constructed_alike(trace: Record) -> bool:
    """Whether the construction can be compared: test hooks of the original, and a Locker without a name, cannot."""
    return "initialState" not in trace["options"] and "name" in trace["options"]


def _queued(queued: Json) -> Json:
    """A deferred input of the original's, with its id as text."""
    return {**queued, "args": [_text(id) for id in queued["args"]]} if isinstance(queued, dict) else queued


def _compare_final(expected: Record, seen: Record) -> str | None:
    for name, value in seen.items():
        wanted = expected[name]
        if name == "cache":
            wanted = {key: held for key, held in wanted.items() if held is not False}  # false is as good as absent
        elif name == "queue":
            wanted = [_queued(each) for each in wanted]
        if json.dumps(wanted, sort_keys=True) != json.dumps(value, sort_keys=True):
            return f"final: {name}: expected {wanted}, the port has {value}"
    return None
