"""`Locker.fsm`: a Locker as a machine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker import Locker, LockerFactory, aio
from consul_locker.embedded import Agent
from consul_locker.fsm import diagrams

#: How long anything may take that is waited for, in seconds; far more than it needs.
WAIT = 20.0


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


@pytest.fixture
def locker(agent: Agent) -> Iterator[Locker]:
    with LockerFactory.embedded(agent) as factory:
        yield factory.create("seen")


def test_it_shows_the_machine(locker: Locker) -> None:
    assert locker.wait_for_state("ready", WAIT)
    assert locker.fsm.state == "ready"
    assert locker.fsm.prior_state == "acquiring"
    assert locker.fsm.input_queue == ()
    assert "ready" in diagrams.mermaid(locker.fsm)


def test_deferred_calls_are_seen_by_their_ids(agent: Agent) -> None:
    agent.stop_listening()
    with LockerFactory.embedded(agent) as factory:
        locker = factory.create("seen", retry_interval=0.01, max_retries=None)
        future = locker.fsm.handle("lock", 7)
        (queued,) = locker.fsm.input_queue
        assert (queued.until, queued.input, queued.args) == ("ready", "lock", ("7",))
        agent.listen_again()
        assert future.result(WAIT).id == "7"


def test_inputs_go_through_the_runtime(locker: Locker) -> None:
    view = locker.fsm
    lease = view.handle("lock", "a", timeout=WAIT).result(WAIT)
    assert locker.held == {"a": lease}
    assert view.handle("release", "a").result(WAIT) is True
    view.handle("stop").result(WAIT)
    assert view.state == "stopped"
    view.handle("start")
    assert locker.wait_for_state("ready", WAIT)
    view.handle("reboot")
    with pytest.raises(ValueError, match="'session_lost' is no input of a user: one of lock, release"):
        view.handle("session_lost")


def test_its_events_are_heard_by_the_thread_of_the_observers(locker: Locker) -> None:
    assert locker.wait_for_state("ready", WAIT)
    heard: list[Any] = []
    done = threading.Event()

    def listen(event: str, data: dict[str, Any]) -> None:
        heard.append((event, data.get("input"), threading.current_thread().name))
        if event == "transition" and data["to_state"] == "stopped":
            done.set()

    subscription = locker.fsm.on("*", listen)
    locker.fsm.on("nobody emits this", print)
    locker.lock("a")
    locker.stop()
    assert done.wait(WAIT)
    assert ("handling", "lock", "consul_locker-signals") in heard
    subscription.off()
    locker.fsm.off()
    before = len(heard)
    locker.start()
    assert locker.wait_for_state("ready", WAIT)
    assert len(heard) == before


def test_who_listens_after_another_core_has_come_hears_that_one(locker: Locker) -> None:
    assert locker.wait_for_state("ready", WAIT)
    view, heard = locker.fsm, threading.Event()
    locker._follow(locker._core)  # as after a step that was broken off
    view.on("transition", lambda data: heard.set())
    locker.reboot()
    assert heard.wait(WAIT)


def test_a_coroutine_function_hears_no_events(locker: Locker) -> None:
    async def listen(data: dict[str, Any]) -> None:
        raise AssertionError("it is never run")

    with pytest.raises(TypeError, match="a plain function; a coroutine can observe signals"):
        locker.fsm.on("transition", listen)


def test_what_would_move_it_past_its_inputs_is_refused(locker: Locker) -> None:
    view = locker.fsm
    for refused in (
        lambda: view.transition("stopped"),
        lambda: view.defer_until_transition("ready"),
        lambda: view.defer_and_transition("ready"),
        view.process_queue,
        view.clear_queue,
        lambda: view.discard(lambda queued: True),
    ):
        with pytest.raises(RuntimeError):
            refused()
    assert locker.wait_for_state("ready", WAIT)


def test_on_asyncio(agent: Agent) -> None:
    async def main() -> None:
        async with aio.LockerFactory.embedded(agent) as factory:
            locker = factory.create("seen")
            heard: list[str] = []
            locker.fsm.on("handled", lambda data: heard.append(data["input"]))
            lease = await locker.fsm.handle("lock", "a")
            assert lease.valid
            assert await locker.fsm.handle("release", "a")
            await locker.fsm.handle("stop")
            assert locker.fsm.state == "stopped"
            assert "lock" in heard

    asyncio.run(asyncio.wait_for(main(), WAIT))
