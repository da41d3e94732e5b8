"""Calls that are made while Consul is away: what becomes of them. For `outages` and `outages_of_servers`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from consul_locker import signals
from tests.real_consul import find_binary

__all__ = ["PATIENCE", "Result", "binary", "losses", "say", "timed"]

#: No call waits for longer, in seconds; longer than any limit of the library's.
PATIENCE = 120.0


class Result(NamedTuple):
    """What became of a call.

    Attributes:
        call: which.
        seconds: how long it took.
        error: why it was not served; empty if it was.
    """

    call: str
    seconds: float
    error: str


def timed(name: str, call: Callable[[], object]) -> Result:
    """Make a call; one that returns False was not served."""
    began = time.monotonic()
    try:
        error = "answered False" if call() is False else ""
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
    return Result(name, time.monotonic() - began, error)


@contextmanager
def losses() -> Iterator[list[tuple[Any, str]]]:
    """The leases that are lost inside, with their reasons."""
    found: list[tuple[Any, str]] = []

    def hear(sender: object, reason: str, lease: Any, **facts: Any) -> None:
        found.append((lease, reason))

    with signals.lock_lost.connected_to(hear):
        yield found


def binary() -> str:
    """The path of Consul."""
    found = find_binary()
    if found is None:
        raise SystemExit("no Consul found (CONSUL_BINARY, PATH, .ci/cache/); .ci/get-consul gets one")
    return found


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)
