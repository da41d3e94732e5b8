"""Mermaid texts show the table: all that it declares and does, and nothing else."""

from __future__ import annotations

import pytest

from consul_locker.core.machine import TABLE
from consul_locker.fsm import State, Table
from consul_locker.fsm.diagrams import dot, mermaid
from consul_locker.fsm.diagrams.picture import NOTHING

from .drawn_machines import NESTED, ODD


def test_mermaid_of_the_locker_has_each_transition_once_with_its_inputs() -> None:
    lines = [line.strip() for line in mermaid(TABLE).splitlines()]
    assert lines[0] == "stateDiagram-v2"
    assert "[*] --> acquiring" in lines
    assert "acquiring --> paused : session_failed, session_refused, reboot" in lines
    assert "paused --> acquiring : retry, start" in lines
    arrows = [line.split(" : ")[0] for line in lines if "-->" in line]
    assert len(arrows) == len(set(arrows))


def test_mermaid_shows_what_a_state_does_inside_and_not_what_does_nothing() -> None:
    drawing = mermaid(TABLE)
    assert "    acquiring : lock / defer until ready#59; session refused#58; refuse\n" in drawing
    assert "    acquiring : entry / ask Consul for a session\n" in drawing
    assert "    paused : exit / wait no longer\n" in drawing
    assert "    stopped : lock, release / refuse\n" in drawing
    assert "session_destroyed" in drawing  # it leads from ready to stopped,
    assert "paused : session_destroyed" not in drawing  # and does nothing elsewhere
    assert "/ nothing\n" not in drawing


def test_odd_rows_are_drawn_as_what_they_do() -> None:
    lines = [line.strip() for line in mermaid(ODD).splitlines()]
    assert 'state "the #35;2" as s1' in lines
    assert "one --> s1 : a, b" in lines
    assert "one --> one : to itself / stays here" in lines
    assert "one --> one : may?" in lines
    assert "one : plain, any other input" in lines
    assert "one : later / defer" in lines
    assert "one : nowhere / no such state#58; no state" in lines
    assert "s1 : wait / defer until one" in lines
    assert "s5 --> one : any other input" in lines  # the machine's own catch-all
    assert not [line for line in lines if "explicitly" in line or NOTHING in line]


@pytest.mark.parametrize("name", ["state", "Note", "default", "s0", "a b", "x_start", "näher", "a__b", "__proto__"])
def test_a_name_that_means_something_to_mermaid_is_a_number(name: str) -> None:
    table = Table({name: State(inputs={"go": "ready"}), "ready": State()}, initial_state=name)
    assert "s0 --> ready : go" in mermaid(table)
    assert "s0 -> ready [" in dot(table)


def test_children_are_nested_and_what_handlers_do_themselves_is_told() -> None:
    text = mermaid(NESTED)
    assert '    state "leading" as leading {\n        state "dark" as leading_dark\n' in text
    assert "    note right of leading : job / run it\n" in text
    assert "    leading --> backoff : job?\n    leading --> standby : rest\n" in text
    assert "    backoff --> standby : entry?\n" in text
    assert "    away : child / made at each entry\n" in text
    drawing = dot(NESTED)
    assert "    subgraph cluster_leading {\n" in drawing
    assert next(line for line in drawing.splitlines() if "leading -> backoff" in line).endswith(" style=dashed]")
    assert ' STYLE="dashed"><TR><TD BGCOLOR="#6639ba" CELLPADDING="5">' in drawing  # any state
    assert "newrank=true" in drawing
    assert "newrank" not in dot(TABLE)
