"""A name with very many keys: what a restored snapshot brought back is found all the same, in little pieces.

All keys of the name together would be larger than any answer that the client reads.
"""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from consul_locker.client.http import MAX_ANSWER
from consul_locker.core import doubts

from ..behaviour.tools import Consul, until
from ..real_consul import RealConsul
from .test_losses import snapshot
from .times import SLACK, TTL

#: So many keys of others, with values of so many bytes: over 16 MiB in base64, and 32 of them in a transaction.
KEYS, SIZE, IN_ONE = 1_700, 8_000, 32


def fill(consul: Consul, name: str) -> None:
    """Other holders' keys."""
    value = base64.b64encode(b"x" * SIZE).decode()
    for start in range(0, KEYS, IN_ONE):
        operations = [
            {"KV": {"Verb": "set", "Key": f"{name}/{number}/lock", "Value": value}}
            for number in range(start, start + IN_ONE)
        ]
        assert consul.call("PUT", "/v1/txn", json.dumps(operations))[0] == 200
    assert KEYS * SIZE * 4 / 3 > MAX_ANSWER


@pytest.mark.real
def test_a_lock_that_a_snapshot_brought_back_is_given_back(
    face: Any, private: RealConsul, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doubts, "MAX_FORMER", 0)  # as if it had been given back long ago
    consul = Consul(private.address)
    fill(consul, name)
    with face.factory(private.address) as factory:
        locker = factory.create(name, ttl=TTL)
        kept, returned = locker.lock("kept"), locker.lock("returned")
        taken = snapshot(private)
        assert locker.release("returned") is True
        began = time.monotonic()
        snapshot(private, taken)
        until(lambda: consul.key(returned.key).session is None)
        assert time.monotonic() - began < TTL / 3 + 2 * SLACK
        assert kept.valid
        assert locker.stats().get("lost", 0) == 0
