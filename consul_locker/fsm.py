"""A finite state machine with a deferred-input buffer: machina.js 1.x semantics on `transitions`.

A `Table` says what each input does in each state. It is ONE `transitions.Machine`, built once: every
input of every state is a row of it (an input that goes to a state has a destination, any other is an
internal transition), and only that machine changes a state. An `Fsm` is one model of a table with a
queue and listeners of its own, light enough to have thousands of them.

What an input does is looked up in this order: the state's own handler, the state's catch-all ``"*"``,
the machine's catch-all; else the event ``nohandler`` is emitted. A handler may *defer* the input: it
is queued until the next transition, or until a certain state is entered, and then handled again,
first in, first out, after the entry action and before ``handled``.

Events (`Fsm.on`), each with a dict that holds ``namespace`` and:

==================  =================================================================================
``transition``      ``from_state`` (None at the first), ``to_state``, ``action`` (``"state.input"`` or "")
``handling``        ``input``; before a handler runs
``handled``         ``input``; after it, and after all the transitions and replays it led to
``nohandler``       ``input``, ``args``
``invalidstate``    ``state``, ``attempted_state``
``deferred``        ``state``, ``until`` (None: the next transition), ``input``, ``args``
==================  =================================================================================

An input given as an `Input` adds its flags to the events that carry ``input``.

Errors of handlers, entry actions and (without ``safe_emit``) listeners come out of the call that led
to them, and the machine goes on. Where machina loses something over an error, this machine does not:
an error in an exit action leaves the state as it is and the machine responsive (machina is deaf from
then on), and an error in a replayed input leaves the rest of the batch queued, in order (machina
drops it).

Nothing here waits or locks: an Fsm belongs to one thread at a time, or to one mutex.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .fsm_table import CATCH_ALL, START, Action, Defer, Input, Model, Reaction, Row, State, Table, described

__all__ = [
    "CATCH_ALL",
    "START",
    "Action",
    "Defer",
    "Fsm",
    "Input",
    "Queued",
    "Reaction",
    "Row",
    "State",
    "Subscription",
    "Table",
]

_LOGGER = logging.getLogger("consul_locker.fsm")

Listener = Callable[..., object]


class Queued(NamedTuple):
    """A deferred input: handled again once ``until`` is entered (None: at the next transition)."""

    until: str | None
    input: Any
    args: tuple[Any, ...]


class Subscription(NamedTuple):
    """What `Fsm.on` answers."""

    fsm: Fsm
    event: str
    listener: Listener

    def off(self) -> None:
        """Stop listening."""
        self.fsm.off(self.event, self.listener)


class Fsm:
    """One machine at work: a state, a queue of deferred inputs, and listeners.

    Args:
        table: what it does.
        client: what handlers and actions get as their first argument; default: the Fsm itself.
        begin: make the first transition at once; with False that is left to `begin`, so that
            listeners can be there before it.
    """

    __slots__ = (
        "__weakref__", "_current_action", "_given", "_in_exit_handler", "_inputs", "_listeners", "_model",
        "_prior_action", "_prior_state", "_queue", "_result", "client", "table",
    )  # fmt: skip

    def __init__(self, table: Table, client: Any = None, *, begin: bool = True) -> None:
        self.table = table
        self.client: Any = self if client is None else client
        self._inputs = table.input_events
        self._model = Model()
        self._prior_state: str | None = None
        self._queue: list[Queued] = []
        self._listeners: dict[str, tuple[Listener, ...]] = {}
        self._given: tuple[Any, tuple[Any, ...]] | None = None  # the input last given to `handle`: what is deferred
        self._current_action = ""
        self._prior_action = ""
        self._in_exit_handler = False
        self._result: Any = None  # triggers return a bool; a handler's own value travels here
        if begin:
            self.begin()

    @classmethod
    def of(cls, states: Mapping[str, State], *, client: Any = None, begin: bool = True, **options: Any) -> Fsm:
        """Make a table (``options`` are those of `Table`) and an Fsm of it in one."""
        return cls(Table(states, **options), client, begin=begin)

    def begin(self) -> None:
        """Make the first transition, into the table's initial state.

        Raises:
            RuntimeError: it was made already.
        """
        if self._model.fsm_state != START:
            raise RuntimeError(f"the machine has begun already; it is in {self.state!r}")
        self.transition(self.table.initial_state)

    # ------------------------------------------------------------------------------ what one can see

    @property
    def state(self) -> str:
        """The state it is in; `START` before the first transition."""
        return self._model.fsm_state

    @property
    def prior_state(self) -> str | None:
        """The state before this one, or None."""
        return self._prior_state

    @property
    def input_queue(self) -> tuple[Queued, ...]:
        """The deferred inputs, oldest first. A batch that is being replayed is not among them."""
        return tuple(self._queue)

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

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.namespace!r} in {self.state!r}, {len(self._queue)} deferred>"

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
            transitions.MachineError: the machine has not begun.
        """
        if input is None:
            raise TypeError("handle() needs the name of an input, not None")
        self._given = (input, args)
        if self._in_exit_handler:
            return None
        inputs = self._inputs
        event = inputs.get(input) or inputs.get(input.name if isinstance(input, Input) else CATCH_ALL)
        (event or inputs[CATCH_ALL]).trigger(self._model, self, input, args)
        result, self._result = self._result, None
        return result

    def _close(self, given: Any, result: Any) -> None:
        """End an action: emit `handled` and leave the result for `handle`."""
        if self._heard("handled"):
            self._tell("handled", described(given))
        self._end()
        self._result = result  # last, since a listener may have handled another input meanwhile

    def _end(self) -> None:
        self._prior_action = self._current_action
        self._current_action = ""

    def transition(self, state: str) -> None:
        """Go to a state: exit action, change, event, entry action, replay of what is due.

        Nothing happens when it is the present state, or within an exit action. A state that does not
        exist is reported by the event ``invalidstate``.
        """
        if self._in_exit_handler or state == self._model.fsm_state:
            return
        event = self.table.go_events.get(state)
        if event is not None:
            event.trigger(self._model, self)
        elif self._heard("invalidstate"):
            self._tell("invalidstate", {"state": self._model.fsm_state, "attempted_state": state})

    # --------------------------------------------------------------------------------- deferred inputs

    def defer_until_transition(self, state: str | None = None) -> None:
        """Queue the input last given to `handle` until a state is entered (None: until the next transition).

        That is the input being handled, unless another one was handled in between. Nothing happens
        when there never was one.
        """
        if self._given is None:
            return
        given, args = self._given
        self._queue.append(Queued(state, given, args))
        if self._heard("deferred"):
            payload = {"state": self._model.fsm_state, "until": state, **described(given), "args": args}
            self._tell("deferred", payload)

    def defer_and_transition(self, state: str) -> None:
        """Defer until a state, and go there."""
        self.defer_until_transition(state)
        self.transition(state)

    def process_queue(self) -> None:
        """Handle again, in order, what is due in the present state; a transition does it by itself.

        The batch leaves the queue first: what its handlers defer waits for a later pass, and clearing
        the queue does not stop it. After an error the rest of the batch is back in its old place.
        """
        before, state = self._queue, self._model.fsm_state
        due = [queued for queued in before if queued.until is None or queued.until == state]
        if not due:
            return
        self._queue = [queued for queued in before if not (queued.until is None or queued.until == state)]
        done = 0
        try:
            for queued in due:
                done += 1
                self.handle(queued.input, *queued.args)
        except BaseException:
            self._put_back(due[done:], before)
            raise

    def _put_back(self, rest: list[Queued], before: list[Queued]) -> None:
        """Queue the rest of a batch again where it stood among the inputs that waited before it."""
        # By identity: equal inputs may be queued twice, and one of them may be gone by now.
        waiting = {id(queued) for queued in (*self._queue, *rest)}
        older = {id(queued) for queued in before}
        self._queue = [queued for queued in before if id(queued) in waiting] + [
            queued for queued in self._queue if id(queued) not in older
        ]

    def clear_queue(self, state: str | None = None) -> None:
        """Drop the inputs deferred until a state, or (None) all of them."""
        if state is None:
            self._queue = []
        else:
            self.discard(lambda queued: queued.until == state)

    def discard(self, predicate: Callable[[Queued], bool]) -> int:
        """Drop the deferred inputs for which ``predicate(queued)`` is true; return how many there were."""
        kept = [queued for queued in self._queue if not predicate(queued)]
        dropped = len(self._queue) - len(kept)
        self._queue = kept
        return dropped

    def break_off(self) -> None:
        """Forget the action under way, and everything deferred.

        For after an exception out of nowhere, as that of a signal handler is: it may have come between any two lines.
        """
        self._queue = []
        self._in_exit_handler = False
        self._current_action = ""

    # ------------------------------------------------------------------------------------------ events

    def on(self, event: str, listener: Listener) -> Subscription:
        """Call ``listener(data)`` at an event, or ``listener(event, data)`` at every event (``"*"``).

        Those of every event are called first, each group in the order of subscription. A listener
        added to a group, or taken out of it, while that group is being called makes no difference yet.
        """
        self._listeners[event] = (*self._listeners.get(event, ()), listener)
        return Subscription(self, event, listener)

    def off(self, event: str | None = None, listener: Listener | None = None) -> None:
        """Take out a listener of an event, or all of that event, or (without arguments) all there are."""
        if event is None:
            self._listeners = {}
            return
        kept = () if listener is None else tuple(each for each in self._listeners.get(event, ()) if each != listener)
        if kept:
            self._listeners[event] = kept
        else:  # an empty entry would cost every emit its short cut
            self._listeners.pop(event, None)

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
        """Whether anybody listens to an event."""
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
