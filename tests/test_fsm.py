"""Each rule of the machine, one test each. What machina does in full is in the recorded traces (conformance/)."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import transitions

from consul_locker import LockerFactory
from consul_locker.fsm import START, Action, Defer, Fsm, Input, Queued, Row, State, Table
from consul_locker.fsm.rows import rows_of

Log = list[Any]


def note(log: Log, what: Any) -> Callable[..., None]:
    """Make a handler that notes itself and its arguments."""
    return lambda client, *args: log.append((what, *args))


def fail(client: Any, *args: Any) -> None:
    """The handler that fails."""
    raise RuntimeError("boom")


def heard(fsm: Fsm) -> list[tuple[str, Any]]:
    """Note every event from now on."""
    events: list[tuple[str, Any]] = []
    fsm.on("*", lambda event, data: events.append((event, data)))
    return events


def names(events: list[tuple[str, Any]]) -> list[str]:
    return [event for event, _ in events]


def deferring(log: Log, strict: bool = True, **more: State) -> Fsm:
    """A machine that defers `a` to `d` in s0 and notes them in s1 and s2."""
    noting = {name: note(log, name) for name in "abcd"}
    states = {
        "s0": State(inputs={name: Defer() for name in "abcd"}),
        "s1": State(inputs=noting),
        "s2": State(inputs=noting),
    }
    return Fsm.of({**states, **more}, initial_state="s0", strict=strict)


# ------------------------------------------------------------------------------------------ construction


def test_the_initial_state_is_needed() -> None:
    with pytest.raises(ValueError, match="an initial state is needed"):
        Table({"s0": State()}, initial_state=None)


def test_the_initial_state_must_exist() -> None:
    with pytest.raises(ValueError, match="'nope' is not among the states"):
        Table({"s0": State()}, initial_state="nope")


def test_the_initial_state_has_a_default() -> None:
    assert Fsm.of({"uninitialized": State()}).state == "uninitialized"


@pytest.mark.parametrize("name", ["", "*", "=", START])
def test_reserved_states_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a state cannot be called"):
        Table({"s0": State(), name: State()}, initial_state="s0")


@pytest.mark.parametrize("name", ["go to s0", "fsm_state"])
def test_reserved_inputs_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Table({"s0": State(inputs={name: "s0"})}, initial_state="s0")


def test_an_input_may_have_the_name_of_anything_on_a_model() -> None:
    log: Log = []
    odd = ["state", "trigger", "handle", "__init__", "__class__", "s0", "is_s0"]
    fsm = Fsm.of({"s0": State(inputs={name: note(log, name) for name in odd})}, initial_state="s0")
    for name in odd:
        fsm.handle(name)
    assert log == [(name,) for name in odd]


def test_many_machines_share_one_table_and_nothing_else() -> None:
    table = Table({"s0": State(inputs={"go": "s1", "later": Defer()}), "s1": State()}, initial_state="s0")
    one, two = Fsm(table), Fsm(table)
    one.handle("later")
    one.handle("go")
    assert (one.state, two.state) == ("s1", "s0")
    assert one.table is two.table
    assert rows_of(table).machine.models == []


def test_a_machine_goes_away_with_its_last_user() -> None:
    table = Table({"s0": State()}, initial_state="s0")
    fsm = Fsm(table, client=object())
    gone = weakref.ref(fsm)
    gc.disable()  # at once, not only when somebody looks for cycles
    try:
        del fsm
        assert gone() is None
    finally:
        gc.enable()


def test_the_client_is_what_handlers_get() -> None:
    log: Log = []
    states = {"s0": State(on_enter=log.append, inputs={"a": lambda client: log.append(client)})}
    client = object()
    Fsm.of(states, initial_state="s0", client=client).handle("a")
    assert log == [client, client]
    log.clear()
    fsm = Fsm.of(states, initial_state="s0")
    assert log == [fsm]


# ------------------------------------------------------------------------------------------- the beginning


def test_the_first_transition_is_one_like_any_other() -> None:
    log: Log = []
    fsm = Fsm.of({"s0": State(on_enter=note(log, "enter"))}, initial_state="s0", namespace="m", begin=False)
    events = heard(fsm)
    assert (fsm.state, fsm.prior_state, log) == (START, None, [])
    fsm.begin()
    assert events == [("transition", {"from_state": None, "to_state": "s0", "action": "", "namespace": "m"})]
    assert (fsm.state, fsm.prior_state, log) == ("s0", None, [("enter",)])


def test_begin_is_called_once() -> None:
    fsm = Fsm.of({"s0": State()}, initial_state="s0")
    with pytest.raises(RuntimeError, match="begun already"):
        fsm.begin()


def test_nothing_can_be_handled_before_the_beginning() -> None:
    fsm = Fsm.of({"s0": State(inputs={"a": "s1"}), "s1": State()}, initial_state="s0", begin=False)
    for attempt in (lambda: fsm.handle("a"), lambda: fsm.handle("nope"), lambda: fsm.transition("s1")):
        with pytest.raises(transitions.MachineError):
            attempt()
    assert fsm.state == START


def test_an_error_in_the_first_entry_action_comes_out() -> None:
    with pytest.raises(RuntimeError, match="boom"):
        Fsm.of({"s0": State(on_enter=fail)}, initial_state="s0")


# --------------------------------------------------------------------------------------- what an input does


def test_a_handler_gets_the_arguments_and_its_value_comes_back() -> None:
    fsm = Fsm.of({"s0": State(inputs={"a": lambda client, *args: args})}, initial_state="s0", namespace="m")
    events = heard(fsm)
    assert fsm.handle("a", 1, 2) == (1, 2)
    payload = {"input": "a", "namespace": "m"}
    assert events == [("handling", payload), ("handled", payload)]


def test_a_value_belongs_to_its_own_call() -> None:
    fsm = Fsm.of(
        {"s0": State(inputs={"outer": lambda me: (me.handle("inner"), "outer")[1], "inner": lambda me: "inner",
                             "nothing": lambda me: None})},
        initial_state="s0",
        strict=False,
    )  # fmt: skip
    fsm.on("handled", lambda data: data["input"] == "outer" and fsm.handle("inner"))
    assert fsm.handle("outer") == "outer"
    assert fsm.handle("nothing") is None
    assert fsm.handle("unheard of") is None


def test_an_input_needs_a_name() -> None:
    fsm = Fsm.of({"s0": State()}, initial_state="s0")
    with pytest.raises(TypeError, match="name of an input"):
        fsm.handle(None)


def test_a_state_for_a_handler_goes_there_and_answers_its_name() -> None:
    fsm = Fsm.of({"s0": State(inputs={"go": "s1"}), "s1": State()}, initial_state="s0")
    events = heard(fsm)
    assert fsm.handle("go") == "s1"
    assert names(events) == ["handling", "transition", "handled"]
    assert events[1][1]["action"] == "s0.go"


def test_going_to_the_same_state_is_handled_and_nothing_else() -> None:
    log: Log = []
    fsm = Fsm.of({"s0": State(on_exit=note(log, "exit"), inputs={"go": "s0"})}, initial_state="s0")
    events = heard(fsm)
    assert fsm.handle("go") == "s0"
    assert names(events) == ["handling", "handled"]
    assert log == []


def test_going_to_an_unknown_state_is_reported() -> None:
    fsm = Fsm.of({"s0": State(inputs={"go": "nope"})}, initial_state="s0", namespace="m", strict=False)
    assert fsm.handle("go") == "nope"
    events = heard(fsm)
    fsm.handle("go")
    assert names(events) == ["handling", "invalidstate", "handled"]
    assert events[1][1] == {"state": "s0", "attempted_state": "nope", "namespace": "m"}


def test_the_catch_all_gets_the_name_first() -> None:
    log: Log = []
    fsm = Fsm.of({"s0": State(inputs={"*": note(log, "any"), "no": None})}, initial_state="s0")
    fsm.handle("a", 1)
    fsm.handle("no", 2)
    fsm.handle("*", 3)
    fsm.handle(Input("b", delegated=True, ticket="t"), 4)
    fsm.handle(5, 6)
    assert log == [("any", "a", 1), ("any", "no", 2), ("any", "*", 3), ("any", "b", 4), ("any", 5, 6)]
    assert fsm.prior_action == "s0.*"


def test_the_order_in_which_a_handler_is_looked_for() -> None:
    log: Log = []
    fsm = Fsm.of(
        {
            "own": State(inputs={"a": note(log, "own"), "*": note(log, "state's")}),
            "any": State(inputs={"*": note(log, "state's")}),
            "none": State(),
        },
        initial_state="own",
        inputs={"a": note(log, "never"), "*": note(log, "machine's")},
        strict=False,
    )
    for state in ("own", "any", "none"):
        fsm.transition(state)
        fsm.handle("a")
    assert log == [("own",), ("state's", "a"), ("machine's", "a")]


def test_a_handler_for_a_named_input_on_the_machine_is_never_used() -> None:
    log: Log = []
    inputs = {"a": note(log, "never")}
    fsm = Fsm.of({"s0": State()}, initial_state="s0", inputs=inputs, namespace="m", strict=False)
    events = heard(fsm)
    fsm.handle("a", 1)
    assert log == []
    assert events == [("nohandler", {"input": "a", "args": (1,), "namespace": "m"})]
    assert fsm.prior_action == "s0.*"


def test_a_catch_all_may_be_a_state_a_deferral_or_an_action() -> None:
    log: Log = []
    fsm = Fsm.of(
        {
            "s0": State(inputs={"*": Defer("s2"), "on": "s1"}),
            "s1": State(inputs={"*": "s2"}),
            "s2": State(inputs={"*": Action(note(log, "any"), "note")}),
        },
        initial_state="s0",
    )
    fsm.handle("a", 1)
    fsm.handle("on")
    fsm.handle("b")
    assert log == [("any", "a", 1)]


def test_an_action_with_a_label_is_a_handler() -> None:
    fsm = Fsm.of({"s0": State(inputs={"a": Action(lambda client, x: x, "answer")})}, initial_state="s0")
    assert fsm.handle("a", 7) == 7


def test_flags_of_an_input_are_in_its_events() -> None:
    fsm = Fsm.of({"s0": State(inputs={"a": Defer()})}, initial_state="s0")
    events = heard(fsm)
    fsm.handle(Input("a", delegated=True, ticket="t"), 1)
    assert names(events) == ["handling", "deferred", "handled"]
    for _, data in events:
        assert (data["input"], data["delegated"], data["ticket"], data["bubbling"]) == ("a", True, "t", False)
    assert fsm.input_queue == (Queued(None, Input("a", delegated=True, ticket="t"), (1,)),)


def test_an_input_that_is_no_name_has_none_in_its_events() -> None:
    fsm = Fsm.of({"s0": State(inputs={"5": fail})}, initial_state="s0", strict=False)
    events = heard(fsm)
    fsm.handle(5, 1)
    assert names(events) == ["nohandler"]
    assert events[0][1]["input"] is None


# --------------------------------------------------------------------------------------------- transitions


def test_the_order_of_a_transition() -> None:
    log: Log = []
    fsm = Fsm.of(
        {
            "s0": State(on_exit=lambda me: log.append(("exit", me.state, me.in_exit_handler)), inputs={"a": Defer()}),
            "s1": State(on_enter=lambda me: log.append(("enter", me.state)), inputs={"a": note(log, "replayed")}),
        },
        initial_state="s0",
    )
    fsm.handle("a")
    fsm.on("transition", lambda data: log.append(("event", fsm.state)))
    fsm.transition("s1")
    assert log == [("exit", "s0", True), ("event", "s1"), ("enter", "s1"), ("replayed",)]
    assert (fsm.state, fsm.prior_state, fsm.in_exit_handler) == ("s1", "s0", False)


def test_a_transition_to_the_same_state_does_nothing() -> None:
    log: Log = []
    fsm = Fsm.of({"s0": State(note(log, "enter"), note(log, "exit"), {"a": Defer()})}, initial_state="s0")
    log.clear()
    fsm.handle("a")
    events = heard(fsm)
    fsm.transition("s0")
    assert (log, events, len(fsm.input_queue)) == ([], [], 1)


def test_a_transition_to_an_unknown_state_leaves_everything() -> None:
    fsm = Fsm.of({"s0": State()}, initial_state="s0")
    fsm.transition("nope")
    events = heard(fsm)
    fsm.transition("nope")
    assert names(events) == ["invalidstate"]
    assert fsm.state == "s0"


def test_a_transition_in_a_handler_happens_at_once() -> None:
    log: Log = []

    def go(me: Fsm) -> None:
        me.transition("s1")
        log.append(me.state)

    fsm = Fsm.of({"s0": State(inputs={"a": go}), "s1": State()}, initial_state="s0")
    events = heard(fsm)
    fsm.handle("a")
    assert log == ["s1"]
    assert names(events) == ["handling", "transition", "handled"]
    assert events[1][1]["action"] == "s0.a"


def test_an_exit_action_can_neither_move_the_machine_nor_have_anything_handled() -> None:
    log: Log = []

    def leave(me: Fsm) -> None:
        me.transition("s2")
        me.transition("nope")
        assert me.handle("a") is None

    fsm = Fsm.of(
        {"s0": State(on_exit=leave, inputs={"a": note(log, "a")}), "s1": State(), "s2": State()}, initial_state="s0"
    )
    events = heard(fsm)
    fsm.transition("s1")
    assert names(events) == ["transition"]
    assert (fsm.state, log) == ("s1", [])


def test_an_input_dropped_in_an_exit_action_is_the_one_a_deferral_queues() -> None:
    fsm = Fsm.of({"s0": State(on_exit=lambda me: me.handle("dropped", 1)), "s1": State()}, initial_state="s0")
    fsm.transition("s1")
    fsm.defer_until_transition("s0")
    assert fsm.input_queue == (Queued("s0", "dropped", (1,)),)


def test_an_entry_action_may_move_on_and_the_queue_is_replayed_where_it_arrives() -> None:
    log: Log = []
    fsm = deferring(log, s3=State(on_enter=lambda me: me.transition("s2"), inputs={"a": note(log, "in s3")}))
    fsm.handle("a")
    fsm.transition("s3")
    assert log == [("a",)]
    assert (fsm.state, fsm.prior_state) == ("s2", "s3")


# ------------------------------------------------------------------------------------------ deferred inputs


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


# ------------------------------------------------------------------------------------------------- actions


def test_the_current_and_the_prior_action() -> None:
    seen: Log = []
    fsm = Fsm.of({"s0": State(inputs={"a": lambda me: seen.append(me.current_action)})}, initial_state="s0")
    fsm.handle("a")
    assert (seen, fsm.current_action, fsm.prior_action) == (["s0.a"], "", "s0.a")


def test_a_nested_input_empties_the_current_action() -> None:
    seen: Log = []

    def outer(me: Fsm) -> None:
        me.handle("inner")
        seen.append((me.current_action, me.prior_action))
        me.defer_until_transition()

    fsm = Fsm.of({"s0": State(inputs={"outer": outer, "inner": note([], "")})}, initial_state="s0")
    fsm.handle("outer")
    assert seen == [("", "s0.inner")]
    assert fsm.prior_action == ""
    assert fsm.input_queue[0].input == "inner"


# -------------------------------------------------------------------------------------------------- errors


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


# ----------------------------------------------------------------------------------------------- listeners


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
