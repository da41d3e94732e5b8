"""What there is to see of a machine, whatever it is drawn as.

Shown are the states, the arrows between them, and inside a state what it answers without leaving, as
``lock / defer until ready``. Left out is what would only be noise: inputs that a state does not declare, and those that
do nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_type_hints

from ..checks import ANY_STATE
from ..events import Emitter
from ..machine import Fsm
from ..parts import CATCH_ALL, START, Action, Row, function_of, row_of
from ..spec import Table

__all__ = ["NOTHING", "Arrow", "Box", "Drawn", "Picture", "labelled", "named", "picture_of", "visible"]

NOTHING = "nothing"
"""The label of actions that do nothing, and so are not drawn."""

ENTRY, EXIT = "entry", "exit"
"""UML's words for the two actions."""

Drawn: TypeAlias = "Table[Any] | Fsm[Any]"


@dataclass(frozen=True)
class Arrow:
    """Inputs that lead from a state to another.

    Attributes:
        source: where they come from.
        target: where they lead, a state beside it.
        inputs: their names.
        dashed: a handler goes there itself, when it wants to; the table alone does not say so.
    """

    source: Box
    target: Box
    inputs: tuple[str, ...]
    dashed: bool

    @property
    def stays(self) -> bool:
        """Whether it leads where it begins, which does nothing (machina's rule)."""
        return self.source is self.target and not self.dashed


@dataclass(eq=False)
class Box:
    """One state.

    Attributes:
        name: the state's name.
        id: a name for it that all forms can carry, and no other state of the picture has.
        answers: the lines of what it does, as ``input / what``.
        below: what is nested in it.
        present: a living machine is in it.
        everywhere: it is no state, but what the machine itself does in every state.
    """

    name: str
    id: str
    answers: list[str] = field(default_factory=list)
    below: Picture | None = None
    present: bool = False
    everywhere: bool = False


@dataclass(eq=False)
class Picture:
    """One machine.

    Attributes:
        namespace: the machine's name.
        boxes: its states in their order.
        initial: where it begins.
        arrows: one for each pair of states and kind of line.
    """

    namespace: str
    boxes: list[Box]
    initial: Box
    arrows: list[Arrow]

    def everything(self) -> Iterator[Box]:
        """Yield every state, those below included."""
        for box in self.boxes:
            yield box
            if box.below is not None:
                yield from box.below.everything()

    def arrows_in_all(self) -> int:
        """How many arrows there are, those below included."""
        return len(self.arrows) + sum(box.below.arrows_in_all() for box in self.boxes if box.below is not None)


# ------------------------------------------------------------------------------------------------- names

_RESERVED = frozenset(
    "state note default class classdef style click href scale root end start direction hide as fork join choice"
    " acctitle accdescr title left right of lr rl tb bt tr"
    " __proto__ constructor prototype tostring valueof hasownproperty isprototypeof tolocalestring propertyisenumerable"
    " graph digraph subgraph node edge strict".split()
)
"""What means something to Mermaid (whatever the case, see its parser's ``stateDiagram.jison``), JavaScript or DOT."""

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")
_NUMBERED = re.compile(r"s\d+", re.IGNORECASE)


