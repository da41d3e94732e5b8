"""Observers that `create` is given hear the very first signal; the listeners of `Locker.fsm` hear signals too."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker import ConfigurationError, LockerFactory, aio, signals
from consul_locker.embedded import Agent
from consul_locker.fsm import TableError

#: How long anything may take that is waited for, in seconds; far more than it needs.
WAIT = 20.0

BEGINNING = [("state_changed", None, "acquiring"), ("session_created",), ("state_changed", "acquiring", "ready")]


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


class Ear:
    """Hears all signals by methods of their names."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.stopped = threading.Event()

    def state_changed(self, locker: Any, *, from_state: str, to_state: str, input: str) -> None:
        self.heard.append(("state_changed", from_state, to_state))
        if to_state == "stopped":
            self.stopped.set()

    def session_created(self, locker: Any, *, session_id: str) -> None:
        self.heard.append(("session_created",))

    def lock_acquired(self, locker: Any, *, id: str, key: str, lease: Any) -> None:
        self.heard.append(("lock_acquired", id))


class AsyncEar(Ear):
    async def session_created(self, locker: Any, *, session_id: str) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.heard.append(("session_created",))


def test_the_very_first_signal_is_heard(agent: Agent) -> None:
    ear = Ear()
    with LockerFactory.embedded(agent) as factory:
        locker = factory.create("heard", observers=ear)
        locker.lock("a")
        locker.stop()
        assert ear.stopped.wait(WAIT)
    assert ear.heard[:4] == [*BEGINNING, ("lock_acquired", "a")]


def test_observers_may_be_a_mapping_or_several(agent: Agent) -> None:
    one, two = Ear(), Ear()
    acquired: list[Any] = []
    mapping = {"lock-acquired": lambda locker, **facts: acquired.append((locker, facts["id"])), "released": print}
    with LockerFactory.embedded(agent) as factory:
        locker = factory.create("heard", observers=[one, mapping, two])
        other = factory.create("unheard", observers=None)
        other.lock("b")
        locker.lock("a")
        assert acquired == [(locker, "a")]
        assert one.heard == two.heard == [*BEGINNING, ("lock_acquired", "a")]


def test_observers_of_create_come_before_those_that_are_connected(agent: Agent) -> None:
    order: list[str] = []
    with LockerFactory.embedded(agent) as factory:
        locker = factory.create("heard", observers={"lock_acquired": lambda locker, **facts: order.append("own")})

        def connected(locker: Any, **facts: Any) -> None:
            order.append("connected")

        with signals.lock_acquired.connected_to(connected, sender=locker):
            locker.lock("a")
    assert order == ["own", "connected"]


