"""What each input does in each state: the rows of ONE `transitions.Machine`, which many `Fsm` share.

The rows are built here, with everything that happens around a handler or a change of state; `fsm` has
the machine at work and says what all of it means. The callbacks below are the other half of `Fsm`
and use its underscored attributes, as it uses theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import transitions

if TYPE_CHECKING:
    from transitions.core import Callback, StateIdentifier  # names of its stub file alone

    from .fsm import Fsm  # fsm.py imports this module, so the import at run time would be a circle

__all__ = ["CATCH_ALL", "START", "Action", "Defer", "Input", "Model", "Reaction", "Row", "State", "Table", "described"]

CATCH_ALL = "*"
"""The input that stands for every input without a handler, and the event that stands for all events."""

START = "(start)"
"""The pseudo-state before the first transition, so that the first one is a transition like any other."""

_GO = "go to "
"""Begins the names of the triggers behind `Fsm.transition`; inputs are triggers too, so none may begin so."""

_RESERVED_STATES = frozenset({"", CATCH_ALL, "=", START})
"""No names for states: ``*`` and ``=`` are wildcards of `transitions`, "" means "no state" in its rows."""

Handler = Callable[..., Any]


class Defer(NamedTuple):
    """A reaction that defers the input, ``until`` a state is entered (None: until the next transition)."""

    until: str | None = None


class Action(NamedTuple):
    """A reaction with a label for drawings: ``handler(client, *args)``."""

    handler: Handler
    label: str


Reaction = Handler | str | Defer | Action | None
"""What an input does: call a handler, go to the state of that name, defer, or explicitly nothing."""


class State(NamedTuple):
    """One state of a table.

    Attributes:
        on_enter: called as ``on_enter(client)`` after the transition's event and before the replay.
        on_exit: called as ``on_exit(client)`` while still in the state; inputs and transitions that
            it asks for are ignored.
        inputs: what each input does here; handlers are called as ``handler(client, *args)``, the
            catch-all ``"*"`` as ``handler(client, name, *args)``.
    """

    on_enter: Callable[[Any], object] | None = None
    on_exit: Callable[[Any], object] | None = None
    inputs: Mapping[str, Reaction] = MappingProxyType({})


class Input(NamedTuple):
    """An input with flags, for machines that pass inputs on to each other; elsewhere its name is enough."""

    name: str
    delegated: bool = False
    ticket: str | None = None
    bubbling: bool = False


class Row(NamedTuple):
    """One declared row of a table, for drawings.

    Attributes:
        state: the state, or ``"*"`` for what is declared on the machine itself.
        input: the input's name, or ``"*"``.
        kind: ``"goto"``, ``"defer"``, ``"action"`` or ``"nothing"``.
        target: the state that is gone to, or waited for by a deferral; else None.
        label: what to write beside the input (``"defer until ready"``, an action's label), or "".
    """

    state: str
    input: str
    kind: str
    target: str | None
    label: str


# --------------------------------------------------------------------------- the rows of the machine


class Model:
    """What `transitions` moves: the state and nothing else, so that no input can hit an attribute by its name."""

    __slots__ = ("fsm_state",)

    def __init__(self) -> None:
        self.fsm_state = START


_MODEL_ATTRIBUTE = Model.__slots__[0]
"""`transitions` refuses a trigger of this name; ``state``, its default, is a likely name for an input."""


class _Node(transitions.State):
    """A state of the machine with machina's entry and exit actions."""

    def __init__(self, name: str, actions: State) -> None:
        super().__init__(name)
        self._actions = actions

    def exit(self, event_data: transitions.EventData) -> None:
        if self._actions.on_exit is None:
            return
        fsm = _fsm_of(event_data)
        fsm._in_exit_handler = True
        try:
            self._actions.on_exit(fsm.client)
        finally:  # also after an error, or the machine would ignore every input from now on
            fsm._in_exit_handler = False

    def enter(self, event_data: transitions.EventData) -> None:
        fsm = _fsm_of(event_data)
        source = cast(transitions.Transition, event_data.transition).source
        fsm._prior_state = None if source == START else source
        if fsm._heard("transition"):
            fsm._tell(
                "transition", {"from_state": fsm._prior_state, "to_state": self.name, "action": fsm._current_action}
            )
        if self._actions.on_enter is not None:
            self._actions.on_enter(fsm.client)


class _Transition(transitions.Transition):
    """A row. One with a destination re-checks where it starts, and replays what was deferred at its end."""

    def execute(self, event_data: transitions.EventData) -> bool:
        # A row has callbacks that are functions, and no conditions. What `transitions` does around that (kinds of
        # callbacks that no table has, lines for its debug log) would take a third of the time of every input, and its
        # line at INFO for each callback would show every user of a Locker the names of functions of this module.
        for callback in cast("list[_Callback]", self.before):
            callback(event_data)
        if self.dest is not None:
            self._change_state(event_data)
            for callback in cast("list[_Callback]", self.after):
                callback(event_data)
        return True

    def _change_state(self, event_data: transitions.EventData) -> None:
        fsm = _fsm_of(event_data)
        destination = cast(str, self.dest)  # a row without one is internal and never comes here
        if fsm.state != self.source:  # a listener of `handling` has moved the machine: go there from where it is now
            fsm.transition(destination)
            return
        super()._change_state(event_data)
        if fsm.state == destination:  # else an entry action moved on, and the queue was replayed there
            fsm.process_queue()


class _Machine(transitions.Machine):
    transition_cls = _Transition


def _fsm_of(event_data: transitions.EventData) -> Fsm:
    """Return the Fsm a trigger was called for: the first of its arguments, always."""
    return cast("tuple[Fsm, ...]", event_data.args)[0]


_Callback = Callable[[transitions.EventData], None]
_Body = Callable[["Fsm", Any, tuple[Any, ...]], Any]


def _opening(action: str) -> _Callback:
    """Make what a row does first: the action is the current one, and `handling` is emitted."""

    def open_action(event_data: transitions.EventData) -> None:
        fsm, given, _ = cast("tuple[Fsm, Any, Any]", event_data.args)
        fsm._current_action = action
        if fsm._heard("handling"):
            fsm._tell("handling", described(given))

    return open_action


def _closing(result: str) -> _Callback:
    """Make what a row with a destination does last; ``handle`` returns ``result``, the destination."""

    def close_action(event_data: transitions.EventData) -> None:
        fsm, given, _ = cast("tuple[Fsm, Any, Any]", event_data.args)
        fsm._close(given, result)

    return close_action


def _acting(action: str, body: _Body) -> _Callback:
    """Make an internal row: announce, run the body, announce. One callback, since most inputs go this way."""
    open_action = _opening(action)

    def act(event_data: transitions.EventData) -> None:
        open_action(event_data)
        fsm, given, args = cast("tuple[Fsm, Any, tuple[Any, ...]]", event_data.args)
        fsm._close(given, body(fsm, given, args))

    return act


def _not_handling(action: str) -> _Callback:
    """Make the row of an input that nothing handles."""

    def report(event_data: transitions.EventData) -> None:
        fsm, given, args = cast("tuple[Fsm, Any, tuple[Any, ...]]", event_data.args)
        fsm._current_action = action
        if fsm._heard("nohandler"):
            fsm._tell("nohandler", {**described(given), "args": args})
        fsm._end()

    return report


def _body(reaction: Handler | str | Defer | Action, catch_all: bool) -> _Body:
    """Turn what was declared into what an internal row runs between `handling` and `handled`."""
    if isinstance(reaction, str):
        target = reaction

        def stay(fsm: Fsm, given: Any, args: tuple[Any, ...]) -> str:
            fsm.transition(target)  # no such state, or the row's own one; a listener may have moved the machine by now
            return target

        return stay
    if isinstance(reaction, Defer):
        until = reaction.until
        return lambda fsm, given, args: fsm.defer_until_transition(until)
    handler = reaction.handler if isinstance(reaction, Action) else reaction
    if catch_all:
        return lambda fsm, given, args: handler(fsm.client, given.name if isinstance(given, Input) else given, *args)
    return lambda fsm, given, args: handler(fsm.client, *args)


def described(given: Any) -> dict[str, Any]:
    """Say in an event's payload which input it is about."""
    if isinstance(given, Input):
        return {"input": given.name, "delegated": given.delegated, "ticket": given.ticket, "bubbling": given.bubbling}
    return {"input": given if isinstance(given, str) else None}


# ------------------------------------------------------------------------------------------ the table


class Table:
    """What each input does in each state: one `transitions.Machine` that many `Fsm` share.

    Args:
        states: the states by name.
        initial_state: where an Fsm begins.
        inputs: handlers on the machine itself; only a catch-all ``"*"`` is ever looked for (machina's
            rule: a handler for a named input on the machine itself is never used).
        namespace: the name that events carry.
        safe_emit: log errors of listeners instead of raising them.

    Raises:
        ValueError: the initial state is not one of the states, or a name is reserved.
    """

    __slots__ = ("go_events", "initial_state", "input_events", "inputs", "machine", "namespace", "safe_emit", "states")

    def __init__(
        self,
        states: Mapping[str, State],
        *,
        initial_state: str | None = "uninitialized",
        inputs: Mapping[str, Reaction] | None = None,
        namespace: str = "fsm",
        safe_emit: bool = False,
    ) -> None:
        if initial_state is None:
            raise ValueError("an initial state is needed")
        if initial_state not in states:
            raise ValueError(f"the initial state {initial_state!r} is not among the states")
        for name in _RESERVED_STATES.intersection(states):
            raise ValueError(f"a state cannot be called {name!r}")
        self.states = dict(states)
        self.initial_state = initial_state
        self.inputs = dict(inputs or {})
        self.namespace = namespace
        self.safe_emit = safe_emit
        self.machine: transitions.Machine = _Machine(
            model=None,
            states=[_Node(START, State()), *(_Node(name, state) for name, state in self.states.items())],
            initial=START,
            # As plain as it can be: a queue in the machine would throw its rest away at an error, and
            # triggers are called through their `Event`, so that a model need not be registered (the
            # machine would keep it for ever, and hang dozens of methods on it).
            auto_transitions=False,
            send_event=True,
            queued=False,
            model_attribute=_MODEL_ATTRIBUTE,
            name=namespace,
        )
        names = {CATCH_ALL: None} | {name: None for state in self.states.values() for name in state.inputs}
        for name in names:
            if name.startswith(_GO):
                raise ValueError(f"an input's name cannot begin with {_GO!r}: {name!r}")
            for source in self.states:
                self._add_row(source, name)
        for target in self.states:
            sources: list[StateIdentifier] = [name for name in self.states if name != target]
            if target == initial_state:
                sources.append(START)
            self.machine.add_transition(_GO + target, sources, target)
        events = self.machine.events
        self.input_events = {name: events[name] for name in names}
        self.go_events = {target: events[_GO + target] for target in self.states}

    def _add_row(self, source: str, name: str) -> None:
        """Add the row for an input in a state, with what the input falls back to."""
        own = self.states[source].inputs
        used = name if own.get(name) is not None else CATCH_ALL
        reaction = own.get(used)
        if reaction is None:
            reaction = self.inputs.get(CATCH_ALL)
        action = f"{source}.{used}"
        before: list[Callback]
        after: list[Callback] = []
        destination = None
        if reaction is None:
            before = [_not_handling(action)]
        elif isinstance(reaction, str) and reaction in self.states and reaction != source:
            destination = reaction
            before, after = [_opening(action)], [_closing(reaction)]
        else:
            before = [_acting(action, _body(reaction, used == CATCH_ALL))]
        self.machine.add_transition(name, [source], destination, before=before, after=after)

    def rows(self) -> Iterator[Row]:
        """Yield what is declared, state by state, then the machine's own catch-all; no fallbacks."""
        for state, declared in self.states.items():
            for name, reaction in declared.inputs.items():
                yield _row(state, name, reaction)
        if CATCH_ALL in self.inputs:
            yield _row(CATCH_ALL, CATCH_ALL, self.inputs[CATCH_ALL])

    def __repr__(self) -> str:
        return f"<Table {self.namespace!r}: {', '.join(self.states)}>"


def _row(state: str, name: str, reaction: Reaction) -> Row:
    if reaction is None:
        return Row(state, name, "nothing", None, "")
    if isinstance(reaction, str):
        return Row(state, name, "goto", reaction, "")
    if isinstance(reaction, Defer):
        return Row(state, name, "defer", reaction.until, f"defer until {reaction.until}" if reaction.until else "defer")
    return Row(state, name, "action", None, reaction.label if isinstance(reaction, Action) else "")
