"""Machines below states: what a user sees of them. What machina does in full: hierarchical.jsonl (conformance/)."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from consul_locker.fsm import Defer, Fsm, Input, State, Table, TableError, UnknownInput
from consul_locker.fsm.children import MAX_PENDING


def note(log: list[Any], what: str) -> Any:
    return lambda client, *args: log.append((what, *args))


def lamp(log: list[Any]) -> Table:
    return Table(
        {
            "dark": State(on_enter=note(log, "dark"), inputs={"press": "bright"}),
            "bright": State(inputs={"press": "dark", "count": lambda client, n: n + 1}),
        },
        initial_state="dark",
        namespace="lamp",
    )


def house(log: list[Any], child: Any = None, **options: Any) -> Fsm:
    return Fsm.of(
        {
            "empty": State(inputs={"arrive": "used", "ring": note(log, "ring")}),
            "used": State(
                on_enter=note(log, "used"),
                on_exit=note(log, "left"),
                child=lamp(log) if child is None else child,
                inputs={"leave": "empty", "ring": note(log, "ring inside")},
            ),
        },
        initial_state="empty",
        namespace="house",
        **options,
    )


def test_a_child_handles_first_and_the_rest_bubbles() -> None:
    log: list[Any] = []
    fsm = house(log)
    assert (fsm.composite_state, fsm.child) == ("empty", None)
    fsm.handle("arrive")
    assert (fsm.composite_state, fsm.state, fsm.child.state) == ("used.dark", "used", "dark")
    assert log == [("dark",), ("used",)]
    assert fsm.handle("press") == "bright"
    assert fsm.composite_state == "used.bright"
    assert fsm.handle("count", 2) == 3
    fsm.handle("ring", 1)
    assert log[-1] == ("ring inside", 1)
    fsm.handle("leave")
    assert (fsm.composite_state, fsm.child) == ("empty", None)


def test_each_entry_begins_anew_with_the_parent_s_client() -> None:
    log: list[Any] = []
    client = object()
    fsm = house(log, client=client)
    fsm.handle("arrive")
    first = fsm.child
    fsm.handle("press")
    fsm.handle("leave")
    fsm.handle("arrive")
    assert fsm.child is not first
    assert fsm.child.client is client
    assert fsm.composite_state == "used.dark"


def test_each_parent_has_a_child_of_its_own() -> None:
    log: list[Any] = []
    one = house(log)
    two = Fsm(one.table)
    for fsm in (one, two):
        fsm.handle("arrive")
    one.handle("press")
    assert (one.composite_state, two.composite_state) == ("used.bright", "used.dark")


def test_a_function_makes_the_child_of_the_client() -> None:
    log: list[Any] = []
    kept = Fsm(lamp(log))
    fsm = house(log, child=lambda client: kept)
    fsm.handle("arrive")
    fsm.handle("press")
    fsm.handle("leave")
    fsm.handle("arrive")
    assert fsm.composite_state == "used.bright"
    late = house(log, child=lambda client: Fsm(lamp(log), client, begin=False))
    late.handle("arrive")
    assert late.composite_state == "used.dark"


@pytest.mark.parametrize("made", [None, "lamp", object()])
def test_what_is_no_machine_cannot_be_a_child(made: Any) -> None:
    fsm = house([], child=lambda client: made)
    with pytest.raises(TableError, match=r"states\['used'\].child: .* was returned, but a child is a machine"):
        fsm.handle("arrive")
    assert fsm.state == "empty"


def test_a_machine_cannot_be_its_own_child() -> None:
    fsm = house([], child=lambda client: client)
    with pytest.raises(TableError, match="but a child is a machine of its own"):
        fsm.handle("arrive")


def test_reset_is_given_to_the_child_on_entry() -> None:
    log: list[Any] = []
    child = Table({"c": State(inputs={"_reset": note(log, "reset")})}, initial_state="c")
    fsm = house(log, child=child)
    fsm.handle("arrive")
    assert log == [("used",), ("reset",)]


def test_the_child_s_events_are_heard_through_the_parent() -> None:
    fsm = house([])
    heard: list[Any] = []
    fsm.on("*", lambda event, data: heard.append((event, data.get("namespace"), data.get("input"))))
    fsm.handle("arrive")
    heard.clear()
    fsm.handle("press")
    assert [event for event, _, _ in heard] == ["handling", "transition", "handled"]
    assert {namespace for _, namespace, _ in heard} == {"lamp"}
    heard.clear()
    fsm.handle("ring")
    assert heard == [("handling", "house", "ring"), ("handled", "house", "ring")]
    fsm.child.emit("own", {"namespace": "lamp"})
    assert heard[-1][0] == "own"
    child = fsm.child
    fsm.handle("leave")
    heard.clear()
    child.handle("press")
    assert heard == []


def test_an_unknown_input_is_told_by_the_outermost_machine() -> None:
    fsm = house([])
    with pytest.raises(UnknownInput):
        fsm.handle("press")  # only the child knows it, and there is none yet
    fsm.handle("arrive")
    fsm.handle("press")
    with pytest.raises(UnknownInput, match="'house', which is in 'used', knows the input 'pres'"):
        fsm.handle("pres")
    assert fsm.knows("press")
    assert not fsm.knows("pres")


def test_what_a_child_begins_bubbles_whether_it_is_known_or_not() -> None:
    log: list[Any] = []
    fsm = house(log)
    fsm.handle("arrive")
    child = fsm.child
    child.handle("ring", 5)
    assert log[-1] == ("ring inside", 5)
    heard: list[Any] = []
    fsm.on("nohandler", heard.append)
    child.handle("nobody knows it")
    assert [data["input"] for data in heard] == ["nobody knows it"]
    fsm.handle("leave")
    with pytest.raises(UnknownInput):
        child.handle("nobody knows it")


def test_can_handle_looks_below() -> None:
    fsm = house([])
    assert (fsm.can_handle("arrive"), fsm.can_handle("press"), fsm.can_handle("leave")) == (True, False, False)
    fsm.handle("arrive")
    assert (fsm.can_handle("press"), fsm.can_handle(Input("leave")), fsm.can_handle("arrive")) == (True, True, False)
    later = Fsm(fsm.table, begin=False)
    assert not later.can_handle("arrive")


def test_can_handle_is_false_in_an_exit_action() -> None:
    seen: list[bool] = []
    fsm = Fsm.of(
        {"a": State(on_exit=lambda me: seen.append(me.can_handle("go")), inputs={"go": "b"}), "b": State()},
        initial_state="a",
    )
    assert fsm.can_handle("go")
    fsm.handle("go")
    assert seen == [False]


def test_input_handled_in_an_exit_action_is_dropped_for_the_child_too() -> None:
    fsm = house([], child=lambda client: Fsm(lamp([])))
    table = Table(
        {"a": State(on_exit=lambda me: me.handle("press"), child=lamp([]), inputs={"go": "b"}), "b": State()},
        initial_state="a",
    )
    fsm = Fsm(table)
    child = fsm.child
    fsm.handle("go")
    assert child.state == "dark"
    with pytest.raises(TypeError, match="name of an input"):
        fsm.handle(None)


def test_a_parent_remembers_only_so_many_inputs_that_its_child_drops() -> None:
    """A child without listeners neither says that it handles an input, nor that it does not."""
    fsm = house([])
    fsm.handle("arrive")
    fsm.child.off()
    for _ in range(MAX_PENDING + 10):
        fsm.handle("press")
    assert len(fsm._nest._pending) == MAX_PENDING  # type: ignore[union-attr]


def test_events_of_the_user_s_own_may_have_the_names_of_the_machine_s() -> None:
    fsm = house([])
    fsm.handle("arrive")
    heard: list[Any] = []
    fsm.on("nohandler", heard.append)
    fsm.on("handling", heard.append)
    fsm.child.emit("nohandler", "mine")
    fsm.child.emit("handling", "mine")
    assert heard == ["mine", "mine"]


def test_a_child_that_is_no_fsm_needs_only_what_is_asked_of_it() -> None:
    class Odd:
        composite_state = "odd"

        def __init__(self) -> None:
            self.calls: list[Any] = []

        def handle(self, input: Any, *args: Any) -> str:
            self.calls.append(input if isinstance(input, str) else input.name)
            return "handled"

        def on(self, event: str, listener: Any) -> Any:
            self.calls.append("on")
            return self

        def off(self) -> None:
            self.calls.append("off")

        def knows(self, input: str) -> bool:
            return True

        def can_handle(self, input: str) -> bool:
            return False

        def entered(self) -> None:
            self.calls.append("entered")

        def left(self) -> None:
            self.calls.append("left")

    odd = Odd()
    fsm = house([], child=lambda client: odd)
    fsm.handle("arrive")
    assert fsm.composite_state == "used.odd"
    assert fsm.handle("anything") == "handled"
    fsm.transition("empty")
    assert odd.calls == ["on", "entered", "_reset", "anything", "off", "left"]
    fsm.handle("arrive")
    assert fsm.snapshot()["child"] is None
    outer = Fsm.of({"s": State(child=lambda client: fsm)}, initial_state="s", mutex=None)
    assert outer.composite_state == "s.used.odd"
    outer.dispose()


# -------------------------------------------------------------------------------------------- the guard


def test_a_family_has_one_mutex() -> None:
    """An input of the parent on one thread, and one of the child on another, that bubbles: one at a time."""
    entered, go_on = threading.Event(), threading.Event()
    log: list[str] = []

    def slow(client: Any) -> None:
        log.append("slow begins")
        entered.set()
        assert go_on.wait(10)
        log.append("slow ends")

    inner = Table({"c": State(child=lamp([]))}, initial_state="c", namespace="inner")
    fsm = Fsm.of(
        {"p": State(child=lambda client: Fsm(inner, mutex=True), inputs={"slow": slow, "up": note(log, "up")})},
        initial_state="p",
        mutex=True,
    )
    child = fsm.child
    grandchild = child.child
    assert grandchild._guard is fsm._guard
    one = threading.Thread(target=fsm.handle, args=("slow",))
    one.start()
    assert entered.wait(10)
    two = threading.Thread(target=grandchild.handle, args=("up",))
    two.start()
    two.join(0.05)  # it waits
    assert two.is_alive()
    assert log == ["slow begins"]
    go_on.set()
    for thread in (one, two):
        thread.join(10)
        assert not thread.is_alive()
    assert log == ["slow begins", "slow ends", ("up",)]


def test_what_was_posted_to_a_child_before_it_had_a_parent_is_handled() -> None:
    log: list[Any] = []
    child = Fsm.of(
        {"c": State(inputs={"later": note(log, "later"), "make": lambda me: (me.post("later"), parent.handle("go"))})},
        initial_state="c",
    )
    parent = Fsm.of({"a": State(inputs={"go": "b"}), "b": State(child=lambda client: child)}, initial_state="a")
    child.handle("make")
    assert log == [("later",)]


def test_an_input_that_was_deferred_twice_before_there_was_a_parent_is_one_input() -> None:
    """machina has one object for it in both places, so what is noted on it at the one is seen at the other."""

    def defer_twice(me: Fsm, n: int) -> None:
        me.defer_until_transition("later")
        me.defer_until_transition("never")

    child = Fsm.of(
        {
            "now": State(inputs={"x": defer_twice, "_reset": "later"}),
            "later": State(),
            "never": State(),
        },
        initial_state="now",
    )
    child.handle("x", 1)
    assert [type(queued.input) for queued in child.input_queue] != [str, str]
    assert [queued.input for queued in child.input_queue] == ["x", "x"]
    parent = Fsm.of({"p": State(child=lambda client: child, inputs={"x": lambda client, n: n})}, initial_state="p")
    (left,) = child.input_queue
    assert (left.until, left.input) == ("never", Input("x", bubbling=True))
    assert parent.composite_state == "p.later"


def test_one_that_is_adopted_in_the_middle_of_its_replay_goes_on() -> None:
    log: list[Any] = []
    states = {
        "now": State(inputs={"join": Defer("later"), "x": Defer("later")}),
        "later": State(inputs={"join": lambda me: parent.handle("go"), "x": note(log, "x")}),
    }
    child = Fsm.of(states, initial_state="now")
    parent = Fsm.of({"a": State(inputs={"go": "b"}), "b": State(child=lambda client: child)}, initial_state="a")
    child.handle("join")
    child.handle("x", 1)
    child.transition("later")
    assert log == [("x", 1)]
    assert parent.composite_state == "b.later"


def test_safe_emit_of_a_child_swallows_its_parent_s_errors(caplog: pytest.LogCaptureFixture) -> None:
    def fail(client: Any) -> None:
        raise RuntimeError("boom")

    child = Table({"c": State()}, initial_state="c", safe_emit=True)
    fsm = Fsm.of({"p": State(child=child, inputs={"bad": fail})}, initial_state="p")
    with caplog.at_level(logging.ERROR, "consul_locker"):
        fsm.handle("bad")
    assert "boom" in caplog.text
