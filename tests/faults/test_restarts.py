"""A server with its data on disk is killed and started again under many Lockers: none of them loses its lock.

For a moment after its start such a server lacks the sessions of which it has not applied the log yet, and answers their
renewals 404. The moment is a short one, so this test makes it longer: the log has much to apply before the sessions.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker import LockerFactory, signals
from consul_locker.client import encode
from consul_locker.core.requests import Gone

from ..behaviour.tools import until
from ..real_consul import RealConsul

pytestmark = [pytest.mark.real, pytest.mark.slow]

LOCKERS = 30
#: Longer than a restart on a busy machine (6 to 10 s measured), so that no deadline passes.
TTL = 30.0
#: Transactions of 64 writes each: the log takes some tenths of a second to apply.
WRITES = 1000
#: So many restarts at most until a renewal met the moment.
RESTARTS = 4


@pytest.fixture
def server(consul_binary: str) -> Iterator[RealConsul]:
    """A server of this test's own, with its data on disk."""
    with RealConsul(consul_binary, data_dir=True) as agent:
        connection = http.client.HTTPConnection(agent.address, timeout=30)
        for number in range(WRITES):
            operations = [
                {"KV": {"Verb": "set", "Key": f"bulk/{number}/{place}", "Value": "eA=="}} for place in range(64)
            ]
            connection.request("PUT", "/v1/txn", json.dumps(operations))
            assert connection.getresponse().read()
        connection.close()
        yield agent


def sessions(agent: RealConsul) -> set[str]:
    """Those that live, as the leader says."""
    connection = http.client.HTTPConnection(agent.address, timeout=30)
    try:
        connection.request("GET", "/v1/session/list?consistent")
        return {session["ID"] for session in json.loads(connection.getresponse().read())}
    finally:
        connection.close()


def renewed_since(lockers: list[Any], before: list[int]) -> bool:
    """Whether each of the Lockers was renewed more often than before."""
    return all(locker.stats().get("renewals", 0) > count for locker, count in zip(lockers, before, strict=True))


def test_a_restart_of_the_server_loses_nothing(server: RealConsul, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []  # the sessions whose renewal was answered 404
    gone = encode.gone

    def noted(session_id: str, response: Any) -> Any:
        outcome = gone(session_id, response)
        if isinstance(outcome, Gone):
            refused.append(session_id)
        return outcome

    monkeypatch.setattr(encode, "gone", noted)
    lost: list[str] = []

    def hear(sender: Any, *, reason: str, **facts: Any) -> None:
        lost.append(reason)

    with signals.lock_lost.connected_to(hear), LockerFactory(server.address) as factory:
        lockers = [factory.create(f"restart-{number}", ttl=TTL) for number in range(LOCKERS)]
        leases = [locker.lock("a", timeout=60) for locker in lockers]
        ours = {lease.session_id for lease in leases}
        for _ in range(RESTARTS):
            renewed = [locker.stats().get("renewals", 0) for locker in lockers]
            server.kill()
            server.restart()
            # Each is renewed by the server that has just started, and so knows what was true.
            until(lambda before=renewed: renewed_since(lockers, before), limit=TTL)
            assert lost == [] and all(lease.valid for lease in leases)
            assert sessions(server) == ours
            if refused:
                break
        print(f"{len(refused)} renewals of {len(set(refused))} sessions were answered 404")
    assert lost == []
    until(lambda: not sessions(server))
