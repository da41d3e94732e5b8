"""The rows of a table as ONE `transitions.Machine`, which all `Fsm` of the table share.

Every input of every state is a row (an input that goes to a state has a destination, any other is an internal
transition), and only the machine changes a state. What happens around a handler or a change of state is here;
machine.py has what a machine knows of itself, and what it can be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

import transitions

from .parts import CATCH_ALL, GO, MODEL_ATTRIBUTE, START, Action, Defer, Input, State, function_of
from .spec import Table

if TYPE_CHECKING:
    from transitions.core import Callback, StateIdentifier  # names of its stub file alone

__all__ = ["Nohandler", "Rows", "described", "rows_of"]


class _AtWork(Protocol):
    """What the rows ask of the Fsm for which they run: the model of the machine."""

    client: Any
    fsm_state: str
    _current_action: str
    _in_exit_handler: bool
    _listeners: Mapping[str, Any]
    _nest: Any
    _prior_state: str | None

    def transition(self, state: str) -> None: ...
    def process_queue(self) -> None: ...
    def defer_until_transition(self, state: Any = None) -> None: ...
    def _heard(self, event: str) -> bool: ...
    def _tell(self, event: str, payload: dict[str, Any]) -> None: ...
    def _end(self) -> None: ...


class Nohandler(dict[str, Any]):
    """The payload of ``nohandler``, with the input itself, which a parent handles next."""

    __slots__ = ("given",)

    given: Any


_Callback = Callable[[transitions.EventData], None]
_Body = Callable[[Any, Any, "tuple[Any, ...]"], Any]


# --------------------------------------------------------------------------- the parts of the machine


class _Node(transitions.State):
    """A state of the machine with machina's entry and exit actions."""

    def __init__(self, name: str, declared: State[Any]) -> None:
        super().__init__(name)
        self._on_enter = function_of(declared.on_enter)
        self._on_exit = function_of(declared.on_exit)

    def exit(self, event_data: transitions.EventData) -> None:
        fsm = cast(_AtWork, event_data.model)
        if self._on_exit is not None:
            fsm._in_exit_handler = True
            try:
                self._on_exit(fsm.client)
            finally:  # also after an error, or the machine would ignore every input from now on
                fsm._in_exit_handler = False
        if fsm._nest is not None:
            fsm._nest.left(self.name)

    def enter(self, event_data: transitions.EventData) -> None:
        fsm = cast(_AtWork, event_data.model)
        source = cast(transitions.Transition, event_data.transition).source
        fsm._prior_state = None if source == START else source
        nest = fsm._nest
        child = None if nest is None else nest.entered(self.name)
        listened = fsm._listeners
        if listened and fsm._heard("transition"):
            fsm._tell("transition", self._payload(fsm))
        if self._on_enter is not None:
            self._on_enter(fsm.client)
        if child is not None:
            nest.reset(child)
        if fsm._listeners and "transitioned" in fsm._listeners:
            fsm._tell("transitioned", self._payload(fsm))

    def _payload(self, fsm: _AtWork) -> dict[str, Any]:
        return {"from_state": fsm._prior_state, "to_state": self.name, "action": fsm._current_action}


class _Transition(transitions.Transition):
    """A row. One with a destination re-checks where it starts, and replays what was deferred at its end.

    Attributes:
        act: what an internal row does. Most inputs go this way, so it is called without the `transitions.EventData`
            that the callbacks of other rows get, which would take a third of the time of the input.
    """

    act: _Body | None = None

    def execute(self, event_data: transitions.EventData) -> bool:
        # A row has callbacks that are functions, and no conditions. What `transitions` does around that (kinds of
        # callbacks that no table has, lines for its debug log) would take a third of the time of every input, and its
        # line at INFO for each callback would show every user of a Locker the names of functions of this module.
        for callback in cast("list[_Callback]", self.before):
            callback(event_data)
        self._change_state(event_data)
        for callback in cast("list[_Callback]", self.after):
            callback(event_data)
        return True

    def _change_state(self, event_data: transitions.EventData) -> None:
        fsm = cast(_AtWork, event_data.model)
        destination = cast(str, self.dest)  # a row without one has `act`, and never comes here
        if fsm.fsm_state != self.source:  # a listener of `handling` has moved it: go there from where it is now
            fsm.transition(destination)
            return
        if fsm._nest is not None:
            fsm._nest.prepare(destination)
        super()._change_state(event_data)
        if fsm.fsm_state == destination:  # else an entry action moved on, and the queue was replayed there
            fsm.process_queue()


class _Event(transitions.Event):
    """A trigger. Its result is what a handler returned, and the way to its row is short."""

    def trigger(self, model: Any, *args: Any, **_: Any) -> Any:
        # Each input in each state has exactly one row, no machine here has a queue, or callbacks of its own.
        rows = self.transitions.get(model.fsm_state)
        if rows is None:
            raise transitions.MachineError(f"the machine has not begun: it is in {model.fsm_state!r}; call begin()")
        row = cast(_Transition, rows[0])
        if row.act is not None:
            return row.act(model, *args)
        data = transitions.EventData(None, self, self.machine, model, args, {})
        data.transition = row
        data.result = None
        row.execute(data)
        return data.result


class _Machine(transitions.Machine):
    event_cls = _Event
    transition_cls = _Transition


# ------------------------------------------------------------------------------- what a row runs


