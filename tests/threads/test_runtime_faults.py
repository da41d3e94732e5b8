"""What users meet when the runtimes go wrong, and planted bugs, each of which one of these tests finds.

Each test of a behaviour is a function with a limit, in seconds, for what would hang. It runs once as it is, and once
with a bug in place: then it must fail. A bug is a few lines put in place of a method; where a method has another name
by now, the bug is put in its new place.
"""

from __future__ import annotations

import concurrent.futures
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from itertools import count
from typing import Any

import pytest

from consul_locker import LockerFactory, LockTimeout
from consul_locker.core.calls import Lock
from consul_locker.core.messages import Answered, Call, Command, SetTimer, Settle
from consul_locker.core.requests import Transact
from consul_locker.embedded import Agent
from consul_locker.threads import io_thread
from consul_locker.threads.carriers import Carriers
from consul_locker.threads.io_thread import IoThread
from consul_locker.threads.runtime import ThreadRuntime

from ..behaviour.tools import WAIT, Gate, Held, until
from ..interleaving import Meanwhile
from .test_runtime import Script
from .test_runtime import carrying as scripted

#: How long a test looks for what a planted bug keeps from happening, in seconds.
SHORT = 2.0
#: How long a caller is given to go to sleep, in seconds. One that takes longer is looked at later.
MOMENT = 0.05


def in_thread(work: Callable[[], Any]) -> Future[Any]:
    """Do something in a thread of its own; what comes of it."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def ends(future: Future[Any], limit: float) -> Any:
    """How a call ended that has to end within the limit: its error, or its answer."""
    try:
        error = future.exception(limit)
    except concurrent.futures.TimeoutError:
        raise AssertionError("the call does not end") from None
    return error or future.result()


# -------------------------------------------------------------------------- a call ends within its own limits (rule 7)


def a_call_with_little_time_ends_in_time(limit: float) -> None:
    """Whatever becomes of its request: the limit on that is 30 s, the call's own is half a second."""
    with Agent() as agent, Gate(agent.address) as gate, LockerFactory(gate.address, timeout=WAIT) as factory:
        locker = factory.create("n")
        assert locker.wait_for_state("ready", WAIT)
        answer = gate.hold("PUT /v1/txn")
        try:
            call = in_thread(lambda: locker.lock("a", timeout=0.5))
            answer.wait()
            assert isinstance(ends(call, limit), LockTimeout)
        finally:
            answer.let_go()


def a_call_ends_although_others_go_on(limit: float) -> None:
    """Who was answered sends one request for others at most; the next is sent by one of those who wait for it."""
    with Agent() as agent, Gate(agent.address) as gate, LockerFactory(gate.address, timeout=WAIT) as factory:
        locker = factory.create("n")
        assert locker.wait_for_state("ready", WAIT)
        calls: list[Future[Any]] = []
        answers: list[Held] = []
        try:
            for number in range(3):
                answers.append(gate.hold("PUT /v1/txn", 1))
                calls.append(in_thread(partial(locker.lock, number)))
                until(lambda: locker.stats()["requests"] == len(calls))  # what it wants goes into the next request
                for answer in answers[-2:-1]:
                    answer.let_go()
                answers[-1].wait()
            assert ends(calls[0], limit).valid
        finally:
            for answer in answers:
                answer.let_go()
        assert all(ends(call, WAIT).valid for call in calls)


# ----------------------------------------------------------------------- a request outlives who was to send it (rule 7)


def a_request_offered_to_a_caller_who_is_answered_goes_out(limit: float) -> None:
    """The offer and the caller's answer come together from another thread, before whatever line of the caller's.

    Then the caller sends the request, or somebody else does.
    """
    for line in count():
        script, call = Script(), Lock(("a",))
        request, answer = Transact(1, (), calls=(call,)), Settle(call, 7)
        runtime = scripted(script)
        found = Meanwhile(line, partial(carry_out, runtime, request, answer), since=partial(is_there, call))
        caller = in_thread(partial(found.run, partial(runtime.ask, call)))
        if not found.done.wait(MOMENT):  # it sleeps; the line may be one of those after that
            carry_out(runtime, answer)
        assert ends(caller, WAIT) == 7
        if not found.reached:
            break
        sent = [event for event in script.events if isinstance(event, Answered) and event.request is request]
        assert len(sent) + script.handed.count(request) == 1, f"lost, or sent twice, at line {line}"
    assert line > 5


