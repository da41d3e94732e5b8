"""A machine with a child, used from threads, kept and brought back at any moment, beside a model of a few lines."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from consul_locker.fsm import Behavior, Defer, Fsm, State, Table, UnknownInput

Log = list[Any]


class Client:
    """What the handlers work on."""

    def __init__(self) -> None:
        self.log: Log = []


def note(client: Client, *args: Any) -> None:
    client.log.append(args)


LAMP = Table[Client](
    {
        "dark": State(inputs={"press": "bright", "later": Defer("bright")}),
        "bright": State(inputs={"press": "dark", "later": note}),
    },
    initial_state="dark",
    namespace="lamp",
)

HOUSE = Table[Client](
    {
        "off": State(inputs={"on": "on", "job": Defer(("on", "broken")), "soon": Defer()}),
        "on": State(child=LAMP, inputs={"off": "off", "job": note, "soon": note, "break": "broken"}),
        "broken": State(inputs={"job": note, "soon": Defer(), "mend": "off"}),
    },
    initial_state="off",
    namespace="house",
)


class Model:
    """What is expected: written without a machine."""

    def __init__(self) -> None:
        self.state, self.lamp = "off", ""
        self.queue: list[tuple[str, int]] = []
        self.below: list[int] = []
        self.log: Log = []

    @property
    def composite(self) -> str:
        return f"on.{self.lamp}" if self.state == "on" else self.state

    def knows(self, name: str) -> bool:
        return name in ("on", "off", "job", "soon", "break", "mend") or self.state == "on"

    def handle(self, name: str, number: int) -> None:
        """Do what the table says."""
        if self.state == "on" and name == "press":
            self.lamp = "bright" if self.lamp == "dark" else "dark"
            if self.lamp == "bright":
                self.log += [(each,) for each in self.below]
                self.below = []
        elif self.state == "on" and name == "later":
            if self.lamp == "dark":
                self.below.append(number)
            else:
                self.log.append((number,))
        elif name in ("job", "soon"):
            if self.state == "on" or (self.state, name) == ("broken", "job"):
                self.log.append((number,))
            else:
                self.queue.append((name, number))
        elif (self.state, name) in (("off", "on"), ("on", "off"), ("on", "break"), ("broken", "mend")):
            self.go({"on": "on", "off": "off", "break": "broken", "mend": "off"}[name])

    def go(self, state: str) -> None:
        """Enter a state, and replay."""
        self.state, self.lamp, self.below = state, "dark", []
        due = [each for each in self.queue if each[0] == "soon" or state in ("on", "broken")]
        self.queue = [each for each in self.queue if each not in due]
        for name, number in due:
            self.handle(name, number)


def on_a_thread(call: Callable[[], Any]) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


INPUTS = ("on", "off", "job", "soon", "break", "mend", "press", "later")


class Machines(RuleBasedStateMachine):
    """The steps that Hypothesis puts together."""

    def __init__(self) -> None:
        super().__init__()
        self.client = Client()
        self.fsm: Fsm[Client] = Fsm(HOUSE, self.client, mutex=True)
        self.other = Client()
        self.behavior = Behavior(HOUSE, mutex=True)
        self.model = Model()
        self.number = 0

    @rule(name=st.sampled_from(INPUTS), thread=st.booleans())
    def handle(self, name: str, thread: bool) -> None:
        args = self.args(name)
        calls = [lambda: self.fsm.handle(name, *args), lambda: self.behavior.handle(self.other, name, *args)]
        for call in calls:
            try:
                on_a_thread(call) if thread else call()
            except UnknownInput:
                assert not self.model.knows(name)
            else:
                assert self.model.knows(name)
        self.model.handle(name, self.number)

    @rule(names=st.lists(st.sampled_from(INPUTS[:6]), max_size=4))
    def post(self, names: list[str]) -> None:
        """From another thread, all at once."""
        given = [(name, self.args(name)) for name in names]

        def post() -> None:
            for name, args in given:
                self.fsm.post(name, *args)
                self.behavior.post(self.other, name, *args)

        on_a_thread(post)
        for name, args in given:
            self.model.handle(name, args[0] if args else 0)

    @rule(state=st.sampled_from(tuple(HOUSE.states)))
    def transition(self, state: str) -> None:
        self.fsm.transition(state)
        self.behavior.transition(self.other, state)
        if state != self.model.state:
            self.model.go(state)

    @rule()
    def keep_and_bring_back(self) -> None:
        snapshot = json.loads(json.dumps(self.fsm.snapshot()))
        self.fsm = Fsm.restore(HOUSE, self.client, snapshot, mutex=True)
        assert self.fsm.snapshot() == snapshot
        kept = json.loads(json.dumps(self.behavior.snapshot(self.other)))
        self.behavior.forget(self.other)
        self.behavior.restore(self.other, kept)

    @rule()
    def clear(self) -> None:
        self.fsm.clear_queue()
        self.behavior.clear_queue(self.other)
        self.model.queue = []

    def args(self, name: str) -> tuple[int, ...]:
        if name not in ("job", "soon", "later"):
            return ()
        self.number += 1
        return (self.number,)

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        for fsm, client in ((self.fsm, self.client), (self.behavior.of(self.other), self.other)):
            assert fsm.composite_state == self.model.composite
            queue = [(queued.input.name, *queued.args) for queued in fsm.input_queue]
            assert queue == self.model.queue
            below = [] if fsm.child is None else [queued.args[0] for queued in fsm.child.input_queue]
            assert below == self.model.below
            assert client.log == self.model.log


Machines.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestMachines = Machines.TestCase
