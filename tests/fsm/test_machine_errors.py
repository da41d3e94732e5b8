"""Errors in handlers, entries, exits and replays come out, and the machine goes on."""

from __future__ import annotations

import pytest

from consul_locker.fsm import Defer, Fsm, Queued, State

from .tools import Log, deferring, fail, heard, names, note


def test_an_error_in_a_handler_comes_out_and_the_machine_goes_on() -> None:
    fsm = Fsm.of({"s0": State(inputs={"a": fail, "b": lambda me: "well"})}, initial_state="s0")
    events = heard(fsm)
    with pytest.raises(RuntimeError, match="boom"):
        fsm.handle("a")
    assert names(events) == ["handling"]
    assert (fsm.current_action, fsm.prior_action) == ("s0.a", "")
    assert fsm.handle("b") == "well"


def test_an_error_in_an_entry_action_leaves_the_new_state_and_the_queue() -> None:
    log: Log = []
    fsm = deferring(log, s3=State(on_enter=fail))
    fsm.handle("a")
    with pytest.raises(RuntimeError, match="boom"):
        fsm.transition("s3")
    assert (fsm.state, len(fsm.input_queue)) == ("s3", 1)
    fsm.transition("s1")
    assert log == [("a",)]


def test_an_error_in_an_exit_action_comes_out_and_the_machine_is_not_deaf() -> None:
    """Decided otherwise than in machina, which ignores every input from then on."""
    log: Log = []
    trouble = [True]

    def leave(me: Fsm) -> None:
        if trouble:
            fail(me)

    fsm = Fsm.of(
        {
            "s0": State(on_exit=leave, inputs={"a": note(log, "a"), "go": "s1"}),
            "s1": State(),
        },
        initial_state="s0",
    )
    events = heard(fsm)
    for attempt in (lambda: fsm.transition("s1"), lambda: fsm.handle("go")):
        with pytest.raises(RuntimeError, match="boom"):
            attempt()
        assert (fsm.state, fsm.in_exit_handler) == ("s0", False)
    assert names(events) == ["handling"]
    fsm.handle("a")
    assert log == [("a",)]
    trouble.clear()
    fsm.handle("go")
    assert fsm.state == "s1"


def test_an_error_in_an_exit_action_loses_no_deferred_input() -> None:
    log: Log = []
    fsm = deferring(log, s0=State(on_exit=fail, inputs={"a": Defer("s0")}))
    fsm.handle("a", 1)
    with pytest.raises(RuntimeError, match="boom"):
        fsm.transition("s1")
    assert fsm.input_queue == (Queued("s0", "a", (1,)),)


def test_an_error_in_a_replay_leaves_the_rest_queued_in_order() -> None:
    """Decided otherwise than in machina, which loses the rest of the batch."""
    log: Log = []
    fsm = deferring(log, bad=State(inputs={"a": note(log, "first"), "b": fail, "c": note(log, "too early")}))
    for name in "abcd":
        fsm.handle(name)
    with pytest.raises(RuntimeError, match="boom"):
        fsm.transition("bad")
    assert fsm.state == "bad"
    assert [queued.input for queued in fsm.input_queue] == ["c", "d"]
    fsm.transition("s1")
    assert log == [("first",), ("c",), ("d",)]


def test_the_rest_of_a_replay_goes_back_to_its_old_place() -> None:
    log: Log = []
    waiting = State(inputs={"a": Defer(), "b": Defer("s2"), "c": Defer(), "d": Defer("s2")})
    fsm = deferring(log, s0=waiting, bad=State(inputs={"a": fail, "new": Defer()}))
    for name in "abcd":
        fsm.handle(name)
    with pytest.raises(RuntimeError, match="boom"):
        fsm.transition("bad")
    fsm.handle("new")
    assert [queued.input for queued in fsm.input_queue] == ["b", "c", "d", "new"]
    fsm.transition("s2")
    assert log == [("b",), ("c",), ("d",)]


def test_what_a_replay_defers_before_an_error_comes_after_the_rest() -> None:
    fsm = deferring([], bad=State(inputs={"a": Defer("s1"), "b": fail}))
    for name in "abc":
        fsm.handle(name)
    with pytest.raises(RuntimeError, match="boom"):
        fsm.transition("bad")
    assert [(queued.input, queued.until) for queued in fsm.input_queue] == [("c", None), ("a", "s1")]


def test_what_a_replay_clears_before_an_error_stays_cleared() -> None:
    waiting = State(inputs={"a": Defer(), "b": Defer(), "c": Defer(), "d": Defer("s2")})
    fsm = deferring([], s0=waiting, bad=State(inputs={"a": lambda me: me.clear_queue(), "b": fail}))
    for name in "abcd":
        fsm.handle(name)
    with pytest.raises(RuntimeError, match="boom"):
        fsm.transition("bad")
    assert [queued.input for queued in fsm.input_queue] == ["c"]


def test_an_error_in_a_replay_within_a_replay_loses_nothing_either() -> None:
    log: Log = []
    waiting = State(inputs={"a": Defer(), "b": Defer("inner"), "c": Defer("inner"), "d": Defer()})
    fsm = deferring(log, s0=waiting, outer=State(inputs={"a": "inner"}), inner=State(inputs={"b": fail}))
    for name in "abcd":
        fsm.handle(name)
    with pytest.raises(RuntimeError, match="boom"):
        fsm.transition("outer")
    assert fsm.state == "inner"
    assert [queued.input for queued in fsm.input_queue] == ["c", "d"]
