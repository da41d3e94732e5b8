"""The forms of Consul's HTTP API: requests and answers, parameters and their errors, JSON. Pure."""

from __future__ import annotations

import json
import posixpath
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote as url_quote
from urllib.parse import urlencode

from .golang import Invalid, as_kind, decode_json, duration, kind, uint64
from .records import Entry, Scope, Session

__all__ = [
    "DEFAULT_WAIT",
    "MAX_BODY",
    "MAX_WAIT",
    "Answer",
    "Blocking",
    "Call",
    "Refused",
    "Request",
]

#: The largest body, in bytes, of a key's value and of a transaction (source: kv_max_value_size, txn_max_req_len).
MAX_BODY = 512 * 1024

#: How long a blocking query waits when it does not say, and at most, in seconds (source: agent/consul/rpc.go,
#: defaultQueryTime, maxQueryTime). A real agent adds up to a sixteenth of it as jitter; this one does not.
DEFAULT_WAIT = 300.0
MAX_WAIT = 600.0

#: What a session's TTL may be, in nanoseconds (source: session_ttl_min's default; structs.SessionTTLMax).
MIN_TTL = 10 * 10**9
MAX_TTL = 24 * 3600 * 10**9

#: A session's lock-delay when it does not ask for one, in nanoseconds (source: agent/session_endpoint.go).
DEFAULT_LOCK_DELAY = 15 * 10**9

#: A lock-delay below this many nanoseconds was meant in seconds (source: lockDelayMinThreshold).
LOCK_DELAY_THRESHOLD = 1000

#: The only datacenter there is; the name is a real agent's default.
DATACENTER = "dc1"

TEXT = ("Content-Type", "text/plain; charset=utf-8")
JSON = ("Content-Type", "application/json")
HTML = ("Content-Type", "text/html; charset=utf-8")
SANDBOX = (("Content-Security-Policy", "sandbox"), ("X-Content-Type-Options", "nosniff"))
FILTERED = ("X-Consul-Results-Filtered-By-Acls", "true")
LEADER = (("X-Consul-Knownleader", "true"), ("X-Consul-Lastcontact", "0"))
NO_LEADER = (("X-Consul-Index", "1"), ("X-Consul-Knownleader", "false"), ("X-Consul-Lastcontact", "0"))


class Request(NamedTuple):
    """``target`` as on the request line; ``size`` of the body as sent, which may be more than was kept of it."""

    method: str
    target: str
    body: bytes = b""
    size: int = 0


