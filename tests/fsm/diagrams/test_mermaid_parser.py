"""Mermaid's own parser reads every drawing as what it is: each state is there under its name, and no other.

It needs Node, and ``npm install mermaid jsdom`` in the folder MERMAID (.ci/run does that where there is npm).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from consul_locker.core.machine import TABLE
from consul_locker.fsm import Action, Defer, Fsm, State, Table
from consul_locker.fsm.diagrams import mermaid, record
from consul_locker.fsm.diagrams.picture import picture_of, visible

from .drawn_machines import LAMP, NESTED, ODD, large

PARSER = Path(__file__).with_name("mermaid_parser.mjs")
FOLDER = Path(os.environ.get("MERMAID") or Path(__file__).parents[3] / ".ci" / "cache" / "mermaid")

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (FOLDER / "node_modules" / "mermaid").is_dir(),
    reason="needs Node, and Mermaid's parser in the build cache (see .ci/run)",
)

WORDS = (
    "state State note default class classDef style click href scale root end start direction hide as fork join choice"
    " accTitle accDescr title LR TB __proto__ constructor toString x_start root_end end_note s0 s1 -- --> <<fork>>"
    " [*] : :: ::: ; # #59; %% %%{init} { } \" ' ` ** $$ \\n <br/> &amp; <script> graph node ~ | @ + @{ ---"
).split()

NAMES = st.one_of(st.sampled_from(WORDS), st.text(min_size=1, max_size=12)).filter(
    lambda name: name not in ("*", "=", "(start)") and not name.startswith("go to ") and name != "fsm_state"
)


def parsed(drawings: list[str]) -> list[dict[str, Any]]:
    """What Mermaid makes of drawings; one process for all, since it takes a second to begin."""
    answer = subprocess.run(
        ["node", str(PARSER)], input=json.dumps(drawings), capture_output=True, text=True, cwd=FOLDER, timeout=120,
        check=True,
    )  # fmt: skip
    found: list[dict[str, Any]] = json.loads(answer.stdout)
    return found


@st.composite
def tables(draw: st.DrawFn) -> Table:
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    children = st.one_of(st.none(), st.just(LAMP), st.just(Table({"state": State()}, initial_state="state")))
    reactions = st.one_of(
        st.sampled_from(names),
        st.builds(lambda label, to: Action(lambda client: None, label, (to,)), NAMES, st.sampled_from(names)),
        st.just(Defer()),
    )
    states = {
        name: State(
            on_enter=draw(st.one_of(st.none(), st.builds(lambda label: Action(lambda client: None, label), NAMES))),
            inputs=draw(st.dictionaries(NAMES, reactions, max_size=3)),
            child=draw(children),
        )
        for name in names
    }
    return Table(states, initial_state=names[0], strict=False)


def check(tables: list[Table]) -> None:
    for table, answer in zip(tables, parsed([mermaid(table) for table in tables]), strict=True):
        assert "error" not in answer, (mermaid(table), answer["error"])
        boxes = {box.id: visible(box.name) for box in picture_of(table).everything()}
        assert answer["states"] == boxes, mermaid(table)
        labels = {label.removesuffix("?").removesuffix(" / stays here").strip() for _, _, label in answer["relations"]}
        for arrow in picture_of(table).arrows:
            assert visible(", ".join(arrow.inputs)).strip() in labels, mermaid(table)


def test_known_machines() -> None:
    check([TABLE, NESTED, ODD, LAMP, large()])


def test_every_word_can_be_the_name_of_a_state() -> None:
    check([
        Table({word: State(inputs={word: "other"}), "other": State(inputs={"x": word})}, initial_state=word)
        for word in WORDS
    ])  # fmt: skip


def examples(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """Some of what a strategy makes: they are parsed together, since a process for each would take a second."""
    made: list[Any] = []

    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def collect(each: Any) -> None:
        made.append(each)

    collect()
    return made


def test_any_names() -> None:
    check(examples(tables(), 30))


def test_sequences_with_any_names() -> None:
    names = examples(NAMES, 30)
    drawings = []
    for name in names:
        states = {name: State(inputs={"*": lambda fsm, *_: fsm.emit(f"own {fsm.state}")})}
        fsm = Fsm(Table(states, initial_state=name, namespace=f"machine {name}", strict=False))
        with record(fsm, callers={name: f"from {name}"}) as recording:
            fsm.handle(name)
        drawings.append(recording.mermaid())
    for name, answer in zip(names, parsed(drawings), strict=True):
        assert "error" not in answer, (name, answer)
        assert answer["actors"] == ["caller", visible(f"machine {name}").strip(), visible(f"from {name}").strip()]
        assert answer["messages"] == [visible(name).strip(), visible(f"own {name}").strip()]
