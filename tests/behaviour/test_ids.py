"""Rule 11: an id is refused before any request, or arrives in Consul byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consul_locker import ConfigurationError, InvalidLockId

from .tools import Consul, Gate

REFUSED = [
    "", ".", "..", "a/../../session/destroy/x", "a/./b", "../x", "a//b", "/a", "a/", "\0", "a\0b", "a\nb", "\x7f",
    "\x85", "\u2028", "a\u200db", "\xa0", "\ue000", "\ud800", "x" * 513, "é" * 257, True, None, 1.5, b"a",
]  # fmt: skip

TAKEN = [
    "%2f", "%2e%2e", "?acquire=", "#", "#fragment", "a b", " ", "é", "e\u0301", "😀", "a/b", "...", "..a", "x" * 512,
    "a?raw&recurse=1", "a;b", "a\\..\\b", '"quoted"', "+", "&", "=", "%", "%zz", "~", 0, -7,
]  # fmt: skip


#: Of these, what a Consul since February 2026 refuses: once more percent-decoded they have ``..`` or a space.
REFUSED_BY_NEWER = ["%2e%2e"]


def refuses(consul: Consul, key: str) -> bool:
    """Whether this Consul, of whatever version, refuses a transaction because of the key."""
    operation = {"KV": {"Verb": "check-not-exists", "Key": key}}
    status, said = consul.call("PUT", "/v1/txn", json.dumps([operation]))
    assert status == 200 or (status == 400 and said.startswith("Invalid key in transaction"))
    return status == 400


def test_hostile_ids_are_refused_before_any_request(gated: Any, gate: Gate, consul: Consul) -> None:
    before, keys = len(gate.seen), consul.keys()
    for id in REFUSED:
        for call in (gated.lock, gated.release, gated.info, gated.holder):
            with pytest.raises(InvalidLockId) as refused:
                call(id)
            assert refused.value.id == id
            assert refused.value.reason
        with pytest.raises(InvalidLockId):
            gated.lock_many(["a", id])
    concerning = [seen for seen in gate.seen[before:] if "/v1/session/" not in seen.path]  # watch and renewal go on
    assert not concerning
    assert consul.keys() == keys
    assert gated.state == "ready"


def test_other_ids_arrive_byte_for_byte(locker: Any, consul: Consul, name: str) -> None:
    before = {key for key in set(consul.keys()) if not key.startswith(name + "/")}
    refused = [id for id in TAKEN if refuses(consul, f"{name}/{id}/lock")]
    assert refused in ([], REFUSED_BY_NEWER)
    for id in refused:
        for call in (locker.lock, locker.release, locker.info, locker.holder):
            with pytest.raises(InvalidLockId, match="Invalid key") as error:
                call(id)
            assert error.value.id == id
    taken = [id for id in TAKEN if id not in refused]
    for id in taken:
        lease = locker.lock(id)
        assert lease.key == f"{name}/{id}/lock"
        info = locker.info(id)
        assert (info.key, info.fence, info.session_id) == (lease.key, lease.fence, lease.session_id)
    keys = consul.keys(name + "/")
    assert set(keys) == {f"{name}/{id}/lock" for id in taken}
    assert {key.session for key in keys.values()} == {locker.session_id}
    for id in taken:
        assert locker.release(id) is True
    assert not any(key.session for key in consul.keys(name + "/").values())
    assert {key for key in set(consul.keys()) if not key.startswith(name + "/")} == before


def test_hostile_names(factory: Any, consul: Consul) -> None:
    sessions = len(consul.call("GET", "/v1/session/list")[1])
    for name in ["", "..", "a/../b", "a//b", "/a", "a\0", "x" * 513, 7, None]:
        with pytest.raises(ConfigurationError):
            factory.create(name)
    assert len(consul.call("GET", "/v1/session/list")[1]) == sessions


def test_a_name_with_everything_that_is_allowed(factory: Any, consul: Consul, name: str) -> None:
    hostile = f"{name}/%2f?a=#é 😀"
    if refuses(consul, hostile):
        hostile = f"{name}/%2f?a=#é😀"  # a space beside a percent-escape is what a newer Consul refuses
    lease = factory.create(hostile).lock("a")
    assert consul.key(f"{hostile}/a/lock") is not None
    assert [session["ID"] for session in consul.sessions(hostile)] == [lease.session_id]
