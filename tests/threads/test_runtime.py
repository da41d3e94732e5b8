"""threads/runtime: the corners that a running Locker reaches only by chance."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from consul_locker.aio.runtime import AsyncRuntime
from consul_locker.core.calls import Holder, LeaveHold, Lock, Start, Stop
from consul_locker.core.messages import Abandoned, Answered, Call, Forget, Settle
from consul_locker.core.requests import Failed, Transact
from consul_locker.errors import ConfigurationError, ConsulUnavailable
from consul_locker.may_wait import THIS_THREAD
from consul_locker.runtime.clock import SystemClock
from consul_locker.threads.runtime import ThreadRuntime
from consul_locker.threads.waiter import Waiter

from ..behaviour.tools import eventually, settle

REQUEST = Transact(1, ())


def kind_of(event: Any) -> type:
    """The kind of an event; `Call` for all kinds of calls."""
    return Call if isinstance(event, Call) else type(event)


class Script:
    """Stands where a ThreadRuntime has core, encoder, I/O thread and delivery; notes what comes."""

    def __init__(self, answers: dict[type, list[Any]] | None = None) -> None:
        self.answers = answers or {}  # the commands that follow on the next event of a type
        self.events: list[Any] = []
        self.handed: list[Any] = []
        self.jobs: list[Any] = []
        self.carry_out: Any = lambda receive, commands: None
        self.failures = 0  # how many of the next steps break off
        self.replaced = 0  # how often another core came

    def do(self, job: Any) -> None:
        self.jobs.append(job)

    def step(self, event: Any) -> list[Any]:
        self.events.append(event)
        if self.failures:
            self.failures -= 1
            raise RecursionError
        return self.answers.pop(kind_of(event), [])

    def encode(self, request: Any) -> Any:
        raise ConfigurationError("operations", request, "what JSON can carry")

    def put(self, receive: Any, command: Any) -> None:
        self.handed.append(command)

    def wake(self) -> None:
        """Nothing to wake."""

    def settle(self, job: Any) -> None:
        job()

    def work(self) -> None:
        """What the I/O thread does with its jobs."""
        while self.jobs:
            self.jobs.pop(0)()

    def core(self) -> Any:
        """Makes a core, as often as it is asked for one."""
        return Core(self)

    here = False


class Core:
    """Stands where a core is: its script says what follows."""

    session = SimpleNamespace(destroys=SimpleNamespace(pending=(), generation=2), life=None)
    ledger = SimpleNamespace(leases={})
    batch = SimpleNamespace(under_way=0, expects=False)

    def __init__(self, script: Script) -> None:
        self.script = script
        self.commands: deque[Any] = deque()

    def step(self, event: Any, now: float, more: bool = False) -> None:
        self.commands.extend(self.script.step(event))

    def follow(self, old: Any, now: float, **facts: Any) -> None:
        self.script.replaced += 1


def carrying(script: Script) -> ThreadRuntime:
    stand_in: Any = script
    return ThreadRuntime(script.core, stand_in, SystemClock(), stand_in, stand_in, stand_in, stand_in, 10.0)


def resolve(*settled: Settle) -> None:
    """What sets the futures of calls that are answered."""
    carrying(Script())._carry_out(deque(settled), None)


def test_waking_twice_does_no_harm() -> None:
    waiter = Waiter()
    waiter.wake()
    waiter.wake()
    waiter.sleep()


def test_a_waiter_is_answered_once() -> None:
    waiter = Waiter()
    waiter.settle(7, None)
    waiter.settle(None, ConsulUnavailable("broken off"))  # by a core that came in the place of another
    assert (waiter.value, waiter.error) == (7, None)


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
    call = Lock(("a",))
    with pytest.raises(KeyboardInterrupt):
        carrying(script).ask(call)
    assert [kind_of(event) for event in script.events] == [Call, Abandoned]
    assert script.handed == [REQUEST]


def test_a_transaction_that_cannot_be_encoded_is_answered() -> None:
    call = Lock(("a",))
    request = Transact(1, (), calls=(call,))
    script = Script({Call: [request], Answered: [Settle(call, 7)]})
    assert carrying(script).ask(call) == 7
    answered = script.events[1]
    assert isinstance(answered.outcome, Failed)
    assert not answered.outcome.sent


def test_a_future_cancelled_before_it_is_set_stays_cancelled() -> None:
    call = Lock(("a",))
    future: Future[Any] = Future()
    call.waiter = future
    future.cancel()
    resolve(Settle(call, 7))
    assert future.cancelled()


def test_a_callback_that_ends_its_thread_keeps_no_other_future_from_being_set(caplog: pytest.LogCaptureFixture) -> None:
    def leave(future: Future[Any]) -> None:
        raise SystemExit

    calls = [Lock((id,)) for id in ("a", "b")]
    for call in calls:
        call.waiter = Future()
    calls[0].waiter.add_done_callback(leave)
    resolve(*(Settle(call, 7) for call in calls))
    assert [call.waiter.result(0) for call in calls] == [7, 7]
    assert "a callback of a future failed" in caplog.text


def test_a_future_is_set_once() -> None:
    call = Lock(("a",))
    call.waiter = future = Future()
    resolve(Settle(call, 7), Settle(call, 8))
    assert future.result(0) == 7


def test_a_lock_for_a_future_that_was_cancelled_is_given_back() -> None:
    """Whoever cancelled it may have been interrupted before he could say so."""
    script = Script()
    call = Lock(("a",))
    call.waiter = future = Future()
    future.cancel()
    carrying(script)._carry_out(deque([Settle(call, 7)]), None)
    assert [kind_of(event) for event in script.events] == [Abandoned]


def test_after_a_step_that_was_broken_off_another_core_comes_on_the_io_thread() -> None:
    script = Script()
    script.failures = 1
    made = carrying(script)
    with pytest.raises(RecursionError):
        made.step(Answered(REQUEST, Failed(ConsulUnavailable("no answer"), True)))
    assert not script.replaced
    script.work()
    assert script.replaced == 1
    assert [kind_of(event) for event in script.events] == [Answered]


def test_or_with_the_next_step() -> None:
    script = Script()
    script.failures = 1
    made = carrying(script)
    with pytest.raises(RecursionError):
        made.step(Start())
    made.step(Stop())
    assert script.replaced == 1
    script.work()
    assert script.replaced == 1


def test_or_with_the_death_of_the_io_thread() -> None:
    script = Script()
    script.failures = 1
    made = carrying(script)
    with pytest.raises(RecursionError):
        made.step(Start())
    made.io_thread_died(ConsulUnavailable("dead"))
    assert script.replaced == 1


def test_what_is_carried_out_outside_the_mutex_is_part_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    script, call = Script(), Lock(("a",))
    script.answers[Call] = [Settle(call, 7)]
    made = carrying(script)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Waiter, "settle", interrupted)
        made.ask(call)
    assert script.replaced == 1
    assert isinstance(call.waiter.error, ConsulUnavailable) or not call.waiter.done  # nobody waits for it


def interrupted(*_: Any, **__: Any) -> None:
    """Stands where a signal handler comes in between."""
    raise KeyboardInterrupt


def test_while_it_waits_for_the_mutex_nothing_is_broken_off() -> None:
    class Busy:
        times = 1

        def __enter__(self) -> None:
            if self.times:
                self.times -= 1
                raise KeyboardInterrupt

        def __exit__(self, *_: object) -> None:
            """Nothing to give back."""

    script, mutex = Script(), Busy()
    made: Any = carrying(script)
    made._mutex = mutex
    with pytest.raises(KeyboardInterrupt):
        made.step(Abandoned(Lock(())))
    script.work()
    assert [kind_of(event) for event in script.events] == [Abandoned]
    mutex.times = 1
    with pytest.raises(KeyboardInterrupt):
        made.ask(Lock(("a",)))
    script.work()
    assert [kind_of(event) for event in script.events] == [Abandoned, Abandoned]
    assert not script.replaced


def test_a_new_beginning_that_is_broken_off_is_made_again_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script()
    script.failures = 1
    made = carrying(script)
    with pytest.raises(RecursionError):
        made.step(Start())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Core, "follow", interrupted)
        script.work()
    assert not script.jobs  # else it would be tried for ever
    made.step(Stop())
    assert script.replaced == 1


def test_what_came_in_between_is_done_elsewhere_when_the_step_breaks_off() -> None:
    script = Script()
    script.failures = 1
    made = carrying(script)
    done: list[str] = []
    THIS_THREAD.after_step.append(lambda: done.append("later"))
    with pytest.raises(RecursionError):
        made.step(LeaveHold([]))
    assert not THIS_THREAD.after_step
    script.work()
    assert done == ["later"]
    assert [kind_of(event) for event in script.events] == [Call]


def test_who_is_interrupted_while_it_leaves_a_hold_has_left_it() -> None:
    script = Script()
    script.failures = 1
    made = carrying(script)
    leaving = LeaveHold([])
    with pytest.raises(RecursionError):
        made.ask(leaving)
    script.work()
    assert [kind_of(event) for event in script.events] == [Call, Abandoned, Call]
    assert script.events[-1].verb == leaving.verb and script.events[-1] is not leaving


def test_a_caller_who_is_interrupted_twice_cleans_up_on_the_io_thread() -> None:
    script = Script()
    script.failures = 2
    made = carrying(script)
    with pytest.raises(RecursionError):
        made.ask(Stop())
    script.work()
    assert [kind_of(event) for event in script.events] == [Call, Abandoned, Abandoned, Call]
    assert script.events[-1].verb == "stop"
    assert script.replaced == 2


def test_who_was_interrupted_before_goes_on_when_the_call_in_between_is_interrupted_too() -> None:
    script = Script()
    script.failures = 1
    made = carrying(script)
    beneath = Waiter()
    THIS_THREAD.sleeps_in = beneath
    try:
        with pytest.raises(RecursionError):
            made.ask(Holder("a"))
    finally:
        THIS_THREAD.sleeps_in = None
    assert not beneath.closed
    beneath.sleep()  # it was woken, to look again


def test_a_submitted_call_that_breaks_off_is_answered() -> None:
    script = Script()
    script.failures = 1
    call = Lock(("a",))
    with pytest.raises(RecursionError):
        carrying(script).submit(call)
    script.work()
    assert isinstance(call.waiter.exception(0), ConsulUnavailable)
    assert [kind_of(event) for event in script.events] == [Call]


def test_a_request_that_was_being_carried_is_answered_for_the_others() -> None:
    class Deep(Script):
        def encode(self, request: Any) -> Any:
            raise KeyboardInterrupt

    call = Lock(("a",))
    script = Deep({Call: [Transact(1, (), calls=(call,))]})
    with pytest.raises(KeyboardInterrupt):
        carrying(script).ask(call)
    assert [kind_of(event) for event in script.events] == [Call, Answered, Abandoned]
    assert script.events[1].outcome.sent


# -------------------------------------------------------------------------------------------------- on asyncio


def on_a_loop(test: Callable[[AsyncRuntime, Script], Awaitable[None]]) -> None:
    """Run a test of the asyncio runtime, on a loop that keeps silent about what breaks off."""

    async def go() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        script = Script()
        stand_in: Any = script
        made = AsyncRuntime(script.core, stand_in, SystemClock(), stand_in, stand_in)
        await test(made, script)

    asyncio.run(go())


def test_on_a_loop_another_core_comes_after_a_step_that_was_broken_off() -> None:
    async def test(made: AsyncRuntime, script: Script) -> None:
        script.failures = 1
        with pytest.raises(RecursionError):
            made.step(Answered(REQUEST, Failed(ConsulUnavailable("no answer"), True)))
        await settle()
        assert [kind_of(event) for event in script.events] == [Answered]
        assert script.replaced == 1

    on_a_loop(test)


def test_on_a_loop_a_call_that_breaks_off_is_abandoned() -> None:
    async def test(made: AsyncRuntime, script: Script) -> None:
        script.failures = 1
        with pytest.raises(RecursionError):
            await made.ask(Lock(("a",)))
        await settle()
        assert [kind_of(event) for event in script.events] == [Call, Abandoned]

    on_a_loop(test)


@pytest.mark.parametrize("times", [1, 2])
def test_on_a_loop_what_is_carried_out_is_part_of_the_step(times: int) -> None:
    """And the new beginning may be broken off, too."""

    async def test(made: AsyncRuntime, script: Script) -> None:
        sent: list[Any] = []

        def carry_out(receive: Any, commands: Any) -> None:
            sent.extend(commands)
            if len(sent) <= times:
                raise RecursionError

        script.carry_out = carry_out
        script.answers[Abandoned] = [REQUEST, Transact(2, ())]
        with pytest.raises(RecursionError):
            made.step(Abandoned(Lock(())))
        await eventually(lambda: script.replaced == times)
        await settle()
        assert [type(command) for command in sent] == [Transact] + [Forget] * times

    on_a_loop(test)