class Answer(NamedTuple):
    """An HTTP answer. ``close``: the connection ends after it."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False


@dataclass(frozen=True)
class Blocking:
    """A query that waits: answered when ``read`` gives an index above ``index``, or after ``wait`` seconds."""

    index: int
    wait: float
    read: Callable[[], tuple[Answer, int, Scope]]


class Refused(Exception):
    """Ends a handler with an error answer in plain text, or without one."""

    def __init__(
        self, status: int, text: str = "", headers: tuple[tuple[str, str], ...] = (), close: bool = False
    ) -> None:
        super().__init__(text)
        kind = (TEXT,) if text else ()
        self.answer = Answer(status, text.encode("utf-8", "replace"), (*headers, *kind), close)


def check_namespace(target: str, query: dict[str, str]) -> None:
    """Raise `Refused` for a namespace: this is no Consul Enterprise. Transactions take none, and ?partition= is ignored
    (measured).
    """
    if query.get("ns") and target.startswith(("/v1/kv/", "/v1/session/")):
        raise Refused(400, 'Bad request: Invalid query parameter: "ns" - Namespaces are a Consul Enterprise feature')


class Call(NamedTuple):
    """A request on its way through a handler: the rest of its path, its query, the time."""

    method: str
    rest: str
    query: dict[str, str]
    pairs: list[tuple[str, str]]
    body: bytes
    size: int
    now: float

    def options(self) -> tuple[int, float]:
        """The parameters of every read: index, and wait in seconds. Consistency makes no difference here.

        Raises:
            Refused: for what Consul refuses.
        """
        if not self.query:
            return 0, DEFAULT_WAIT
        self.check_consistency()
        index, wait = 0, 0.0
        try:
            if self.query.get("wait"):
                wait = duration(self.query["wait"]) / 1e9
        except Invalid:
            raise Refused(400, "Invalid wait time") from None
        try:
            if self.query.get("index"):
                index = uint64(self.query["index"])
        except Invalid:
            raise Refused(400, "Invalid index") from None
        return index, min(wait, MAX_WAIT) if wait > 0 else DEFAULT_WAIT

    def number(self, name: str) -> int:
        """A number of the query, 0 when it is not named.

        Raises:
            Invalid: for one that is no number.
        """
        return uint64(self.query[name]) if name in self.query else 0

    def check_consistency(self) -> None:
        """Raise `Refused` for both kinds at once."""
        if "stale" in self.query and "consistent" in self.query:
            raise Refused(400, "Cannot specify ?stale with ?consistent, conflicting semantics.")

    def check_datacenter(self) -> None:
        """Raise `Refused` for a datacenter that is not this one."""
        if self.query.get("dc", "") not in ("", DATACENTER):
            raise Refused(500, "No path to datacenter")

    def check_conflicts(self, *names: str, end: str) -> None:
        """Raise `Refused` when more than one of the parameters is there; ``end`` follows its words."""
        if len(self.query) > 1 and sum(name in self.query for name in names) > 1:
            shown = urlencode(sorted(self.pairs, key=lambda pair: pair[0]), errors="surrogateescape")
            raise Refused(400, f"Conflicting flags: {shown}{end}")

    def check_size(self, option: str, page: str) -> None:
        """Raise `Refused` for a body over `MAX_BODY`; ``option`` is what Consul calls the limit on its ``page``."""
        if self.size > MAX_BODY:
            text = f"Request body({self.size} bytes) too large, max size: {MAX_BODY} bytes. See {page}#{option}."
            raise Refused(413, text, close=True)

    def session_id(self) -> str:
        """The id at the end of the path; raises `Refused` when there is none."""
        if not self.rest:
            raise Refused(400, "Missing session")
        return self.rest


# ------------------------------------------------------------------------------------------------ JSON


def dump(value: Any) -> bytes:
    """JSON as short as it can be."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def pretty(body: bytes) -> bytes:
    """JSON as ``?pretty`` and ``consul agent -dev`` show it."""
    return json.dumps(json.loads(body), ensure_ascii=False, indent=4).encode("utf-8", "replace") + b"\n"


