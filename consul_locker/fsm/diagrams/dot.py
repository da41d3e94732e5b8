"""A machine as DOT text, and as a picture that Graphviz lays out: through `pygraphviz`, whose wheel brings it along."""

from __future__ import annotations

import itertools
import re
import textwrap
import threading
from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape

from .picture import Arrow, Box, Drawn, Picture, picture_of, visible

__all__ = ["dot", "laid_out", "png", "svg"]

COLOURS = ("#0b5c8a", "#1a7f37", "#9a5b00", "#a3262a", "#6639ba", "#57606a")
"""Of a state's head, its arrows and their labels. Dark enough to be read on white (a contrast of 4.5 or more)."""

INK, PAPER, MARKED = "#24292f", "#f6f8fa", "#fff8c5"
"""Of texts, of a state, of the present state."""

FONT = "DejaVu Sans Mono,Menlo,Consolas,monospace"
"""Of one width, so that a viewer whose font is another one sees texts of nearly the width they were laid out for."""

INSIDE_WIDTH, LABEL_WIDTH = 36, 24
"""Longer lines of a state, and of an arrow's label, are broken, in characters."""

MANY_ARROWS = 60
"""With more arrows than this each state lists where its inputs lead, and the arrows have no labels: nobody could tell
which label belongs to which of them, and to place the labels of 180 took Graphviz 19 s (without them: 0.5 s)."""

RESOLUTION = 144
"""Of PNG pictures, in dots per inch: twice that of a page, for screens that are fine."""

_GRAPHVIZ = threading.Lock()
"""Graphviz keeps its state in globals."""


def dot(drawn: Drawn) -> str:
    """Write a machine as DOT, Graphviz's language.

    Args:
        drawn: a table, or a machine of it, whose present state is marked.

    Returns:
        The text, with a newline at its end. It depends on the table, and the present state, alone.
    """
    picture = picture_of(drawn)
    many = picture.arrows_in_all() > MANY_ARROWS
    # Without it a label between two states of one row lies on its arrow, where states are nested; else it costs time.
    ranks = "newrank=true " if any(box.below is not None for box in picture.boxes) else ""
    lines = [
        f"digraph {_quoted(picture.namespace)} {{",
        f'    graph [bgcolor="#ffffff" fontname="{FONT}" {ranks}nodesep=0.5 pad=0.2 rankdir=TB ranksep=0.6]',
        f'    node [fontcolor="{INK}" fontname="{FONT}" fontsize=12 shape=plain]',
        f'    edge [arrowsize=0.8 fontname="{FONT}" fontsize=11 penwidth=1.5]',
        *_machine(picture, "    ", itertools.cycle(COLOURS), "start", many),
        "}",
    ]
    return "\n".join(lines) + "\n"


def svg(drawn: Drawn) -> str:
    """Draw a machine as an SVG picture.

    Args:
        drawn: a table, or a machine of it.

    Returns:
        The document. Where things are depends on Graphviz's version and on the fonts of this machine.

    Raises:
        RuntimeError: `pygraphviz` is missing.
    """
    return laid_out(dot(drawn), "svg").decode()


def png(drawn: Drawn) -> bytes:
    """Draw a machine as a PNG picture; else as `svg`."""
    return laid_out(dot(drawn), "png")


def laid_out(text: str, form: str) -> bytes:
    """Have Graphviz draw a text in its language.

    Args:
        text: the DOT text.
        form: what to make of it, as ``"svg"``, ``"png"``, ``"pdf"``.

    Returns:
        The picture's bytes.

    Raises:
        RuntimeError: `pygraphviz` is missing.
    """
    try:
        import pygraphviz
    except ImportError as missing:
        raise RuntimeError(
            "pictures are laid out by pygraphviz, which is missing; install it with:"
            " pip install 'consul_locker[diagrams]'"
        ) from missing
    if form == "png":
        text = text.replace("graph [", f"graph [dpi={RESOLUTION} ", 1)
    with _GRAPHVIZ:
        picture: bytes = pygraphviz.AGraph(string=text).draw(format=form, prog="dot")
    return picture


