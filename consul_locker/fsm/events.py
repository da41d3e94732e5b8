"""Listeners, and how they are called."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from .errors import TableError, nearest
from .parts import CATCH_ALL

__all__ = ["BUILT_IN", "Emitter", "Listener", "Subscription"]

_LOGGER = logging.getLogger("consul_locker.fsm")

Listener = Callable[..., object]

BUILT_IN = ("transition", "transitioned", "handling", "handled", "nohandler", "invalidstate", "deferred")
"""The events of a machine itself."""

NEAR = 0.85
"""How like a name of these an event of the user's own may not be: one letter too many, too few or wrong."""

_NOBODY: Mapping[str, tuple[Listener, ...]] = {}


class Subscription(NamedTuple):
    """What `on` answers."""

    fsm: Emitter
    event: str
    listener: Listener

    def off(self) -> None:
        """Stop listening."""
        self.fsm.off(self.event, self.listener)


class _Declared(Protocol):
    """What is asked of a table here."""

    @property
    def namespace(self) -> str: ...
    @property
    def safe_emit(self) -> bool: ...
    @property
    def strict(self) -> bool: ...


def _checked(event: str) -> None:
    """Refuse a name that is probably a mistyped one of the machine's own events."""
    if event == CATCH_ALL or event in BUILT_IN:
        return
    plain = {name: name for name in BUILT_IN}
    near = nearest("".join(filter(str.isalnum, event)).lower(), plain, NEAR)
    if near is not None:
        problem = f"is no event of a machine; did you mean {near!r}? One of your own must be less like it"
        raise TableError("on()", event, problem)


class Emitter:
    """Something with listeners and a table, which says how they are called."""

    __slots__ = ("_listeners", "table")

    def __init__(self, table: _Declared) -> None:
        self.table = table
        # Written anew at each change, never changed in place: a group that is being called stays as it is.
        self._listeners = _NOBODY

    def on(self, event: str, listener: Listener) -> Subscription:
        """Call ``listener(data)`` at an event, or ``listener(event, data)`` at every event (``"*"``).

        Those of every event are called first, each group in the order of subscription. A listener
        added to a group, or taken out of it, while that group is being called makes no difference yet.

        Raises:
            TableError: the table is strict, and the name is nearly that of an event of the machine itself.
        """
        if self.table.strict:
            _checked(event)
        self._listeners = {**self._listeners, event: (*self._listeners.get(event, ()), listener)}
        return Subscription(self, event, listener)

    def off(self, event: str | None = None, listener: Listener | None = None) -> None:
        """Take out a listener of an event, or all of that event, or (without arguments) all there are."""
        if event is None:
            self._listeners = _NOBODY
            return
        kept = () if listener is None else tuple(each for each in self._listeners.get(event, ()) if each != listener)
        others = {name: group for name, group in self._listeners.items() if name != event}
        # An empty group would cost every emit its short cut.
        self._listeners = {**others, event: kept} if kept else others or _NOBODY

    def emit(self, event: str, data: Any = None) -> None:
        """Call the listeners of all events, then those of this one."""
        for listener in self._listeners.get(CATCH_ALL, ()):
            self._call(listener, event, data)
        for listener in self._listeners.get(event, ()):
            if event == CATCH_ALL:  # machina's quirk: heard twice, the second time with its data for a name
                self._call(listener, data, None)
            else:
                self._call(listener, data)

    def _heard(self, event: str) -> bool:
        """Whether an event has a listener."""
        return event in self._listeners or CATCH_ALL in self._listeners

    def _tell(self, event: str, payload: dict[str, Any]) -> None:
        """Emit an event of the machine itself; callers look for listeners first, to save the payload."""
        payload["namespace"] = self.table.namespace
        self.emit(event, payload)

    def _call(self, listener: Listener, *args: Any) -> None:
        if not self.table.safe_emit:
            listener(*args)
            return
        try:
            listener(*args)
        except Exception:
            _LOGGER.exception("a listener of %s failed", self.table.namespace)
