"""Rules 4 and 5: whatever becomes of a request, the newer tenure stays and no lock is left that nobody knows of.

Each kind of request meets each fate: delivered late, never, twice (the second time when the next tenure stands),
or its answer lost. What tests/behaviour/test_late.py shows of requests that run into their time limit is shown
there only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from consul_locker import AlreadyLocked, ConsulUnavailable, LockLost

from ..behaviour.tools import WAIT, Consul, Ear, until
from .conftest import real_only
from .proxy import ACQUIRE, CREATE, DESTROY, FATES, RELEASE, Fate, Proxy, renewal_of

#: What is looked into soon does not wait for the first audit (5 s); in seconds.
LOOKED_WITHIN = 4.0

pytestmark = pytest.mark.usefixtures("soon")

each_fate = pytest.mark.parametrize("fate", FATES, ids=lambda fate: fate.value.replace(" ", "-"))


@pytest.fixture
def factory(face: Any, proxy: Proxy) -> Iterator[Any]:
    """A factory behind the proxy."""
    with face.factory(proxy.address) as factory:
        yield factory


@pytest.fixture
def locker(factory: Any, name: str) -> Any:
    """A Locker behind the proxy, ready."""
    locker = factory.create(name, outage_timeout=0)  # what is made again is in test_outages.py
    assert locker.wait_for_state("ready", WAIT)
    return locker


@pytest.fixture
def rival(face: Any, agent: Any, name: str) -> Iterator[Any]:
    """A Locker of the same name that no fault concerns."""
    with face.factory(agent.address) as factory:
        yield factory.create(name)


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns; or the error, for a caller who is told that nothing is known."""
    try:
        return call()
    except ConsulUnavailable as error:
        return error


def unknown(answer: Any) -> bool:
    """Whether a call was told that Consul may have done it or not."""
    return isinstance(answer, ConsulUnavailable) and answer.sent


def stands(consul: Consul, lease: Any) -> bool:
    """Whether Consul has the lock as this lease says, and the lease says that it is valid."""
    key = consul.key(lease.key)
    return key is not None and (key.session, key.fence) == (lease.session_id, lease.fence) and lease.valid


def all_known(consul: Consul, name: str, *lockers: Any) -> None:
    """Wait until every lock in Consul is a lease of one of these Lockers, and the other way round."""

    def known() -> bool:
        leases = [lease for locker in lockers for lease in locker.held.values()]
        held = {key: (entry.session, entry.fence) for key, entry in consul.keys(name + "/").items() if entry.session}
        return held == {lease.key: (lease.session_id, lease.fence) for lease in leases}

    until(known)


def ends(ear: Ear, lease: Any) -> list[str]:
    """The signals that told of the end of a lease."""
    return [
        signal
        for signal, facts in list(ear.heard)
        if signal in ("released", "lock_lost") and facts["lease"] is not None and facts["lease"].fence == lease.fence
    ]


# ----------------------------------------------------------------------------------------------- releases


@pytest.mark.parametrize("at_once", [True, False], ids=["locked-at-once", "locked-when-quiet"])
@each_fate
def test_a_release(
    locker: Any, proxy: Proxy, consul: Consul, ear: Ear, name: str, fate: Fate, at_once: bool
) -> None:
    first = locker.lock("a")
    rule = proxy.arrange(fate, RELEASE, 1)
    answer = outcome(lambda: locker.release("a"))
    assert answer is True if fate is Fate.TWICE else unknown(answer)
    assert not first.valid
    with pytest.raises(LockLost):
        first.check()
    if not at_once:
        until(lambda: consul.key(first.key).session is None, LOOKED_WITHIN)
        all_known(consul, name, locker)
    second = locker.lock("a")
    assert second.session_id == first.session_id
    assert second.fence > first.fence
    assert [answer.status for answer in rule.deliver()] == [409] * (fate in (Fate.LATE, Fate.TWICE))
    assert stands(consul, second)
    all_known(consul, name, locker)
    assert ends(ear, first) == ["released" if fate is Fate.TWICE else "lock_lost"]
    assert ends(ear, second) == []


