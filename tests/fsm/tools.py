"""A log that handlers write to, and small tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from consul_locker.fsm import Defer, Fsm, State

Log = list[Any]


def note(log: Log, what: Any) -> Callable[..., None]:
    """Make a handler that notes itself and its arguments."""
    return lambda client, *args: log.append((what, *args))


def fail(client: Any, *args: Any) -> None:
    """The handler that fails."""
    raise RuntimeError("boom")


def heard(fsm: Fsm) -> list[tuple[str, Any]]:
    """Note every event from now on."""
    events: list[tuple[str, Any]] = []
    fsm.on("*", lambda event, data: events.append((event, data)))
    return events


def names(events: list[tuple[str, Any]]) -> list[str]:
    return [event for event, _ in events]


def deferring(log: Log, strict: bool = True, **more: State) -> Fsm:
    """A machine that defers `a` to `d` in s0 and notes them in s1 and s2."""
    noting = {name: note(log, name) for name in "abcd"}
    states = {
        "s0": State(inputs={name: Defer() for name in "abcd"}),
        "s1": State(inputs=noting),
        "s2": State(inputs=noting),
    }
    return Fsm.of({**states, **more}, initial_state="s0", strict=strict)
