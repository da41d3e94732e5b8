"""The rows of a table, the machine of `transitions` underneath, and what that logs."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import transitions

from consul_locker import LockerFactory
from consul_locker.fsm import Action, Defer, Fsm, Row, State, Table
from consul_locker.fsm.rows import rows_of

from .tools import Log, fail, note

# ------------------------------------------------------------------------------------------ for inspection


def test_rows_are_what_is_declared() -> None:
    table = Table(
        {
            "s0": State(inputs={"go": "s1", "wait": Defer("s1"), "later": Defer(), "no": None}),
            "s1": State(inputs={"act": Action(fail, "fail loudly"), "plain": fail}),
        },
        initial_state="s0",
        inputs={"*": Defer(), "never": fail},
        strict=False,
    )
    assert list(table.rows()) == [
        Row("s0", "go", "goto", "s1", ""),
        Row("s0", "wait", "defer", "s1", "defer until s1"),
        Row("s0", "later", "defer", None, "defer"),
        Row("s0", "no", "nothing", None, ""),
        Row("s1", "act", "action", None, "fail loudly"),
        Row("s1", "plain", "action", None, ""),
        Row("*", "*", "defer", None, "defer"),
    ]
    assert list(Table({"s0": State()}, initial_state="s0").rows()) == []


def test_the_machine_underneath_has_a_row_for_each_state_and_input() -> None:
    table = Table({"s0": State(inputs={"a": "s1"}), "s1": State(inputs={"b": fail})}, initial_state="s0")
    for name in ("a", "b", "*"):
        assert {row.source for row in rows_of(table).machine.get_transitions(name)} == {"s0", "s1"}
    (row,) = rows_of(table).machine.get_transitions("a", "s0")
    assert row.dest == "s1"


def test_what_it_is_shows() -> None:
    fsm = Fsm.of({"s0": State(inputs={"a": Defer()}), "s1": State()}, initial_state="s0", namespace="m")
    fsm.handle("a")
    assert repr(fsm) == "<Fsm 'm' in 's0', 1 deferred>"
    assert repr(fsm.table) == "<Table 'm': s0, s1>"
    assert fsm.namespace == "m"


# ------------------------------------------------------------------------------------------ what is logged


def said(caplog: pytest.LogCaptureFixture) -> set[str]:
    return {record.name for record in caplog.records if record.name.partition(".")[0] == "transitions"}


def test_a_machine_s_work_logs_nothing_of_transitions_at_info(caplog: pytest.LogCaptureFixture) -> None:
    log: Log = []
    with caplog.at_level(logging.INFO):
        fsm = Fsm.of(
            {
                "s0": State(note(log, "in"), note(log, "out"), {"go": "s1", "wait": Defer(), "act": note(log, "act")}),
                "s1": State(inputs={"wait": note(log, "waited")}),
            },
            initial_state="s0",
            strict=False,
        )
        for name in ("act", "wait", "nope", "go"):
            fsm.handle(name)
        fsm.transition("s0")
    assert log == [("in",), ("act",), ("out",), ("waited",), ("in",)]
    assert not said(caplog)


def test_a_locker_s_life_logs_nothing_of_transitions_at_info(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), LockerFactory.embedded() as factory:
        locker = factory.create("n")
        locker.lock("a")
        locker.release("a")
        locker.reboot()
        locker.start()
        assert locker.wait_for_state("ready", 30)
        locker.stop()
    assert not said(caplog)


def test_others_machines_log_as_before(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        model: Any = transitions.Machine(states=["a", "b"], initial="a")
        model.to_b()
    assert said(caplog) == {"transitions.core"}
