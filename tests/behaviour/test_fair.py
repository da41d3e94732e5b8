"""``fair=True``: who waits is served in the order in which he came, whatever process he is of (docs/fairness.rst)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from consul_locker import AlreadyLocked, ConfigurationError, LockerFactory

from .tools import WAIT, Consul, Ear, Key, until

#: How long a dead waiter's place may stand, in seconds: Consul ends a session after twice its TTL (measured).
DEAD = 60.0


@pytest.fixture
def lockers(face: Any, agent: Any, name: str) -> Iterator[list[Any]]:
    """Four fair Lockers of one name, each with a factory of its own: other processes, as far as Consul can tell."""
    with ExitStack() as stack:
        made = [stack.enter_context(face.factory(agent.address)).create(name, fair=True) for _ in range(4)]
        for locker in made:
            assert locker.wait_for_state("ready", WAIT)
        yield made


def places(consul: Consul, name: str, id: str) -> list[Key]:
    """The places of living waiters in the queue of a lock."""
    found = consul.keys(f"{name}/{id}/lock-queue/").values()
    return [place for place in found if place.session is not None]


def queued(consul: Consul, name: str, locker: Any, id: str, count: int, **options: Any) -> Future[Any]:
    """A caller who waits for a lock; the ``count``-th in the queue by the time this returns."""
    call: Future[Any] = locker.submit_lock(id, **{"wait": WAIT, **options})
    until(lambda: len(places(consul, name, id)) == count)
    return call


def all_quiet(consul: Consul, name: str) -> None:
    """Wait until neither a lock nor a place is left."""
    until(lambda: not any(key.session for key in consul.keys(name + "/").values()))
    assert not [key for key in consul.keys(name + "/") if "lock-queue" in key]


def test_served_in_the_order_in_which_they_came(lockers: list[Any], consul: Consul, name: str) -> None:
    first, *others = lockers
    order = [others[2], others[0], others[1]]
    first.lock("a")
    calls = [queued(consul, name, locker, "a", count) for count, locker in enumerate(order, 1)]
    waiters = first.waiters("a")
    assert [place.session_id for place in waiters] == [locker.session_id for locker in order]
    assert {place.value["pid"] for place in waiters} == {os.getpid()}
    assert first.waiters("b") == []
    holder = first
    for locker, call in zip(order, calls, strict=True):
        assert not call.done()
        assert holder.release("a") is True
        lease = call.result(WAIT)
        assert lease.session_id == locker.session_id
        holder = locker
    holder.release("a")
    all_quiet(consul, name)


def test_nobody_comes_in_between(lockers: list[Any], consul: Consul, name: str) -> None:
    """Between a release and the next holder the lock is free; whoever asks then is behind all who wait."""
    first, waiter, comer, _ = lockers
    first.lock("a")
    call = queued(consul, name, waiter, "a", 1)
    with pytest.raises(AlreadyLocked) as refused:
        comer.lock("a")
    assert refused.value.reason == "held"
    assert refused.value.holder.session_id == first.session_id
    first.release("a")
    late = comer.submit_lock("a", wait=WAIT)
    assert call.result(WAIT).session_id == waiter.session_id
    until(lambda: [one.session_id for one in waiter.waiters("a")] == [comer.session_id])
    assert len(places(consul, name, "a")) == 2  # who has the lock keeps its place until it gives both back
    waiter.release("a")
    assert late.result(WAIT).session_id == comer.session_id


def test_callers_of_one_locker_stand_in_the_same_queue(lockers: list[Any], consul: Consul, name: str) -> None:
    """The second caller of the first Locker came before the other Locker, and is served before it."""
    first, other, holder, _ = lockers
    holder.lock("a")
    one = queued(consul, name, first, "a", 1)
    shared = first.submit_lock("a", wait=WAIT)
    two = queued(consul, name, other, "a", 2)
    holder.release("a")
    assert one.result(WAIT).fence == shared.result(WAIT).fence  # they share a place and a grant
    assert not two.done()
    first.release("a")
    assert two.result(WAIT).session_id == other.session_id


def test_who_gives_up_lets_the_next_one_through(lockers: list[Any], consul: Consul, name: str) -> None:
    first, impatient, gone, patient = lockers
    first.lock("a")

    def stands(locker: Any) -> bool:
        return locker.session_id in {place.session for place in places(consul, name, "a")}

    short = impatient.submit_lock("a", wait=0.5)  # on a busy machine it is over before the others have come
    until(lambda: short.done() or stands(impatient))
    cancelled = gone.submit_lock("a", wait=WAIT)
    until(lambda: stands(gone))
    call = patient.submit_lock("a", wait=WAIT)
    until(lambda: stands(patient))
    assert isinstance(short.exception(WAIT), AlreadyLocked)
    cancelled.cancel()
    until(lambda: len(places(consul, name, "a")) == 1)
    first.release("a")
    assert call.result(WAIT).session_id == patient.session_id
    patient.release("a")
    all_quiet(consul, name)


@pytest.mark.parametrize("how", ["stop", "destroyed"])
def test_a_place_closes_with_its_session(lockers: list[Any], consul: Consul, name: str, how: str) -> None:
    first, dead, heir, _ = lockers
    first.lock("a")
    queued(consul, name, dead, "a", 1)
    call = queued(consul, name, heir, "a", 2)
    if how == "stop":
        dead.stop()
        until(lambda: len(places(consul, name, "a")) == 1)
        first.release("a")
        assert call.result(WAIT).session_id == heir.session_id
    else:
        consul.destroy(dead.session_id)  # it gets another session, and stands at the end
        until(lambda: {place.session for place in places(consul, name, "a")} == {heir.session_id, dead.session_id})
        first.release("a")
        assert call.result(WAIT).session_id == heir.session_id
        heir.release("a")


def test_who_is_robbed_of_its_place_stands_at_the_end(
    lockers: list[Any], consul: Consul, name: str, ear: Ear
) -> None:
    first, robbed, other, _ = lockers
    first.lock("a")
    call = queued(consul, name, robbed, "a", 1)
    later = queued(consul, name, other, "a", 2)
    consul.delete(next(place.key for place in places(consul, name, "a") if place.session == robbed.session_id))
    until(lambda: len(places(consul, name, "a")) == 2)  # noticed within a renewal period
    first.release("a")
    assert later.result(WAIT).session_id == other.session_id
    assert not call.done()
    other.release("a")
    assert call.result(WAIT).session_id == robbed.session_id
    assert "lock_lost" not in ear.names()


def test_lockers_that_do_not_queue_exclude_and_are_excluded(
    lockers: list[Any], rival: Any, consul: Consul, name: str
) -> None:
    fair = lockers[0]
    lease = rival.lock("a")
    call = queued(consul, name, fair, "a", 1)
    assert not call.done()
    rival.release("a")
    held = call.result(WAIT)
    assert held.fence > lease.fence
    with pytest.raises(AlreadyLocked):
        rival.lock("a")
    fair.release("a")
    rival.lock("a")
    with pytest.raises(AlreadyLocked):
        fair.lock("a")


def test_sets_that_overlap_take_turns(lockers: list[Any], consul: Consul, name: str) -> None:
    """Each wants what the other one has next; their places stand in one order in all queues."""
    holder, one, two, _ = lockers
    for id in "abc":
        holder.lock(id)
    face = getattr(one, "_face", None)

    def many(locker: Any, ids: str, count: int) -> Future[Any]:
        call: Future[Any]
        if face is not None:
            call = face.submit(lambda: locker.real.lock_many(list(ids), wait=WAIT))
        else:
            call = _in_thread(lambda: locker.lock_many(list(ids), wait=WAIT))
        until(lambda: sum(len(places(consul, name, id)) for id in "abc") == count)
        return call

    first, second, third = many(one, "ab", 2), many(two, "cba", 5), many(one, "bc", 7)
    holder.release_all()
    assert [lease.id for lease in first.result(WAIT)] == ["a", "b"]
    assert not second.done() and not third.done()
    one.release_all()
    assert [lease.id for lease in second.result(WAIT)] == ["c", "b", "a"]
    two.release_all()
    assert [lease.id for lease in third.result(WAIT)] == ["b", "c"]
    one.release_all()
    all_quiet(consul, name)


def _in_thread(call: Any) -> Future[Any]:
    future: Future[Any] = Future()
    threading.Thread(target=lambda: future.set_result(call()), daemon=True).start()
    return future


def test_a_set_of_a_fair_locker_has_half_the_size(lockers: list[Any]) -> None:
    with pytest.raises(ConfigurationError, match="at most 32"):
        lockers[0].lock_many(range(33))
    assert len(lockers[0].lock_many(range(32))) == 32
    lockers[0].release_all()


WAITER = """
import sys
from consul_locker import LockerFactory

