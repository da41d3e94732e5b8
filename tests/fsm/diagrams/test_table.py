"""A table says what each input does in each state, in Markdown and in reStructuredText."""

from __future__ import annotations

import docutils.core
import docutils.writers
import pytest

from consul_locker.core.machine import TABLE
from consul_locker.fsm import State, Table
from consul_locker.fsm.diagrams import as_table

from .drawn_machines import LAMP, NESTED, ODD


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