class _Ids:
    """Gives each state a name that can stand in a text: its own where that is safe, else a number."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._states = 0

    def of(self, path: tuple[str, ...]) -> str:
        number = self._states
        self._states += 1
        own = "_".join(path)
        parts = {part.lower() for part in (own, *path)}
        # Mermaid makes names of its own that end so.
        ends = own.lower().endswith(("_start", "_end", "_parent"))
        if ends or parts & _RESERVED or not _PLAIN.fullmatch(own) or _NUMBERED.fullmatch(own):
            own = f"s{number}"
        if own.lower() in self._taken:
            own = f"s{number}"
        self._taken.add(own.lower())
        return own


def visible(text: str) -> str:
    """A text without the characters that cannot be seen, or not be in XML: each as what it is called."""
    return "".join(char if char == " " or char.isprintable() else _called(char) for char in text)


def _called(char: str) -> str:
    code = ord(char)
    return chr(0x2400 + code) if code < 0x20 else f"<U+{code:04X}>"


def named(name: str) -> str:
    """An input as it is written."""
    return "any other input" if name == CATCH_ALL else name


def labelled(row: Row, reaction: Any) -> str:
    """What an input does, in words: its label, else the name of the function."""
    return row.label or _function_name(reaction)


def _function_name(reaction: Any) -> str:
    function: Callable[..., Any] | None = function_of(reaction)
    function = getattr(function, "func", function)  # of a functools.partial
    name = getattr(function, "__name__", "")
    return "" if name == "<lambda>" else name


# ------------------------------------------------------------------------------------------- what is seen


def picture_of(drawn: Drawn) -> Picture:
    """Look at a table, or at a machine: of a machine one sees the state it is in as well."""
    ids = _Ids()
    return _seen(drawn, ids, ())


def _declared_child(child: Any) -> Any:
    """What is declared below a state: a table; or a function, whose annotation may say what it makes.

    ``-> EmbeddedLocker`` says that it is a Locker, which has always the same table. Nothing is called here.
    """
    if child is None or isinstance(child, Table):
        return child
    try:
        made = get_type_hints(child).get("return")
    except (AttributeError, NameError, TypeError):  # no function, or a name that is not known at run time
        return child
    table = getattr(made, "TABLE", None)
    return table if isinstance(table, Table) else child


def _seen(drawn: Any, ids: _Ids, above: tuple[str, ...]) -> Picture:
    """``drawn``: a table, or something that lives: an `Fsm`, or what stands for one, with a state and a table."""
    table = drawn if isinstance(drawn, Table) else drawn.table
    state = START if isinstance(drawn, Table) else drawn.state
    child = getattr(drawn, "child", None)
    boxes = {}
    for name, declared in table.states.items():
        box = boxes[name] = Box(name, ids.of((*above, name)), present=name == state)
        below = child if box.present and isinstance(child, Emitter) else _declared_child(declared.child)
        for word, effect in ((ENTRY, declared.on_enter), (EXIT, declared.on_exit)):
            if effect is not None:
                box.answers.append(_answer([word], getattr(effect, "label", "") or _function_name(effect)))
        if isinstance(below, (Table, Emitter)):
            box.below = _seen(below, ids, (*above, name))
        elif below is not None:
            box.answers.append(_answer(["child"], _function_name(below) or "made at each entry"))
    if CATCH_ALL in table.inputs:
        boxes[CATCH_ALL] = Box(ANY_STATE, ids.of((*above, ANY_STATE)), everywhere=True)
    arrows = list(_arrows(table, boxes))  # it writes into the boxes
    return Picture(table.namespace, list(boxes.values()), boxes[table.initial_state], arrows)


def _arrows(table: Table[Any], boxes: dict[str, Box]) -> Iterator[Arrow]:
    """Yield the arrows, and write into the boxes what leads nowhere."""
    lines: dict[tuple[str, str, bool], list[str]] = {}
    for name in boxes:
        inside: dict[str, list[str]] = {}
        if name != CATCH_ALL:
            effect = table.states[name].on_enter
            for target in effect.goes_to if isinstance(effect, Action) else ():
                lines.setdefault((name, target, True), []).append(ENTRY)
        for input, reaction in (table.inputs if name == CATCH_ALL else table.states[name].inputs).items():
            row = row_of(name, input, reaction)
            label = labelled(row, reaction)
            if row.kind == "goto" and row.target in boxes:
                lines.setdefault((name, str(row.target), False), []).append(named(input))
            elif row.kind == "goto":
                inside.setdefault(f"no such state: {row.target}", []).append(named(input))
            elif row.kind != "nothing" and label != NOTHING:
                inside.setdefault(label, []).append(named(input))
            for target in row.goes_to:
                lines.setdefault((name, target, True), []).append(named(input))
        boxes[name].answers += [_answer(names, label) for label, names in inside.items()]
    for (source, target, dashed), inputs in lines.items():
        if target in boxes:
            yield Arrow(boxes[source], boxes[target], tuple(inputs), dashed)


def _answer(names: list[str], label: str) -> str:
    return f"{', '.join(names)} / {label}" if label else ", ".join(names)
