"""Every drawing has the same boxes, names and arrows; nothing is made or called for it."""

from __future__ import annotations

import functools

from consul_locker import LockerFactory, embed
from consul_locker.embedding import EmbeddedLocker
from consul_locker.fsm import Action, Fsm, State, Table
from consul_locker.fsm.diagrams import as_table, dot, mermaid
from consul_locker.fsm.diagrams.picture import visible

from .drawn_machines import NESTED, ODD, run_job


def test_functions_are_drawn_by_their_names() -> None:
    fsm = Table({"a": State(on_enter=functools.partial(run_job), inputs={"x": run_job})}, initial_state="a")
    assert "    a : entry / run_job\n    a : x / run_job\n" in mermaid(fsm)


def test_no_two_states_become_one() -> None:
    table = Table(
        {"a": State(child=Table({"b": State()}, initial_state="b")), "a_b": State(), "A": State()}, initial_state="a"
    )
    lines = [line.strip() for line in mermaid(table).splitlines()]
    assert [line for line in lines if " as " in line] == [
        'state "a" as a {', 'state "b" as a_b', 'state "a_b" as s2', 'state "A" as s3'
    ]  # fmt: skip


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


def test_characters_that_cannot_be_seen_are_named() -> None:
    assert visible("a\x00\n\x7f\u202e\ud800 b\u00e4") == "a␀␊<U+007F><U+202E><U+D800> bä"


def test_a_label_of_an_entry_action_without_a_name_is_left_out() -> None:
    table = Table({"a": State(on_enter=Action(lambda client: None))}, initial_state="a")
    assert mermaid(table).endswith("    a : entry\n")
