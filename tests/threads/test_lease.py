"""lease: waiting for the end of a lease, on threads."""

from __future__ import annotations

import threading

import pytest

from consul_locker.errors import ConfigurationError
from consul_locker.lease import SessionLife
from consul_locker.threads.lease import Lease


@pytest.fixture
def life() -> SessionLife:
    return SessionLife(1, "5e55", 15.0, "n", lambda: 5.0)


@pytest.fixture
def lease(life: SessionLife) -> Lease:
    return Lease("a", life, 7, 5.0, False)


def test_one_that_is_over(lease: Lease, life: SessionLife) -> None:
    life.deadline = 5.0
    assert lease.wait_lost(0.001) == "deadline passed"
    lease.end("released")
    assert lease.wait_lost() == "released"


def test_waiting_for_the_end(lease: Lease) -> None:
    assert lease.wait_lost(0.001) is None
    said: list[str | None] = []
    threads = [threading.Thread(target=lambda: said.append(lease.wait_lost(30))) for _ in range(3)]
    for thread in threads:
        thread.start()
    lease.end("released")
    while any(thread.is_alive() for thread in threads):
        lease.wake()  # again for whoever came between
        threads[0].join(0.01)
    assert said == ["released"] * 3


def test_waiting_for_an_end_checks_its_limit(lease: Lease) -> None:
    for wrong in (-1, "soon", True):
        with pytest.raises(ConfigurationError, match="timeout="):
            lease.wait_lost(wrong)
    assert lease.wait_lost(0) is None


def test_a_limit_longer_than_threads_can_wait(lease: Lease) -> None:
    said: list[str | None] = []
    thread = threading.Thread(target=lambda: said.append(lease.wait_lost(1e300)))
    thread.start()
    lease.end("released")
    while thread.is_alive():
        lease.wake()  # again if it came between
        thread.join(0.01)
    assert said == ["released"]


def test_it_is_awaited_only_after_somebody_waited(lease: Lease) -> None:
    assert not lease.awaited
    assert lease.claim()
    assert not lease.awaited
    assert lease.wait_lost(0.0) is None
    assert lease.awaited
    done: list[str] = []
    lease._when_over(lambda: done.append("over"))
    assert lease.awaited
    lease.end("released")
    lease.wake()
    assert done == ["over"]
    assert not lease.awaited
    lease._when_over(lambda: done.append("late"))
    assert set(done) == {"over", "late"}
    assert not lease.awaited


def test_an_end_that_comes_when_a_thread_is_about_to_sleep_is_seen(lease: Lease, life: SessionLife) -> None:
    """The core ends a lease first, and asks then whether somebody waits; a waiter is noted first, and looks then."""
    seen: list[bool] = []

    class Late(list[object]):
        def append(self, job: object) -> None:
            lease.end("released")
            seen.append(lease.awaited)
            super().append(job)

    life.jobs[lease] = Late()
    assert lease.wait_lost(30) == "released"
    assert seen == [True]
    assert not life.jobs
