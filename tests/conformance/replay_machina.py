"""Replay a trace of machina, with or without children, through `consul_locker.fsm.Fsm` (the format: README.md)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from consul_locker.fsm import Fsm, Input, Queued, Reaction, State, Table

Json = Any

LEFT_OUT = frozenset({"prototype-names", "transition-to-nothing"})
"""Accidents of the JavaScript language."""

_INPUT_MISSING = (
    "The input argument passed to the FSM's handle method is undefined. Did you forget to pass the input name?"
)
_ORIGINAL_WORDS = {
    "initial_state: None cannot be: an initial state is needed": "You must specify an initial state for this FSM",
    "handle() needs the name of an input, not None": _INPUT_MISSING,
}
"""The library's own messages are not machina's; their meanings are."""

_CONSTRUCTION = "The initial state specified does not exist in the states object."
_FLAGS = ("delegated", "ticket", "bubbling")
_FLAGS_OF_PAYLOADS = ("delegated", "ticket")
"""What machina says of an input in most events; only ``deferred`` has the input itself."""


class _Raised(Exception):
    """What the action ``raise`` throws."""


class _Watched(Fsm):
    """An Fsm that notices when an error in a replay leaves inputs behind: from there on machina has lost them."""

    __slots__ = ("parted",)

    parted: Callable[[], None]

    def process_queue(self) -> None:
        due = [queued for queued in self.input_queue if queued.due(self.state)]
        try:
            super().process_queue()
        except Exception:
            left = {id(queued) for queued in self.input_queue}
            if any(id(queued) in left for queued in due):
                self.parted()
            raise


class Replayer:
    """One run of a trace: its definition made into an Fsm, its script played, what is seen noted in ``log``."""

    def __init__(self, trace: dict[str, Json]) -> None:
        self.trace = trace
        self.log: list[dict[str, Json]] = []
        self.parted_at: int | None = None  # the length of the log when the port's decision on errors began to differ
        self._left: dict[int, int] = {}  # by the id of an action with `times`: how often it is still done
        self._listeners: dict[str, Callable[..., None]] = {}
        self.fsm: Fsm | None = None
        self.machines: dict[str, _Watched] = {}  # by namespace; of those that a factory makes, the last
        self._tickets: dict[str, str] = {}  # as the trace calls them, by what the port calls them
        for step in trace["script"]:
            given = step.get("handle")
            if isinstance(given, dict) and given.get("ticket"):
                self._tickets[given["ticket"]] = given["ticket"]
        self._given_tickets = len(self._tickets)
        self._has_children = any("child" in state for state in trace["fsm"]["states"].values())

    # ------------------------------------------------------------------------------------ definition

    def _made(self, definition: dict[str, Json], heard: Callable[..., None] | None = None) -> _Watched:
        """Make the machine of a definition; those of its children that are given as machines come before it."""
        options: dict[str, Any] = {"namespace": definition["namespace"]}
        if "initial_state" in definition:
            options["initial_state"] = definition["initial_state"]
        children: dict[str, Callable[..., _Watched]] = {}
        for name, state in definition["states"].items():
            if "child" in state:
                children[name] = self._child(state)
        for name, state in definition["states"].items():
            if "child_of" in state:
                children[name] = children[state["child_of"]]
        table = Table(
            {name: self._state(state, children.get(name)) for name, state in definition["states"].items()},
            inputs=self._inputs(definition.get("global_inputs", {})),
            safe_emit=definition.get("safe_emit", False),
            strict=False,
            **options,
        )
        fsm = _Watched(table, begin=False)
        fsm.parted = self._part
        if heard is not None:
            fsm.on("*", heard)
        self.machines[definition["namespace"]] = fsm
        fsm.begin()
        return fsm

    def _child(self, state: dict[str, Json]) -> Callable[..., _Watched]:
        if state.get("child_mode") == "factory":
            return lambda client: self._made(state["child"])
        child = self._made(state["child"])
        return lambda client: child

    def _state(self, state: dict[str, Json], child: Callable[..., _Watched] | None) -> State:
        inputs = self._inputs(state.get("inputs", {}))
        entry, leave = state.get("on_enter"), state.get("on_exit")
        # machina keeps entry and exit actions in one object with the handlers, so they are handlers of inputs too
        if entry is not None:
            inputs.setdefault("_onEnter", self._handler(entry))
        if leave is not None:
            inputs.setdefault("_onExit", self._handler(leave))
        return State(
            on_enter=None if entry is None else self._handler(entry),
            on_exit=None if leave is None else self._exit_action(leave),
            inputs=inputs,
            child=child,
        )

    def _inputs(self, inputs: dict[str, Json]) -> dict[str, Reaction]:
        reactions: dict[str, Reaction] = {}
        for name, given in inputs.items():
            if isinstance(given, dict):
                reactions[name] = given["goto"]
            else:
                reactions[name] = None if given is None else self._handler(given)
        return reactions

    def _handler(self, actions: list[Json]) -> Callable[..., Json]:
        return lambda fsm, *args: self._do(fsm, actions, args)

    def _exit_action(self, actions: list[Json]) -> Callable[..., None]:
        def leave(fsm: Fsm) -> None:
            try:
                self._do(fsm, actions, ())
            except Exception:
                self._part()  # from here on machina ignores everything
                raise

        return leave

    def _part(self) -> None:
        if self.parted_at is None:
            self.parted_at = len(self.log)

    # --------------------------------------------------------------------------------------- actions

    def _do(self, fsm: Fsm, actions: list[Json], args: tuple[Json, ...]) -> Json:
        for action in actions:
            if "times" in action:
                left = self._left.setdefault(id(action), action["times"])
                if left == 0:
                    continue
                self._left[id(action)] = left - 1
            if action["do"] == "return":
                return action["value"]
            self._do_one(self.machines[action["in"]] if "in" in action else fsm, action, args)
        return None

    def _do_one(self, fsm: Fsm, action: dict[str, Json], args: tuple[Json, ...]) -> None:
        kind = action["do"]
        if kind == "note":
            note = {"note": action["text"], "state": fsm.state, "args": list(args)}
            self.log.append({**note, **self._in(fsm.namespace)})
        elif kind == "transition":
            fsm.transition(action["to"])
        elif kind == "handle":
            fsm.handle(_input(action["input"]), *action["args"])
        elif kind == "defer":
            fsm.defer_until_transition(action.get("until"))
        elif kind == "defer_and_transition":
            fsm.defer_and_transition(action["to"])
        elif kind == "clear_queue":
            fsm.clear_queue(action.get("until"))
        elif kind == "process_queue":
            fsm.process_queue()
        elif kind == "emit":
            fsm.emit(action["event"], copy.deepcopy(action.get("data")))
        elif kind == "emit_payload":
            fsm.emit(action["event"], _payload(fsm, action))
        elif kind == "on":
            self._subscribe(fsm, action["event"], action["as"], action["actions"])
        elif kind == "off":
            self._unsubscribe(fsm, action)
        elif kind == "raise":
            raise _Raised(action["text"])
        else:
            raise ValueError(f"an unknown action: {kind!r}")

    def _subscribe(self, fsm: Fsm, event: str, name: str, actions: list[Json]) -> None:
        def listener(*_: Any) -> None:
            self._do(fsm, actions, ())

        self._listeners[name] = listener
        fsm.on(event, listener)

    def _unsubscribe(self, fsm: Fsm, action: dict[str, Json], key: str = "event") -> None:
        name = action.get("as")
        fsm.off(action.get(key), None if name is None else self._listeners[name])

    # ---------------------------------------------------------------------------------------- script

    def run(self) -> None:
        """Make the machine and play the script."""
        try:
            self.fsm = self._made(self.trace["fsm"], self._heard)
        except (_Raised, ValueError) as error:
            self._raise(error)
            return
        for number, step in enumerate(self.trace["script"]):
            self.log.append({"step": number})
            try:
                returned = self._step(self.machines[step["in"]] if "in" in step else self.fsm, step)
            except (_Raised, TypeError) as error:
                self._raise(error)
            else:
                if "composite_state" in step:
                    self.log.append({"composite_state": returned})
                elif returned is not None:
                    self.log.append({"returned": returned})
            if self.parted_at is not None:
                return

    def _raise(self, error: Exception) -> None:
        if self.parted_at == len(self.log):
            self.parted_at += 1  # that it comes out is the same; what follows is not
        text = str(error)
        if "is not among the states" in text and not isinstance(error, _Raised):
            text = _CONSTRUCTION
        self.log.append({"raised": _ORIGINAL_WORDS.get(text, text)})

    def _step(self, fsm: Fsm, step: dict[str, Json]) -> Json:
        if "handle" in step:
            return fsm.handle(_input(step["handle"]), *step["args"])
        if "transition" in step:
            fsm.transition(step["transition"])
        elif "clear_queue" in step:
            fsm.clear_queue(step["clear_queue"])
        elif "process_queue" in step:
            fsm.process_queue()
        elif "defer" in step:
            fsm.defer_until_transition(step["defer"])
        elif "defer_and_transition" in step:
            fsm.defer_and_transition(step["defer_and_transition"])
        elif "emit" in step:
            fsm.emit(step["emit"], copy.deepcopy(step.get("data")))
        elif "on" in step:
            self._subscribe(fsm, step["on"], step["as"], step["do"])
        elif "off" in step:
            self._unsubscribe(fsm, step, "off")
        elif "composite_state" in step:
            return fsm.composite_state
        else:
            raise ValueError(f"an unknown step: {step!r}")
        return None

    # ------------------------------------------------------------------------------------------ what is seen

    def _heard(self, event: str, data: Json) -> None:
        if isinstance(data, dict) and data.get("ticket"):
            data = {**data, "ticket": self._ticket(data["ticket"])}
        record = _record(event, data)
        if record["event"] != "custom":
            record.update(self._in(data["namespace"]))
        if self.trace.get("raw_payloads"):
            record["payload"] = _raw_payload(event, data)
        self.log.append(record)

    def _in(self, namespace: str) -> dict[str, str]:
        """The field that names a machine, unless it is the outermost one."""
        return {} if namespace == self.trace["fsm"]["namespace"] else {"in": namespace}

    def _ticket(self, ticket: str) -> str:
        """What the trace calls a ticket: t1, t2 … in the order in which they appear."""
        return self._tickets.setdefault(ticket, f"t{len(self._tickets) - self._given_tickets + 1}")

    def final(self) -> dict[str, Json] | None:
        """The machine's fields at the end, as a trace has them."""
        if self.fsm is None:
            return None
        final = self._final(self.fsm)
        if self._has_children:
            final["composite_state"] = self.fsm.composite_state
            others = {name: each for name, each in self.machines.items() if each is not self.fsm}
            final["children"] = {name: self._final(each) for name, each in others.items()}
        return final

    def _final(self, fsm: Fsm) -> dict[str, Json]:
        return {
            "state": fsm.state if fsm.begun else None,
            "prior_state": fsm.prior_state,
            "queue": [self._queued(queued) for queued in fsm.input_queue],
            "current_action": fsm.current_action,
            "prior_action": fsm.prior_action,
            "in_exit_handler": fsm.in_exit_handler,
            "target_replay_state": fsm.state if fsm.begun else "",  # always the state itself, once there is one
        }

    def _queued(self, queued: Queued) -> dict[str, Json]:
        given = queued.input
        named = {"input": given}
        if isinstance(given, Input):
            flags = {flag: getattr(given, flag) for flag in _FLAGS}
            if given.ticket:
                flags["ticket"] = self._ticket(given.ticket)
            named = {"input": given.name, **_flags(flags)}
        return {"until": queued.until, **named, "args": list(queued.args)}


