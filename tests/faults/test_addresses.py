"""Several addresses: what is asked, kept and waited for goes on when the server dies that it went through.

Two gates before one agent are two addresses of one Consul; one that is shut is a server that has died.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker import ConsulUnavailable, LockTimeout

from ..behaviour.faces import FACES, bare
from ..behaviour.tools import Consul, Ear, Gate, until
from ..cluster import Cluster, Member
from .times import TTL

RENEW = "PUT /v1/session/renew"
TRANSACT = "PUT /v1/txn"

#: How soon a call is served that goes on to the next address, in seconds: no pause of the core's is in it (0.25 s at
#: least), but the machine may be busy.
AT_ONCE = 5.0


@pytest.fixture
def gates(agent: Any) -> Iterator[tuple[Gate, Gate]]:
    """Two addresses of the agent."""
    with Gate(agent.address) as first, Gate(agent.address) as second:
        yield first, second


@pytest.fixture
def addressed(face: Any, gates: tuple[Gate, Gate]) -> Iterator[Any]:
    """A factory with both."""
    with face.factory([gate.address for gate in gates]) as factory:
        yield factory


def in_use(factory: Any) -> str:
    return str(bare(factory)._addresses.in_use)


# ------------------------------------------------------------------------------------------------- two gates


def test_calls_go_on_through_the_other_address(addressed: Any, gates: tuple[Gate, Gate], name: str, ear: Ear) -> None:
    first, second = gates
    locker = addressed.create(name, ttl=TTL)
    leases = [locker.lock("a")]
    assert in_use(addressed) == f"http://{first.address}"
    assert second.seen == []
    first.shut()
    leases += [locker.lock(id) for id in "bc"]
    assert locker.release("b") is True
    assert locker.info("c").session_id == locker.session_id
    assert in_use(addressed) == f"http://{second.address}"
    first.open()
    second.shut()
    assert locker.lock("d").valid
    assert in_use(addressed) == f"http://{first.address}"
    assert leases[0].valid and leases[2].valid
    assert locker.state == "ready" and locker.reboot_count == 0
    assert not {"lock-lost", "lock-denied", "session-ended"} & set(ear.names())


def test_a_session_is_made_through_the_other_address(face: Any, gates: tuple[Gate, Gate], name: str) -> None:
    gates[0].shut()
    with face.factory([gate.address for gate in gates]) as factory:
        locker = factory.create(name)
        assert locker.lock("a", timeout=AT_ONCE).valid
        assert locker.reboot_count == 0


def test_a_waiting_call_hears_of_the_release_through_the_other_address(
    face: Any, agent: Any, addressed: Any, gates: tuple[Gate, Gate], name: str
) -> None:
    first, second = gates
    locker = addressed.create(name)
    assert locker.wait_for_state("ready", AT_ONCE)
    with face.factory(agent.address) as other:
        rival = other.create(name)
        rival.lock("a")
        waits = locker.submit_lock("a", wait=60)
        query = f"GET /v1/kv/{name}/a/lock"
        until(lambda: any("index=" in seen.path for seen in first.seen if seen.endpoint.startswith(query)))
        first.shut()
        # It looks there at once, and finds nothing new; then it waits there.
        until(lambda: any("index=" in seen.path for seen in second.seen if seen.endpoint.startswith(query)))
        looks = [seen.path for seen in second.seen if seen.endpoint.startswith(query)]
        assert "consistent=" in looks[0] and "index=" not in looks[0]
        assert not waits.done()
        assert rival.release("a") is True
        assert waits.result(AT_ONCE).valid


def test_a_renewal_that_is_not_answered_goes_through_the_other_address(
    addressed: Any, gates: tuple[Gate, Gate], name: str
) -> None:
    """All else is answered by the first, and stays there."""
    first, second = gates
    silent = first.hold(RENEW)
    locker = addressed.create(name, ttl=TTL)
    lease = locker.lock("a")
    until(lambda: locker.stats().get("renewals", 0) >= 1, TTL)
    assert second.count(RENEW) >= 1
    assert lease.valid
    assert locker.lock("b").valid
    assert in_use(addressed) == f"http://{first.address}"
    assert second.count(TRANSACT) == 0
    silent.let_go()


def test_what_may_have_been_done_is_left_to_the_core(addressed: Any, gates: tuple[Gate, Gate], name: str) -> None:
    """The transaction got through, its answer did not: it is not sent again, and the lock is found and given back."""
    first, second = gates
    locker = addressed.create(name, outage_timeout=0)
    assert locker.wait_for_state("ready", AT_ONCE)
    held = first.hold(TRANSACT, count=1, answers=True)
    waits = locker.submit_lock("a", timeout=60)
    held.wait_passed()
    first.shut()
    held.let_go()
    with pytest.raises(ConsulUnavailable) as caught:
        waits.result(AT_ONCE)
    assert caught.value.sent
    assert not any(b'"lock"' in seen.body for seen in second.seen)
    assert locker.lock("a").valid


def test_no_address_says_all_of_them_and_no_secret(face: Any, gates: tuple[Gate, Gate], name: str) -> None:
    addresses = [gate.address for gate in gates]
    for gate in gates:
        gate.shut()
    with face.factory(addresses, token="hidden-one", timeout=1.0) as factory:
        locker = factory.create(name, max_retries=0)
        with pytest.raises(Exception, match="connection refused at") as caught:
            locker.lock("a")
        for text in (str(caught.value), repr(caught.value), repr(bare(factory)), repr(bare(locker))):
            assert "hidden-one" not in text
        assert all(address in str(caught.value) for address in addresses)


# ---------------------------------------------------------------------------------------------- three servers


@pytest.fixture(scope="module")
def cluster(consul_binary: str) -> Iterator[Cluster]:
    """Three servers for the tests of this module, which kill one after the other."""
    with Cluster(consul_binary) as cluster:
        yield cluster


@pytest.fixture
def both(cluster: Cluster) -> Iterator[Any]:
    """Makes factories of both faces, with these members first."""
    faces = [kind() for kind in FACES.values()]
    made: list[Any] = []

    def make(first: Member, **options: Any) -> list[Any]:
        hosts = [first.address, *(address for address in cluster.addresses if address != first.address)]
        made.extend(face.factory(hosts, **options) for face in faces)
        return made

    yield make
    for factory in made:
        factory.__exit__(None, None, None)
    for face in faces:
        face.close()


def killed(cluster: Cluster, leads: bool) -> Member:
    """The member that is to be killed."""
    cluster.wait_until_healthy()
    leader = cluster.leader()
    assert leader is not None
    return leader if leads else next(member for member in cluster.members if member is not leader)


def served(locker: Any, id: str) -> None:
    """Lock and release, again while there is no leader, or no answer."""

    def attempt() -> bool:
        try:
            locker.lock(id, timeout=AT_ONCE)
            return bool(locker.release(id))
        except (ConsulUnavailable, LockTimeout):  # an election may last longer on a busy machine
            return False

    until(attempt)


def outlive(cluster: Cluster, victim: Member, lockers: list[Any], leases: list[Any]) -> None:
    """The leases are renewed, and valid for longer than they live without that; nothing of them was made anew."""
    since, renewals = time.monotonic(), [locker.stats().get("renewals", 0) for locker in lockers]

    def renewed() -> bool:
        return time.monotonic() > since + TTL and all(
            locker.stats().get("renewals", 0) > before + 1 for locker, before in zip(lockers, renewals, strict=True)
        )

    until(renewed, 3 * TTL)
    assert all(lease.valid for lease in leases)
    alive = next(member for member in cluster.members if member is not victim)
    for locker, lease in zip(lockers, leases, strict=True):
        assert (locker.state, locker.reboot_count, locker.session_id) == ("ready", 0, lease.session_id)
        found = Consul(alive.address).key(lease.key)
        assert found is not None
        assert (found.session, found.fence) == (lease.session_id, lease.fence)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("leads", [False, True], ids=["a follower", "the leader"])
def test_leases_outlive_the_server_that_they_were_made_through(
    cluster: Cluster, both: Any, name: str, leads: bool
) -> None:
    """Killed, a follower costs no call anything. Without a leader Consul serves nobody, but no lease ends."""
    victim = killed(cluster, leads)
    factories = both(victim)
    lockers = [factory.create(f"{name}-{number}", ttl=TTL) for number, factory in enumerate(factories)]
    leases = [locker.lock("kept", timeout=AT_ONCE) for locker in lockers]
    assert [in_use(factory) for factory in factories] == [f"http://{victim.address}"] * 2
    victim.kill()
    try:
        for locker in lockers:
            if leads:
                served(locker, "a")
            for number in range(10):
                assert locker.lock(f"{number}", timeout=AT_ONCE).valid
                assert locker.release(f"{number}") is True
        outlive(cluster, victim, lockers, leases)
    finally:
        victim.launch()


@pytest.mark.real
@pytest.mark.slow
def test_leases_outlive_a_server_that_hangs(cluster: Cluster, both: Any, name: str) -> None:
    """Its connections stay, and nothing answers: what is sent there is told as unanswered, the next goes elsewhere."""
    victim = killed(cluster, leads=False)
    lockers = [
        factory.create(f"{name}-{number}", ttl=TTL, outage_timeout=0)
        for number, factory in enumerate(both(victim, timeout=2.0))
    ]
    leases = [locker.lock("kept", timeout=AT_ONCE) for locker in lockers]
    victim.pause()
    try:
        for locker in lockers:
            with pytest.raises(ConsulUnavailable) as caught:
                locker.lock("a")
            assert caught.value.sent
            for number in range(10):
                assert locker.lock(f"{number}", timeout=AT_ONCE).valid
        outlive(cluster, victim, lockers, leases)
    finally:
        victim.resume()
