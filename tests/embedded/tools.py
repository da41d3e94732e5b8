"""How long things may take, and requests, also in the background."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from consul_locker.embedded import Agent

from ..contract.compare import Client

#: How long anything may take that must happen, in seconds.
PATIENCE = 30.0

#: How long something is given to happen that must not, in seconds.
QUIET = 0.1


class Background:
    """A call in a thread of its own."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.outcome: list[Any] = []
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            self.outcome.append(work())
        except Exception as error:
            self.outcome.append(error)

    def result(self, patience: float = PATIENCE) -> Any:
        """What it returned or raised; None while it is not over."""
        self._thread.join(patience)
        return self.outcome[0] if self.outcome else None


def waiting(agent: Agent, path: str) -> Background:
    """A blocking query, in the agent by the time this returns."""
    before = sum(agent.requests.values())
    asked = Background(lambda: ask(agent.address, "GET", path))
    until(lambda: sum(agent.requests.values()) > before)
    return asked


def ask(address: str, method: str, path: str, body: bytes = b"") -> tuple[int, str, dict[str, str], bytes]:
    """One request on a connection of its own."""
    with Client(address) as client:
        return client.ask(method, path, body)


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it did not happen")


def leader(address: str) -> Any:
    """What an agent says who is the leader."""
    return json.loads(ask(address, "GET", "/v1/status/leader")[3])
