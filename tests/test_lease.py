"""lease: waiting for the end of a lease, on threads."""

from __future__ import annotations

import threading

import pytest

from consul_locker.errors import ConfigurationError
from consul_locker.lease import Lease
from consul_locker.types import SessionLife


@pytest.fixture
def life() -> SessionLife:
    return SessionLife(1, "5e55", 15.0)


@pytest.fixture
def lease(life: SessionLife) -> Lease:
    return Lease("a", "n/a/lock", life, 7, 5.0, lambda: 5.0, False)


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


def test_ended_while_it_looked(lease: Lease) -> None:
    """The lease ends after the first look, before the waiter is in the list."""

    class Guard:
        def __enter__(self) -> None:
            lease.end("released")

        def __exit__(self, *_: object) -> None:
            pass

    lease._guard = Guard()
    assert lease.wait_lost() == "released"


def test_waiting_for_an_end_checks_its_limit(lease: Lease) -> None:
    for wrong in (-1, "soon", True):
        with pytest.raises(ConfigurationError, match="timeout="):
            lease.wait_lost(wrong)
    assert lease.wait_lost(0) is None
