"""Runs scenarios against an agent, and brings the answers into a form in which two agents can be compared.

Ids become the names they are bound to, the prefix, the node and addresses become words, indexes become their rank
among those of the scenario. What is left is what a client can rely on: status, reason, body, headers that matter.
"""

from __future__ import annotations

import http.client
import itertools
import json
import re
import uuid
from string import Template
from typing import Any

from .scenarios import Scenario, Step

__all__ = ["Client", "Recorded", "loosely", "run"]

#: How long an agent may take for one answer, in seconds.
PATIENCE = 30.0

#: Headers whose values are compared; of the others even the presence is not.
HEADERS = (
    "Allow",
    "Connection",
    "Content-Security-Policy",
    "Content-Type",
    "Location",
    "X-Consul-Index",
    "X-Consul-Knownleader",
    "X-Consul-Lastcontact",
    "X-Content-Type-Options",
)

#: An answer in comparable form: status, reason, headers, body.
Recorded = dict[str, Any]

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_INDEX_FIELDS = ("CreateIndex", "ModifyIndex")
_INDEX_IN_TEXT = re.compile(r"(current modify index )(\d+)( != )(\d+)")


class Client:
    """Sends requests to one agent over one connection, as they are: paths are not touched.

    Args:
        address: ``host:port``.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, str, dict[str, str], bytes]:
        """Send a request; returns status, reason, headers, body."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self.address, timeout=PATIENCE)
        connection = self._connection
        try:
            connection.request(method, path, body or None, {} if body else {"Content-Length": "0"})
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        headers = {name.title(): value for name, value in answer.getheaders()}
        if headers.get("Connection") == "close":
            self.close()
        return answer.status, answer.reason, headers, text

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """Send JSON, return JSON, or the text of an answer that is none."""
        data = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        text = self.ask(method, path, data)[3]
        try:
            return json.loads(text)
        except ValueError:
            return text.decode()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Run:
    """One scenario on one agent."""

    def __init__(self, client: Client) -> None:
        self.client = client
        # No key is below another's prefix, so that indexes of listings are the scenario's own.
        self.names = {"p": f"contract-{uuid.uuid4().hex[:12]}", "index": "0"}
        self.names["node"] = client.json("GET", "/v1/agent/self")["Config"]["NodeName"]
        self.indexes: set[int] = set()

    def step(self, step: Step) -> Recorded:
        path = Template(step.path).safe_substitute(self.names)
        body = Template(step.body).safe_substitute(self.names)
        body = re.sub(r'"Index": "(\d+)"', r'"Index": \1', body)  # a remembered index, in a transaction
        status, reason, headers, text = self.client.ask(step.method, path, body.encode("utf-8", "surrogatepass"))
        value: Any = None
        if text and headers.get("Content-Type", "").startswith("application/json"):
            value = json.loads(text)
        elif text:
            value = text.decode("utf-8", "replace")
        if step.binds and status == 200:
            self.names[step.binds] = value["ID"]
        if step.remembers:
            self.names["index"] = str(value[0]["ModifyIndex"])
        if step.loose and isinstance(value, str):
            value = value.partition(":")[0]
        if step.path == "/v1/agent/self" and isinstance(value, dict):
            value = {"Config": sorted(value["Config"])}
        kept = {name: headers[name] for name in HEADERS if name in headers}
        if "X-Consul-Index" in kept:
            self.indexes.add(int(kept["X-Consul-Index"]))
        value = self._mine(value)
        self._collect(value)
        return {"status": status, "reason": reason, "headers": kept, "body": value}

    def _mine(self, value: Any) -> Any:
        """Of a list of sessions, the scenario's own, in the order in which it made them."""
        if isinstance(value, list) and value and isinstance(value[0], dict) and "ID" in value[0]:
            order = list(self.names.values())
            value = sorted((one for one in value if one["ID"] in order), key=lambda one: order.index(one["ID"]))
        return value

    def _collect(self, value: Any) -> None:
        if isinstance(value, dict):
            self.indexes.update(value[name] for name in _INDEX_FIELDS if name in value)
            for part in value.values():
                self._collect(part)
        elif isinstance(value, list):
            for part in value:
                self._collect(part)
        elif isinstance(value, str):
            self.indexes.update(int(found[2]) for found in _INDEX_IN_TEXT.finditer(value))

    def normal(self, answer: Recorded) -> Recorded:
        ranks = {index: rank for rank, index in enumerate(sorted(self.indexes), 1)}
        headers = dict(answer["headers"])
        if "X-Consul-Index" in headers:
            # 1 stands for "never", which no write has (a missing leader, a table without writes).
            headers["X-Consul-Index"] = (
                "1" if headers["X-Consul-Index"] == "1" else f"#{ranks[int(headers['X-Consul-Index'])]}"
            )
        headers = {name: self._text(value) for name, value in headers.items()}
        return {**answer, "headers": headers, "body": self._value(answer["body"], ranks)}

    def _value(self, value: Any, ranks: dict[int, int]) -> Any:
        if isinstance(value, dict):
            return {
                name: f"#{ranks[part]}" if name in _INDEX_FIELDS else self._value(part, ranks)
                for name, part in value.items()
            }
        if isinstance(value, list):
            return [self._value(part, ranks) for part in value]
        if isinstance(value, str):
            text = self._text(value)

            def ranked(found: re.Match[str]) -> str:
                wanted = int(found[4])
                return f"{found[1]}#{ranks[int(found[2])]}{found[3]}#{ranks.get(wanted, wanted)}"

            return _INDEX_IN_TEXT.sub(ranked, text)
        return value

    def _text(self, text: str) -> str:
        for name, value in self.names.items():
            if name != "index" and value:
                text = text.replace(value, f"<{name}>")
        text = _UUID.sub(lambda found: found[0] if set(found[0]) == {"0", "-"} else "<uuid>", text)
        return re.sub(r"^127\.0\.0\.1:\d+$", "<address>", text)