def carry_out(runtime: ThreadRuntime, *commands: Command) -> None:
    """In a thread that has just taken a step of the core."""
    runtime._carry_out(deque(commands), None)


def is_there(call: Call) -> bool:
    """Whether a call waits, or is about to."""
    return call.waiter is not None


# ----------------------------------------------------------------------------------- the I/O thread misses no wake-up


class Noting:
    """Stands for an exchange; notes what it is given."""

    destroying = False

    def __init__(self) -> None:
        self.carried: list[Command] = []

    def carry_out(self, receive: object, commands: Iterable[Command]) -> None:
        self.carried.extend(commands)

    async def keep_destroys(self, answered: object) -> None:
        """There are none."""

    async def close(self) -> None:
        """Nothing to close."""


def a_command_is_carried_out_whenever_it_comes(limit: float) -> None:
    """Also when the I/O thread is just looking whether there is anything to do, at whatever line."""
    exchange: Any = Noting()
    thread = IoThread(lambda: exchange)
    thread.start()
    loop = thread._loop
    assert loop is not None

    def give(command: Command) -> None:
        thread.put(print, command)
        thread.wake()

    try:
        for line in count():
            first, second = SetTimer(("first", line), 1.0), SetTimer(("second", line), 1.0)
            found = Meanwhile(line, partial(give, second), below=(io_thread.__file__, __file__))
            loop.call_soon_threadsafe(sys.settrace, found.trace)
            give(first)
            until(lambda: first in exchange.carried)  # noqa: B023
            looked = threading.Event()
            loop.call_soon_threadsafe(looked.set)
            assert looked.wait(WAIT)
            if not found.reached:
                break
            assert found.done.wait(WAIT)
            until(lambda: second in exchange.carried, limit)  # noqa: B023
        assert line > 5
    finally:
        loop.call_soon_threadsafe(sys.settrace, None)
        thread.close()


# ----------------------------------------------------------------------------------------------------- planted bugs


def a_caller_carries_without_time_left(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Carriers, "has_time", lambda self, call: True)


def a_leader_carries_for_ever(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("consul_locker.threads.carriers.EXTRA_TRANSACTIONS", 1_000_000)


def an_offer_is_not_passed_on_after_the_answer(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Carriers, "take_back", lambda self, waiter: setattr(waiter, "closed", True))


def the_wake_flag_is_set_after_the_look(patch: pytest.MonkeyPatch) -> None:
    def drain(self: Any) -> None:
        if self._io_loop is None:
            return
        while self._inbox:
            receive, command = self._inbox.popleft()
            self._io_loop.carry_out(receive, (command,))
        self._woken = False

    patch.setattr(IoThread, "_drain", drain)


#: What users meet, and the bug that keeps it from them.
BEHAVIOURS: dict[Callable[[float], None], list[Callable[[pytest.MonkeyPatch], None]]] = {
    a_call_with_little_time_ends_in_time: [a_caller_carries_without_time_left],
    a_call_ends_although_others_go_on: [a_leader_carries_for_ever],
    a_request_offered_to_a_caller_who_is_answered_goes_out: [an_offer_is_not_passed_on_after_the_answer],
    a_command_is_carried_out_whenever_it_comes: [the_wake_flag_is_set_after_the_look],
}


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda one: one.__name__)
def test(behaviour: Callable[[float], None]) -> None:
    behaviour(WAIT)


@pytest.mark.parametrize(
    ("behaviour", "bug"),
    [(behaviour, bug) for behaviour, bugs in BEHAVIOURS.items() for bug in bugs],
    ids=lambda one: one.__name__,
)
def test_the_bug_is_found(
    behaviour: Callable[[float], None], bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        behaviour(SHORT)
