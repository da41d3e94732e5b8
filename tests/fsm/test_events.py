"""Listeners: their order, and what they may do to the machine."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from consul_locker.fsm import Fsm, State

from .tools import Log, deferring, fail, heard, names, note


def test_listeners_of_all_events_come_first_each_group_in_order() -> None:
    fsm = Fsm.of({"s0": State()}, initial_state="s0")
    log: Log = []
    fsm.on("x", lambda data: log.append(("x1", data)))
    fsm.on("*", lambda event, data: log.append(("*1", event, data)))
    fsm.on("x", lambda data: log.append(("x2", data)))
    fsm.on("*", lambda event, data: log.append(("*2", event, data)))
    fsm.emit("x", 1)
    assert log == [("*1", "x", 1), ("*2", "x", 1), ("x1", 1), ("x2", 1)]


def test_a_custom_event_may_be_without_data() -> None:
    fsm = Fsm.of({"s0": State()}, initial_state="s0")
    events = heard(fsm)
    fsm.emit("x")
    assert events == [("x", None)]


def test_an_event_called_star_is_heard_twice() -> None:
    fsm = Fsm.of({"s0": State()}, initial_state="s0")
    events = heard(fsm)
    fsm.emit("*", "x")
    assert events == [("*", "x"), ("x", None)]


def test_off() -> None:
    fsm = Fsm.of({"s0": State()}, initial_state="s0")
    log: Log = []
    one = fsm.on("x", lambda data: log.append("one"))
    fsm.on("x", lambda data: log.append("two"))
    fsm.on("y", lambda data: log.append("y"))
    heard_all = heard(fsm)
    one.off()
    one.off()
    fsm.emit("x")
    assert log == ["two"]
    fsm.off("x")
    fsm.off("never heard of")
    fsm.emit("x")
    fsm.emit("y")
    assert log == ["two", "y"]
    fsm.off()
    fsm.emit("y")
    assert names(heard_all) == ["x", "x", "y"]


def test_a_bound_method_can_be_taken_out() -> None:
    fsm = Fsm.of({"s0": State()}, initial_state="s0")
    log: Log = []
    fsm.on("x", log.append)
    fsm.off("x", log.append)
    fsm.emit("x", 1)
    assert log == []


def test_a_group_of_listeners_changes_only_for_the_next_event() -> None:
    fsm = Fsm.of({"s0": State()}, initial_state="s0")
    log: Log = []
    late = lambda data: log.append("late")  # noqa: E731 # the same object is needed twice

    def first(data: Any) -> None:
        fsm.on("x", lambda data: log.append("added"))
        fsm.off("x", late)

    fsm.on("x", first)
    fsm.on("x", late)
    fsm.emit("x")
    assert log == ["late"]
    fsm.off("x", first)
    fsm.emit("x")
    assert log == ["late", "added"]


@pytest.mark.parametrize(("target", "visited"), [("s1", "s2"), ("s2", "s2"), ("s0", "s2"), ("nope", "s2")])
def test_a_listener_of_handling_may_move_the_machine(target: str, visited: str) -> None:
    log: Log = []
    fsm = Fsm.of(
        {
            "s0": State(on_exit=note(log, "exit s0"), inputs={"go": target}),
            "s1": State(on_enter=note(log, "enter s1")),
            "s2": State(on_exit=note(log, "exit s2")),
        },
        initial_state="s0",
        strict=False,
    )
    events = heard(fsm)
    moving = fsm.on("handling", lambda data: fsm.transition(visited))
    assert fsm.handle("go") == target
    moving.off()
    moves = [(data["from_state"], data["to_state"]) for event, data in events if event == "transition"]
    expected = {
        "s1": [("s0", "s2"), ("s2", "s1")],
        "s2": [("s0", "s2")],
        "s0": [("s0", "s2"), ("s2", "s0")],
        "nope": [("s0", "s2")],
    }
    assert moves == expected[target]
    assert log.count(("exit s0",)) == 1
    assert names(events)[-1] == "handled"
    assert ("invalidstate" in names(events)) == (target == "nope")


def test_the_handler_chosen_before_a_listener_of_handling_moved_still_runs() -> None:
    log: Log = []
    fsm = Fsm.of(
        {"s0": State(inputs={"a": note(log, "in s0")}), "s1": State(inputs={"a": note(log, "in s1")})},
        initial_state="s0",
    )
    fsm.on("handling", lambda data: fsm.transition("s1"))
    fsm.handle("a")
    assert (log, fsm.state, fsm.prior_action) == ([("in s0",)], "s1", "s0.a")


def test_a_listener_that_moves_on_at_a_transition_leaves_the_replay_to_the_inner_one() -> None:
    log: Log = []
    fsm = deferring(log, s3=State(on_enter=note(log, "enter s3")))
    fsm.handle("a")
    fsm.on("transition", lambda data: fsm.transition("s1"))
    fsm.transition("s3")
    assert log == [("a",), ("enter s3",)]
    assert fsm.state == "s1"


def test_an_error_in_a_listener_comes_out_before_the_handler() -> None:
    log: Log = []
    fsm = Fsm.of({"s0": State(inputs={"a": note(log, "a")})}, initial_state="s0")
    fsm.on("handling", fail)
    with pytest.raises(RuntimeError, match="boom"):
        fsm.handle("a")
    assert log == []


def test_safe_emit_logs_errors_of_listeners_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    fsm = Fsm.of({"s0": State(inputs={"a": lambda me: "well", "bad": fail})}, initial_state="s0", safe_emit=True)
    log: Log = []
    fsm.on("handling", fail)
    fsm.on("handling", log.append)
    with caplog.at_level(logging.ERROR, "consul_locker"):
        assert fsm.handle("a") == "well"
    assert len(log) == 1
    assert [record.exc_info is not None for record in caplog.records] == [True]
    with pytest.raises(RuntimeError, match="boom"):
        fsm.handle("bad")


def test_safe_emit_lets_an_interrupt_through() -> None:
    fsm = Fsm.of({"s0": State()}, initial_state="s0", safe_emit=True)

    def interrupt(data: Any) -> None:
        raise KeyboardInterrupt

    fsm.on("x", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fsm.emit("x")


def test_everything_works_the_same_when_nobody_listens() -> None:
    log: Log = []
    fsm = deferring(log, strict=False)
    fsm.handle("a")
    fsm.handle("nope")
    fsm.transition("nope")
    fsm.transition("s1")
    assert log == [("a",)]
