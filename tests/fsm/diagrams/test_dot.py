"""DOT texts, and their pictures by Graphviz: well formed whatever the names, quick enough; without it a clear error."""

from __future__ import annotations

import sys
import time
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consul_locker.core.machine import STATES, TABLE
from consul_locker.fsm import Action, State, Table
from consul_locker.fsm.diagrams import dot, mermaid, png, svg

from .drawn_machines import NESTED, ODD, large, run_job

SVG = "{http://www.w3.org/2000/svg}"
PNG = b"\x89PNG\r\n\x1a\n"
#: What 60 states with 180 transitions may cost, in seconds of a processor.
UNDER = 4.0


def texts(drawing: str) -> list[str]:
    """The texts of a picture, in the order in which they are drawn; its blanks are of a kind that does not break."""
    return [(element.text or "").replace("\xa0", " ").strip() for element in ET.fromstring(drawing).iter(f"{SVG}text")]


def test_svg_of_the_locker_says_what_its_table_says() -> None:
    found = texts(svg(TABLE))
    assert set(STATES) <= set(found)
    assert "lock / defer until ready; session" in found  # its end is the next line
    assert "entry / ask Consul for a session" in found
    assert "session_created" in found
    assert not [text for text in found if text.endswith("/ nothing")]


def test_dashed_are_what_handlers_do_and_what_is_no_state() -> None:
    drawing = svg(NESTED)
    assert drawing.count("stroke-dasharray") == 3  # two arrows, and the box of any state
    assert "(any state)" in texts(drawing)


def test_texts_are_what_they_were() -> None:
    name = '\\N &amp; "<b>" #1;'
    assert name in texts(svg(Table({name: State()}, initial_state=name)))
    assert "a, b" in texts(svg(ODD))


def test_png() -> None:
    assert png(TABLE).startswith(PNG)


def test_many_states_are_drawn_soon() -> None:
    begun = time.process_time()
    found = texts(svg(large()))
    assert time.process_time() - begun < UNDER
    assert {f"state_{number}" for number in range(60)} <= set(found)
    assert "input_0 / go to state_1" in found


@settings(max_examples=40, deadline=None)
@given(names=st.lists(st.text(min_size=1).filter(lambda name: name not in "*=" and name != "(start)"), unique=True,
                      min_size=1, max_size=4), label=st.text())  # fmt: skip
def test_no_name_makes_a_picture_malformed(names: list[str], label: str) -> None:
    table = Table(
        {
            name: State(
                on_enter=Action(lambda client: None, label),
                inputs={f"i{label}": names[0], f"j{label}": Action(lambda client: None, label, (names[-1],))},
            )
            for name in names
        },
        initial_state=names[0],
        namespace=label,
        strict=False,
    )
    assert ET.fromstring(svg(table)).tag == f"{SVG}svg"
    assert len([line for line in mermaid(table).splitlines() if line.startswith('    state "')]) == len(names)


def test_without_pygraphviz_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    with pytest.raises(RuntimeError, match=r"pip install 'consul_locker\[diagrams\]'"):
        svg(TABLE)


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
