"""A machine as a table of text: a row for each input of each state."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .picture import Arrow, Box, Drawn, Picture, picture_of, visible

__all__ = ["FORMS", "as_table"]

FORMS = ("markdown", "rst")
"""How a table can be written."""

HEADS = ("State", "Input", "What happens")


def as_table(drawn: Drawn, form: str = "markdown") -> str:
    """Write a machine as a table.

    Args:
        drawn: a table, or a machine of it, whose present state is marked.
        form: ``"markdown"``, or ``"rst"`` (a ``list-table``).

    Returns:
        The text, with a newline at its end.

    Raises:
        ValueError: there is no such form.
    """
    if form not in FORMS:
        raise ValueError(f"form={form!r}: a table is written as one of {', '.join(FORMS)}")
    rows = list(_rows(picture_of(drawn), ""))
    if form == "markdown":
        lines = [_line(HEADS), _line(("---",) * len(HEADS)), *(_line(map(_markdown, row)) for row in rows)]
    else:
        lines = [".. list-table::", "   :header-rows: 1", ""]
        for row in (HEADS, *rows):
            lines += [f"   {'*' if not number else ' '} - {_rst(cell)}".rstrip() for number, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def _rows(picture: Picture, above: str) -> Iterator[tuple[str, str, str]]:
    for box in picture.boxes:
        name = f"{above}{box.name}" + (" (now)" if box.present else "")
        first = True
        for input, what in _cells(picture, box):
            yield name if first else "", input, what
            first = False
        if box.below is not None:
            yield from _rows(box.below, f"{above}{box.name}.")


def _cells(picture: Picture, box: Box) -> Iterator[tuple[str, str]]:
    """Yield the inputs of a state, and what each does; one row if there are none."""
    parts = [answer.partition(" / ") for answer in box.answers]
    lines = [(input, what) for input, _, what in parts]
    lines += [(", ".join(arrow.inputs), _led(arrow)) for arrow in picture.arrows if arrow.source is box]
    if box is picture.initial:
        lines.insert(0, ("", "the machine begins here"))
    yield from lines or [("", "")]


def _led(arrow: Arrow) -> str:
    if arrow.dashed:
        return f"may go to {arrow.target.name}"
    return "stays here" if arrow.stays else f"goes to {arrow.target.name}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|~!&])", r"\\\1", visible(text))


def _rst(text: str) -> str:
    return re.sub(r"([\\`*_|:.-])", r"\\\1", visible(text)) if text else ""
