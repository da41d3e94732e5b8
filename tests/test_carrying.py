"""carrying: the corners that a running Locker reaches only by chance."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from typing import Any

import pytest

from consul_locker.client.requests import Encoder

from consul_locker.carrying import Carrying, _Waiter
from consul_locker.core.messages import Abandoned, Answered, Call, Failed, Settle, Transact
from consul_locker.config import ClientOptions
from consul_locker.errors import ConfigurationError
from consul_locker.exchange import Exchange, SystemClock
from consul_locker.io_thread import IoThread

from .behaviour.tools import WAIT

REQUEST = Transact(1, ())


class Script:
    """Stands where a Carrying has core, encoder, I/O thread and delivery; notes what comes."""

    def __init__(self, commands: dict[type, list[Any]] | None = None) -> None:
        self.commands = commands or {}
        self.events: list[Any] = []
        self.handed: list[Any] = []

    def step(self, event: Any, now: float) -> deque[Any]:
        self.events.append(event)
        return deque(self.commands.pop(type(event), []))

    def encode(self, request: Any) -> Any:
        raise ConfigurationError("operations", request, "what JSON can carry")

    def put(self, receive: Any, command: Any) -> None:
        self.handed.append(command)

    def wake(self) -> None:
        """Nothing to wake."""

    def settle(self, job: Any) -> None:
        job()

    here = False


def carrying(script: Script) -> Carrying:
    stand_in: Any = script
    return Carrying(stand_in, None, SystemClock(), stand_in, stand_in, stand_in, stand_in, 10.0)


def resolve(*settled: Settle) -> None:
    """What sets the futures of calls that are answered."""
    carrying(Script())._carry_out(deque(settled), None)


def test_waking_twice_does_no_harm() -> None:
    waiter = _Waiter()
    waiter.wake()
    waiter.wake()
    waiter.sleep()


def test_an_offer_to_one_who_has_left_is_refused() -> None:
    waiter = _Waiter()
    assert waiter.offer(REQUEST)
    waiter.close()
    assert waiter.late is REQUEST
    assert not waiter.offer(REQUEST)


def test_a_transaction_offered_to_one_who_is_interrupted_goes_to_the_io_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script()

    def interrupted(waiter: _Waiter) -> None:
        waiter.offer(REQUEST)
        raise KeyboardInterrupt

    monkeypatch.setattr(_Waiter, "sleep", interrupted)
    call = Call("lock", ("a",))
    with pytest.raises(KeyboardInterrupt):
        carrying(script).ask(call)
    assert [type(event) for event in script.events] == [Call, Abandoned]
    assert script.handed == [REQUEST]


def test_a_transaction_that_cannot_be_encoded_is_answered() -> None:
    call = Call("lock", ("a",))
    request = Transact(1, (), calls=(call,))
    script = Script({Call: [request], Answered: [Settle(call, 7)]})
    assert carrying(script).ask(call) == 7
    answered = script.events[1]
    assert isinstance(answered.outcome, Failed)
    assert not answered.outcome.sent


def test_a_future_cancelled_before_it_is_set_stays_cancelled() -> None:
    call = Call("lock", ("a",))
    future: Future[Any] = Future()
    call.waiter = future
    future.cancel()
    resolve(Settle(call, 7))
    assert future.cancelled()


def test_a_callback_that_ends_its_thread_keeps_no_other_future_from_being_set(caplog: pytest.LogCaptureFixture) -> None:
    def leave(future: Future[Any]) -> None:
        raise SystemExit

    calls = [Call("lock", (id,)) for id in ("a", "b")]
    for call in calls:
        call.waiter = Future()
    calls[0].waiter.add_done_callback(leave)
    resolve(*(Settle(call, 7) for call in calls))
    assert [call.waiter.result(0) for call in calls] == [7, 7]
    assert "a callback of a future failed" in caplog.text


def test_the_io_thread_drains_nothing_before_it_has_its_exchange() -> None:
    thread = IoThread(lambda: pytest.fail("never made"))
    thread.put(lambda event: None, REQUEST)
    thread._drain()
    assert list(thread._inbox)


def test_the_io_thread_is_closed_while_it_ends_by_itself() -> None:
    """As one that lingers does; its loop is closed before it is told."""
    options = ClientOptions.build(environ={})
    thread = IoThread(lambda: Exchange(options, Encoder(options), SystemClock(), 2))
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
