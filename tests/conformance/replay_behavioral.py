"""Replay a trace of machina's BehavioralFsm through `consul_locker.fsm.Behavior`.

The format is that of README.md, but for this: each step names its ``client``, and so does an action that is done on
another client than its handler's; records name the client they are of; ``final`` has the fields of each client. The
machines have no children: those of machina share one child machine among all clients, here each client has its own.
No action raises: what errors do is in the traces of single machines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from replay_machina import _by_name, _jsonable, _record, _same  # beside this file; replay.py sees to the path

from consul_locker.fsm import Behavior, Queued, Reaction, State, Table

Json = Any


class Client:
    """What the machine is a behavior of."""

    def __init__(self, name: str) -> None:
        self.name = name


class Replayer:
    """One run of a trace; what is seen is noted in ``log``."""

    def __init__(self, trace: dict[str, Json]) -> None:
        self.trace = trace
        self.log: list[dict[str, Json]] = []
        self._left: dict[int, int] = {}  # by the id of an action with `times`: how often it is still done
        self._clients: dict[str, Client] = {}
        definition = trace["fsm"]
        table = Table(
            {name: self._state(state) for name, state in definition["states"].items()},
            initial_state=definition["initial_state"],
            inputs=self._inputs(definition.get("global_inputs", {})),
            namespace=definition["namespace"],
            strict=False,
        )
        self.behavior: Behavior[Client] = Behavior(table)
        self.behavior.on("*", self._heard)

    def client(self, name: str) -> Client:
        """The client of that name."""
        return self._clients.setdefault(name, Client(name))

    def _state(self, state: dict[str, Json]) -> State:
        entry, leave = state.get("on_enter"), state.get("on_exit")
        return State(
            on_enter=None if entry is None else self._handler(entry),
            on_exit=None if leave is None else self._handler(leave),
            inputs=self._inputs(state.get("inputs", {})),
        )

    def _inputs(self, inputs: dict[str, Json]) -> dict[str, Reaction]:
        return {
            name: given["goto"] if isinstance(given, dict) else self._handler(given) for name, given in inputs.items()
        }

    def _handler(self, actions: list[Json]) -> Callable[..., Json]:
        return lambda client, *args: self._do(client, actions, args)

    def _do(self, client: Client, actions: list[Json], args: tuple[Json, ...]) -> Json:
        for action in actions:
            if "times" in action:
                left = self._left.setdefault(id(action), action["times"])
                if left == 0:
                    continue
                self._left[id(action)] = left - 1
            if action["do"] == "return":
                return action["value"]
            if action["do"] == "note":
                state = self.behavior.state(client)
                self.log.append({"note": action["text"], "client": client.name, "state": state, "args": list(args)})
            else:
                self._do_one(self.client(action["client"]) if "client" in action else client, action)
        return None

    def _do_one(self, client: Client, action: dict[str, Json]) -> None:
        behavior, kind = self.behavior, action["do"]
        if kind == "transition":
            behavior.transition(client, action["to"])
        elif kind == "handle":
            behavior.handle(client, action["input"], *action["args"])
        elif kind == "defer":
            behavior.defer_until_transition(client, action.get("until"))
        elif kind == "defer_and_transition":
            behavior.defer_and_transition(client, action["to"])
        elif kind == "clear_queue":
            behavior.clear_queue(client, action.get("until"))
        elif kind == "process_queue":
            behavior.process_queue(client)
        elif kind == "emit":
            behavior.emit(action["event"], action["data"])
        else:
            raise ValueError(f"an unknown action: {kind!r}")

    def run(self) -> None:
        """Play the script."""
        for number, step in enumerate(self.trace["script"]):
            self.log.append({"step": number})
            name, returned = self._step(self.client(step["client"]), step)
            if returned is not None:
                self.log.append({name: returned})

    def _step(self, client: Client, step: dict[str, Json]) -> tuple[str, Json]:
        behavior = self.behavior
        if "handle" in step:
            return "returned", behavior.handle(client, step["handle"], *step["args"])
        if "composite_state" in step:
            return "composite_state", behavior.composite_state(client)
        if "transition" in step:
            behavior.transition(client, step["transition"])
        elif "clear_queue" in step:
            behavior.clear_queue(client, step["clear_queue"])
        elif "process_queue" in step:
            behavior.process_queue(client)
        elif "defer" in step:
            behavior.defer_until_transition(client, step["defer"])
        elif "defer_and_transition" in step:
            behavior.defer_and_transition(client, step["defer_and_transition"])
        else:
            raise ValueError(f"an unknown step: {step!r}")
        return "", None

    def _heard(self, event: str, data: Json) -> None:
        record = _record(event, data)
        if record["event"] != "custom":
            record["client"] = data["client"].name
        self.log.append(record)

    def final(self) -> dict[str, Json]:
        """The fields of each client at the end."""
        return {name: self._final(client) for name, client in self._clients.items()}

    def _final(self, client: Client) -> dict[str, Json]:
        fsm = self.behavior.of(client)
        return {
            "state": fsm.state,
            "prior_state": fsm.prior_state,
            "queue": [_queued(queued) for queued in fsm.input_queue],
            "current_action": fsm.current_action,
            "prior_action": fsm.prior_action,
            "in_exit_handler": fsm.in_exit_handler,
        }


def _queued(queued: Queued) -> dict[str, Json]:
    return {"until": queued.until, "input": queued.input, "args": list(queued.args)}


def replay(trace: dict[str, Json]) -> str | None:
    """Replay a trace; return None when all agrees, else the first record that differs."""
    run = Replayer(trace)
    run.run()
    return compare(trace, run)


def compare(trace: dict[str, Json], run: Replayer) -> str | None:
    """Compare what a run of the trace's script has seen with the log and the end; return None, or what differs."""
    expected = [_by_name(record) for record in trace["log"]]
    seen = [_jsonable(record) for record in run.log]
    end = "the end of the log"
    for number in range(max(len(expected), len(seen))):
        wanted = expected[number] if number < len(expected) else end
        got = seen[number] if number < len(seen) else end
        if not _same(wanted, got):
            return f"record {number}: expected {wanted}, got {got}"
    final = _jsonable(run.final())
    return None if _same(trace["final"], final) else f"final: expected {trace['final']}, got {final}"