@each_fate
def test_a_release_meets_the_next_holder(
    locker: Any, rival: Any, proxy: Proxy, consul: Consul, name: str, fate: Fate
) -> None:
    first = locker.lock("a")
    rule = proxy.arrange(fate, RELEASE, 1)
    outcome(lambda: locker.release("a"))
    second = rival.lock("a", wait=WAIT)  # what was not freed by the release is freed by the look after it
    assert second.fence > first.fence
    assert all(answer.status == 409 for answer in rule.deliver())
    assert stands(consul, second)
    all_known(consul, name, locker, rival)


# ----------------------------------------------------------------------------------------------- acquires


@each_fate
def test_an_acquire(
    locker: Any, rival: Any, proxy: Proxy, consul: Consul, ear: Ear, name: str, fate: Fate
) -> None:
    rule = proxy.arrange(fate, ACQUIRE, 1)
    answer = outcome(lambda: locker.lock("a"))
    assert [answer.status for answer in rule.deliver()] == [200] * (fate in (Fate.LATE, Fate.TWICE))
    if fate is Fate.TWICE:  # the same tenure: the second time changes nothing
        assert stands(consul, answer)
        all_known(consul, name, locker)
        assert ends(ear, answer) == []
        return
    assert unknown(answer)
    assert not locker.held
    lease = rival.lock("a", wait=WAIT)
    assert stands(consul, lease)
    all_known(consul, name, locker, rival)
    assert not any(facts["lease"].session_id == locker.session_id for facts in ear.of("lock_acquired"))


def test_an_acquire_comes_late_to_another_holder(
    locker: Any, rival: Any, proxy: Proxy, consul: Consul, name: str
) -> None:
    rule = proxy.arrange(Fate.LATE, ACQUIRE, 1)
    assert unknown(outcome(lambda: locker.lock("a")))
    lease = rival.lock("a")
    assert [answer.status for answer in rule.deliver()] == [409]
    assert stands(consul, lease)
    with pytest.raises(AlreadyLocked):
        locker.lock("a")
    assert rival.release("a") is True
    all_known(consul, name, locker, rival)


def test_an_acquire_comes_late_to_the_next_session(locker: Any, proxy: Proxy, consul: Consul, name: str) -> None:
    rule = proxy.arrange(Fate.LATE, ACQUIRE, 1)
    assert unknown(outcome(lambda: locker.lock("a")))
    locker.stop()
    locker.start()
    lease = locker.lock("a")
    assert [answer.status for answer in rule.deliver()] != [200]
    assert stands(consul, lease)
    assert locker.release("a") is True
    assert rule.deliver()[0].status != 200
    all_known(consul, name, locker)


def test_an_acquire_comes_late_into_the_tenure_of_its_successor(
    factory: Any, proxy: Proxy, consul: Consul, name: str
) -> None:
    """Of one session: the late copy has the number of the tenure that is in doubt, so it changes nothing (rule 5)."""
    locker = factory.create(name, ttl=10.0, outage_timeout=0)
    rule = proxy.arrange(Fate.LATE, ACQUIRE, 1)
    assert unknown(outcome(lambda: locker.lock("a")))
    second = locker.lock("a")
    assert stands(consul, second)
    assert [answer.status for answer in rule.deliver()] == [200]
    assert stands(consul, second)
    locker.guarded(second, [])
    assert second.valid
    assert consul_fence(rule.answers[0]) == second.fence
    assert locker.release("a") is True
    all_known(consul, name, locker)


def consul_fence(answer: Any) -> int:
    """The index that Consul gave to an acquire."""
    index: int = json.loads(answer.body)["Results"][0]["KV"]["ModifyIndex"]
    return index


@real_only
def test_an_acquire_comes_again_after_its_release(
    factory: Any, rival: Any, proxy: Proxy, consul: Consul, ear: Ear, name: str
) -> None:
    """Only a proxy that repeats what was answered does this. Nobody waits for the lock; an audit finds it."""
    locker = factory.create(name, ttl=10.0, outage_timeout=0)
    rule = proxy.arrange(Fate.TWICE, ACQUIRE, 1)
    first = locker.lock("a")
    assert locker.release("a") is True
    assert [answer.status for answer in rule.deliver()] == [200]
    with pytest.raises(AlreadyLocked) as denied:
        rival.lock("a")
    assert denied.value.holder is not None
    assert denied.value.holder.session_id == first.session_id
    second = rival.lock("a", wait=WAIT)
    assert second.fence > consul_fence(rule.answers[-1])
    assert stands(consul, second)
    all_known(consul, name, locker, rival)
    # The Locker has lost nothing by it: it goes on with the same session, and tells its observers nothing.
    assert (locker.state, locker.session_id) == ("ready", first.session_id)
    assert ends(ear, first) == ["released"]
    assert [facts["lease"].fence for facts in ear.of("lock_acquired")] == [first.fence, second.fence]
    assert [answer.status for answer in rule.deliver()] == [409]
    assert stands(consul, second)