def readable(text: str) -> str:
    """A key as JSON can show it: bytes that are no UTF-8 become U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def entry_json(entry: Entry, with_value: bool = True) -> dict[str, Any]:
    """An entry as Consul shows it; ``Session`` only when there is one."""
    shown: dict[str, Any] = {
        "LockIndex": entry.lock_index,
        "Key": readable(entry.key),
        "Flags": entry.flags,
        "Value": b64encode(entry.value).decode("ascii") if with_value and entry.value else None,
    }
    if entry.session:
        shown["Session"] = entry.session
    shown["CreateIndex"] = entry.create_index
    shown["ModifyIndex"] = entry.modify_index
    return shown


def session_json(session: Session) -> dict[str, Any]:
    """A session as Consul shows it."""
    return {
        "ID": session.id,
        "Name": session.name,
        "Node": session.node,
        "LockDelay": session.lock_delay,
        "Behavior": session.behavior,
        "TTL": session.ttl_text,
        "NodeChecks": list(session.node_checks),
        "ServiceChecks": None,
        "CreateIndex": session.index,
        "ModifyIndex": session.index,
    }


def key_names(entries: tuple[Entry, ...], prefix: str, separator: str) -> list[str]:
    """What ``?keys`` answers: whole keys, or each up to the first separator after the prefix, once."""
    if not separator:
        return [readable(entry.key) for entry in entries]
    names: list[str] = []
    for entry in entries:
        place = entry.key.find(separator, len(prefix))
        name = readable(entry.key if place < 0 else entry.key[: place + len(separator)])
        if not names or names[-1] != name:
            names.append(name)
    return names


#: Field of a new session -> (its JSON kind, its Go name and type, the argument it becomes).
_SESSION_FIELDS = {
    "id": ("string", "ID of type string", ""),
    "name": ("string", "Name of type string", "name"),
    "node": ("string", "Node of type string", "node"),
    "ttl": ("string", "TTL of type string", "ttl_text"),
    "behavior": ("string", "Behavior of type structs.SessionBehavior", "behavior"),
    "checks": ("array", "Checks of type []types.CheckID", "checks"),
    "nodechecks": ("array", "NodeChecks of type []string", "node_checks"),
    "servicechecks": ("array", "ServiceChecks of type []structs.ServiceCheck", "service_checks"),
    "createindex": ("uint64", "CreateIndex of type uint64", ""),
    "modifyindex": ("uint64", "ModifyIndex of type uint64", ""),
}
_SESSION_FORM = "value of type struct { LockDelay interface {}; *structs.Alias }"


def session_fields(body: bytes) -> dict[str, Any]:
    """Read the body of /v1/session/create: the arguments of `Store.create_session`, its TTL still as text.

    Raises:
        Invalid: with Go's words.
    """
    found: dict[str, Any] = {"name": "", "node": None, "ttl_text": "", "behavior": "", "lock_delay": DEFAULT_LOCK_DELAY}
    lists: dict[str, list[Any]] = {"checks": ["serfHealth"], "node_checks": ["serfHealth"], "service_checks": []}
    document = decode_json(body) if body else None
    for name, value in as_kind({} if document is None else document, "object", _SESSION_FORM).items():
        if name.lower() == "lockdelay":
            found["lock_delay"] = _lock_delay(value)
            continue
        wanted, described, argument = _SESSION_FIELDS.get(name.lower(), ("", "", ""))
        if not wanted:
            continue  # unlike a transaction's, a session's unknown fields are ignored
        if value is None:
            if argument in lists:
                lists[argument] = []
            continue
        value = as_kind(value, wanted, f"struct field .{described}")
        if argument in lists:
            lists[argument] = _check_ids(value, described)
        elif argument:
            found[argument] = value
    # The older field Checks and the newer NodeChecks: either can turn the health check off, both can name one.
    unknown = [check for named in lists.values() for check in named if check != "serfHealth"]
    both = [check for check in lists["node_checks"] if check in lists["checks"]]
    return {**found, "node_checks": tuple(unknown or both)}


def _check_ids(values: list[Any], described: str) -> list[str]:
    """The ids of a list of checks; those of services are objects with an ID."""
    field, _, form = described.partition(" of type []")
    found = []
    for value in values:
        if form == "structs.ServiceCheck":
            value = as_kind(value, "object", f"struct field .{field} of type {form}").get("ID", "")
        found.append(as_kind(value, "string", f"struct field .{field} of type {form}"))
    return found


def _lock_delay(value: Any) -> int:
    """A lock-delay in nanoseconds, from a text or a number (source: FixupLockDelay); other kinds mean 0."""
    if value is None:
        return DEFAULT_LOCK_DELAY
    given = 0
    if isinstance(value, str):
        given = duration(value)
    elif kind(value) == "number":
        given = int(value)
    return given * 10**9 if given < LOCK_DELAY_THRESHOLD else given


# ------------------------------------------------------------------------------------------------ paths


def cleaned(path: str) -> str:
    """A path without empty, ``.`` and ``..`` segments, as Go's ServeMux cleans it."""
    clean = posixpath.normpath("/" + path.lstrip("/"))
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def moved(method: str, path: str, query: str, status: int) -> Answer:
    """Go's redirect to a cleaned path, 301 or 307."""
    location = url_quote(path, safe="$&+,/:;=@~", errors="surrogateescape")
    if query:
        location += "?" + query
    if method not in ("GET", "HEAD"):
        return Answer(status, b"", (("Location", location),))
    shown = location.replace("&", "&amp;")
    body = f'<a href="{shown}">{HTTPStatus(status).phrase}</a>.\n\n'
    return Answer(status, body.encode(), (HTML, ("Location", location)))
