"""carrying: the corners that a running Locker reaches only by chance."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import pytest

from consul_locker.aio.runtime import AsyncRuntime
from consul_locker.client.encode import Encoder
from consul_locker.config.options import ClientOptions
from consul_locker.core.messages import Abandoned, Answered, Call, Settle
from consul_locker.core.requests import Failed, Transact
from consul_locker.errors import ConfigurationError, ConsulUnavailable
from consul_locker.may_wait import THIS_THREAD
from consul_locker.runtime.clock import SystemClock
from consul_locker.runtime.io_loop import IoLoop
from consul_locker.threads.io_thread import IoThread
from consul_locker.threads.runtime import ThreadRuntime
from consul_locker.threads.waiter import Waiter

from ..behaviour.tools import WAIT, eventually, settle

REQUEST = Transact(1, ())


class Script:
    """Stands where a ThreadRuntime has core, encoder, I/O thread and delivery; notes what comes."""

    def __init__(self, answers: dict[type, list[Any]] | None = None) -> None:
        self.answers = answers or {}  # the commands that follow on the next event of a type
        self.commands: deque[Any] = deque()
        self.events: list[Any] = []
        self.handed: list[Any] = []
        self.jobs: list[Any] = []
        self.carry_out: Any = None
        self.failures = 0  # how many of the next steps break off

    def do(self, job: Any) -> None:
        self.jobs.append(job)

    def step(self, event: Any, now: float) -> None:
        self.events.append(event)
        if self.failures:
            self.failures -= 1
            raise RecursionError
        self.commands.extend(self.answers.pop(type(event), []))

    def encode(self, request: Any) -> Any:
        raise ConfigurationError("operations", request, "what JSON can carry")

    def put(self, receive: Any, command: Any) -> None:
        self.handed.append(command)

    def wake(self) -> None:
        """Nothing to wake."""

    def settle(self, job: Any) -> None:
        job()

    here = False


def carrying(script: Script) -> ThreadRuntime:
    stand_in: Any = script
    return ThreadRuntime(stand_in, stand_in, SystemClock(), stand_in, stand_in, stand_in, stand_in, 10.0)


def resolve(*settled: Settle) -> None:
    """What sets the futures of calls that are answered."""
    carrying(Script())._carry_out(deque(settled), deque(), None)


def test_waking_twice_does_no_harm() -> None:
    waiter = Waiter()
    waiter.wake()
    waiter.wake()
    waiter.sleep()


def test_an_offer_to_one_who_has_left_is_refused() -> None:
    waiter = Waiter()
    assert waiter.offer(REQUEST)
    waiter.closed = True
    assert waiter.withdraw(REQUEST)
    assert not waiter.withdraw(REQUEST)
    assert not waiter.offer(REQUEST)
    assert waiter.take() is None


def test_a_transaction_offered_to_one_who_is_interrupted_goes_to_the_io_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script()

    def interrupted(waiter: Waiter) -> None:
        waiter.offer(REQUEST)
        raise KeyboardInterrupt

    monkeypatch.setattr(Waiter, "sleep", interrupted)
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


def test_a_future_is_set_once() -> None:
    call = Call("lock", ("a",))
    call.waiter = future = Future()
    resolve(Settle(call, 7), Settle(call, 8))
    assert future.result(0) == 7


def test_of_two_who_set_futures_each_is_set_by_one() -> None:
    carrying(Script())._resolve(deque())  # the other one was faster


def test_a_lock_for_a_future_that_was_cancelled_is_given_back() -> None:
    """Whoever cancelled it may have been interrupted before he could say so."""
    script = Script()
    call = Call("lock", ("a",))
    call.waiter = future = Future()
    future.cancel()
    carrying(script)._carry_out(deque([Settle(call, 7)]), deque(), None)
    assert [type(event) for event in script.events] == [Abandoned]


def test_an_event_that_breaks_off_is_given_once_more() -> None:
    """On the I/O thread; what breaks off there too is no chance, and not tried for ever."""
    script = Script()
    script.failures = 2
    made = carrying(script)
    with pytest.raises(RecursionError):
        made.step(Answered(REQUEST, Failed(ConsulUnavailable("no answer"), True)))
    assert script.failures == 1
    ((go_on,),) = [script.jobs]
    with pytest.raises(RecursionError):
        go_on()
    assert [type(event) for event in script.events] == [Answered, Answered]
    assert len(script.jobs) == 1


def test_what_came_in_between_is_done_elsewhere_when_the_step_breaks_off() -> None:
    script = Script()
    script.failures = 1
    made = carrying(script)
    done: list[str] = []
    THIS_THREAD.after_step.append(lambda: done.append("later"))
    with pytest.raises(RecursionError):
        made.step(Call("leave", argument=[]))
    assert not THIS_THREAD.after_step
    script.jobs.pop()()
    assert done == ["later"]
    assert [type(event) for event in script.events] == [Call, Call]


def test_a_caller_who_is_interrupted_twice_cleans_up_on_the_io_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script()
    script.failures = 2
    made = carrying(script)
    stop = Call("stop")
    with pytest.raises(RecursionError):
        made.ask(stop)
    for job in script.jobs:
        job()
    assert [type(event) for event in script.events] == [Call, Abandoned, Abandoned, Abandoned, Call]
    assert script.events[-1].verb == "stop"


def test_who_was_interrupted_before_goes_on_when_the_call_in_between_is_interrupted_too() -> None:
    script = Script()
    script.failures = 1
    made = carrying(script)
    beneath = Waiter()
    THIS_THREAD.sleeps_in = beneath
    try:
        with pytest.raises(RecursionError):
            made.ask(Call("holder", ("a",)))
    finally:
        THIS_THREAD.sleeps_in = None
    assert not beneath.closed
    beneath.sleep()  # it was woken, to look again


def test_a_submitted_call_that_breaks_off_is_abandoned() -> None:
    script = Script()
    script.failures = 1
    with pytest.raises(RecursionError):
        carrying(script).submit(Call("lock", ("a",)))
    for job in script.jobs:
        job()
    assert [type(event) for event in script.events] == [Call, Abandoned]


def test_a_request_that_was_being_carried_is_answered_for_the_others() -> None:
    class Deep(Script):
        def encode(self, request: Any) -> Any:
            raise KeyboardInterrupt

    call = Call("lock", ("a",))
    script = Deep({Call: [Transact(1, (), calls=(call,))]})
    with pytest.raises(KeyboardInterrupt):
        carrying(script).ask(call)
    assert [type(event) for event in script.events] == [Call, Answered, Abandoned]
    assert script.events[1].outcome.sent


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


def test_a_request_that_comes_twice_is_sent_once() -> None:
    async def go() -> int:
        options = ClientOptions.build("127.0.0.1:1", environ={})
        exchange = IoLoop(options, Encoder(options), SystemClock(), 2)
        exchange.carry_out(print, [REQUEST, REQUEST])
        sent = len(exchange._tasks)
        await exchange.close()
        return sent

    assert asyncio.run(go()) == 1


def test_a_request_whose_task_breaks_off_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = []

    async def go() -> None:
        options = ClientOptions.build("127.0.0.1:1", environ={})
        exchange = IoLoop(options, Encoder(options), SystemClock(), 2)

        async def broken(request: Any) -> Any:
            raise RecursionError

        monkeypatch.setattr(exchange, "_answer", broken)
        exchange.carry_out(answers.append, [REQUEST])
        await eventually(lambda: answers)
        await exchange.close()

    asyncio.run(go())
    (answered,) = answers
    assert answered.request is REQUEST
    assert answered.outcome.sent
    assert "interrupted" in str(answered.outcome.error)


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


# -------------------------------------------------------------------------------------------------- on asyncio


def on_a_loop(test: Callable[[AsyncRuntime, Script], Awaitable[None]]) -> None:
    """Run a test of the asyncio runtime, on a loop that keeps silent about what breaks off."""

    async def go() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        script = Script()
        stand_in: Any = script
        made = AsyncRuntime(stand_in, stand_in, SystemClock(), stand_in, stand_in)
        await test(made, script)

    asyncio.run(go())


def test_on_a_loop_an_event_that_breaks_off_is_given_once_more() -> None:
    async def test(made: AsyncRuntime, script: Script) -> None:
        script.failures = 2
        with pytest.raises(RecursionError):
            made.step(Answered(REQUEST, Failed(ConsulUnavailable("no answer"), True)))
        await settle()
        assert [type(event) for event in script.events] == [Answered, Answered]

    on_a_loop(test)


def test_on_a_loop_a_call_that_breaks_off_is_abandoned() -> None:
    async def test(made: AsyncRuntime, script: Script) -> None:
        script.failures = 1
        with pytest.raises(RecursionError):
            await made.ask(Call("lock", ("a",)))
        await settle()
        assert [type(event) for event in script.events] == [Call, Abandoned]

    on_a_loop(test)


@pytest.mark.parametrize("times", [1, 2])
def test_on_a_loop_a_command_that_breaks_off_is_done_once_more(times: int) -> None:
    async def test(made: AsyncRuntime, script: Script) -> None:
        sent: list[Any] = []

        def carry_out(receive: Any, commands: Any) -> None:
            sent.extend(commands)
            if len(sent) <= times:
                raise RecursionError

        script.carry_out = carry_out
        script.answers[Abandoned] = [REQUEST, Transact(2, ())]
        with pytest.raises(RecursionError):
            made.step(Abandoned(Call("lock")))
        await settle()
        assert [request.generation for request in sent] == [1, 1, 2]

    on_a_loop(test)