def _input(given: Json) -> Json:
    """Turn a script's input into what `handle` takes."""
    if isinstance(given, dict):
        return Input(given["input"], given.get("delegated", False), given.get("ticket"))
    return given


def _payload(fsm: Fsm, action: dict[str, Json]) -> dict[str, Json]:
    """Do what machina's buildEventPayload does: a plain object without the machine before it is lost."""
    data = action.get("data")
    if isinstance(data, dict):
        return {**data, "namespace": fsm.namespace} if action.get("with_client") else _wrapped(fsm, None)
    return _wrapped(fsm, data or None)


def _wrapped(fsm: Fsm, data: Json) -> dict[str, Json]:
    return {"data": data, "namespace": fsm.namespace}


def _flags(data: dict[str, Json], flags: tuple[str, ...] = _FLAGS) -> dict[str, Json]:
    return {flag: data[flag] for flag in flags if data.get(flag)}


def _record(event: str, data: Json) -> dict[str, Json]:
    """Turn an event of the port into a record of a trace."""
    if event == "transition":
        return {"event": event, "from": data["from_state"], "to": data["to_state"], "action": data["action"]}
    if event in ("handling", "handled"):
        return {"event": event, "input": data["input"], **_flags(data, _FLAGS_OF_PAYLOADS)}
    if event == "nohandler":
        flags = _flags(data, _FLAGS_OF_PAYLOADS)
        return {"event": event, "input": data["input"], "args": list(data["args"]), **flags}
    if event == "invalidstate":
        return {"event": event, "state": data["state"], "attempted": data["attempted_state"]}
    if event == "deferred":
        asked = {"state": data["state"], "until": data["until"], "input": data["input"]}
        return {"event": event, **asked, "args": list(data["args"]), **_flags(data)}
    record = {"event": "custom", "name": event}
    return record if data is None else {**record, "data": copy.deepcopy(data)}


