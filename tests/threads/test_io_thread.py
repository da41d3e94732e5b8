"""threads/io_thread: the thread of a factory's event loop begins, works, ends."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from consul_locker.client.encode import Encoder
from consul_locker.config.options import ClientOptions
from consul_locker.core.requests import Transact
from consul_locker.runtime.clock import SystemClock
from consul_locker.runtime.io_loop import IoLoop
from consul_locker.threads.io_thread import IoThread

from ..behaviour.tools import WAIT

REQUEST = Transact(1, ())


def test_the_io_thread_is_woken_after_a_waking_that_broke_off(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = IoThread(lambda: pytest.fail("never made"))

    def deep(job: Any) -> None:
        raise RecursionError

    thread._loop = loop = asyncio.new_event_loop()
    monkeypatch.setattr(loop, "call_soon_threadsafe", deep)
    thread.put(lambda event: None, REQUEST)
    with pytest.raises(RecursionError):  # which is a RuntimeError, as that of a closed loop
        thread.wake()
    assert not thread._woken
    loop.close()


def test_jobs_of_an_io_thread_that_has_ended_are_done_here() -> None:
    done: list[str] = []
    thread = IoThread(lambda: pytest.fail("never made"))
    thread.do(lambda: done.append("before it began"))
    options = ClientOptions.build(environ={})
    thread = IoThread(lambda: IoLoop(options, Encoder(options), SystemClock(), 2))
    thread.start()
    thread.close()
    thread.do(lambda: done.append("after its end"))
    assert done == ["before it began", "after its end"]


def test_the_io_thread_drains_nothing_before_it_has_its_exchange() -> None:
    thread = IoThread(lambda: pytest.fail("never made"))
    thread.put(lambda event: None, REQUEST)
    thread._drain()
    assert list(thread._inbox)


def test_the_io_thread_is_closed_while_it_ends_by_itself() -> None:
    """As one that lingers does; its loop is closed before it is told."""
    options = ClientOptions.build(environ={})
    thread = IoThread(lambda: IoLoop(options, Encoder(options), SystemClock(), 2))
    thread.start()
    loop: Any = thread._loop
    ending, told = threading.Event(), threading.Event()
    end, tell = loop.close, loop.call_soon_threadsafe

    def close() -> None:
        end()
        ending.set()
        assert told.wait(WAIT)

    def call_soon_threadsafe(*args: Any) -> Any:
        assert ending.wait(WAIT)
        try:
            return tell(*args)
        finally:
            told.set()

    loop.close, loop.call_soon_threadsafe = close, call_soon_threadsafe
    tell(thread._retire, False)
    thread.close()
    assert not thread._thread.is_alive()
    thread.close()
