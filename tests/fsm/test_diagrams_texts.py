"""Mermaid and DOT texts and tables show the table: all that it declares and does, and nothing else."""

from __future__ import annotations

import functools

import docutils.core
import docutils.writers
import pytest

from consul_locker import LockerFactory, embed
from consul_locker.core.machine import TABLE
from consul_locker.embedding import EmbeddedLocker
from consul_locker.fsm import Action, Fsm, State, Table
from consul_locker.fsm.diagrams import as_table, dot, mermaid
from consul_locker.fsm.diagrams.picture import NOTHING, visible

from .drawn_machines import LAMP, NESTED, ODD, large, run_job


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


def test_functions_are_drawn_by_their_names() -> None:
    fsm = Table({"a": State(on_enter=functools.partial(run_job), inputs={"x": run_job})}, initial_state="a")
    assert "    a : entry / run_job\n    a : x / run_job\n" in mermaid(fsm)


@pytest.mark.parametrize("name", ["state", "Note", "default", "s0", "a b", "x_start", "näher", "a__b", "__proto__"])
def test_a_name_that_means_something_to_mermaid_is_a_number(name: str) -> None:
    table = Table({name: State(inputs={"go": "ready"}), "ready": State()}, initial_state=name)
    assert "s0 --> ready : go" in mermaid(table)
    assert "s0 -> ready [" in dot(table)


def test_no_two_states_become_one() -> None:
    table = Table(
        {"a": State(child=Table({"b": State()}, initial_state="b")), "a_b": State(), "A": State()}, initial_state="a"
    )
    lines = [line.strip() for line in mermaid(table).splitlines()]
    assert [line for line in lines if " as " in line] == [
        'state "a" as a {', 'state "b" as a_b', 'state "a_b" as s2', 'state "A" as s3'
    ]  # fmt: skip


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


def test_the_present_state_of_a_living_machine_is_marked_those_below_too() -> None:
    fsm = Fsm(NESTED)
    fsm.handle("lead")
    fsm.handle("press")
    assert mermaid(fsm).endswith("    class leading present\n    class leading_bright present\n")
    assert "<B>leading · now</B>" in dot(fsm)
    assert dot(fsm).count(" · now</B>") == 2
    assert "| leading.bright (now) | " in as_table(fsm)
    fsm.handle("anything")  # by the catch-all
    assert fsm.composite_state == "away.dark"


def test_a_child_that_a_function_made_is_seen_in_the_present_state() -> None:
    fsm = Fsm(NESTED)
    fsm.transition("away")
    assert mermaid(fsm).endswith("    class away present\n    class away_dark present\n")
    assert "(now)" not in as_table(Fsm(NESTED, begin=False))


def test_an_annotation_says_what_machine_a_function_makes_and_nothing_is_called_for_it() -> None:
    def reports(service: object) -> EmbeddedLocker:
        raise AssertionError("a drawing makes no Locker")

    class Odd:
        TABLE = "not a table"

    def odd(service: object) -> Odd: ...  # type: ignore[empty-body] # it is not called

    def unknown(service: object) -> Nowhere: ...  # type: ignore[empty-body, name-defined] # noqa: F821 # it is not called

    states = {"leading": State(child=reports), "odd": State(child=odd), "unknown": State(child=unknown)}
    text = mermaid(Table(states, initial_state="leading"))  # type: ignore[arg-type] # odd ones, too
    assert '    state "leading" as leading {\n        state "acquiring" as leading_acquiring\n' in text
    assert "leading_acquiring --> leading_ready : session_created" in text
    assert "odd : child / odd" in text and "unknown : child / unknown" in text


def test_a_locker_below_a_state_is_seen_in_the_present_state() -> None:
    with LockerFactory.embedded() as factory:
        table = Table({"leading": State(child=lambda service: embed(factory.create("drawn")))}, initial_state="leading")
        fsm = Fsm(table, mutex=True)
        fsm.child.locker.wait_for_state("ready", timeout=10)
        assert mermaid(fsm).endswith("    class leading present\n    class leading_ready present\n")
        fsm.dispose()


def test_a_machine_that_has_not_begun_is_drawn_as_its_table_and_always_alike() -> None:
    for drawn in (mermaid, dot, as_table):
        assert drawn(Fsm(ODD, begin=False)) == drawn(ODD) == drawn(ODD)


def test_dot_escapes_what_means_something_to_graphviz() -> None:
    drawing = dot(ODD)
    assert drawing.startswith('digraph "an \\"odd\\" \\\\ <machine>" {\n')
    table = Table({'\\N & "<b>"': State(inputs={"go / & < \\G": run_job})}, initial_state='\\N & "<b>"')
    assert "<B>\\\\N &amp; &quot;&lt;b&gt;&quot;</B>" in dot(table)
    assert "go / &amp; &lt; \\\\G / run_job" in dot(table)


def test_with_many_arrows_each_state_lists_where_its_inputs_lead() -> None:
    drawing = dot(large())
    assert "input_0 / go to state_1<BR" in drawing
    arrows = [line for line in drawing.splitlines() if " -> state" in line]
    assert arrows and not [line for line in arrows if "label" in line]
    many = {f"s{number}": State(child=NESTED, inputs={"x": f"s{number}", "y": "s0"}) for number in range(10)}
    drawing = dot(Table(many, initial_state="s0"))
    assert "job / may go to backoff<BR" in drawing
    assert "x / stays here<BR" in drawing


def test_characters_that_cannot_be_seen_are_named() -> None:
    assert visible("a\x00\n\x7f\u202e\ud800 b\u00e4") == "a␀␊<U+007F><U+202E><U+D800> bä"


def test_a_table_has_a_row_for_each_input_of_each_state() -> None:
    lines = as_table(NESTED).splitlines()
    assert lines[:2] == ["| State | Input | What happens |", "| --- | --- | --- |"]
    assert "| standby |  | the machine begins here |" in lines
    assert "|  | job | may go to backoff |" in lines
    assert "| backoff | entry | run\\_job |" in lines
    assert "|  | bad | stays here |" in lines
    assert "| leading.bright | exit | run\\_job |" in lines
    assert as_table(Table({"alone": State(), "b": State()}, initial_state="b")).splitlines()[2] == "| alone |  |  |"


@pytest.mark.parametrize("table", [TABLE, NESTED, ODD, LAMP], ids=repr)
def test_a_table_in_rst_is_good_rst(table: Table) -> None:
    text = as_table(table, "rst")
    settings = {"report_level": 1, "halt_level": 1, "embed_stylesheet": False}
    writer = docutils.writers.get_writer_class("html5")()
    page = docutils.core.publish_string(text, writer=writer, settings_overrides=settings).decode()
    assert page.count("<tr") == as_table(table).count("\n") - 1


def test_another_form_of_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="form='csv': a table is written as one of markdown, rst"):
        as_table(TABLE, "csv")


def test_a_label_of_an_entry_action_without_a_name_is_left_out() -> None:
    table = Table({"a": State(on_enter=Action(lambda client: None))}, initial_state="a")
    assert mermaid(table).endswith("    a : entry\n")
