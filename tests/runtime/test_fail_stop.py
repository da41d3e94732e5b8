"""Steps that an exception out of nowhere breaks off: another core comes, and what it begins with.

The walk breaks steps off at any line (tests/walk/breaks.py); here one breaks off at its first line, for each thing
that may be under way then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from consul_locker.core.calls import LeaveHold, Lock, Reboot, Start, Stop
from consul_locker.core.locker import LockerCore
from consul_locker.core.messages import Answered, Call, Command, Emit, Event, Settle, TimerFired
from consul_locker.core.requests import CreateSession, DestroySession, ReadKey, SessionCreated, Transact, Watch
from consul_locker.errors import ConsulUnavailable
from consul_locker.lease import BaseLease, SessionLife
from consul_locker.runtime.fail_stop import FailStop

from ..core.helpers import Driver, held


class Runtime(Driver):
    """A driver that takes steps as a runtime does."""

    def __init__(self, **options: Any) -> None:
        super().__init__(begin=False, **options)
        self.jobs: list[Callable[[], object]] = []
        self.heard: list[Emit] = []
        self.fail_stop = FailStop(self.make_core, self.jobs.append)
        self.core = self.fail_stop.core
        self.core.begin(self.now)
        self._take()

    def _take(self) -> list[Command]:
        commands = super()._take()
        for command in commands:
            if isinstance(command, Emit):
                self.fail_stop.tell(command, lambda command=command: self.heard.append(command))  # type: ignore[misc] # mypy knows no defaults of a lambda
            elif isinstance(command, Settle):
                self.fail_stop.answered(command.call)
        return commands

    def step(self, event: Event, now: float | None = None) -> list[Command]:
        self.now = self.now if now is None else now
        assert not self.fail_stop.broken
        self.fail_stop.begin(event)
        self.fail_stop.run(event, self.now)
        commands = self._take()
        self.fail_stop.end()
        return commands

    def broken_off(self, event: Event | None = None) -> Runtime:
        """A step is broken off in the core, at its first line; another core comes."""
        self.fail_stop.begin(TimerFired(("renew",)) if event is None else event)
        return self.replaced()

    def replaced(self) -> Runtime:
        assert self.fail_stop.broken
        self.fail_stop.replace(self.now)
        self.core = self.fail_stop.core
        self._take()
        self.fail_stop.end()
        assert not self.fail_stop.broken
        return self


def unknown(error: Any) -> bool:
    """Whether a call was told that its step was broken off."""
    return isinstance(error, ConsulUnavailable) and error.sent and "broken off" in str(error)


def made(**options: Any) -> Runtime:
    driver = Runtime(**options)
    driver.ready()
    return driver


def test_the_session_ends_and_every_lease_with_it() -> None:
    driver = made()
    lease = driver.locked("a")
    driver.broken_off()
    assert (lease.live, lease.reason) == (False, "broken off")
    assert driver.emitted("lock_lost") == [("lock_lost", "broken off")]
    assert driver.emitted("session_ended") == [("session_ended", "broken off")]
    assert driver.one(DestroySession).session_id == "S1"
    assert "broken off in its middle" in driver.logged()
    assert driver.core.counters()["lost"] == driver.core.counters()["granted"] == 1


def test_the_locker_begins_anew_with_another_session() -> None:
    driver = made()
    lease = driver.locked("a")
    driver.broken_off()
    driver.ready("S2")
    assert driver.states() == ["ready", "acquiring", "ready"]
    assert driver.locked("a").fence > lease.fence
    values = [op.value for request in driver.sent(Transact) for op in request.operations if op.value]
    assert [value.endswith(b'"tenure":%d}' % number) for number, value in enumerate(values, 1)] == [True, True]


def test_every_call_is_answered() -> None:
    driver = made()
    leases = [driver.locked("a")]
    waits = driver.call("hold", "b", wait=None)
    driver.answer(driver.commit(), held())
    calls = [driver.call("release", "a"), driver.call("info", "a"), driver.call("lock", "c", wait=None, timeout=7.0)]
    read = driver.one(ReadKey)
    driver.broken_off()
    assert all(unknown(driver.result(call)) for call in (*calls, waits))
    assert not driver.fail_stop.calls
    assert driver.timers == {}
    assert not driver.all(Watch)
    assert driver.call("leave", leases) in driver.results
    driver.found(read, None)  # its answer reaches nobody


def test_what_ends_something_raises_nothing() -> None:
    makes: list[tuple[Callable[[Any], Call], int | None]] = [
        (lambda lease: LeaveHold([lease]), 0),
        (lambda lease: Stop(), None),
        (lambda lease: Start(), None),
        (lambda lease: Reboot(), None),
    ]
    for make, answer in makes:
        driver = made()
        call = make(driver.locked("a"))
        driver.broken_off(call)
        assert driver.result(call) == answer


def test_answers_to_the_core_before_change_nothing() -> None:
    driver = made()
    call = driver.call("lock", "a")
    request = driver.commit()
    driver.broken_off()
    assert driver.answer(request, driver.committed(request)) == []
    assert unknown(driver.result(call))


def test_a_call_that_was_answered_is_not_given_to_another_core() -> None:
    """As by a runtime that was interrupted before it could take the call out of its queue."""
    driver = made()
    call = Lock(("a",))
    driver.broken_off(call)
    assert driver.step(call) == []
    assert not driver.fail_stop.calls


def test_a_stop_under_way_goes_on() -> None:
    driver = made()
    driver.locked("a")
    stop = driver.call("stop")
    driver.broken_off()
    assert driver.result(stop) is None
    assert driver.core.state == "stopped"
    assert driver.states() == ["ready", "stopped"]
    assert not driver.all(CreateSession)
    driver.answer(driver.all(DestroySession)[-1], driver.committed(Transact(1, ())))
    assert isinstance(driver.result(driver.call("lock", "a")), Exception)


def test_stopped_it_stays_stopped() -> None:
    driver = made()
    driver.call("stop")
    driver.destroyed()
    driver.broken_off()
    assert driver.states() == ["ready", "stopped"]
    assert not driver.all(CreateSession)


def test_when_it_has_given_up_it_stays_stopped() -> None:
    driver = Runtime(max_retries=0)
    driver.no_session()
    assert driver.broken_off().core.state == "stopped"


def test_a_start_during_a_stop_counts() -> None:
    driver = made()
    driver.call("stop")
    driver.call("start")
    assert driver.broken_off().core.state == "acquiring"


def test_a_reboot_counts_but_not_during_a_stop() -> None:
    driver = made()
    driver.call("stop")
    driver.call("reboot")
    assert driver.broken_off().core.state == "stopped"
    driver.broken_off(Reboot())
    assert driver.core.state == "acquiring"


def test_in_acquiring_it_asks_for_another_session() -> None:
    driver = Runtime()
    driver.broken_off()
    assert driver.states() == []  # it is in the state that was told
    first, second = driver.all(CreateSession)
    driver.answer(first, SessionCreated("S1"))
    assert driver.one(DestroySession).session_id == "S1"
    driver.answer(second, SessionCreated("S2"))
    assert driver.core.state == "ready"


def test_in_paused_it_tries_at_once() -> None:
    driver = Runtime()
    driver.no_session()
    driver.broken_off()
    assert driver.states() == ["paused", "acquiring"]


def test_a_first_step_that_was_broken_off() -> None:
    driver = Runtime()
    driver.fail_stop.state = None
    assert driver.broken_off().core.state == "acquiring"


def test_a_session_that_just_came_is_destroyed() -> None:
    driver = Runtime()
    driver.broken_off(Answered(driver.one(CreateSession), SessionCreated("S1")))
    assert driver.one(DestroySession).session_id == "S1"
    assert driver.emitted("session_ended") == []


def test_what_was_to_be_destroyed_still_is() -> None:
    driver = made()
    driver.call("reboot")
    driver.broken_off()
    assert [request.session_id for request in driver.all(DestroySession)] == ["S1", "S1"]


def test_a_lease_of_which_nobody_heard_yet_is_over() -> None:
    """The fast path may have found it."""
    driver = made()
    life = driver.core.session.current
    lease = BaseLease("b", SessionLife(1, "S1", life.deadline, "svc", lambda: driver.now), 1, 0.0, False)
    driver.core.ledger.leases["b"] = lease
    driver.broken_off()
    assert lease.reason == "broken off"
    assert life.deadline < driver.now
    assert driver.emitted("lock_lost") == []


def test_a_signal_that_was_being_queued_is_told_once() -> None:
    driver = made()
    lease = driver.locked("a")
    put = driver.fail_stop._put

    def interrupted(job: Any) -> None:
        put(job)
        raise KeyboardInterrupt

    driver.fail_stop._put = interrupted
    facts = {"id": "a", "key": lease.key, "lease": lease, "reason": "key deleted"}
    driver.fail_stop.begin(TimerFired(("audit",)))
    with pytest.raises(KeyboardInterrupt):
        driver.fail_stop.tell(Emit("lock_lost", facts), lambda: driver.heard.append(Emit("lock_lost", facts)))
    driver.fail_stop._put = put
    driver.replaced()
    for job in driver.jobs:
        job()
    assert [emit.facts["reason"] for emit in driver.heard if emit.signal == "lock_lost"] == ["key deleted"]


def test_a_signal_that_nobody_observes_is_noted() -> None:
    driver = made()
    driver.fail_stop.tell(Emit("session_ended", {"session_id": "S1", "reason": "rebooted"}), None)
    assert driver.fail_stop.session_id is None


def test_a_step_may_be_broken_off_after_its_end_here() -> None:
    driver = made()
    driver.fail_stop.break_off(driver.core)
    before = driver.core
    driver.replaced()
    driver.fail_stop.break_off(before)  # another thread, which had taken its step before
    assert not driver.fail_stop.broken


def test_a_caller_who_is_gone_needs_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = made()
    call = driver.call("lock", "a")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LockerCore, "_abandoned", interrupted)
        driver.abandon(call)
    driver.replaced()
    assert call not in driver.results
    assert call.settled
