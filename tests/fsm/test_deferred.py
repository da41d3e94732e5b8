"""Deferred inputs: when they are replayed, and in which order."""

from __future__ import annotations

from consul_locker.fsm import Defer, Fsm, State

from .tools import Log, deferring, heard, names, note


def test_deferred_input_is_replayed_first_in_first_out() -> None:
    log: Log = []
    fsm = deferring(log)
    events = heard(fsm)
    for number, name in enumerate("abab"):
        fsm.handle(name, number)
    assert events[1] == ("deferred", {"state": "s0", "until": None, "input": "a", "args": (0,), "namespace": "fsm"})
    assert [queued.input for queued in fsm.input_queue] == list("abab")
    fsm.transition("s1")
    assert log == [("a", 0), ("b", 1), ("a", 2), ("b", 3)]
    assert fsm.input_queue == ()


def test_input_deferred_until_a_state_waits_through_others() -> None:
    log: Log = []
    fsm = deferring(log, s0=State(inputs={"a": Defer("s2"), "b": Defer()}))
    fsm.handle("a")
    fsm.handle("b")
    fsm.transition("s1")
    assert log == [("b",)]
    fsm.transition("s2")
    assert log == [("b",), ("a",)]


def test_input_deferred_until_the_present_state_waits_for_its_next_entry() -> None:
    log: Log = []
    fsm = deferring(log)
    fsm.handle("a")
    fsm.clear_queue()
    fsm.defer_until_transition("s0")
    fsm.transition("s1")
    assert (log, len(fsm.input_queue)) == ([], 1)


def test_nothing_is_deferred_before_anything_was_handled() -> None:
    fsm = Fsm.of({"s0": State(on_enter=lambda me: me.defer_until_transition())}, initial_state="s0")
    assert fsm.input_queue == ()


def test_a_deferral_from_outside_queues_the_input_handled_last() -> None:
    log: Log = []
    fsm = deferring(log)
    fsm.transition("s1")
    fsm.handle("a", 1)
    fsm.defer_until_transition()
    fsm.transition("s2")
    assert log == [("a", 1), ("a", 1)]


def test_defer_and_transition_replays_inside_the_outer_handler() -> None:
    log: Log = []

    def outer(me: Fsm) -> None:
        me.defer_and_transition("s1")
        log.append("outer")

    fsm = deferring(log, s0=State(inputs={"a": outer}))
    events = heard(fsm)
    fsm.handle("a")
    assert log == [("a",), "outer"]
    assert names(events) == ["handling", "deferred", "transition", "handling", "handled", "handled"]


def test_input_deferred_again_in_a_replay_waits_for_a_later_one() -> None:
    log: Log = []
    fsm = deferring(log, again=State(inputs={"*": Defer()}))
    fsm.handle("a")
    fsm.handle("b")
    fsm.transition("again")
    assert [queued.input for queued in fsm.input_queue] == ["a", "b"]
    fsm.transition("s1")
    assert log == [("a",), ("b",)]


def test_a_transition_made_by_a_replayed_input_does_not_lose_the_rest() -> None:
    log: Log = []
    fsm = deferring(log, moving=State(inputs={"a": "s1", "b": note(log, "too early")}))
    fsm.handle("a")
    fsm.handle("b")
    fsm.transition("moving")
    assert (fsm.state, log) == ("s1", [("b",)])


def test_clear_queue() -> None:
    fsm = deferring([])
    fsm.handle("a")
    fsm.defer_until_transition("s1")
    fsm.defer_until_transition("s2")
    fsm.clear_queue("s1")
    assert [queued.until for queued in fsm.input_queue] == [None, "s2"]
    fsm.clear_queue()
    assert fsm.input_queue == ()


def test_clearing_the_queue_in_a_replay_does_not_stop_the_batch() -> None:
    log: Log = []
    fsm = deferring(log, s3=State(inputs={"a": lambda me: me.clear_queue(), "b": note(log, "b")}))
    fsm.handle("a")
    fsm.handle("b")
    fsm.transition("s3")
    assert log == [("b",)]


def test_discard_drops_what_it_is_told_and_counts() -> None:
    fsm = deferring([])
    for number in range(4):
        fsm.handle("a", number)
    assert fsm.discard(lambda queued: queued.args[0] % 2 == 0) == 2
    assert [queued.args for queued in fsm.input_queue] == [(1,), (3,)]
    assert fsm.discard(lambda queued: False) == 0


def test_process_queue_from_outside_replays_what_is_due() -> None:
    log: Log = []
    fsm = deferring(log)
    fsm.transition("s1")
    fsm.process_queue()
    fsm.handle("a", 1)
    fsm.defer_until_transition("s1")
    fsm.defer_until_transition("s2")
    fsm.process_queue()
    assert log == [("a", 1), ("a", 1)]
    assert [queued.until for queued in fsm.input_queue] == ["s2"]
