"""A Locker below a state of a user's machine, on threads."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from consul_locker import (
    AlreadyLocked,
    ConfigurationError,
    InvalidLockId,
    Locker,
    LockerFactory,
    SessionEnded,
    SessionUnavailable,
    embed,
)
from consul_locker.embedded import Agent
from consul_locker.fsm import Action, Defer, Fsm, Input, State, Table, UnknownInput
from consul_locker.may_wait import MACHINES

#: How long anything may take that is waited for, in seconds; far more than it needs.
WAIT = 20.0
#: The signals that arrive as inputs.
TOLD = ("lock_acquired", "lock_denied", "lock_lost", "released", "session_created", "session_ended")


class Told:
    """Keeps the inputs that arrive, and lets a test wait for them."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self._more = threading.Condition()

    def __call__(self, name: str, facts: dict[str, Any]) -> None:
        with self._more:
            self.heard.append((name, facts))
            self._more.notify_all()

    def inputs(self) -> dict[str, Any]:
        """Handlers for all of them."""
        return {name: self._handler(name) for name in TOLD}

    def _handler(self, name: str) -> Any:
        return lambda client, facts: self(name, facts)

    def names(self) -> list[str]:
        return [name for name, _ in self.heard]

    def wait_for(self, name: str, times: int = 1) -> dict[str, Any]:
        """The facts of an input, once it has come so often."""
        with self._more:
            assert self._more.wait_for(lambda: self.names().count(name) >= times, WAIT), self.heard
        return [facts for each, facts in self.heard if each == name][times - 1]


@pytest.fixture
def factory() -> Iterator[LockerFactory]:
    with LockerFactory.embedded() as factory:
        yield factory