def _asked(event_data: transitions.EventData) -> tuple[Any, Any]:
    """The input and its arguments."""
    return cast("tuple[Any, Any]", event_data.args)


def _about(fsm: _AtWork, given: Any) -> dict[str, Any]:
    """What `handling` and `handled` say of an input: as it is before its handler runs. Empty if nobody listens."""
    if fsm._nest is not None or (fsm._listeners and (fsm._heard("handling") or fsm._heard("handled"))):
        return described(given)
    return _NOTHING


_NOTHING: dict[str, Any] = {}


def _opening(action: str) -> _Callback:
    """Make what a row does first: the action is the current one, and `handling` is emitted."""

    def open_action(event_data: transitions.EventData) -> None:
        fsm = cast(_AtWork, event_data.model)
        fsm._current_action = action
        event_data.kwargs = about = _about(fsm, _asked(event_data)[0])
        if fsm._listeners and fsm._heard("handling"):
            fsm._tell("handling", dict(about))

    return open_action


def _closing(result: str) -> _Callback:
    """Make what a row with a destination does last; ``handle`` returns ``result``, the destination."""

    def close_action(event_data: transitions.EventData) -> None:
        fsm = cast(_AtWork, event_data.model)
        if fsm._listeners and fsm._heard("handled"):
            fsm._tell("handled", dict(event_data.kwargs or described(_asked(event_data)[0])))
        fsm._end()
        event_data.result = cast(bool, result)

    return close_action


def _acting(action: str, body: _Body) -> _Body:
    """Make an internal row: announce, run the body, announce."""

    def act(fsm: _AtWork, given: Any, args: tuple[Any, ...]) -> Any:
        fsm._current_action = action
        about = _about(fsm, given)
        if fsm._listeners and fsm._heard("handling"):
            fsm._tell("handling", dict(about))
        result = body(fsm, given, args)
        if fsm._listeners and fsm._heard("handled"):
            fsm._tell("handled", dict(about or described(given)))
        fsm._end()
        return result

    return act


def _not_handling(action: str) -> _Body:
    """Make the row of an input that nothing handles."""

    def report(fsm: _AtWork, given: Any, args: tuple[Any, ...]) -> None:
        fsm._current_action = action
        if fsm._listeners and fsm._heard("nohandler"):
            payload = Nohandler(described(given), args=args)
            payload.given = given
            fsm._tell("nohandler", payload)
        fsm._end()

    return report


def _body(reaction: Any, catch_all: bool) -> _Body:
    """Turn what was declared into what an internal row runs between `handling` and `handled`."""
    if isinstance(reaction, str):
        target = reaction

        def stay(fsm: _AtWork, given: Any, args: tuple[Any, ...]) -> str:
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
        name = given.name if isinstance(given.name, str) else None
        return {"input": name, "delegated": given.delegated, "ticket": given.ticket, "bubbling": given.bubbling}
    return {"input": given if isinstance(given, str) else None}


# ------------------------------------------------------------------------------------------ the rows


class Rows:
    """A table as a machine.

    Args:
        table: what is declared.

    Attributes:
        machine: the machine.
        inputs: the triggers of inputs, by name.
        moves: the triggers behind `Fsm.transition`, by state.
    """

    def __init__(self, table: Table[Any]) -> None:
        self._table = table
        self.machine: transitions.Machine = _Machine(
            model=None,
            states=[_Node(START, State()), *(_Node(name, state) for name, state in table.states.items())],
            initial=START,
            # As plain as it can be: a queue in the machine would throw its rest away at an error, and
            # triggers are called through their `Event`, so that a model need not be registered (the
            # machine would keep it for ever, and hang dozens of methods on it).
            auto_transitions=False,
            send_event=True,
            queued=False,
            model_attribute=MODEL_ATTRIBUTE,
            name=table.namespace,
        )
        names = {CATCH_ALL: None} | dict.fromkeys(table.input_names)
        for name in names:
            for source in table.states:
                self._add_row(source, name)
        for target in table.states:
            sources: list[StateIdentifier] = [name for name in table.states if name != target]
            if target == table.initial_state:
                sources.append(START)
            self.machine.add_transition(GO + target, sources, target)
        events = cast("dict[str, _Event]", self.machine.events)
        self.inputs = {name: events[name] for name in names}
        self.moves = {target: events[GO + target] for target in table.states}

    def _add_row(self, source: str, name: str) -> None:
        """Add the row for an input in a state, with what the input falls back to."""
        table = self._table
        own = table.states[source].inputs
        used = name if own.get(name) is not None else CATCH_ALL
        reaction = own.get(used)
        if reaction is None:
            reaction = table.inputs.get(CATCH_ALL)
        action = f"{source}.{used}"
        if isinstance(reaction, str) and reaction in table.states and reaction != source:
            before: list[Callback] = [_opening(action)]
            after: list[Callback] = [_closing(reaction)]
            self.machine.add_transition(name, [source], reaction, before=before, after=after)
            return
        self.machine.add_transition(name, [source], None)
        row = cast(_Transition, self.machine.events[name].transitions[source][0])
        row.act = (
            _not_handling(action) if reaction is None else _acting(action, _body(reaction, used == CATCH_ALL))
        )


def rows_of(table: Table[Any]) -> Rows:
    """The machine of a table; made at its first use, and kept."""
    if table._rows is None:
        table._rows = Rows(table)
    return cast(Rows, table._rows)
