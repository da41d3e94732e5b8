"""What is kept of a machine, and brought back."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from consul_locker.fsm import START, Behavior, Defer, Fsm, Input, Queued, State, Table, TableError


def table(log: list[Any]) -> Table:
    def enter(me: Any) -> None:
        log.append("entered")

    inner = Table(
        {
            "dark": State(on_enter=enter, inputs={"press": "bright", "keep": Defer("bright")}),
            "bright": State(on_enter=enter, inputs={"keep": lambda me, *args: log.append(("kept below", *args))}),
        },
        initial_state="dark",
        namespace="lamp",
    )
    return Table(
        {
            "a": State(inputs={"go": "b", "wait": Defer(("b", "c")), "later": Defer()}),
            "b": State(on_enter=enter, child=inner, inputs={"on": "c", "keep it": Defer("c")}),
            "c": State(
                inputs={
                    "wait": lambda me, *args: log.append(("waited", *args)),
                    "keep it": lambda me, *args: log.append(("kept", *args)),
                }
            ),
        },
        initial_state="a",
        namespace="m",
    )


def through_json(data: Any) -> Any:
    return json.loads(json.dumps(data))


def test_it_is_data_that_json_can_write() -> None:
    fsm = Fsm(table([]))
    fsm.handle("wait", 1, {"x": [1, 2]}, (3,))
    fsm.handle("later")
    snapshot = fsm.snapshot()
    assert snapshot == through_json(snapshot)
    flags = {"delegated": False, "ticket": None, "bubbling": False}
    assert snapshot == {
        "format": 1,
        "namespace": "m",
        "state": "a",
        "prior_state": None,
        "queue": [
            {"until": ["b", "c"], "input": "wait", "args": [1, {"x": [1, 2]}, [3]], **flags},
            {"until": None, "input": "later", "args": [], **flags},
        ],
        "child": None,
    }


def test_a_machine_goes_on_where_it_was_with_its_children_and_queues() -> None:
    log: list[Any] = []
    fsm = Fsm(table(log))
    fsm.handle("go")
    fsm.handle("keep", 1)
    fsm.handle("press")
    fsm.handle("keep it", 2)
    fsm.child.handle("keep", 3)
    assert fsm.composite_state == "b.bright"
    log.clear()
    client = object()
    again = Fsm.restore(fsm.table, client, through_json(fsm.snapshot()), mutex=True)
    assert log == []
    assert (again.composite_state, again.prior_state, again.client) == ("b.bright", "a", client)
    assert again.child.prior_state == "dark"
    assert [queued.input.name for queued in again.input_queue] == ["keep it"]
    heard: list[Any] = []
    again.on("handling", lambda data: heard.append(data["namespace"]))
    again.handle("keep", 4)
    assert (log, heard) == ([("kept below", 4)], ["lamp"])
    again.handle("on")
    assert log[-1] == ("kept", 2)
    assert again.state == "c"
    assert fsm.composite_state == "b.bright"


def test_a_queue_below_is_kept_too() -> None:
    log: list[Any] = []
    fsm = Fsm(table(log))
    fsm.handle("go")
    fsm.handle("keep", 1)
    again = Fsm.restore(fsm.table, None, through_json(fsm.snapshot()))
    again.handle("press")
    assert log[-1] == ("kept below", 1)


def test_a_plain_machine_keeps_plain_inputs() -> None:
    plain = Table({"a": State(inputs={"x": Defer("b")}), "b": State(inputs={"x": "a"})}, initial_state="a")
    fsm = Fsm(plain)
    fsm.handle("x", 1)
    fsm.handle(Input("x", ticket="mine"))
    again = Fsm.restore(plain, None, through_json(fsm.snapshot()))
    assert again.input_queue == (Queued("b", "x", (1,)), Queued("b", Input("x", ticket="mine"), ()))


def test_what_a_function_makes_for_a_child_is_made_anew() -> None:
    log: list[Any] = []
    one = State(on_enter=lambda me: log.append("one"), inputs={"on": "two"})
    below = Table({"one": one, "two": State()}, initial_state="one")
    for begin in (True, False):
        child = lambda client, begin=begin: Fsm(below, client, begin=begin)  # noqa: E731 # one for each round
        parent = Table({"p": State(child=child)}, initial_state="p")
        fsm = Fsm(parent)
        fsm.handle("on")
        log.clear()
        again = Fsm.restore(parent, None, fsm.snapshot())
        assert again.composite_state == "p.two"
        assert log == (["one"] if begin else [])


def test_a_child_without_a_snapshot_begins() -> None:
    log: list[Any] = []
    fsm = Fsm(table(log))
    fsm.handle("go")
    again = Fsm.restore(fsm.table, None, {**fsm.snapshot(), "child": None})
    assert again.composite_state == "b.dark"


def test_there_is_none_before_the_beginning_or_in_the_middle() -> None:
    with pytest.raises(RuntimeError, match="has not begun"):
        Fsm(table([]), begin=False).snapshot()
    fsm = Fsm.of({"s": State(inputs={"x": lambda me: me.snapshot()})}, initial_state="s")
    with pytest.raises(RuntimeError, match="in the middle of an input"):
        fsm.handle("x")


@pytest.mark.parametrize("argument", [object(), float("nan"), {1, 2}])
def test_an_argument_that_cannot_be_written_is_told(argument: Any) -> None:
    fsm = Fsm(table([]))
    fsm.handle("wait", argument)
    with pytest.raises(TypeError, match="the deferred input 'wait' cannot be kept"):
        fsm.snapshot()


RIGHT: dict[str, Any] = {"format": 1, "state": "a", "queue": [], "child": None}
QUEUED = {"until": None, "input": "wait", "args": []}


@pytest.mark.parametrize(
    ("snapshot", "message"),
    [
        (None, "snapshot: None is no snapshot"),
        ({}, r"snapshot\['state'\]: None is missing"),
        ({**RIGHT, "format": 2}, r"snapshot\['format'\]: 2 is not 1"),
        ({**RIGHT, "state": "aa"}, r"snapshot\['state'\]: 'aa' is not among the states"),
        ({**RIGHT, "prior_state": 5}, r"snapshot\['prior_state'\]: 5 is not among the states"),
        ({**RIGHT, "queue": [7]}, r"snapshot\['queue'\]\[0\]: 7 is no snapshot"),
        ({**RIGHT, "queue": [{**QUEUED, "args": 1}]}, r"\['queue'\]\[0\]\['args'\]: 1 is missing, or no list"),
        ({**RIGHT, "queue": [{**QUEUED, "until": "x"}]}, r"\['queue'\]\[0\]\['until'\]: 'x' is not among the states"),
        ({**RIGHT, "queue": [{**QUEUED, "until": ["a", "x"]}]}, r"\['until'\]: 'x' is not among the states"),
        ({**RIGHT, "child": RIGHT}, r"snapshot\['child'\]: .* has no place: the state 'a' has no child"),
    ],
)
def test_what_does_not_fit_is_told(snapshot: Any, message: str) -> None:
    with pytest.raises(TableError, match=message):
        Fsm.restore(table([]), None, snapshot)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_machine_that_is_copied_says_what_to_do(copied: Any) -> None:
    with pytest.raises(TypeError, match=r"keep its snapshot\(\), and make another with Fsm.restore"):
        copied(Fsm(table([])))


def test_a_table_is_the_same_when_it_is_copied() -> None:
    made = table([])
    assert copy.copy(made) is made
    assert copy.deepcopy(made) is made
    with pytest.raises(TypeError, match="import it where it is needed"):
        pickle.dumps(made)


def test_nothing_is_left_of_one_that_does_not_fit() -> None:
    class Client:
        pass

    behavior = Behavior(table([]))
    client = Client()
    with pytest.raises(TableError):
        behavior.restore(client, {**RIGHT, "state": "x"})
    assert client not in behavior
    assert Fsm(behavior.table, begin=False).state == START
