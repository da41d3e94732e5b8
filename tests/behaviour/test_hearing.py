"""Whose signals are heard: an observer of another Locker costs a call nothing, and a muted signal is not sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from consul_locker import signals

from .faces import ThreadedFace, bare
from .tools import WAIT, Ear, eventually, until


def slow_observer(face: Any, go: threading.Event, busy: threading.Event) -> Callable[..., Any]:
    """An observer that is at work until it may go on."""

    def on_a_thread(sender: Any, **facts: Any) -> None:
        busy.set()
        assert go.wait(WAIT)

    async def on_a_loop(sender: Any, **facts: Any) -> None:
        busy.set()
        await eventually(go.is_set)

    return on_a_thread if isinstance(face, ThreadedFace) else on_a_loop


def test_a_slow_observer_of_another_locker_delays_no_call(face: Any, factory: Any, name: str) -> None:
    """A call waits for its own signals, up to 1 s; nobody hears those of this one."""
    other, locker = factory.create(f"{name}/other"), factory.create(name)
    go, busy = threading.Event(), threading.Event()
    slow = slow_observer(face, go, busy)
    with signals.lock_acquired.connected_to(slow, sender=bare(other)):
        future = other.submit_lock("a")
        assert busy.wait(WAIT)
        began = time.monotonic()
        for id in range(20):
            with locker.hold(id):
                assert not go.is_set()
        assert time.monotonic() - began < 20.0  # twice that, if each call waited
        go.set()
        assert future.result(WAIT).valid


def test_a_muted_signal_is_not_sent(locker: Any, ear: Ear) -> None:
    locker.lock("before")
    with signals.lock_acquired.muted():
        locker.lock("a")
    locker.lock("after")
    ear.wait("lock_acquired", 2)
    assert [facts["id"] for facts in ear.of("lock_acquired")] == ["before", "after"]
    assert [facts["id"] for facts in ear.of("lock_requested")] == ["before", "a", "after"]


def test_a_signal_that_was_sent_before_it_was_muted_is_heard(face: Any, locker: Any) -> None:
    """It waits for an observer that is at work."""
    go, busy, heard = threading.Event(), threading.Event(), threading.Event()
    slow = slow_observer(face, go, busy)

    def hear(sender: Any, **facts: Any) -> None:
        heard.set()

    with (
        signals.lock_requested.connected_to(slow, sender=bare(locker)),
        signals.lock_acquired.connected_to(hear, sender=bare(locker)),
    ):
        future = locker.submit_lock("a")
        until(lambda: locker.stats()["granted"])
        with signals.lock_acquired.muted():
            go.set()
            assert heard.wait(WAIT)
        assert future.result(WAIT).valid