def test_one_that_raises_is_logged_and_the_next_is_called(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    def bad(locker: Any, **facts: Any) -> None:
        raise RuntimeError("boom")

    ear = Ear()
    with LockerFactory.embedded(agent) as factory:
        factory.create("heard", observers=[{"session_created": bad}, ear]).lock("a")
        assert ("session_created",) in ear.heard
    assert "an observer of session-created failed" in caplog.text


def test_the_locker_holds_them_and_nothing_else_does(agent: Agent) -> None:
    factory = LockerFactory.embedded(agent)
    ear = Ear()
    collected = threading.Event()
    gone = weakref.ref(ear, lambda _: collected.set())
    locker = factory.create("heard", observers=ear)
    locker.stop()
    del ear
    gc.collect()
    assert gone() is not None
    factory.close()
    del locker, factory
    for _ in range(int(WAIT / 0.1)):  # a thread of the factory's may be at its last line yet
        gc.collect()
        if collected.wait(0.1):
            break
    assert gone() is None


def test_on_asyncio_they_may_be_coroutine_functions(agent: Agent) -> None:
    async def main() -> None:
        ear = AsyncEar()
        async with aio.LockerFactory.embedded(agent) as factory:
            locker = factory.create("heard", observers=[ear])
            await locker.lock("a")
            assert ear.heard == [*BEGINNING, ("lock_acquired", "a")]

    asyncio.run(asyncio.wait_for(main(), WAIT))


class AsyncCallable:
    async def __call__(self, locker: Any, **facts: Any) -> None:
        """Never run."""


@pytest.mark.parametrize(
    ("observers", "message"),
    [
        (5, "an object with methods named after signals"),
        (object(), "the signals are"),
        ([Ear(), None], "an object with methods named after signals"),
        (Ear, "an object with methods named after signals"),
        ("session_created", "an object with methods named after signals"),
        ({"lock_aquired": print}, "did you mean 'lock_acquired'"),
        ({"xyz": print}, "the name of a signal: one of"),
        ({5: print}, "the name of a signal: one of"),
        ({"released": 5}, "a callable for the signal released"),
        ([AsyncEar()], "coroutine functions can observe on consul_locker.aio"),
        ({"released": AsyncCallable()}, "coroutine functions can observe on consul_locker.aio"),
        ({"released": functools.partial(AsyncEar.session_created)}, "coroutine functions can observe"),
    ],
)
def test_what_could_hear_nothing_is_refused(agent: Agent, observers: Any, message: str) -> None:
    with LockerFactory.embedded(agent) as factory, pytest.raises(ConfigurationError) as caught:
        factory.create("heard", observers=observers)
    assert message in str(caught.value)


# ---------------------------------------------------------------------------------- the Locker as a machine


def test_signals_are_events_of_the_locker_s_machine(agent: Agent) -> None:
    heard: list[Any] = []
    ended = threading.Event()
    with LockerFactory.embedded(agent) as factory:
        locker = factory.create("machine")
        assert locker.wait_for_state("ready", WAIT)
        locker.fsm.on("lock_acquired", lambda data: heard.append((data["namespace"], data["id"], data["lease"].valid)))
        locker.fsm.on("released", lambda data: heard.append(("released", data["id"])))
        locker.fsm.on("released", lambda data: heard.append("twice"))
        locker.fsm.on("session_ended", lambda data: ended.set())
        locker.lock("a")
        locker.release("a")
        assert heard == [("locker", "a", True), ("released", "a"), "twice"]
        locker.stop()
        assert ended.wait(WAIT)


def test_who_listens_to_all_hears_them_among_the_machine_s_own(agent: Agent) -> None:
    heard: list[str] = []
    with LockerFactory.embedded(agent) as factory:
        locker = factory.create("machine")
        locker.fsm.on("*", lambda event, data: heard.append(event))
        assert locker.wait_for_state("ready", WAIT)
        locker.lock("a")
        for event in ("handling", "handled", "lock_acquired"):
            assert event in heard
        assert heard.index("handling") < heard.index("lock_acquired")


def test_a_near_miss_of_a_signal_is_refused(agent: Agent) -> None:
    with LockerFactory.embedded(agent) as factory:
        view = factory.create("machine").fsm
        with pytest.raises(TableError, match="did you mean 'lock_acquired'"):
            view.on("lock_aquired", print)
        with pytest.raises(TableError, match="did you mean 'transition'"):
            view.on("transtion", print)


def test_its_actions_are_the_locker_s(agent: Agent) -> None:
    seen: list[Any] = []
    with LockerFactory.embedded(agent) as factory:
        locker = factory.create("machine")
        assert locker.wait_for_state("ready", WAIT)
        view = locker.fsm
        core = locker._core.fsm
        core.on("handling", lambda data: seen.append((view.current_action, view.prior_action, view.in_exit_handler)))
        locker.lock("a")
        assert seen[0] == ("ready.lock", "acquiring.session_created", False)
        assert (view.current_action, view.prior_action) == ("", "ready.lock")
        assert (view.begun, view.composite_state, view.child) == (True, "ready", None)


def test_in_an_exit_action_it_says_so(agent: Agent) -> None:
    agent.stop_listening()
    seen: list[bool] = []
    with LockerFactory.embedded(agent) as factory:
        locker = factory.create("machine", retry_interval=60.0)
        assert locker.wait_for_state("paused", WAIT)
        actions = locker._core.fsm.client
        leave = actions.leave_paused

        def watched() -> None:
            seen.append(locker.fsm.in_exit_handler)
            leave()

        actions.leave_paused = watched
        locker.stop()
    assert seen == [True]


def test_what_it_can_handle_are_a_user_s_inputs(agent: Agent) -> None:
    with LockerFactory.embedded(agent) as factory:
        locker = factory.create("machine")
        assert locker.wait_for_state("ready", WAIT)
        view = locker.fsm
        assert (view.knows("lock"), view.knows("session_lost")) == (True, False)
        assert (view.can_handle("lock"), view.can_handle("session_lost")) == (True, False)
        view.post("release", "a")
        for refused in (view.snapshot, view.dispose, view.reset):
            with pytest.raises(RuntimeError):
                refused()
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            copy.copy(view)
