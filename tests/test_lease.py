"""lease: waiting for the end of a lease, on threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from consul_locker.errors import ConfigurationError
from consul_locker.lease import Lease
from consul_locker.types import SessionLife

from .behaviour.tools import WAIT


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


def waited(lease: Lease, prepare: Callable[[], None] = lambda: None) -> list[str | None]:
    """What a thread of its own was told that waited without a limit; empty when it still waits."""
    said: list[str | None] = []

    def wait() -> None:
        prepare()
        said.append(lease.wait_lost())

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    thread.join(WAIT)
    return said


def test_ended_by_its_own_thread_while_it_registers(lease: Lease) -> None:
    """A signal handler ends the lease in the middle of the guarded part."""

    class Waiters(set[Any]):
        def add(self, waiter: Any) -> None:
            lease.end("released")
            lease.wake()
            super().add(waiter)

    lease._waiters = Waiters()
    assert waited(lease) == ["released"]


def test_ended_by_its_own_thread_right_before_it_sleeps(lease: Lease) -> None:
    """A signal handler ends the lease after the last look: the wake-up comes before the sleep."""

    def profile(frame: FrameType, event: str, what: Any) -> None:
        if event == "c_call" and frame.f_code is Lease.wait_lost.__code__ and what.__name__ == "acquire":
            if lease._waiters:  # else the lock is taken to be slept on
                lease.end("released")
                lease.wake()

    assert waited(lease, lambda: sys.setprofile(profile)) == ["released"]
    assert not lease._waiters


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
