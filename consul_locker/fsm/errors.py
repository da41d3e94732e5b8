"""What can be wrong with a machine, each error with the place and the nearest right name."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

__all__ = ["TableError", "TooDeep", "UnknownInput", "WrongThread", "nearest"]

NEAR = 0.6
"""How alike two names must be for one to be proposed for the other; `difflib`'s own default."""


FEW = 12
"""How many names a message lists when none is near."""


def nearest(name: object, names: Iterable[str], near: float = NEAR) -> str | None:
    """The name that was probably meant, or None when none is like it."""
    return next(iter(difflib.get_close_matches(str(name), list(names), 1, near)), None)


def _meant(name: str | None, names: Iterable[str] = ()) -> str:
    """The end of a message: the nearest name, else the right ones, if there are few."""
    if name is not None:
        return f"; did you mean {name!r}?"
    known = list(names)
    return f"; it is one of {', '.join(map(repr, known))}" if 0 < len(known) <= FEW else ""


class TableError(ValueError):
    """Something in a machine's declaration is not valid.

    Attributes:
        place: where it stands, as ``states['ready'].inputs['go']``.
        value: what stands there.
        nearest: the right name that is most like it, or None.
    """

    def __init__(self, place: str, value: object, problem: str, names: Collection[str] = ()) -> None:
        self.place = place
        self.value = value
        self.nearest = nearest(value, names) if isinstance(value, str) else None
        super().__init__(f"{place}: {value!r} {problem}{_meant(self.nearest, names)}")


class UnknownInput(ValueError):
    """No state of the table knows an input, and no present child does.

    Attributes:
        input: what was given to `handle`.
        state: the state that the machine was in.
        nearest: the known name that is most like it, or None.
    """

    def __init__(self, namespace: str, input: object, state: str, names: Collection[str]) -> None:
        self.input = input
        self.state = state
        self.nearest = nearest(input, names)
        super().__init__(
            f"no state of the machine {namespace!r}, which is in {state!r}, knows the input {input!r}"
            f"{_meant(self.nearest, names)}"
        )


class WrongThread(RuntimeError):
    """A machine without a mutex was called from another thread than its own."""


class TooDeep(RecursionError):
    """Inputs and transitions led to each other without end."""
