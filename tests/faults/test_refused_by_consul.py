"""A real Consul that accepts fewer connections from one address than a factory would open."""

from __future__ import annotations

from functools import partial

import pytest

from consul_locker import ConsulUnavailable, Lease, Locker, LockerFactory

from ..behaviour.tools import WAIT, until
from ..real_consul import RealConsul

#: More Lockers than connections, watches of which would have them all.
LOCKERS, ACCEPTED = 20, 8


def attempt(locker: Locker) -> Lease | None:
    """The Locker's lock, unless the connection of just this request was refused."""
    try:
        return locker.lock("1", timeout=WAIT)
    except ConsulUnavailable:
        return None


@pytest.mark.parametrize("ttl", [10.0, None])
def test_every_locker_is_renewed_where_consul_accepts_few_connections(consul_binary: str, ttl: float | None) -> None:
    few = ("-hcl", f"limits {{ http_max_conns_per_client = {ACCEPTED} }}")
    with RealConsul(consul_binary, extra=few) as agent, LockerFactory(agent.address) as factory:
        lockers = [factory.create(f"few-{number}", ttl=ttl, retry_interval=1.0) for number in range(LOCKERS)]
        leases = [until(partial(attempt, locker)) for locker in lockers]
        until(lambda: all(locker.stats()["renewals"] >= 2 for locker in lockers))
        assert all(lease.valid for lease in leases)
