"""A table as a plain machine of `transitions`, for drawing, markup and nesting."""

from __future__ import annotations

import subprocess
import sys

import pytest
import transitions
from transitions.extensions import GraphMachine, HierarchicalGraphMachine, HierarchicalMachine, MachineFactory
from transitions.extensions.markup import MarkupMachine

from consul_locker.core.machine import TABLE
from consul_locker.fsm import Action, Defer, Fsm, State, Table


def table() -> Table:
    lamp = Table(
        {"dark": State(inputs={"press": "bright"}), "bright": State(inputs={"press": "dark"})},
        initial_state="dark",
        namespace="lamp",
    )
    return Table(
        {
            "out": State(inputs={"enter": "in", "wait": Defer("in"), "no": None}),
            "in": State(
                child=lamp,
                inputs={"leave": Action(lambda me: None, "leave", goes_to=("out",)), "stay": "in", "*": "out"},
            ),
        },
        initial_state="out",
        inputs={"*": lambda me, name: None},
        namespace="house",
    )


def test_a_plain_machine_has_the_declared_rows() -> None:
    machine = table().to_transitions()
    assert type(machine) is transitions.Machine
    assert machine.state == "out"
    machine.enter()
    assert machine.state == "in"
    machine.stay()
    assert machine.state == "in"
    machine.leave()
    assert machine.state == "out"
    machine.wait()
    assert machine.state == "out"
    assert not hasattr(machine, "press")
    assert not hasattr(machine, "no")
    assert [row.dest for row in machine.get_transitions("*", "out")] == [None]


def test_it_may_have_a_model_and_other_options() -> None:
    class Model:
        state: str

    model = Model()
    machine = table().to_transitions(model=model, auto_transitions=True, initial="in")
    assert model.state == "in"
    assert machine.name == "house: "
    model.to_out()  # type: ignore[attr-defined]
    assert model.state == "out"


def test_children_are_nested_states() -> None:
    machine = table().to_transitions(cls=HierarchicalMachine)
    machine.enter()
    assert machine.state == "in_dark"
    machine.press()
    assert machine.state == "in_bright"
    machine.leave()
    assert machine.state == "out"


def test_names_that_contain_what_parts_nested_names_are_no_trouble() -> None:
    lamp = Table({"all_dark": State(inputs={"press": "bright"}), "bright": State()}, initial_state="all_dark")
    house = Table({"way_out": State(inputs={"enter": "in"}), "in": State(child=lamp)}, initial_state="way_out")
    machine = house.to_transitions(cls=HierarchicalMachine)
    machine.enter()
    assert machine.state == "in.all_dark"
    machine.press()
    assert machine.state == "in.bright"
    assert HierarchicalMachine.state_cls.separator == "_"


def test_it_is_drawn_by_transitions_itself() -> None:
    flat = table().to_transitions(cls=GraphMachine, graph_engine="mermaid")
    assert "out --> in: enter" in flat.get_graph().draw(None)
    nested = table().to_transitions(cls=HierarchicalGraphMachine, graph_engine="mermaid")
    assert "in_dark" in nested.get_graph().draw(None)
    locker = TABLE.to_transitions(cls=MachineFactory.get_predefined(graph=True), graph_engine="mermaid")
    assert "acquiring --> ready: session_created" in locker.get_graph().draw(None)


def test_states_that_there_are_not_are_left_out() -> None:
    lenient = Table({"a": State(inputs={"go": "nowhere"})}, initial_state="a", strict=False)
    assert lenient.to_transitions().events == {}


def test_it_has_markup() -> None:
    markup = table().to_transitions(cls=MarkupMachine).markup
    assert markup["initial"] == "out"
    assert {"trigger": "enter", "source": "out", "dest": "in"} in markup["transitions"]


def test_the_machine_inside_is_not_to_be_had() -> None:
    made = table()
    Fsm(made)
    assert not hasattr(made, "machine")
    assert made.to_transitions() is not made.to_transitions()


@pytest.mark.parametrize("unwanted", ["hypothesis", "transitions.extensions", "pygraphviz"])
def test_the_framework_alone_does_not_import_what_it_seldom_needs(unwanted: str) -> None:
    program = f"import sys, consul_locker.fsm.walks; print({unwanted!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
