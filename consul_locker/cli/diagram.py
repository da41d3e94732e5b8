"""``consul-locker diagram``: draws a machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.machine import TABLE
from ..fsm.diagrams.dot import dot, png, svg
from ..fsm.diagrams.mermaid import mermaid
from ..fsm.diagrams.picture import Drawn
from ..fsm.diagrams.table import as_table
from .place import machine_at

if TYPE_CHECKING:
    import click

__all__ = ["add"]

FORMS: dict[str, Callable[[Drawn], str | bytes]] = {
    "mermaid": mermaid, "dot": dot, "svg": svg, "png": png, "table": as_table
}  # fmt: skip

ENDINGS = {
    ".svg": "svg", ".png": "png", ".dot": "dot", ".gv": "dot", ".md": "table", ".mmd": "mermaid", "": "mermaid"
}  # fmt: skip
"""What the end of a file's name says of its format."""


def add(group: click.Group) -> None:
    """Add the command to those of the command line."""
    import click

    @group.command(short_help="Draw a machine of yours, or a Locker's.")
    @click.argument("place", metavar="[MODULE:NAME]", required=False)
    @click.option(
        "--format", "form", type=click.Choice(list(FORMS)),
        help="How to draw it; svg and png need the extra 'diagrams'. Default: what FILE ends with, else mermaid.",
    )  # fmt: skip
    @click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file to write it into.")
    def diagram(place: str | None, form: str | None, output: Path | None) -> None:
        """Draw the machine MODULE:NAME, a table or an Fsm; without one, that of a Locker."""
        drawn: Drawn = TABLE if place is None else machine_at(place)
        if form is None:
            ending = "" if output is None else output.suffix.lower()
            if ending not in ENDINGS:
                known = ", ".join(filter(None, ENDINGS))
                raise click.UsageError(f"no format is known by the ending {ending!r}, but by {known}; name a --format")
            form = ENDINGS[ending]
        try:
            drawing = FORMS[form](drawn)
        except RuntimeError as error:
            raise click.ClickException(str(error)) from error
        written = drawing.encode() if isinstance(drawing, str) else drawing
        if output is None:
            if form == "png" and sys.stdout.isatty():
                raise click.UsageError("a PNG picture is nothing for a terminal; name a file: -o FILE")
            click.echo(written, nl=False)
            return
        try:
            output.write_bytes(written)
        except OSError as error:
            raise click.ClickException(f"{output}: {error.strerror}") from error