# ------------------------------------------------------------------------------------------- as a text


def _machine(picture: Picture, indent: str, colours: Iterator[str], start: str, many: bool) -> Iterator[str]:
    of = {box: next(colours) for box in picture.boxes}
    yield f'{indent}{start} [fillcolor="{INK}" label="" shape=circle style=filled width=0.2]'
    for box in picture.boxes:
        lines = list(box.answers)
        if many:
            lines += [_listed(arrow) for arrow in picture.arrows if arrow.source is box]
        if box.below is None:
            yield f"{indent}{box.id} [label={_box(box, of[box], lines)}]"
            continue
        yield f"{indent}subgraph cluster_{box.id} {{"
        yield f'{indent}    graph [color="{of[box]}" margin=14 penwidth=1.5]'
        yield f"{indent}    {box.id} [label={_box(box, of[box], lines)}]"
        yield from _machine(box.below, f"{indent}    ", colours, f"start_{box.id}", many)
        # What is below stands below: a line that is not drawn.
        yield f"{indent}    {box.id} -> start_{box.id} [style=invis]"
        yield f"{indent}}}"
    yield f'{indent}{start} -> {picture.initial.id} [color="{INK}"]'
    for arrow in picture.arrows:
        colour = of[arrow.source]
        label = "" if many else f" fontcolor=\"{colour}\" label=<{_label(arrow)}>"
        style = " style=dashed" if arrow.dashed else ""
        yield f'{indent}{arrow.source.id} -> {arrow.target.id} [color="{colour}"{label}{style}]'


def _label(arrow: Arrow) -> str:
    text = ", ".join(arrow.inputs) + (" / stays here" if arrow.stays else "")
    # A blank before each line keeps it off the arrow.
    return "".join(f' {_html(line)} <BR ALIGN="LEFT"/>' for line in _wrapped(text, LABEL_WIDTH, ""))


def _listed(arrow: Arrow) -> str:
    """An arrow as a line of its state."""
    goes = "may go to" if arrow.dashed else "go to"
    return f"{', '.join(arrow.inputs)} / " + ("stays here" if arrow.stays else f"{goes} {arrow.target.name}")


def _box(box: Box, colour: str, answers: Sequence[str]) -> str:
    """The label of a state: its name on its colour, below it what it answers."""
    head = f'<FONT COLOR="#ffffff"><B>{_html(box.name) or " "}{" · now" if box.present else ""}</B></FONT>'
    lines = [line for answer in answers for line in _wrapped(answer, INSIDE_WIDTH, "  ")]
    # Each line ends on the left.
    text = "".join(f'{_html(line)}<BR ALIGN="LEFT"/>' for line in lines)
    row = f'<TR><TD ALIGN="LEFT" CELLPADDING="6">{text}</TD></TR>' if lines else ""
    style = ' STYLE="dashed"' if box.everywhere else ""
    return (
        f'<<TABLE BGCOLOR="{MARKED if box.present else PAPER}" BORDER="{3 if box.present else 1}" CELLBORDER="0"'
        f' CELLSPACING="0" COLOR="{colour}"{style}><TR><TD BGCOLOR="{colour}" CELLPADDING="5">{head}</TD></TR>{row}'
        "</TABLE>>"
    )


def _wrapped(text: str, width: int, indent: str) -> Sequence[str]:
    return textwrap.wrap(visible(text), width, subsequent_indent=indent) or [visible(text)]


def _html(text: str) -> str:
    """A text in Graphviz's HTML; it takes backslashes for escapes there too, and drops blanks at the beginning."""
    text = escape(visible(text), {'"': "&quot;", "\\": "\\\\"})
    return re.sub(r"^ +", lambda found: "&#160;" * len(found[0]), text)


def _quoted(text: str) -> str:
    """A text in quotes."""
    return '"' + visible(text).replace("\\", "\\\\").replace('"', '\\"') + '"'
