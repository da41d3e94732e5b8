"""The time of calls: one timer for the next moment, whatever the number of calls."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consul_locker.core.calls import Info
from consul_locker.core.deadlines import KEPT, Deadlines
from consul_locker.core.messages import CancelTimer, SetTimer
from consul_locker.core.step import Outbox

from .helpers import Driver, held


def made() -> tuple[Outbox, Deadlines, list[str]]:
    out = Outbox(lambda: 0.5)
    over: list[str] = []

    def end(call: object) -> None:
        assert isinstance(call, Info)
        out.settle(call)
        over.append(call.id)

    return out, Deadlines(out, end), over


def test_calls_that_are_answered_in_time_set_no_timers() -> None:
    driver = Driver().ready()
    driver.commands.clear()
    for number in range(20):
        driver.call("lock", str(number), timeout=2.0)
        driver.grant()
    assert [command.name for command in driver.commands if isinstance(command, (SetTimer, CancelTimer))] == [("calls",)]


def test_when_it_is_due_it_is_set_for_the_next_that_has_no_answer() -> None:
    driver = Driver().ready()
    first, second = driver.call("lock", "a", timeout=2.0), driver.call("lock", "b", timeout=5.0)
    third = driver.call("lock", "c", timeout=7.0)
    began = driver.now
    driver.fire("call", first)
    assert driver.result(first) is not None
    assert driver.timers[("calls",)] == began + 5.0
    driver.fire("call", second)
    assert driver.timers[("calls",)] == began + 7.0
    driver.fire("call", third)
    assert ("calls",) not in driver.timers


def test_a_call_with_less_time_comes_before() -> None:
    driver = Driver().ready()
    driver.call("lock", "a", timeout=5.0)
    driver.call("lock", "b", timeout=2.0)
    assert driver.timers[("calls",)] == driver.now + 2.0


def test_a_stopped_locker_has_no_timer() -> None:
    driver = Driver().ready()
    driver.call("lock", "a", timeout=30.0)
    driver.grant()
    driver.call("stop")
    driver.destroyed()
    assert driver.core.state == "stopped"
    assert ("calls",) not in driver.timers


def test_answered_calls_are_forgotten_in_time() -> None:
    out, deadlines, _ = made()
    for number in range(20 * KEPT):
        call = Info(str(number))
        call.order = number
        deadlines.add(call, 1000.0)
        if number % KEPT:
            out.settle(call)
    assert len(out.limited) == 20
    assert len(deadlines._heap) <= 2 * KEPT


def test_nothing_is_kept_of_a_call_that_is_answered_or_whose_caller_has_gone() -> None:
    """Its error keeps the frames of its caller, and these may keep the Locker and its factory."""
    driver = Driver().ready()
    driver.call("lock", "a", timeout=3600.0)
    driver.answer(driver.commit(), held())
    driver.abandon(driver.call("lock", "b", timeout=3600.0))
    assert driver.core._out.limited == {}


@given(st.lists(st.tuples(st.floats(0.0, 10.0), st.booleans()), max_size=30))
def test_each_call_without_an_answer_is_over_at_its_time_and_no_other(calls: list[tuple[float, bool]]) -> None:
    out, deadlines, over = made()
    expected = []
    for number, (timeout, answered) in enumerate(calls):
        call = Info(str(number))
        call.order = number
        deadlines.add(call, timeout)
        if answered:
            out.settle(call)
        else:
            expected.append((timeout, number))
    due = [command.at for command in out.commands if isinstance(command, SetTimer)]
    while due:
        at = due[-1]
        out.commands.clear()
        out.now = at
        out.fired(("calls",))
        assert all(timeout <= at for timeout, number in expected if str(number) in over)
        due = [command.at for command in out.commands if isinstance(command, SetTimer)]
    assert over == [str(number) for _, number in sorted(expected)]
