"""What a type checker tells users of the machines: that right programs are right, and first mistakes are none."""

from __future__ import annotations

import re
from pathlib import Path

import mypy.api
import pytest

ROOT = Path(__file__).parents[2]

#: A line with a mistake ends in the code that mypy gives it.
PROGRAM = """
from consul_locker.fsm import Action, Behavior, Defer, Fsm, State, Table


class Door:
    opened = 0

    def open(self, wide: bool = False) -> None:
        self.opened += 1


class Cat:
    def meow(self) -> None: ...


table = Table[Door](
    {
        "closed": State(inputs={"open": "open", "knock": Defer(("open", "closed")), "shut": None}),
        "open": State(
            on_enter=Door.open,
            on_exit=lambda door: print(door.opened),
            inputs={"wider": lambda door, wide: door.open(wide), "act": Action(Door.open, "open", goes_to=("closed",))},
        ),
    },
    initial_state="closed",
)
fsm = Fsm(table, Door())
opened: int = fsm.client.opened
below = Table[Door]({"s": State(child=table)}, initial_state="s")
made = Table[Door]({"s": State(child=lambda door: Fsm(table, door))}, initial_state="s")
plain = Table({"s": State(inputs={"x": lambda me: me.handle("y")})}, initial_state="s")
Fsm(plain).client.whatever()
Behavior(table).handle(Door(), "open")
again: Fsm[Door] = Fsm.restore(table, Door(), fsm.snapshot())

of_cats = Table[Cat]({"s": State()}, initial_state="s")
Fsm(table, Cat())  # misc
Table[Door]({"s": State(on_enter=Cat.meow)}, initial_state="s")  # arg-type
Table[Door]({"s": State(inputs={"x": Cat.meow})}, initial_state="s")  # dict-item
Table[Door]({"s": State(on_enter=lambda door: door.meow())}, initial_state="s")  # attr-defined
Table[Door]({"s": State(inputs={"x": 5})}, initial_state="s")  # dict-item
fsm.client.meow()  # attr-defined
Behavior(table).handle(Cat(), "open")  # arg-type
Fsm(table, mutex="yes")  # arg-type
Action[Cat](Door.open)  # arg-type
Table[Door]({"s": State(child=of_cats)}, initial_state="s")  # arg-type
"""


def test_mistakes_are_found_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    monkeypatch.chdir(ROOT)
    said, broken, _ = mypy.api.run(["--config-file=setup.cfg", "--python-version=3.10", str(program)])
    assert broken == ""
    found = {(int(line), code) for line, code in re.findall(r":(\d+): error: .*\[([\w-]+)\]$", said, re.MULTILINE)}
    lines = enumerate(PROGRAM.splitlines(), 1)
    expected = {(number, line.partition("  # ")[2]) for number, line in lines if "  # " in line}
    assert found == expected, said
