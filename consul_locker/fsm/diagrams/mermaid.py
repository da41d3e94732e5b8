"""A machine as Mermaid text, which GitHub, GitLab and many others draw in their pages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .picture import Box, Drawn, Picture, picture_of, visible

__all__ = ["escaped", "mermaid"]

_STYLE = "    classDef present fill:#fff8c5,stroke:#9a5b00,stroke-width:3px,color:#24292f"

SELF = " / stays here"
"""Stands beside an input that leads to the state it comes from, which does nothing (machina's rule)."""


def mermaid(drawn: Drawn) -> str:
    """Draw a machine as a Mermaid ``stateDiagram-v2``.

    Where a handler goes itself, and says so by ``goes_to``, the label of the arrow ends with a question mark: Mermaid
    has no dashed arrows between states.

    Args:
        drawn: a table, or a machine of it, whose present state is marked.

    Returns:
        The text, with a newline at its end. It depends on the table, and the present state, alone.
    """
    picture = picture_of(drawn)
    lines = ["stateDiagram-v2", "    direction LR", *_machine(picture, "    ")]
    marked = [box.id for box in picture.everything() if box.present]
    if marked:
        lines += [_STYLE, *(f"    class {each} present" for each in marked)]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Write what Mermaid takes for markup, or for the end of a text, as entities of its own form."""
    text = re.sub(r"[^\w ,./()?!+='@|~^-]", lambda found: f"#{ord(found[0])};", visible(text), flags=re.ASCII)
    return text.replace("--", "-#45;")


def _machine(picture: Picture, indent: str) -> Iterator[str]:
    for box in picture.boxes:
        yield from _state(box, indent)
    yield f"{indent}[*] --> {picture.initial.id}"
    for arrow in picture.arrows:
        label = escaped(", ".join(arrow.inputs))
        label += "?" if arrow.dashed else SELF if arrow.stays else ""
        yield f"{indent}{arrow.source.id} --> {arrow.target.id} : {label}"
    for box in picture.boxes:
        if box.below is None:
            for answer in box.answers:
                yield f"{indent}{box.id} : {escaped(answer)}"
        elif box.answers:
            # Mermaid shows no lines in a state with others inside.
            yield f"{indent}note right of {box.id} : {'<br/>'.join(map(escaped, box.answers))}"


def _state(box: Box, indent: str) -> Iterator[str]:
    head = f'{indent}state "{escaped(box.name) or " "}" as {box.id}'
    if box.below is None:
        yield head
        return
    yield f"{head} {{"
    yield from _machine(box.below, f"{indent}    ")
    yield f"{indent}}}"