# -------------------------------------------------------------------------------------- sessions: create


@each_fate
def test_a_create(factory: Any, proxy: Proxy, consul: Consul, name: str, fate: Fate) -> None:
    """A session that nobody knows of holds no lock, and ends by its TTL."""
    rule = proxy.arrange(fate, CREATE, 1)
    locker = factory.create(name, retry_interval=lambda number: 0.01, outage_timeout=0)
    lease = locker.lock("a", timeout=WAIT)
    assert [answer.status for answer in rule.deliver()] == [200] * (fate in (Fate.LATE, Fate.TWICE))
    assert stands(consul, lease)
    assert locker.session_id == lease.session_id
    assert locker.state == "ready"
    sessions = consul.sessions(name)
    assert len(sessions) == (1 if fate is Fate.NEVER else 2)
    assert all(session["TTL"] == "15s" for session in sessions)
    all_known(consul, name, locker)
    locker.stop()
    others = consul.sessions(name)
    assert len(others) == len(sessions) - 1
    for session in others:
        consul.destroy(session["ID"])


# ------------------------------------------------------------------------------------- sessions: destroy


@each_fate
def test_a_destroy(locker: Any, proxy: Proxy, consul: Consul, ear: Ear, name: str, fate: Fate) -> None:
    """The stop's own attempt, and the first in the background; a later one in the background succeeds."""
    first = locker.lock("a")
    rule = proxy.arrange(fate, DESTROY, 2)
    locker.stop()
    assert locker.state == "stopped"
    assert not first.valid
    assert first.wait_lost(WAIT) == "stopped"
    until(lambda: not consul.sessions(name))
    all_known(consul, name, locker)
    locker.start()
    second = locker.lock("a")
    assert second.fence > first.fence
    late = rule.deliver()
    assert len(late) == {Fate.LATE: 2, Fate.TWICE: 1}.get(fate, 0)
    assert {answer.status for answer in late} <= {200}  # Consul says true to a session that it does not know
    assert stands(consul, second)
    assert [session["ID"] for session in consul.sessions(name)] == [second.session_id]
    # A destroy whose answer was lost has worked, and the watch on the session may say so before the stop gives up.
    told = {Fate.TWICE: ("released",), Fate.ANSWER_LOST: ("released", "lock_lost")}.get(fate, ("lock_lost",))
    assert ends(ear, first) in [[signal] for signal in told]
    assert ends(ear, second) == []


# -------------------------------------------------------------------------------------- sessions: renew


@real_only
def test_renewals(factory: Any, proxy: Proxy, consul: Consul, ear: Ear, name: str) -> None:
    """One Locker for each fate, side by side, since the first renewal is due after a third of the TTL."""
    lockers = {fate: factory.create(name, ttl=10.0, outage_timeout=0) for fate in FATES}
    leases = {fate: locker.lock(fate.value) for fate, locker in lockers.items()}
    rules = {fate: proxy.arrange(fate, renewal_of(leases[fate].session_id), 1) for fate in FATES}
    for fate, locker in lockers.items():
        rules[fate].wait()
        until(lambda locker=locker: locker.stats()["renewals"] >= 1)
        assert locker.stats()["renewals_failed"] == (fate is not Fate.TWICE)
        assert stands(consul, leases[fate])
    assert [answer.status for answer in rules[Fate.TWICE].deliver()] == [200]
    assert [answer.status for answer in rules[Fate.LATE].deliver()] == [200]
    for fate in (Fate.TWICE, Fate.LATE):  # and once more when the session is history
        lockers[fate].stop()
        lockers[fate].start()
        second = lockers[fate].lock(fate.value)
        assert [answer.status for answer in rules[fate].deliver()] == [404]
        assert stands(consul, second)
    assert "lock_lost" not in ear.names()
    all_known(consul, name, *lockers.values())
