"""Who may be at a machine: one thread, or one at a time; what is posted; and how deep inputs may be nested."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from consul_locker.fsm import MAX_DEPTH, Defer, Fsm, State, Table, TooDeep, UnknownInput, WrongThread

WAIT = 10.0
"""How long anything may take that is waited for, in seconds."""


def elsewhere(call: Callable[[], Any]) -> Any:
    """Call on another thread; return what it returned, or the exception."""
    answer: list[Any] = []

    def run() -> None:
        try:
            answer.append(call())
        except Exception as error:
            answer.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(WAIT)
    assert not thread.is_alive()
    return answer[0]


class Logged(Fsm):
    """An Fsm with a log of its own; it has a __dict__, as classes of users have."""

    log: list[Any]


def logged(**options: Any) -> Logged:
    log: list[Any] = []
    table = Table(
        {
            "on": State(inputs={"add": lambda me, n: log.append(n), "off": "off", "wait": Defer()}),
            "off": State(inputs={"on": "on", "wait": lambda me: log.append("waited")}),
        },
        initial_state="on",
    )
    fsm = Logged(table, **options)
    fsm.log = log
    return fsm


# -------------------------------------------------------------------------------------------- one thread


def test_a_machine_without_a_mutex_belongs_to_its_thread() -> None:
    fsm = logged()
    for call in (
        lambda: fsm.handle("add", 1),
        lambda: fsm.transition("off"),
        lambda: fsm.post("add", 1),
        lambda: fsm.discard(lambda queued: True),
        lambda: fsm.clear_queue(),
        lambda: fsm.defer_until_transition(),
        lambda: fsm.defer_and_transition("off"),
        lambda: fsm.emit("own"),
        lambda: fsm.snapshot(),
        lambda: fsm.dispose(),
    ):
        error = elsewhere(call)
        assert isinstance(error, WrongThread)
        assert "mutex=True" in str(error)
    assert elsewhere(lambda: fsm.process_queue()) is None  # nothing is deferred
    assert (fsm.state, fsm.log) == ("on", [])
    assert elsewhere(lambda: fsm.state) == "on"
    fsm.handle("add", 2)
    assert fsm.log == [2]


def test_with_a_mutex_of_its_user_s_any_thread_may_call() -> None:
    fsm = logged(mutex=None)
    elsewhere(lambda: fsm.handle("add", 1))
    elsewhere(lambda: fsm.post("add", 2))
    fsm.handle("add", 3)
    assert fsm.log == [1, 2, 3]


# --------------------------------------------------------------------------------------------- the mutex


def test_with_a_mutex_any_thread_may_call_all_of_it() -> None:
    fsm = logged(mutex=True)
    heard: list[Any] = []
    fsm.on("own", heard.append)
    elsewhere(lambda: fsm.handle("wait"))
    elsewhere(lambda: fsm.defer_until_transition("on"))
    assert elsewhere(lambda: fsm.discard(lambda queued: queued.until == "on")) == 1
    assert elsewhere(lambda: fsm.snapshot())["state"] == "on"
    elsewhere(lambda: fsm.process_queue())
    elsewhere(lambda: fsm.defer_and_transition("off"))
    assert fsm.state == "off"
    assert fsm.log == ["waited", "waited"]
    elsewhere(lambda: fsm.emit("own", 1))
    elsewhere(lambda: fsm.transition("on"))
    elsewhere(lambda: fsm.clear_queue())
    assert (fsm.state, heard) == ("on", [1])
    elsewhere(lambda: fsm.dispose())


def test_one_thread_at_a_time_and_the_same_one_again() -> None:
    inside = 0
    most = 0

    def step(me: Fsm, deep: int) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside - deep)
        if deep < 3:
            me.handle("step", deep + 1)
        inside -= 1

    fsm = Fsm.of({"s": State(inputs={"step": step})}, initial_state="s", mutex=True)
    start = threading.Barrier(4)

    def work() -> None:
        start.wait(WAIT)
        for _ in range(200):
            fsm.handle("step", 0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()
    assert (inside, most) == (0, 1)


def test_an_error_frees_the_mutex() -> None:
    fsm = logged(mutex=True)
    assert isinstance(elsewhere(lambda: fsm.handle("ad", 1)), UnknownInput)
    assert elsewhere(lambda: fsm.handle("add", 1)) is None
    assert fsm.log == [1]


# ------------------------------------------------------------------------------------------------- post


def test_what_is_posted_without_a_mutex_while_it_is_worked_off_waits_too() -> None:
    log: list[Any] = []

    def first(me: Fsm) -> None:
        me.post("second")
        me._guard.work_off()  # as at the end of a nested input
        log.append("first")

    fsm = Fsm.of({"s": State(inputs={"first": first, "second": lambda me: log.append("second")})}, initial_state="s")
    fsm.post("first")
    assert log == ["first", "second"]


@pytest.mark.parametrize("mutex", [False, True, None])
def test_what_is_posted_in_a_handler_is_handled_after_it(mutex: bool | None) -> None:
    log: list[Any] = []

    def outer(me: Fsm) -> None:
        me.post("inner", 1)
        me.post("inner", 2)
        me.handle("nested")
        log.append("outer")

    fsm = Fsm.of(
        {
            "s": State(
                inputs={
                    "outer": outer,
                    "nested": lambda me: log.append("nested"),
                    "inner": lambda me, n: log.append(n),
                }
            )
        },
        initial_state="s",
        mutex=mutex,
    )
    fsm.handle("outer")
    assert log == ["nested", "outer", 1, 2]
    fsm.post("inner", 3)
    assert log[-1] == 3


def test_what_an_entry_action_posts_is_handled_after_the_transition() -> None:
    log: list[Any] = []

    def enter(me: Fsm) -> None:
        me.post("x")
        log.append("enter")

    fsm = Fsm.of(
        {
            "a": State(inputs={"x": lambda me: log.append("in a")}),
            "b": State(on_enter=enter, inputs={"x": lambda me: log.append("x")}),
        },
        initial_state="a",
    )
    fsm.transition("b")
    assert log == ["enter", "x"]


def test_what_another_thread_posts_is_handled_by_whoever_is_at_it() -> None:
    log: list[Any] = []

    def busy(me: Fsm) -> None:
        elsewhere(lambda: me.post("posted", 1))
        elsewhere(lambda: me.post("posted", 2))
        log.append("busy")

    def posted(me: Fsm, n: int) -> None:
        log.append((n, threading.get_ident()))

    fsm = Fsm.of({"s": State(inputs={"busy": busy, "posted": posted})}, initial_state="s", mutex=True)
    fsm.handle("busy")
    me = threading.get_ident()
    assert log == ["busy", (1, me), (2, me)]


def test_many_threads_post_and_nothing_is_lost() -> None:
    log: list[Any] = []
    fsm = Fsm.of({"s": State(inputs={"x": lambda me, who, n: log.append((who, n))})}, initial_state="s", mutex=True)

    def work(who: int) -> None:
        for n in range(300):
            fsm.post("x", who, n)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    fsm.handle("x", 9, 9)
    assert len(log) == 4 * 300 + 1
    for who in range(4):
        assert [n for each, n in log if each == who] == list(range(300))


@pytest.mark.parametrize("mutex", [True, False])
def test_many_inputs_that_a_handler_posts_are_handled_one_after_another(mutex: bool) -> None:
    """Not each within the one before: with 2,000 of them that would be too deep for Python."""
    log: list[int] = []

    def post_many(me: Fsm) -> None:
        for n in range(2000):
            me.post("y", n)

    inputs = {"x": post_many, "y": lambda me, n: log.append(n)}
    fsm = Fsm.of({"s": State(inputs=inputs)}, initial_state="s", mutex=mutex)
    fsm.handle("x")
    assert log == list(range(2000))


def test_an_error_of_a_posted_input_is_logged_and_the_next_is_handled(caplog: pytest.LogCaptureFixture) -> None:
    fsm = logged(mutex=True)
    with caplog.at_level(logging.ERROR, "consul_locker"):
        fsm.post("ad", 1)
        fsm.post("add", 2)
    assert fsm.log == [2]
    assert "the posted input 'ad' failed" in caplog.text


def test_a_post_that_another_one_has_handled_already_is_nothing() -> None:
    fsm = logged(mutex=True)
    fsm._guard._one()
    assert fsm.log == []


# -------------------------------------------------------------------------------------------- depth, end


def ping_pong() -> dict[str, State]:
    return {
        "ping": State(on_enter=lambda me: me.transition("pong")),
        "pong": State(on_enter=lambda me: me.transition("ping")),
    }


def test_endless_entry_actions_are_an_error() -> None:
    fsm = Fsm.of(ping_pong(), initial_state="ping", begin=False, namespace="m")
    with pytest.raises(TooDeep, match=rf"of 'm' would be number {MAX_DEPTH + 1} of inputs and transitions"):
        fsm.begin()
    assert fsm._guard.depth == 0


def test_without_strict_the_end_is_python_s_own() -> None:
    fsm = Fsm.of({"s": State(inputs={"again": lambda me: me.handle("again")})}, initial_state="s", strict=False)
    with pytest.raises(RecursionError) as caught:
        fsm.handle("again")
    assert not isinstance(caught.value, TooDeep)
    fsm.transition("s")


def test_endless_inputs_are_an_error_and_the_machine_goes_on() -> None:
    fsm = Fsm.of(
        {"s": State(inputs={"again": lambda me: me.handle("again"), "well": lambda me: "well"})}, initial_state="s"
    )
    with pytest.raises(TooDeep, match="'again' in 's' of 'fsm'"):
        fsm.handle("again")
    assert fsm.handle("well") == "well"


def test_endless_deferral_is_an_error() -> None:
    def defer(me: Fsm) -> None:
        me.defer_and_transition("b" if me.state == "a" else "a")

    fsm = Fsm.of({"a": State(inputs={"x": defer}), "b": State(inputs={"x": defer})}, initial_state="a")
    with pytest.raises(TooDeep):
        fsm.handle("x")


@pytest.mark.parametrize("levels", [0, 3])
def test_the_depth_is_there_before_python_s_own_ends(levels: int) -> None:
    """Each of them may be as deep as a handler in a child of a child."""
    log: list[int] = []

    def deeper(me: Fsm, left: int) -> None:
        log.append(left)
        if left:
            fsm.handle("deeper", left - 1)

    table = Table({"s": State(inputs={"deeper": deeper})}, initial_state="s")
    for _ in range(levels):
        table = Table({"s": State(child=table)}, initial_state="s")
    fsm = Fsm(table)
    fsm.handle("deeper", MAX_DEPTH // (levels + 1) - 1)
    assert len(log) == MAX_DEPTH // (levels + 1)


def test_machines_that_send_each_other_to_and_fro_are_an_error_too() -> None:
    machines: list[Fsm] = []
    for other in (1, 0):
        states = {"s": State(inputs={"x": lambda me, other=other: machines[other].handle("x")})}
        machines.append(Fsm.of(states, initial_state="s"))
    with pytest.raises(TooDeep):
        machines[0].handle("x")


@pytest.mark.parametrize("levels", [1, 4])
def test_a_child_and_its_parent_that_send_each_other_to_and_fro_are_an_error(levels: int) -> None:
    table = Table({"s": State(inputs={"down": lambda me: me.handle("up")})}, initial_state="s")
    for _ in range(levels):
        table = Table({"s": State(child=table, inputs={"up": lambda me: me.handle("down")})}, initial_state="s")
    with pytest.raises(TooDeep):
        Fsm(table).handle("down")


def test_after_dispose_nothing_is_handled_any_more() -> None:
    fsm = logged()
    fsm.handle("wait")
    heard: list[Any] = []
    fsm.on("handling", heard.append)
    fsm.dispose()
    for call in (lambda: fsm.handle("add", 1), lambda: fsm.transition("off"), lambda: fsm.post("add", 1), fsm.dispose):
        with pytest.raises(RuntimeError, match="was disposed of"):
            call()
    assert (fsm.input_queue, fsm.log, heard) == ((), [], [])


def test_dispose_takes_the_child_along() -> None:
    fsm = Fsm.of({"s": State(child=Table({"c": State()}, initial_state="c"))}, initial_state="s")
    child = fsm.child
    fsm.dispose()
    with pytest.raises(RuntimeError, match="was disposed of"):
        child.handle("x")


def test_reset_goes_back_to_the_beginning() -> None:
    fsm = logged()
    fsm.handle("off")
    fsm.reset()
    assert fsm.state == "on"


def test_transitioned_is_heard_after_the_entry_action_by_its_own_name() -> None:
    log: list[Any] = []
    fsm = Fsm.of(
        {"a": State(inputs={"go": "b"}), "b": State(on_enter=lambda me: log.append("enter"))}, initial_state="a"
    )
    fsm.on("transitioned", lambda data: log.append((data["from_state"], data["to_state"], data["action"])))
    fsm.on("*", lambda event, data: log.append(event))
    fsm.handle("go")
    assert log == ["handling", "transition", "enter", "transitioned", ("a", "b", "a.go"), "handled"]
