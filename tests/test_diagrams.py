"""The drawings show the table: all that it declares and does, nothing else, and no text on top of another."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

from consul_locker import diagrams
from consul_locker.core.machine import STATES, TABLE
from consul_locker.fsm import Action, Defer, Fsm, State, Table

RENDER = Path(__file__).parents[1] / "diagrams" / "render.py"
SVG = "{http://www.w3.org/2000/svg}"


def ring(count: int) -> Table:
    """A machine of states in a ring, each with an input that leads on."""
    names = [f"state {number}" for number in range(count)]
    return Table(
        {name: State(inputs={"next": names[(number + 1) % count]}) for number, name in enumerate(names)},
        initial_state=names[0],
    )


def texts(drawing: str) -> list[str]:
    """The texts of a picture, in the order in which they are drawn."""
    return [element.text or "" for element in ET.fromstring(drawing).iter(f"{SVG}text")]


ODD = Table(
    {
        "one": State(
            inputs={
                "to itself": "one",
                "nowhere": "no state",
                "explicitly nothing": None,
                "nothing too": Action(lambda client: None, "nothing"),
                "plain": lambda client: None,
                "later": Defer(),
                "a": "the #2",
                "b": "the #2",
                "*": lambda client, name: None,
            }
        ),
        "the #2": State(inputs={"back": "one", "wait": Defer("one")}),
    },
    initial_state="one",
    inputs={"*": "one"},
    namespace="an \"odd\" <machine>",
    strict=False,
)


# ------------------------------------------------------------------------------------------------ Mermaid


def test_mermaid_of_the_locker_has_each_transition_once_with_its_inputs() -> None:
    lines = [line.strip() for line in diagrams.mermaid(TABLE).splitlines()]
    assert lines[0] == "stateDiagram-v2"
    assert "[*] --> acquiring" in lines
    assert "acquiring --> paused : session_failed, session_refused, reboot" in lines
    assert "paused --> acquiring : retry, start" in lines
    arrows = [line.split(" : ")[0] for line in lines if "-->" in line]
    assert len(arrows) == len(set(arrows))


def test_mermaid_shows_what_a_state_does_inside_and_not_what_does_nothing() -> None:
    drawing = diagrams.mermaid(TABLE)
    assert "    acquiring : lock / defer until ready#59; session refused#58; refuse\n" in drawing
    assert "    stopped : lock, release / refuse\n" in drawing
    assert "session_destroyed" in drawing  # it leads from ready to stopped,
    assert "paused : session_destroyed" not in drawing  # and does nothing elsewhere
    assert "/ nothing\n" not in drawing


def test_mermaid_gets_no_character_that_would_end_a_text() -> None:
    drawing = diagrams.mermaid(ODD)
    assert 'state "the #35;2" as s1' in drawing
    for line in drawing.splitlines():
        text = line.partition(" : ")[2]
        assert not set(':"<>') & set(text)
    assert "one : nowhere / no such state#58; no state" in drawing


def test_odd_rows_are_drawn_as_what_they_do() -> None:
    lines = diagrams.mermaid(ODD).splitlines()
    assert "    one --> s1 : a, b" in lines
    assert "    one : plain, any other input" in lines
    assert "    one : later / defer" in lines
    assert "    s1 : wait / defer until one" in lines
    assert "    s2 --> one : any other input" in lines  # the machine's own catch-all
    assert not [line for line in lines if "itself" in line or "nothing" in line]


# ---------------------------------------------------------------------------------------------------- SVG


def test_svg_of_the_locker_is_well_formed_and_says_the_same() -> None:
    found = texts(diagrams.svg(TABLE))
    assert set(STATES) <= set(found)
    assert "lock / defer until ready; session" in found  # its end is the next line
    assert "session_failed," in found
    assert not [text for text in found if text.endswith("/ nothing")]


@pytest.mark.parametrize("table", [TABLE, ODD, *map(ring, (1, 2, 3, 5, 6, 8, 10))], ids=repr)
def test_nothing_in_a_picture_covers_anything_else(table: Table) -> None:
    drawing = diagrams._Drawing(diagrams._picture(table), "")
    rects = [*drawing._boxes.values(), *drawing._label_boxes.values()]
    assert not [pair for pair in itertools.combinations(rects, 2) if pair[0].overlap(pair[1]) > 0]
    for arrow, ends in drawing._ends.items():
        others = [box for state, box in drawing._boxes.items() if state not in (arrow.source, arrow.target)]
        assert not [box for box in others if box.crossed(*ends)]


def test_the_machines_own_catch_all_is_a_dashed_box() -> None:
    drawing = diagrams.svg(ODD)
    assert diagrams.ANY_STATE in texts(drawing)
    assert drawing.count("stroke-dasharray") == 1
    assert "&quot;odd&quot; &lt;machine&gt;" in drawing


def test_a_machine_is_drawn_as_its_table_and_always_alike() -> None:
    machine = Fsm(ODD)
    assert diagrams.svg(machine) == diagrams.svg(ODD)
    assert diagrams.mermaid(machine) == diagrams.mermaid(ODD)


def test_states_are_ordered_so_that_arrows_cross_little() -> None:
    """Declared as a, b, c, d, the arrows a-c and b-d would cross."""
    table = Table(
        {
            "a": State(inputs={"x": "c"}),
            "b": State(inputs={"x": "d"}),
            "c": State(inputs={"x": "b"}),
            "d": State(inputs={"x": "a"}),
        },
        initial_state="a",
    )
    assert diagrams._ordered(diagrams._picture(table)) == ["a", "c", "b", "d"]


# ------------------------------------------------------------------------------------------- the program


@pytest.fixture
def render(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("render", RENDER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_drawings_in_the_repository_are_those_of_the_table(render: ModuleType) -> None:
    assert render.main(["--check"]) == 0


def test_check_notices_a_drawing_that_is_missing_or_old(
    render: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert render.main(["--check"], tmp_path) == 1
    assert not list(tmp_path.iterdir())
    assert render.main([], tmp_path) == 0
    assert render.main(["--check"], tmp_path) == 0
    (tmp_path / "locker.mmd").write_text("stateDiagram-v2\n", encoding="utf-8")
    capsys.readouterr()
    assert render.main(["--check"], tmp_path) == 1
    assert "locker.mmd" in capsys.readouterr().err