def _raw_payload(event: str, data: Json) -> Json:
    """Write an event's payload with machina's own keys."""
    if not isinstance(data, dict) or "namespace" not in data:
        return copy.deepcopy(data)
    namespace = {"namespace": data["namespace"]}
    if event == "transition":
        return {"fromState": data["from_state"], "toState": data["to_state"], "action": data["action"], **namespace}
    if event == "invalidstate":
        return {"state": data["state"], "attemptedState": data["attempted_state"], **namespace}
    if "input" not in data:
        return copy.deepcopy(data)
    given = {"inputType": data["input"], "delegated": data.get("delegated", False), "ticket": data.get("ticket")}
    if event == "deferred":
        queued = {"type": "transition", "untilState": data["until"], "args": [given, *data["args"]]}
        return {"state": data["state"], "queuedArgs": queued, **namespace}
    if event == "nohandler":
        return {"args": [f"<machine {data['namespace']}>", given, *data["args"]], **given, **namespace}
    return {**given, **namespace}


# ---------------------------------------------------------------------------------------- comparison


def _by_name(value: Json) -> Json:
    """Write a catch-all's input by its name, as the port hands it over."""
    if isinstance(value, dict):
        return value["$input"] if "$input" in value else {key: _by_name(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_by_name(each) for each in value]
    return value


def _jsonable(value: Json) -> Json:
    """Tuples are lists in a trace."""
    if isinstance(value, dict):
        return {key: _jsonable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(each) for each in value]
    return value


def _same(one: Json, other: Json) -> bool:
    """Compare as JSON does: Python takes True for 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def replay(trace: dict[str, Json]) -> str | None:
    """Replay a trace; return None when all agrees, else the first record that differs."""
    run = Replayer(trace)
    run.run()
    return compare(trace, run)


def compare(trace: dict[str, Json], run: Replayer) -> str | None:
    """Compare what a run of the trace's script has seen with the log and the end; return None, or what differs."""
    expected = [_by_name(record) for record in trace["log"]]
    seen = [_jsonable(record) for record in run.log]
    end = run.parted_at
    if end is not None:
        if len(expected) < end:
            return f"record {len(expected)}: expected the end of the log, got {seen[len(expected)]}"
        expected, seen = expected[:end], seen[:end]
    for number in range(max(len(expected), len(seen))):
        wanted = expected[number] if number < len(expected) else "the end of the log"
        got = seen[number] if number < len(seen) else "the end of the log"
        if not _same(wanted, got):
            return f"record {number}: expected {wanted}, got {got}"
    if end is None and not _same(trace["final"], final := _jsonable(run.final())):
        return f"final: expected {trace['final']}, got {final}"
    return None