def house(make: Callable[..., Any], told: Told, on_enter: Any = None, **inputs: Any) -> Fsm:
    """A machine with a Locker below its second state, which is entered."""
    fsm = Fsm.of(
        {
            "off": State(inputs={"on": "on"}),
            "on": State(child=make, on_enter=on_enter, inputs={**told.inputs(), "off": "off", **inputs}),
        },
        initial_state="off",
        mutex=True,
    )
    fsm.handle("on")
    return fsm


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Nothing in here may stall."""
    before = time.monotonic()
    yield
    assert time.monotonic() - before < seconds


def test_the_program_of_the_design(agent: Any) -> None:
    """Section 8 as it stands there, with another Locker that competes."""
    done: list[int] = []
    acquired = threading.Event()
    factory = LockerFactory(agent.address)
    table = Table(
        {
            "standby": State(inputs={"lead": "leading", "job": Defer("leading")}),
            "leading": State(
                child=lambda service: embed(factory.create(name="embedding-reports", delete_on_release=True)),
                on_enter=lambda service: service.handle("lock", "leader"),
                inputs={
                    "job": Action(lambda service, n: done.append(n), "run it"),
                    "lock_acquired": lambda service, facts: acquired.set(),
                    "lock_denied": "standby",
                    "lock_lost": "standby",
                },
            ),
        },
        initial_state="standby",
    )
    service: Fsm = Fsm(table, mutex=True)
    states: list[str] = []
    standby = threading.Event()
    service.on("transition", lambda data: states.append(data["to_state"]))
    service.on("transition", lambda data: standby.set() if data["to_state"] == "standby" else None)
    with factory, LockerFactory(agent.address) as others:
        service.handle("job", 1)
        service.handle("lead")
        assert service.composite_state in ("leading.acquiring", "leading.ready")
        assert done == [1]
        assert acquired.wait(WAIT)
        assert service.composite_state == "leading.ready"
        rival = others.create("embedding-reports")
        with pytest.raises(AlreadyLocked):
            rival.lock("leader")
        service.child.locker.reboot()  # the lock is lost, and so is the lead
        assert standby.wait(WAIT)
        lease = rival.lock("leader", wait=WAIT)
        standby.clear()
        service.handle("lead")  # refused, this time
        assert standby.wait(WAIT)
        assert lease.valid
        rival.release("leader")
    assert "leading" in states


def test_signals_arrive_as_inputs_with_their_facts(factory: LockerFactory) -> None:
    told = Told()
    fsm = house(lambda me: embed(factory.create("e")), told)
    session = told.wait_for("session_created")
    assert session["session_id"] == fsm.child.locker.session_id
    future = fsm.handle("lock", 7)
    acquired = told.wait_for("lock_acquired")
    assert (acquired["id"], acquired["key"]) == ("7", fsm.child.locker.held["7"].key)
    assert acquired["lease"] is future.result(WAIT)
    fsm.handle("release", 7)
    assert told.wait_for("released")["id"] == "7"
    fsm.handle("lock", "8")
    told.wait_for("lock_acquired", 2)
    fsm.child.locker.reboot()
    assert told.wait_for("lock_lost")["reason"] == "rebooted"
    assert told.wait_for("session_ended")["session_id"] == session["session_id"]
    assert told.names()[:4] == ["session_created", "lock_acquired", "released", "lock_acquired"]


def test_what_a_signal_does_that_the_state_does_not_know_is_nothing(factory: LockerFactory) -> None:
    nobody = threading.Event()
    heard: list[Any] = []
    fsm = Fsm.of({"on": State(child=lambda me: embed(factory.create("e")))}, initial_state="on", mutex=True)
    fsm.on("*", lambda event, data: heard.append((event, data)))
    fsm.on("nohandler", lambda data: nobody.set() if data["input"] == "lock_acquired" else None)
    fsm.handle("lock", "a")
    assert nobody.wait(WAIT)
    assert "lock_acquired" in [event for event, _ in heard]


def test_a_session_that_was_there_before_is_told_once(factory: LockerFactory) -> None:
    locker = factory.create("e")
    assert locker.wait_for_state("ready", WAIT)
    told = Told()
    fsm = house(lambda me: embed(locker), told)
    assert told.wait_for("session_created") == {"session_id": locker.session_id}
    fsm.child._hear(fsm.child._stay, "session_created", {"session_id": locker.session_id})  # as it may yet come
    fsm.handle("lock", "a")
    told.wait_for("lock_acquired")
    assert told.names() == ["session_created", "lock_acquired"]


def test_a_lock_that_gives_no_signal_is_told_all_the_same(factory: LockerFactory) -> None:
    locker = factory.create("e")
    lease = locker.lock("a", timeout=WAIT)
    told = Told()
    fsm = house(lambda me: embed(locker), told)
    fsm.handle("lock", "a")  # answered from the cache
    assert told.wait_for("lock_acquired")["lease"] is lease
    fsm.handle("lock", "a").result(WAIT)
    fsm.handle("release", "a")
    told.wait_for("released")
    assert told.names().count("lock_acquired") == 1  # it is one tenure


def test_every_refusal_is_told_once(factory: LockerFactory) -> None:
    rival = factory.create("e")
    rival.lock("a", timeout=WAIT)
    told = Told()
    fsm = house(lambda me: embed(factory.create("e")), told)
    fsm.handle("lock", "a")
    assert told.wait_for("lock_denied")["error"].reason == "held"
    fsm.child.locker.stop()
    fsm.handle("lock", "a")
    assert type(told.wait_for("lock_denied", 2)["error"]) is SessionEnded
    fsm.handle("lock", "b")
    denied = told.wait_for("lock_denied", 3)
    assert (denied["id"], denied["key"]) == ("b", "e/b/lock")
    assert told.names().count("lock_denied") == 3


def test_a_refusal_without_a_session_is_told() -> None:
    with Agent() as agent, LockerFactory.embedded(agent) as factory:
        agent.stop_listening()
        told = Told()
        fsm = house(lambda me: embed(factory.create("e", max_retries=0)), told, lambda me: me.handle("lock", "a"))
        denied = told.wait_for("lock_denied")
        assert isinstance(denied["error"], (SessionUnavailable, SessionEnded))  # before it gave up, or after
        assert fsm.composite_state == "on.stopped"
        agent.listen_again()


def test_a_cancelled_call_is_not_told() -> None:
    with Agent() as agent, LockerFactory.embedded(agent) as factory:
        agent.stop_listening()
        told = Told()
        fsm = house(lambda me: embed(factory.create("e", retry_interval=0.01)), told)
        assert fsm.child.handle("lock", "a", wait=None).cancel()  # nothing was asked for it yet
        agent.listen_again()
        fsm.handle("lock", "b")
        told.wait_for("lock_acquired")
        assert "lock_denied" not in told.names()


def test_leaving_begins_the_stop_and_waits_for_nothing() -> None:
    with Agent() as agent, LockerFactory.embedded(agent) as factory:
        told = Told()
        fsm = house(lambda me: embed(factory.create("e")), told)
        first = fsm.child
        fsm.handle("lock", "a").result(WAIT)
        with agent.pause(), within(WAIT / 2):
            fsm.handle("off")
            assert fsm.composite_state == "off"
        assert first.locker.wait_for_state("stopped", WAIT)
        assert not {"lock_lost", "session_ended"} & set(told.names())  # the state was left
        fsm.handle("on")
        assert fsm.child is not first
        fsm.handle("lock", "a").result(WAIT)
        assert told.wait_for("lock_acquired", 2)["lease"].valid


def test_what_was_on_its_way_when_the_state_was_left_is_not_heard(factory: LockerFactory) -> None:
    told = Told()
    fsm = house(lambda me: embed(factory.create("e")), told)
    told.wait_for("session_created")
    child, stay = fsm.child, fsm.child._stay
    fsm.handle("off")
    child._hear(stay, "lock_lost", {"id": "a"})
    assert told.names() == ["session_created"]


def test_what_its_child_does_not_take_bubbles(factory: LockerFactory) -> None:
    told = Told()
    got: list[Any] = []
    fsm = house(
        lambda me: embed(factory.create("e")), told, stop=lambda me: "stopped?", job=lambda me, n: got.append(n)
    )
    fsm.handle("job", 1)
    fsm.handle(Input("job"), 2)
    fsm.child.handle("job", 3)
    fsm.handle("stop")
    assert got == [1, 2, 3]
    assert fsm.child.state != "stopped"
    with pytest.raises(UnknownInput):
        fsm.handle("reboot")
    fsm.handle("off")
    with pytest.raises(UnknownInput):
        fsm.handle("lock", "a")


def test_what_it_shows(factory: LockerFactory) -> None:
    fsm = house(lambda me: embed(factory.create("e")), Told())
    child = fsm.child
    assert (child.knows("lock"), child.knows("stop")) == (True, False)
    assert (child.can_handle("release"), child.can_handle("job")) == (True, False)
    assert fsm.can_handle("lock") is True
    assert child.composite_state == child.state == child.locker.state
    assert repr(child).startswith("<EmbeddedLocker of <consul_locker.Locker 'e'")
    assert fsm.snapshot()["child"] is None


def test_mistakes_of_a_call_are_raised_at_once(factory: LockerFactory) -> None:
    fsm = house(lambda me: embed(factory.create("e")), Told())
    with pytest.raises(InvalidLockId):
        fsm.handle("lock", "")
    with pytest.raises(ConfigurationError):
        fsm.child.handle("lock", "a", wait=-1)
    with pytest.raises(TypeError):
        fsm.handle("lock")


@pytest.mark.parametrize("mutex", [False, None])
def test_on_threads_the_parent_needs_a_mutex(factory: LockerFactory, mutex: bool | None) -> None:
    lockers: list[Locker] = []

    def make(me: Fsm) -> Any:
        lockers.append(factory.create("e"))
        return embed(lockers[-1])

    states = {"off": State(inputs={"on": "on"}), "on": State(child=make)}
    fsm = Fsm.of(states, initial_state="off", mutex=mutex)
    with pytest.raises(RuntimeError, match="must be made with mutex=True"):
        fsm.handle("on")
    assert fsm.state == "off"
    assert lockers[0].wait_for_state("stopped", WAIT)


def test_only_a_locker_can_be_embedded() -> None:
    with pytest.raises(TypeError, match=r"embed\(\) takes a Locker"):
        embed(Fsm.of({"a": State()}, initial_state="a"))  # type: ignore[arg-type]


def test_each_entry_takes_a_locker_of_its_own(factory: LockerFactory) -> None:
    child = embed(factory.create("e"))
    fsm = house(lambda me: child, Told())
    with pytest.raises(RuntimeError, match="make one for each entry"):
        child.entered()
    fsm.handle("off")
    with pytest.raises(RuntimeError, match="make one for each entry"):
        fsm.handle("on")
    assert fsm.state == "off"


def test_one_that_has_no_parent_tells_nobody(factory: LockerFactory) -> None:
    locker = factory.create("e")
    child = embed(locker)
    child.entered()
    assert child.handle("lock", "a").result(WAIT).valid
    assert child.handle("release", "a").result(WAIT)
    child.left()
    assert locker.wait_for_state("stopped", WAIT)


def test_a_machine_with_a_locker_below_it_can_be_a_child_itself(factory: LockerFactory) -> None:
    told = Told()
    inner = house(lambda me: embed(factory.create("e")), told)
    outer = Fsm.of({"a": State(child=lambda me: inner, inputs={})}, initial_state="a", mutex=True)
    assert outer.composite_state.startswith("a.on.")
    outer.handle("lock", "a")
    told.wait_for("lock_acquired")
    assert told.heard[-1][1]["id"] == "a"
    outer.dispose()


# ------------------------------------------------------------------------------- what would wait is refused


WAITS: dict[str, Callable[[Locker], Any]] = {
    "lock": lambda locker: locker.lock("a"),
    "release": lambda locker: locker.release("a"),
    "hold": lambda locker: locker.hold("a").__enter__(),
    "stop": lambda locker: locker.stop(),
    "info": lambda locker: locker.info("a"),
    "wait_for_state": lambda locker: locker.wait_for_state("paused"),
    "wait_lost": lambda locker: locker.held["b"].wait_lost(),
}


@pytest.mark.parametrize("call", WAITS)
def test_what_would_wait_in_a_handler_is_refused_with_advice(factory: LockerFactory, call: str) -> None:
    def try_it(me: Fsm) -> str:
        with pytest.raises(RuntimeError, match="would wait in an action or a handler") as refused:
            WAITS[call](me.child.locker)
        return str(refused.value)

    told = Told()
    said: list[str] = []
    fsm = house(lambda me: embed(factory.create("e")), told, wait=lambda me: said.append(try_it(me)))
    fsm.handle("lock", "b").result(WAIT)
    with within(WAIT / 2):
        fsm.handle("wait")
    assert 'handle("lock", id)' in said[0]
    if call == "lock":
        assert "use submit_lock there" in said[0]


def test_so_is_a_lock_in_an_entry_action_of_any_locker(factory: LockerFactory) -> None:
    told = Told()
    other = factory.create("other")
    on = State(
        child=lambda me: embed(factory.create("e")),
        on_enter=lambda me: other.lock("a"),
        inputs={**told.inputs(), "off": "off"},
    )
    states = {"off": State(inputs={"on": "on"}), "on": on}
    fsm = Fsm.of(states, initial_state="off", mutex=True)
    with within(WAIT / 2), pytest.raises(RuntimeError, match="use submit_lock there"):
        fsm.handle("on")
    assert fsm.state == "on"
    assert other.lock("a", timeout=WAIT).valid  # not in the machine it waits as ever
    fsm.handle("off")


def test_submit_lock_works_in_an_entry_action(factory: LockerFactory) -> None:
    told = Told()
    fsm = house(lambda me: embed(factory.create("e")), told, lambda me: me.child.locker.submit_lock("a", wait=None))
    assert told.wait_for("lock_acquired")["lease"] is fsm.child.locker.held["a"]


def test_nor_can_a_factory_be_closed_there(factory: LockerFactory) -> None:
    fsm = house(lambda me: embed(factory.create("e")), Told(), end=lambda me: factory.close())
    with pytest.raises(RuntimeError, match="a factory cannot be closed"):
        fsm.handle("end")


def test_a_hold_that_is_left_there_is_left_without_waiting(factory: LockerFactory) -> None:
    held = factory.create("e")
    hold = held.hold("a", timeout=WAIT)
    hold.__enter__()
    told = Told()
    fsm = house(lambda me: embed(factory.create("e")), told, leave=lambda me: hold.__exit__(None, None, None))
    with within(WAIT / 2):
        fsm.handle("leave")
    assert factory.create("e").lock("a", wait=WAIT).valid


def test_an_observer_that_calls_the_machine_never_waits_for_a_caller_in_it(factory: LockerFactory) -> None:
    """The stall of the trial: an entry action waited for its signals, their observer for the machine."""
    told = Told()
    fsm = house(lambda me: embed(factory.create("e")), told, seen=lambda me: None)
    observed = threading.Event()

    def observe(data: Any) -> None:
        fsm.handle("seen")
        observed.set()

    fsm.child.locker.fsm.on("lock_acquired", observe)
    inside, go_on = threading.Event(), threading.Event()

    def hold_it(me: Fsm) -> None:
        inside.set()
        assert go_on.wait(WAIT)

    fsm2 = house(lambda me: embed(factory.create("e2")), Told(), off2=hold_it)
    busy = threading.Thread(target=fsm2.handle, args=("off2",))
    busy.start()
    try:
        assert inside.wait(WAIT)
        fsm2.child.locker.submit_lock("a").result(WAIT)  # its signal arrives at a machine that is busy: nobody waits
        fsm.child.locker.lock("a", timeout=WAIT)
        assert observed.wait(WAIT)
        told.wait_for("lock_acquired")
    finally:
        go_on.set()
        busy.join(WAIT)
    assert not busy.is_alive()


def test_many_threads_and_signals_at_once_end(factory: LockerFactory) -> None:
    told = Told()
    fsm = house(lambda me: embed(factory.create("e")), told)

    def work(n: int) -> None:
        for turn in range(10):
            lock = f"{n}-{turn}"
            fsm.handle("lock", lock).result(WAIT)
            fsm.handle("release", lock).result(WAIT)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()
    told.wait_for("released", 40)
    assert told.names().count("lock_acquired") == 40


def test_a_machine_that_is_thrown_away_refuses_nothing() -> None:
    guard = Fsm.of({"a": State()}, initial_state="a", mutex=True)._guard
    guard.owner = threading.get_ident()

    child = Told()  # whatever object
    MACHINES.add(child, guard)
    assert MACHINES.here
    del child
    gc.collect()
    another = Told()
    MACHINES.add(another, guard)
    MACHINES.remove(another)
    assert not MACHINES.here


def test_a_machine_may_leave_after_its_factory_was_closed() -> None:
    with LockerFactory.embedded() as factory:
        told = Told()
        fsm = house(lambda me: embed(factory.create("e")), told)
        told.wait_for("session_created")
    fsm.handle("off")
    assert fsm.state == "off"
