"""Machines below the states of another: what they handle first, what bubbles, what is heard of them.

The rules are machina's. An input is *delegated* to the child of the present state; it carries a ticket, by which its
parent knows it again when it comes back. What the child does not handle *bubbles*: to its parent, which then handles it
itself. All that a child emits is heard through its parent, but for ``nohandler``. On entering a state its child is
listened to before the event ``transition``, and gets the input ``_reset`` after the entry action and before the
replay of what was deferred; ``_reset`` never bubbles.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, Protocol

from .errors import TableError
from .parts import CATCH_ALL, RESET, Input
from .rows import Nohandler
from .spec import Table

__all__ = ["Nest", "Ticket"]

MAX_PENDING = 1000
"""How many tickets a parent remembers. One stays behind when a child drops an input, as it does in an exit action."""

TICKET = "fsm ticket "
"""What tickets of machines begin with, and a number follows."""

_NUMBERS = count(1)


class Ticket(str):
    """A ticket of a machine's own making: it means nothing to another process."""

    __slots__ = ()


def new_ticket() -> Ticket:
    """A ticket that no other input of this process has."""
    return Ticket(f"{TICKET}{next(_NUMBERS)}")


class _Parent(Protocol):
    """What a nest asks of the machine it belongs to."""

    client: Any
    fsm_state: str
    table: Any
    _guard: Any

    def handle(self, input: Any, *args: Any) -> Any: ...
    def emit(self, event: str, data: Any = None) -> None: ...


class Nest:
    """What one Fsm knows of its children, and of a parent.

    Args:
        fsm: whose it is.
        make: makes a machine, as ``make(table, client, mutex=None)``.

    Attributes:
        children: the child of each state that was entered and has one: the last.
        parents: how many parents listen to the machine.
    """

    __slots__ = ("_fsm", "_listening", "_make", "_makers", "_pending", "children", "parents")

    def __init__(self, fsm: _Parent, make: Callable[..., Any]) -> None:
        self._fsm = fsm
        self._make = make
        self._makers = {name: state.child for name, state in fsm.table.states.items() if state.child is not None}
        self._pending: dict[str, None] = {}  # the tickets of inputs that a child has
        self._listening: dict[str, Any] = {}  # by state: the subscription at its child
        self.children: dict[str, Any] = {}
        self.parents = 0

    @property
    def present(self) -> Any:
        """The child of the present state, or None."""
        return self.children.get(self._fsm.fsm_state)

    # ------------------------------------------------------------------------------------- coming and going

    def prepare(self, state: str) -> None:
        """Make the child of a state that is about to be entered, before the exit action of the present one."""
        if state in self._makers:
            self.children[state] = self.made(state)

    def made(self, state: str, begin: bool = True) -> Any:
        """A child for a state.

        Raises:
            TableError: what the table has for it makes no machine.
        """
        fsm = self._fsm
        maker = self._makers[state]
        if isinstance(maker, Table):
            child = self._make(maker, fsm.client, begin=False, mutex=None)
        else:
            child = maker(fsm.client)
            if not hasattr(child, "handle") or not hasattr(child, "on") or child is fsm:
                raise TableError(f"states[{state!r}].child", child, "was returned, but a child is a machine of its own")
        adopt = getattr(child, "_adopt", None)
        if adopt is not None:
            adopt(fsm._guard)
        if begin and not getattr(child, "begun", True):
            child.begin()
        return child

    def entered(self, state: str) -> Any:
        """Listen to the child of the state that was entered; return it, or None."""
        child = self.children.get(state)
        if child is not None:
            self._listening[state] = child.on(CATCH_ALL, self._hear)
            self._counted(child, 1)
        return child

    def left(self, state: str) -> None:
        """Listen no longer to the child of the state that is left."""
        subscription = self._listening.pop(state, None)
        if subscription is not None:
            subscription.off()
            self._counted(self.children[state], -1)

    @staticmethod
    def _counted(child: Any, more: int) -> None:
        """Tell a child that it has a parent, or has one no longer."""
        nest = getattr(child, "_nest", None)
        if nest is not None:
            nest.parents += more
        told = getattr(child, "entered" if more > 0 else "left", None)
        if told is not None:
            told()

    @staticmethod
    def reset(child: Any) -> None:
        """Give a child its chance to start over."""
        child.handle(RESET)

    def adopt(self, guard: Any) -> None:
        """Hand a guard on to those below."""
        for child in self.children.values():
            if hasattr(child, "_adopt"):
                child._adopt(guard)

    # --------------------------------------------------------------------------------------------- inputs

    def child_for(self, given: Input) -> Any:
        """The child that handles an input first, which is marked; None: the machine handles it itself."""
        child = self.present
        if child is None or given.bubbling or given.ticket in self._pending:
            if given.ticket is not None:
                self._pending.pop(given.ticket, None)
            return None
        given.ticket = given.ticket or new_ticket()
        given.delegated = True
        if len(self._pending) >= MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._pending[given.ticket] = None
        return child

    def _hear(self, event: str, data: Any) -> None:
        """Hear what the present child emits."""
        if event == "nohandler" and isinstance(data, Nohandler):
            given = data.given
            if isinstance(given, Input) and not given.ticket and not given.delegated:
                given.bubbling = True
            if (given.name if isinstance(given, Input) else given) != RESET:
                self._fsm.handle(given, *data["args"])
            return
        if event == "handling" and isinstance(data, dict):
            self._pending.pop(data.get("ticket"), None)  # type: ignore[arg-type] # None is no ticket, and no key
        self._fsm.emit(event, data)
