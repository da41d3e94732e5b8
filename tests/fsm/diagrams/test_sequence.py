"""A recorded run tells who gave which input, what was deferred, and where it went."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

from consul_locker.fsm import Action, Defer, Fsm, State, Table
from consul_locker.fsm.diagrams import record

from .drawn_machines import NESTED

JOBS = Table(
    {
        "idle": State(inputs={"job": Defer("busy"), "soon": Defer(("busy", "idle")), "go": "busy", "later": Defer()}),
        "busy": State(
            inputs={
                "job": Action(lambda fsm: fsm.emit("job done", 1), "do"),
                "soon": Action(lambda fsm: fsm.handle("job"), "do"),
                "done": "idle",
            }
        ),
    },
    initial_state="idle",
    namespace="jobs",
)


def told(recording: Any) -> list[str]:
    return [f"{step.source}>{step.target}: {step.text}" for step in recording.steps]


def test_an_input_that_was_deferred_comes_from_the_machine_itself() -> None:
    fsm = Fsm(JOBS)
    with record(fsm, callers={"go": "timer"}) as recording:
        fsm.handle("job")
        fsm.handle("soon")
        fsm.handle("go")
    fsm.handle("done")
    assert told(recording) == [
        "caller>jobs: job",
        "jobs>jobs: job is deferred until busy",
        "caller>jobs: soon",
        "jobs>jobs: soon is deferred until busy or idle",
        "timer>jobs: go",
        "jobs>jobs: idle → busy",
        "jobs>jobs: job (deferred before)",
        "jobs>caller: job done",
        "jobs>jobs: soon (deferred before)",
        "jobs>jobs: job",
        "jobs>caller: job done",
    ]
    assert "    participant p2 as timer\n    p0->>p1: job\n" in recording.mermaid()
    assert "    p1-->>p0: job done\n" in recording.mermaid()


def test_a_transition_without_an_input_replays_too() -> None:
    fsm = Fsm(JOBS, begin=False)
    recording = record(fsm, without=("job done",))
    fsm.begin()
    fsm.handle("later")
    fsm.transition("busy")
    fsm.handle("job")
    fsm.transition("nowhere")
    assert told(recording) == [
        "jobs>jobs: idle",
        "caller>jobs: later",
        "jobs>jobs: later is deferred",
        "jobs>jobs: idle → busy",
        "jobs>jobs: nothing handles later",
        "caller>jobs: job",
        "jobs>jobs: no such state: nowhere",
    ]
    fsm = Fsm(JOBS)
    recording = record(fsm)
    fsm.handle("job")
    fsm.transition("busy")
    assert told(recording)[-2:] == ["jobs>jobs: job (deferred before)", "jobs>caller: job done"]


def test_a_recording_that_begins_in_the_middle_of_an_input_loses_nothing() -> None:
    recordings = []
    table = Table({"a": State(inputs={"x": lambda fsm: recordings.append(record(fsm))})}, initial_state="a")
    fsm = Fsm(table)
    fsm.handle("x")
    fsm.emit("bare")
    assert told(recordings[0]) == ["fsm>caller: bare"]


def test_machines_below_take_part() -> None:
    fsm = Fsm(NESTED)
    recording = record(fsm)
    fsm.handle("lead")
    fsm.handle("press")
    assert told(recording) == [
        "caller>service: lead",
        "service>service: standby → leading",
        "service>lamp: press",
        "lamp>lamp: dark → bright",
    ]


def test_what_is_too_much_is_left_out_and_said() -> None:
    fsm = Fsm(JOBS)
    recording = record(fsm, limit=2)
    for _ in range(3):
        fsm.handle("go")
        fsm.handle("done")
    assert len(recording.steps) == 2
    assert recording.mermaid().endswith("    Note over p1: 10 more steps are left out\n")


def test_the_picture_has_all_texts_whatever_they_are() -> None:
    fsm = Fsm(JOBS)
    recording = record(fsm, callers={"go": 'the <timer> & "co"\x00'})
    fsm.handle("job")
    fsm.handle("go")
    texts = [each.text for each in ET.fromstring(recording.svg()).iter("{http://www.w3.org/2000/svg}text")]
    assert 'the <timer> & "co"␀' in texts
    assert {"caller", "jobs", "idle → busy", "job (deferred before)", "job done"} <= set(texts)


def test_a_recording_of_nothing_is_drawn() -> None:
    recording = record(Fsm(JOBS))
    assert recording.mermaid() == "sequenceDiagram\n    participant p0 as caller\n    participant p1 as jobs\n"
    assert "<text" in recording.svg()
