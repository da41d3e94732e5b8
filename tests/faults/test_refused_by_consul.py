"""A real Consul that accepts few connections from one address."""

from __future__ import annotations

from functools import partial

import pytest

from consul_locker import AlreadyLocked, ConsulUnavailable, Lease, Locker, LockerFactory

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


def test_calls_that_wait_for_a_moment_do_not_use_up_the_connections(consul_binary: str) -> None:
    """Consul counts the connection of a blocking query until its wait is over, also when it was closed (measured)."""
    accepted = 2 * ACCEPTED
    few = ("-hcl", f"limits {{ http_max_conns_per_client = {accepted} }}")
    with (
        RealConsul(consul_binary, extra=few) as agent,
        LockerFactory(agent.address, max_connections=accepted // 2) as holders,
        LockerFactory(agent.address, max_connections=accepted // 2) as waiters,
    ):
        holder, waiter = holders.create("waits"), waiters.create("waits")
        for number in range(2 * accepted):
            holder.lock(f"{number}", timeout=WAIT)
            with pytest.raises(AlreadyLocked):
                waiter.lock(f"{number}", wait=0.2, timeout=WAIT)
        assert [locker.stats()["outages"] for locker in (holder, waiter)] == [0, 0]
