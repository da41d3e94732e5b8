"""A machine by its place, ``module:name``, for what is told of one in a text."""

from __future__ import annotations

import importlib
from typing import Any

from ..machine import Fsm
from ..spec import Table
from .picture import Drawn

__all__ = ["found"]


def found(place: str) -> Drawn:
    """Import a table, or a machine.

    Args:
        place: where it is, as ``package.module:name``; the name may have dots. What is found there may also be
            something that has one as its ``table``, as a `Behavior` does, or as its ``fsm``, as a Locker does.

    Returns:
        The table, or the machine.

    Raises:
        ValueError: there is no such module, or nothing in it that could be drawn; it says which.
    """
    module, colon, name = place.partition(":")
    if not (module and colon and name):
        raise ValueError(f"{place!r} is no place of a machine: MODULE:NAME is needed, as in traffic_light:TABLE")
    try:
        thing: Any = importlib.import_module(module)
    except ImportError as error:
        advice = ""  # for this module; one that it imports is another matter
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            advice = "; the folder that it is in must be in sys.path (conf.py can insert it) or in PYTHONPATH"
        raise ValueError(f"{place!r}: the module {module!r} cannot be imported: {error}{advice}") from error
    for part in name.split("."):
        try:
            thing = getattr(thing, part)
        except AttributeError:
            raise ValueError(f"{place!r}: there is no {part!r} in {module!r}") from None
    for each in (thing, getattr(thing, "fsm", None), getattr(thing, "table", None)):
        if isinstance(each, (Table, Fsm)):
            return each
    raise ValueError(f"{place!r} is {thing!r}, which is neither a Table nor a machine")
