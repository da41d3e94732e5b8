"""A machine at work: what it does with an input, and what can be seen of it."""

from __future__ import annotations

from collections.abc import Mapping
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar, cast

from .children import Nest
from .deferred import Deferring
from .errors import UnknownInput
from .parts import CATCH_ALL, RESET, START, Input, State, passed_on, plain_name
from .rows import rows_of
from .snapshots import put, taken
from .spec import Table
from .threads import DISPOSED, MAX_DEPTH, Guard

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault  # its stub alone

    Client = TypeVarWithDefault("Client", default=Any)
else:
    Client = TypeVar("Client")

__all__ = ["Fsm"]


class Fsm(Deferring, Generic[Client]):
    """One machine at work: a state, a queue of deferred inputs, and listeners.

    Args:
        table: what it does.
        client: what handlers and actions get as their first argument; default: the Fsm itself.
        begin: make the first transition at once; with False that is left to `begin`, so that
            listeners can be there before it.
        mutex: True: any thread may call, one at a time, and in the middle of an input the same one again. False: only
            the thread that makes it may. None: the callers must take turns themselves, by a mutex of their own.

    The machines below it share its mutex, or its thread.
    """

    __slots__ = (
        "__weakref__", "_current_action", "_in_exit_handler", "_inputs", "_nest", "_prior_action", "_prior_state",
        "client",
    )  # fmt: skip

    table: Table[Client]
    #: What the machines of tables below it are.
    _below: ClassVar[type[Fsm[Any]]]

    def __init__(
        self, table: Table[Client], client: Client | None = None, *, begin: bool = True, mutex: bool | None = False
    ) -> None:
        if not isinstance(table, Table):
            raise TypeError(f"a machine is made of a Table, not of {table!r}; Fsm.of() takes states")
        super().__init__(table, mutex)
        self.client: Client = cast(Client, self if client is None else client)
        self._inputs = rows_of(table).inputs
        self._prior_state: str | None = None
        self._current_action = ""
        self._prior_action = ""
        self._in_exit_handler = False
        self._nest = Nest(self, self._below) if table.has_children else None
        if begin:
            self.begin()

    @classmethod
    def of(
        cls,
        states: Mapping[Any, State[Client]],
        *,
        client: Client | None = None,
        begin: bool = True,
        mutex: bool | None = False,
        **options: Any,
    ) -> Fsm[Client]:
        """Make a table (``options`` are those of `Table`) and an Fsm of it in one."""
        return cls(Table(states, **options), client, begin=begin, mutex=mutex)

    def begin(self) -> None:
        """Make the first transition, into the table's initial state.

        Raises:
            RuntimeError: it was made already.
        """
        if self.begun:
            raise RuntimeError(f"the machine has begun already; it is in {self.state!r}")
        self.transition(self.table.initial_state)

    @classmethod
    def restore(
        cls,
        table: Table[Client],
        client: Client | None,
        snapshot: Mapping[str, Any],
        *,
        mutex: bool | None = False,
    ) -> Fsm[Client]:
        """Make a machine that goes on where a snapshot was taken. No entry action runs, no event is emitted.

        Args:
            table: the table that it was taken of, or one with the same names.
            client: as for a new one.
            snapshot: what `snapshot` returned.
            mutex: as for a new one.

        Returns:
            The machine. What functions make for children is made anew, by them; one that has not begun
            (``begin=False``) runs no entry action either.

        Raises:
            TableError: the snapshot is none, or does not fit the table.
        """
        fsm = cls(table, client, begin=False, mutex=mutex)
        fsm._put(snapshot)
        return fsm

    def _put(self, snapshot: Mapping[str, Any]) -> None:
        put(self, snapshot)

    def snapshot(self) -> dict[str, Any]:
        """What is to be kept of it, for `restore`: the state, the queue, and the same of the machines below.

        Returns:
            Data that `json` can write.

        Raises:
            RuntimeError: it has not begun, or is in the middle of an input.
            TypeError: an argument of a deferred input cannot be written.
        """
        owner = self._guard.owner
        if owner is not None and owner != get_ident():
            return cast("dict[str, Any]", self._guard.call(self.snapshot))
        return taken(self, self._guard.depth)

    # ------------------------------------------------------------------------------ what one can see

    @property
    def state(self) -> str:
        """The state it is in; `START` before the first transition."""
        return self.fsm_state

    @property
    def begun(self) -> bool:
        """Whether the first transition was made."""
        return self.state != START

    @property
    def prior_state(self) -> str | None:
        """The state before this one, or None."""
        return self._prior_state

    @property
    def child(self) -> Any:
        """The machine below the present state, or None."""
        return None if self._nest is None else self._nest.present

    @property
    def composite_state(self) -> str:
        """The state and those of the machines below it, as in ``"leading.ready"``."""
        child = self.child
        return self.state if child is None else f"{self.state}.{child.composite_state}"

    @property
    def current_action(self) -> str:
        """``"state.input"`` while that input is handled; "" else, and after a nested input has ended."""
        return self._current_action

    @property
    def prior_action(self) -> str:
        """The action that ended last ("" when a nested one ended in it)."""
        return self._prior_action

    @property
    def in_exit_handler(self) -> bool:
        """Whether an exit action is running."""
        return self._in_exit_handler

    @property
    def namespace(self) -> str:
        """The table's namespace."""
        return self.table.namespace

    def knows(self, input: Any) -> bool:
        """Whether any state of its table, or of a present child's, knows an input of that name."""
        name = input.name if isinstance(input, Input) else plain_name(input)
        if name == RESET or self.table.knows(name):
            return True
        child = self.child
        return child is not None and bool(child.knows(name))

    def can_handle(self, input: Any) -> bool:
        """Whether `handle` would do something with an input now: here, by a catch-all, or in a present child."""
        name = input.name if isinstance(input, Input) else plain_name(input)
        child = self.child
        if self._in_exit_handler or not self.begun:
            return False
        if child is not None and child.can_handle(name):
            return True
        own = self.table.states[self.state].inputs
        return any(each is not None for each in (own.get(name), own.get(CATCH_ALL), self.table.inputs.get(CATCH_ALL)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.namespace!r} in {self.state!r}, {len(self._queue)} deferred>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            "a machine can be neither copied nor pickled: its listeners and handlers are functions of this program;"
            " keep its snapshot(), and make another with Fsm.restore(table, client, snapshot)"
        )

    # ------------------------------------------------------------------------------------------ inputs

    def handle(self, input: Any, *args: Any) -> Any:
        """Do what the present state does with an input; within an exit action nothing.

        Args:
            input: its name, or an `Input`. Anything else is only ever taken by a catch-all.
            args: for the handler.

        Returns:
            What the handler returned; the state's name when the input goes to a state; else None.

        Raises:
            TypeError: the input is None.
            UnknownInput: the table is strict, and neither it nor the present child knows that input.
            TooDeep: this input is one too many inside others.
            WrongThread: another thread has the machine.
            transitions.MachineError: the machine has not begun.
        """
        guard = self._guard
        owner = guard.owner
        if owner != get_ident() and owner is not None:
            return guard.call(self.handle, input, *args)
        depth = guard.depth
        if depth >= MAX_DEPTH and self.table.strict:
            guard.too_deep(f"{input!r} in {self.state!r} of {self.namespace!r}")
        guard.depth = depth + 1
        try:
            event = None
            if self._nest is None:
                self._given = (input, args)
                if self._in_exit_handler and input is not None:
                    return None
                if type(input) is str:
                    event = self._inputs.get(input)
                if event is None:
                    input, event = self._looked_up(input)
                    self._given = (input, args)
                return event.trigger(self, input, args)
            return self._handle_in_family(self._nest, input, args)
        finally:
            guard.depth = depth
            if not depth and guard.posted:
                guard.work_off()

    def _looked_up(self, given: Any) -> tuple[Any, Any]:
        """A given input as a plain name or an `Input`, and the trigger for it."""
        if given is None:
            raise TypeError("handle() needs the name of an input, not None")
        given = plain_name(given)
        name = given.name if isinstance(given, Input) else given
        event = self._inputs.get(name) if isinstance(name, str) else None
        if event is None:
            if self.table.strict and self.begun and not self._may_be(given, name):
                raise UnknownInput(self.namespace, name, self.state, self.table.input_names)
            event = self._inputs[CATCH_ALL]
        return given, event

    def _may_be(self, given: Any, name: Any) -> bool:
        """Whether an input is valid: it is known here or below, or it comes from another machine, or may go to one."""
        passed_on = isinstance(given, Input) and (given.delegated or given.ticket or given.bubbling)
        return bool(passed_on) or self.knows(name) or (self._nest is not None and self._nest.parents > 0)

    def _handle_in_family(self, nest: Nest, given: Any, args: tuple[Any, ...]) -> Any:
        """The same, in a machine that has children, or a parent: machines pass on the `Input` itself."""
        if given is None:
            raise TypeError("handle() needs the name of an input, not None")
        given = passed_on(given)
        self._given = (given, args)
        if self._in_exit_handler:
            return None
        _, event = self._looked_up(given)
        child = nest.child_for(given)
        if child is not None:
            return child.handle(given, *args)
        return event.trigger(self, given, args)

    def _end(self) -> None:
        self._prior_action = self._current_action
        self._current_action = ""

    def post(self, input: Any, *args: Any) -> None:
        """Have an input handled as soon as no other is under way: now, or else by the thread that handles that one.

        From a handler, a listener, a signal handler, and with ``mutex=True`` from any thread: it never waits for
        another thread. Inputs are handled in the order in which they were posted. What they raise is logged.

        Raises:
            WrongThread: there is no mutex, and another thread has the machine.
        """
        self._guard.post(self.handle, input, args)

    def transition(self, state: str) -> None:
        """Go to a state: exit action, change, event, entry action, replay of what is due.

        Nothing happens when it is the present state, or within an exit action. A state that does not
        exist is reported by the event ``invalidstate``.

        Raises:
            TooDeep: this transition is one too many inside others.
            WrongThread: another thread has the machine.
        """
        guard = self._guard
        owner = guard.owner
        if owner != get_ident() and owner is not None:
            guard.call(self.transition, state)
            return
        state = plain_name(state)
        if self._in_exit_handler or state == self.fsm_state:
            return
        event = rows_of(self.table).moves.get(state)
        if event is None:
            if self._heard("invalidstate"):
                self._tell("invalidstate", {"state": self.fsm_state, "attempted_state": state})
            return
        depth = guard.depth
        if depth >= MAX_DEPTH and self.table.strict:
            guard.too_deep(f"the transition from {self.state!r} to {state!r} of {self.namespace!r}")
        guard.depth = depth + 1
        try:
            event.trigger(self)
        finally:
            guard.depth = depth
            if not depth and guard.posted:
                guard.work_off()

    def reset(self) -> None:
        """Go back to the initial state, as by `transition`."""
        self.transition(self.table.initial_state)

    def dispose(self) -> None:
        """End it: no listener and no deferred input is left, and every later input is a RuntimeError."""
        if not self._let_in(self.dispose):
            return
        self.off()
        self._queue = []
        nest = self._nest
        if nest is not None:
            child = nest.present
            nest.left(self.fsm_state)
            if hasattr(child, "dispose"):
                child.dispose()
        self._guard = DISPOSED

    def _adopt(self, guard: Guard) -> None:
        """Be let in by a parent's guard from now on."""
        if self._nest is None:
            self._nest = Nest(self, self._below)
            self._queue = [queued._replace(input=passed_on(queued.input)) for queued in self._queue]
            if self._given is not None:
                self._given = passed_on(self._given[0]), self._given[1]
        if self._guard is not guard:
            self._guard.moved(guard)
            self._guard = guard
            self._nest.adopt(guard)

    # ------------------------------------------------------------------------------------------ events

    def emit(self, event: str, data: Any = None) -> None:
        """Call the listeners of all events, then those of this one."""
        if self._let_in(self.emit, event, data):
            super().emit(event, data)


Fsm._below = Fsm
