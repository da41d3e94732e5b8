"""What Consul says in words: of failures, of refused operations, of durations. Pure."""

from __future__ import annotations

import re

from ..core.requests import Refusal

__all__ = [
    "EXCERPT",
    "NOT_CONSUL",
    "NOT_KNOWN",
    "NO_TLS",
    "ONLY_THROUGH_SERVERS",
    "RIGHTS",
    "WANTS_TLS",
    "is_outage",
    "no_leader",
    "not_done",
    "parse_duration",
    "refusal_of",
]

#: What is said of an answer that Consul would not give.
NOT_CONSUL = "is this address Consul's? (option 'host', CONSUL_HTTP_ADDR)"
#: What is said of a port that wants TLS, and of one that speaks none.
WANTS_TLS = "it wants HTTPS, not plain HTTP; give its address as https://..., or secure=True (CONSUL_HTTP_SSL)"
NO_TLS = "it does not speak TLS; give its address as http://..., or secure=False (CONSUL_HTTP_SSL)"

#: How much of an unexpected body an error repeats, in characters: enough for Consul's own messages.
EXCERPT = 200

#: The right that an operation needs (docs/operations.rst).
RIGHTS = {
    "session create": "session:write",
    "session renew": "session:write",
    "session destroy": "session:write",
    "session info": "session:read",
    "session watch": "session:read",
    "session watch on a node": "session:read",
    "kv get": "key:read",
    "kv watch": "key:read",
    "kv names with prefix": "key:list",
    "transaction": "key:write",
}

#: Consul's words, with a status of 500, for what it does not know (measured), and the option that names it. They may
#: stand behind others, since a server that passes a request on puts "rpc error making call: " before the answer.
NOT_KNOWN = ((b"Missing check", "checks"), (b"Missing node registration", "node"), (b"No path to datacenter", "dc"))

#: What a client agent says of a session of another datacenter (source: agent/session_endpoint.go of newer versions; one
#: of 1.8.7 makes it, measured).
ONLY_THROUGH_SERVERS = b"cross datacenter lock must be created at server agent"


#: What a follower, a client agent, or another datacenter's server puts before the words of the server that it asked
#: (measured).
_FORWARDED = b"rpc error making call: "

#: How Consul's words begin, with a status of 500 or more, when there is no leader to do anything (source:
#: agent/consul/rpc.go, canRetry), or no server was reached (measured), or the agent knows of none (source).
_NO_LEADER = (b"No cluster leader", b"rpc error getting client: ", b"No known Consul servers")

#: And for all that it refused before it did anything: a rate limit (measured), too.
_NOT_DONE = (*_NO_LEADER, b"rate limit exceeded")


#: The statuses of an outage, whatever the words: a rate limit, and what proxies say when they reach no Consul.
_OUTAGE_STATUSES = frozenset((429, 502, 503, 504))
#: The words of an outage with a status of 500: how they begin, and how they end (measured, but for ``No known Consul
#: servers``, ``raft is already shutdown``, the two of sockets, and those of the streams between servers but ``stream
#: closed``, hashicorp/yamux const.go: source). All other words are an answer: time alone does not change it.
_OUTAGE_BEGINS = (
    *_NOT_DONE,
    b"node is not the leader",
    b"leadership lost while committing log",
    b"raft is already shutdown",
)
_OUTAGE_ENDS = (
    b"EOF",
    b"i/o timeout",
    b"connection refused",
    b"connection reset by peer",
    b"broken pipe",
    b"lead thread didn't get connection",
    b"stream closed",
    b"session shutdown",
    b"connection reset",
    b"connection write timeout",
    b"i/o deadline reached",
)


def _inner(body: bytes) -> bytes:
    """Consul's words without what other servers have put before them: what they mean is inside."""
    words = body[: 4 * EXCERPT].strip()
    while words.startswith(_FORWARDED):
        words = words[len(_FORWARDED) :]
    return words


def no_leader(status: int, body: bytes) -> bool:
    """Whether Consul says that it reaches no leader, so that it has done nothing; another server may reach one."""
    return status >= 500 and _inner(body).startswith(_NO_LEADER)


def not_done(status: int, body: bytes) -> bool:
    """Whether Consul says that it refused the request before it did anything.

    Words wrapped in those of another server count by what is inside: ``rpc error making call: EOF`` does not say.
    """
    return status == 429 or (status >= 500 and _inner(body).startswith(_NOT_DONE))


def is_outage(status: int, body: bytes) -> bool:
    """Whether an answer says that Consul cannot answer now, and may do so soon; every other one is a refusal."""
    if status in _OUTAGE_STATUSES:
        return True
    words = _inner(body)
    return status == 500 and (words.startswith(_OUTAGE_BEGINS) or words.endswith(_OUTAGE_ENDS))


#: Consul's words for a refused operation, beginning and end (source: agent/consul/state/kvs.go and txn.go; the
#: common ones measured). What stands between is the key, which may hold any words itself.
_WORDS = (
    ("failed to lock key", "lock is already held", Refusal.HELD),
    ("failed to lock key", "due to lock delay", Refusal.LOCK_DELAY),
    ("failed to unlock key", "held by another session", Refusal.NOT_HELD),
    ("invalid session", "", Refusal.INVALID_SESSION),
    ("Permission denied", "", Refusal.DENIED),
    ("failed session check", "", Refusal.SESSION),
    ("failed index check", "", Refusal.INDEX),
    ("failed to ", "index is stale", Refusal.INDEX),
    ("failed to check", "doesn't exist", Refusal.MISSING),
    ("key ", "doesn't exist", Refusal.MISSING),
    ("key ", "exists", Refusal.EXISTS),
)


def refusal_of(what: str) -> Refusal:
    """Why Consul refused an operation, from its words; `Refusal.OTHER` for words that are not known.

    Args:
        what: the ``What`` of an error in the answer to a transaction.
    """
    for beginning, end, refusal in _WORDS:
        if what.startswith(beginning) and what.endswith(end):
            return refusal
    return Refusal.OTHER


_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|h|m|s)", re.ASCII)

#: The longest duration that Go can write, in seconds: 64 bits of nanoseconds.
_LONGEST = 2**63 / 1e9

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: object) -> float | None:
    """A duration as Go writes it (``15s``, ``1m30s``, ``1.5s``), in seconds; None for an empty one.

    Raises:
        ValueError: it is no duration.
    """
    if text == "" or text is None:
        return None
    if text == "0":
        return 0.0
    parts = _DURATION.findall(text) if isinstance(text, str) else []
    if "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r:.100} is no duration")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds > _LONGEST:
        raise ValueError(f"{text!r:.100} is too long a duration")
    return seconds
