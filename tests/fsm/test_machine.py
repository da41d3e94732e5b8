"""Each rule of the machine, one test each. What machina does in full is in the recorded traces (conformance/)."""

from __future__ import annotations

import pytest
import transitions

from consul_locker.fsm import START, Action, Defer, Fsm, Input, Queued, State

from .tools import Log, deferring, fail, heard, names, note

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