with LockerFactory(sys.argv[1]) as factory:
    locker = factory.create(sys.argv[2], ttl=10.0, fair=True)
    print("ready", locker.wait_for_state("ready", 30), flush=True)
    print("got", locker.lock("a", wait=120).fence, flush=True)
"""


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_waiter_whose_process_is_gone_is_passed_over_when_its_session_ends(
    real_agent: Any, name: str, signal_: signal.Signals
) -> None:
    """Until then everybody stands behind it: at most twice its TTL."""
    root, consul = Path(__file__).parents[2], Consul(real_agent.address)
    with LockerFactory(real_agent.address) as factory, LockerFactory(real_agent.address) as another:
        holder, heir = factory.create(name, fair=True), another.create(name, fair=True)
        holder.lock("a", timeout=WAIT)
        with subprocess.Popen(
            [sys.executable, "-c", WAITER, real_agent.address, name],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(root)},
            cwd=root,
            text=True,
        ) as waiter:
            try:
                until(lambda: len(places(consul, name, "a")) == 1)
                call = queued(consul, name, heir, "a", 2, wait=DEAD)
                waiter.send_signal(signal_)
                holder.release("a")
                assert call.result(DEAD).session_id == heir.session_id
                if signal_ is signal.SIGSTOP:
                    waiter.send_signal(signal.SIGCONT)
                    # It queues up with a new session, and is served when the lock is given back.
                    until(lambda: places(consul, name, "a"))
                    heir.release("a")
                    assert waiter.stdout is not None
                    assert waiter.stdout.readline() == "ready True\n"
                    assert waiter.stdout.readline().startswith("got ")
            finally:
                waiter.send_signal(signal.SIGCONT)
                waiter.kill()
