"""``consul-locker inspect``: looks for mistakes in a machine, for a terminal and for CI."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ..fsm.inspection import inspect as look
from .place import machine_at

if TYPE_CHECKING:
    import click

__all__ = ["add"]

FOUND = 1
"""The exit status when something was found."""


def add(group: click.Group) -> None:
    """Add the command to those of the command line."""
    import click

    @group.command(short_help="Look for mistakes in a machine of yours.")
    @click.argument("place", metavar="MODULE:NAME")
    def inspect(place: str) -> None:
        """Look for mistakes in the machine MODULE:NAME, a table or an Fsm.

        What is found is written line by line, and the exit status is 1 then.
        """
        findings = look(machine_at(place))
        for finding in findings:
            click.echo(str(finding))
        if findings:
            sys.exit(FOUND)
