"""The form of the contract: requests in scenarios, and short words for them.

``$p`` is a prefix that no other scenario uses, ``$s``, ``$t``, ``$u`` are sessions (a step that ``binds`` makes
them), ``$node`` is the agent's node, ``$index`` the ModifyIndex that a step with ``remembers`` read.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

__all__ = ["NOBODY", "SCENARIOS", "A", "Scenario", "Step"]

#: A session id that exists nowhere.
NOBODY = "00000000-0000-0000-0000-000000000000"

NO_CHECKS: dict[str, Any] = {"Checks": [], "LockDelay": "0s"}


@dataclass(frozen=True)
class Step:
    """One request.

    Attributes:
        binds: the name under which the session it makes is known from then on.
        remembers: whether ``$index`` is from now on the ModifyIndex that it answers.
        loose: the error text is compared only up to its first colon (it quotes a parser's words).
    """

    method: str
    path: str
    body: str = ""
    binds: str = ""
    remembers: bool = False
    loose: bool = False

    @property
    def shown(self) -> str:
        """For the table in the documentation."""
        body = self.body if len(self.body) <= 160 else f"({len(self.body)} bytes)"
        return f"{self.method} {self.path}" + (f"  {body}" if body else "")


@dataclass(frozen=True)
class Scenario:
    """Requests that belong together; ``section`` is its heading in the documentation."""

    section: str
    title: str
    steps: tuple[Step, ...]

    @property
    def name(self) -> str:
        """For test ids and the record."""
        return f"{self.section}: {self.title}"


#: All scenarios; the modules scenarios_* add theirs when they are imported.
SCENARIOS: list[Scenario] = []


def scenario(section: str, title: str, *steps: Step) -> None:
    SCENARIOS.append(Scenario(section, title, steps))


def get(path: str, **more: Any) -> Step:
    return Step("GET", path, **more)


def put(path: str, body: str = "v", **more: Any) -> Step:
    return Step("PUT", path, body, **more)


def delete(path: str) -> Step:
    return Step("DELETE", path)


def create(binds: str = "", **fields: Any) -> Step:
    return Step("PUT", "/v1/session/create", json.dumps(fields) if fields else "", binds=binds)


def session(binds: str, **fields: Any) -> Step:
    return create(binds, **{**NO_CHECKS, **fields})


def destroy(id: str) -> Step:
    return Step("PUT", f"/v1/session/destroy/{id}")


def op(verb: str, key: str = "$p/a", **fields: Any) -> dict[str, Any]:
    return {"KV": {"Verb": verb, "Key": key, **{name.title(): value for name, value in fields.items()}}}


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def txn(*operations: dict[str, Any], query: str = "", **more: Any) -> Step:
    return Step("PUT", f"/v1/txn{query}", json.dumps(list(operations)), **more)


A = "/v1/kv/$p/a"
