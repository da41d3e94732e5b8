"""One table for many objects of the user's own."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

from consul_locker.fsm import Behavior, Defer, State, Table


class Light:
    """A client; two are equal when they have the same name, and so none can be hashed."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.log: list[Any] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Light) and other.name == self.name

    __hash__ = None  # type: ignore[assignment]


def lamp(**options: Any) -> Table[Light]:
    return Table[Light](
        {
            "dark": State(
                on_enter=lambda light: light.log.append("dark"),
                inputs={"press": "bright", "later": Defer("bright"), "wait": Defer()},
            ),
            "bright": State(
                inputs={
                    "press": "dark",
                    "later": lambda light, *args: light.log.append(args),
                    "wait": lambda light: light.log.append("waited"),
                }
            ),
        },
        initial_state="dark",
        namespace="lamp",
        **options,
    )


def test_each_client_has_a_state_and_a_queue_of_its_own() -> None:
    behavior = Behavior(lamp())
    one, two = Light(), Light()
    assert behavior.handle(one, "press") == "bright"
    assert (behavior.state(one), behavior.state(two)) == ("bright", "dark")
    assert (one.log, two.log) == (["dark"], ["dark"])
    behavior.handle(two, "later", 1)
    assert (behavior.of(one).input_queue, len(behavior.of(two).input_queue)) == ((), 1)
    behavior.handle(two, "press")
    assert two.log == ["dark", (1,)]
    assert len(behavior) == 2
    assert repr(behavior) == "<Behavior 'lamp', 2 clients>"


def test_one_listener_hears_of_all_and_who_it_was() -> None:
    behavior = Behavior(lamp())
    heard: list[Any] = []
    behavior.on("*", lambda event, data: heard.append((event, data["client"].name, data["namespace"])))
    one, two = Light("one"), Light("two")
    behavior.handle(one, "press")
    assert heard == [(event, "one", "lamp") for event in ("transition", "handling", "transition", "handled")]
    heard.clear()
    behavior.transition(two, "bright")
    assert heard == [("transition", "two", "lamp")] * 2
    behavior.off()
    own: list[Any] = []
    behavior.on("own", own.append)
    behavior.emit("own", 5)
    behavior.of(one).emit("own", {"mine": 1})
    assert own == [5, {"mine": 1}]


def test_clients_are_held_weakly() -> None:
    behavior = Behavior(lamp())
    client = Light()
    behavior.handle(client, "press")
    gone = weakref.ref(client)
    gc.disable()
    try:
        del client
        assert gone() is None
    finally:
        gc.enable()
    assert len(behavior) == 0


def test_children_hold_the_client_weakly_too() -> None:
    behavior = Behavior(Table[Light]({"s": State(child=lamp())}, initial_state="s"))
    client = Light()
    heard: list[Any] = []
    behavior.on("transition", lambda data: heard.append((data["namespace"], data["client"].name)))
    behavior.handle(client, "press")
    assert behavior.composite_state(client) == "s.bright"
    assert heard == [("fsm", ""), ("lamp", "")]
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None
    assert len(behavior) == 0


def test_all_that_a_machine_can_be_asked() -> None:
    behavior = Behavior(lamp())
    client = Light()
    assert behavior.can_handle(client, "press")
    behavior.handle(client, "wait")
    behavior.defer_until_transition(client, "bright")
    behavior.process_queue(client)
    behavior.clear_queue(client, "bright")
    assert len(behavior.of(client).input_queue) == 1
    behavior.defer_and_transition(client, "bright")
    assert client.log == ["dark", "waited", "waited"]
    behavior.post(client, "press")
    assert behavior.state(client) == "dark"
    behavior.transition(client, "bright")
    behavior.reset(client)
    assert behavior.state(client) == "dark"
    behavior.handle(client, "later")
    behavior.clear_queue(client)
    assert behavior.of(client).input_queue == ()


def test_a_client_can_be_kept_and_brought_back() -> None:
    behavior = Behavior(lamp())
    client = Light()
    behavior.handle(client, "press")
    snapshot = behavior.snapshot(client)
    with pytest.raises(RuntimeError, match="begun already"):
        behavior.restore(client, snapshot)
    behavior.forget(client)
    assert client not in behavior
    behavior.restore(client, snapshot)
    assert behavior.state(client) == "bright"
    assert client.log == ["dark"]
    behavior.forget(client)
    assert behavior.state(client) == "dark"


def test_an_id_that_is_used_again_is_another_client() -> None:
    behavior = Behavior(lamp())
    client = Light()
    behavior.handle(client, "press")
    reference = behavior._machines[id(client)][0]
    callback = reference.__callback__
    behavior.forget(client)
    behavior.handle(client, "press")
    assert callback is not None
    callback(reference)  # of the machine that was forgotten: the new one stays
    assert client in behavior


def test_a_client_must_be_an_object_that_can_be_held_weakly() -> None:
    with pytest.raises(TypeError, match="5 cannot be a client: it must be an object that can be referred to weakly"):
        Behavior(lamp()).handle(5, "press")  # type: ignore[arg-type]


def test_with_a_mutex_threads_share_clients() -> None:
    behavior = Behavior(lamp(), mutex=True)
    client = Light()
    start = threading.Barrier(4)

    def work() -> None:
        start.wait(10)
        for _ in range(100):
            behavior.handle(client, "press")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert behavior.state(client) == "dark"
    assert client.log.count("dark") == 201
    behavior.of(client).begin_once()  # type: ignore[attr-defined]
    assert client.log.count("dark") == 201
