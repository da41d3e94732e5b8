"""What commands take as the place of a machine."""

from __future__ import annotations

import os
import sys

from ..fsm.diagrams.found import found
from ..fsm.diagrams.picture import Drawn

__all__ = ["machine_at"]


def machine_at(place: str) -> Drawn:
    """The machine at ``MODULE:NAME``; modules of the present folder are found as well, as ``python -m`` finds them.

    Raises:
        click.BadParameter: there is none.
    """
    import click

    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return found(place)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