#: Go's own words, which change with the Go that a Consul was built with, and what stands for them in a comparison.
_GOS_OWN = (
    (re.compile(r"json: cannot unmarshal .*"), "json: cannot unmarshal …"),
    (re.compile(r"invalid character .*"), "invalid character …"),
    (re.compile(r"\\u007f"), r"\\x7f"),  # how DEL is quoted
)


def loosely(answer: Recorded) -> Recorded:
    """An answer without what belongs to the Go that its Consul was built with: its JSON errors, its redirects."""
    if answer["status"] in (301, 307):
        # An older Go writes 301, a newer one 307, and either may or may not escape the place once more.
        headers = {**answer["headers"], "Location": answer["headers"]["Location"].replace("%25", "%")}
        return {"status": "301 or 307", "reason": "redirect", "headers": headers, "body": None}
    return {**answer, "body": _without_gos_own(answer["body"])}


def _without_gos_own(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_gos_own(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_gos_own(part) for part in value]
    if isinstance(value, str):
        for words, instead in _GOS_OWN:
            value = words.sub(instead, value)
    return value


def run(scenario: Scenario, address: str) -> list[Recorded]:
    """Run a scenario; returns its answers in comparable form."""
    client = Client(address)
    try:
        # So that both tables, keys and sessions, have an index of their own, whatever came before.
        prelude = f"/v1/kv/prelude-{uuid.uuid4().hex}"
        client.json("PUT", f"/v1/session/destroy/{client.json('PUT', '/v1/session/create')['ID']}")
        client.json("PUT", prelude, "x")
        course = _Run(client)
        answers = [course.step(step) for step in scenario.steps]
        for name, id in itertools.islice(course.names.items(), 3, None):
            assert name in "stu"
            client.json("PUT", f"/v1/session/destroy/{id}")
        client.json("DELETE", f"/v1/kv/{course.names['p']}?recurse")
        client.json("DELETE", prelude)
        return [course.normal(answer) for answer in answers]
    finally:
        client.close()
