"""PUT /v1/txn: several key operations, all or none. Pure, like the store.

Follows Consul (source: agent/txn_endpoint.go, agent/consul/txn_endpoint.go, agent/consul/state/txn.go of 1.8.7;
versions.py has what newer ones do): every operation is checked before the first is tried, every failing one is
reported, and later operations see what the earlier ones of the same transaction did.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .golang import Invalid, as_kind, decode_base64, decode_json, kind, quote
from .policy import Policy
from .records import Entry, Rejected
from .store import Store
from .versions import Version

__all__ = ["Operation", "Outcome", "is_write", "parse", "transact"]

_WRITES = frozenset({"set", "delete", "delete-cas", "delete-tree", "cas", "lock", "unlock"})
#: Verbs that show what a key has: without the right to read it nothing is shown, without an error.
_SHOWING = frozenset({"get", "get-tree"})
#: Verbs that tell something of a key by their refusal, which needs the right to read it.
_CHECKS = frozenset({"check-index", "check-session", "check-not-exists"})
_VERBS = _WRITES | _SHOWING | _CHECKS

#: What the embedded agent leaves out of api.TxnOp; a real agent takes these.
_ELSEWHERE = frozenset({"node", "service", "check"})


class Operation(NamedTuple):
    """One operation on one key, as api.KVTxnOp has it."""

    verb: str = ""
    key: str = ""
    value: bytes = b""
    flags: int = 0
    modify_index: int = 0
    session: str = ""


class Outcome(NamedTuple):
    """``results``: (entry, whether its value is shown). ``errors``: (position, what); with errors no results.

    ``looked``: whether the keys were looked at, and not only the operations; ``hidden``: whether results were left
    out that the caller may not read.
    """

    results: list[tuple[Entry, bool]]
    errors: list[tuple[int, str]]
    looked: bool
    hidden: bool


class Unsupported(Exception):
    """An operation on nodes, services or checks, which only a real Consul has."""


#: Field -> (position in Operation, JSON kind, its Go name and type).
_FIELDS = {
    "verb": (0, "string", "Verb of type api.KVOp"),
    "key": (1, "string", "Key of type string"),
    "value": (2, "string", "Value of type []uint8"),
    "flags": (3, "uint64", "Flags of type uint64"),
    "index": (4, "uint64", "Index of type uint64"),
    "session": (5, "string", "Session of type string"),
    "namespace": (-1, "string", "Namespace of type string"),
}


def parse(body: bytes) -> list[Operation]:
    """Read the body of a request; entries without a KV operation are skipped.

    Raises:
        Invalid: with Go's words.
        Unsupported: for operations that are not about keys.
    """
    document = decode_json(body)
    if document is None:
        return []
    operations = []
    for item in as_kind(document, "array", "value of type api.TxnOps"):
        for name, fields in as_kind(item, "object", "value of type api.TxnOp").items():
            known = name.lower()
            if known in _ELSEWHERE:
                raise Unsupported(name)
            if known != "kv":
                raise Invalid(f"json: unknown field {quote(name)}")
            if fields is not None:
                operations.append(_operation(fields))
    return operations


def _operation(fields: Any) -> Operation:
    if kind(fields) != "object":
        raise Invalid(f"json: cannot unmarshal {kind(fields)} into Go struct field TxnOp.KV of type api.KVTxnOp")
    found: list[Any] = ["", "", b"", 0, 0, ""]
    for name, value in fields.items():
        field = _FIELDS.get(name) or _FIELDS.get(name.lower())
        if field is None:
            raise Invalid(f"json: unknown field {quote(name)}")
        place, wanted, described = field
        if value is None:
            continue
        value = as_kind(value, wanted, f"struct field KVTxnOp.KV.{described}")
        if place == 2:
            value = decode_base64(value)
        if place >= 0:
            found[place] = value
    return Operation(*found)


def is_write(operations: list[Operation]) -> bool:
    """Whether a transaction goes through the log; one that does not is a read."""
    return any(operation.verb in _WRITES for operation in operations)


def transact(store: Store, operations: list[Operation], now: float, version: Version, policy: Policy) -> Outcome:
    """Carry out a transaction: all of it, or nothing and every reason why."""
    for place, (verb, *_) in enumerate(operations if version.verbs_first else ()):
        if verb not in _VERBS:
            return Outcome([], [(place, f"unknown KV operation: {verb}")], looked=False, hidden=False)
    errors = [
        (place, what)
        for place, operation in enumerate(operations)
        if (what := _fault(store, operation, now) or _denied(operation, version, policy))
    ]
    if errors:
        return Outcome([], errors, looked=False, hidden=False)
    writes = is_write(operations)
    if writes:
        store.begin()
    results: list[tuple[Entry, bool]] = []
    hidden = False
    for place, operation in enumerate(operations):
        before = len(results)
        try:
            _run(store, operation, results)
        except Rejected as error:
            errors.append((place, str(error)))
        if operation.verb in _SHOWING and policy.lacks("key:read"):
            hidden = hidden or len(results) > before
            del results[before:]
    if errors:
        results = []
    if writes:
        if errors:
            store.roll_back()
        else:
            store.commit()
    return Outcome(results, errors, looked=True, hidden=hidden)


def _denied(operation: Operation, version: Version, policy: Policy) -> str | None:
    """Which right is missing for an operation. Reads are filtered later instead."""
    verb, key = operation.verb, operation.key
    right = "key:write" if verb in _WRITES else "key:read" if verb in _CHECKS else None
    return version.denied(right, key) if right is not None and policy.lacks(right) else None


def _fault(store: Store, operation: Operation, now: float) -> str | None:
    """What is checked of every operation before anything is tried (source: kvsPreApply)."""
    if not operation.key and operation.verb != "delete-tree":
        return "Must provide key"
    if operation.verb == "lock" and store.is_delayed(operation.key, now):
        return f"failed to lock key {quote(operation.key)} due to lock delay"
    return None


def _run(store: Store, operation: Operation, results: list[tuple[Entry, bool]]) -> None:
    """Carry out one operation and append what it answers; `Rejected` when it fails."""
    verb, key, value, flags, index, session = operation
    entry: Entry | None = None
    if verb == "lock":
        entry = store.lock(key, value, flags, session)
        if entry is None:
            raise Rejected(f"failed to lock key {quote(key)}, lock is already held")
    elif verb == "unlock":
        entry = store.unlock(key, value, flags, session)
        if entry is None:
            raise Rejected(f"failed to unlock key {quote(key)}, lock isn't held, or is held by another session")
    elif verb == "set":
        entry = store.put(key, value, flags)
    elif verb == "cas":
        entry = store.cas(key, value, flags, index)
        if entry is None:
            raise Rejected(f"failed to set key {quote(key)}, index is stale")
    elif verb == "delete":
        store.delete(key)
    elif verb == "delete-cas":
        if not store.delete_cas(key, index):
            raise Rejected(f"failed to delete key {quote(key)}, index is stale")
    elif verb == "delete-tree":
        store.delete_tree(key)
    elif verb == "get-tree":
        results.extend((found, True) for found in store.tree(key))
    else:
        entry = _check(operation, store.find(key))
    if entry is not None:
        results.append((entry, verb == "get"))


def _check(operation: Operation, entry: Entry | None) -> Entry | None:
    """The verbs that only look at one key."""
    verb, key = operation.verb, operation.key
    if verb == "check-not-exists":
        if entry is not None:
            raise Rejected(f"key {quote(key)} exists")
    elif verb == "get":
        if entry is None:
            raise Rejected(f"key {quote(key)} doesn't exist")
    elif verb == "check-session":
        if entry is None:
            raise Rejected(f"failed to check session, key {quote(key)} doesn't exist")
        if entry.session != operation.session:
            raise Rejected(
                f"failed session check for key {quote(key)}, "
                f"current session {quote(entry.session)} != {quote(operation.session)}"
            )
    elif verb == "check-index":
        if entry is None:
            raise Rejected(f"failed to check index, key {quote(key)} doesn't exist")
        if entry.modify_index != operation.modify_index:
            raise Rejected(
                f"failed index check for key {quote(key)}, "
                f"current modify index {entry.modify_index} != {operation.modify_index}"
            )
    else:
        raise Rejected(f"unknown KV verb {quote(verb)}")
    return entry
