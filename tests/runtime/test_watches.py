"""watching: blocking queries shared by those who wait for the same, and the turns of too many.

A line to Consul that the test answers by hand stands where the connections are, so each order of events is
played as it is written here.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest

from consul_locker.core.requests import KeysRead, WatchKey, WatchSession
from consul_locker.errors import ConsulUnavailable
from consul_locker.runtime.watches import Watches

from ..behaviour.tools import WAIT, eventually, settle
from .line import Line, at, gone, just_before, run, wish

# ---------------------------------------------------------------------------------------------- sharing


def test_those_who_wait_for_the_same_share_a_query() -> None:
    async def test(watching: Watches, line: Line) -> None:
        wishes = [wish(watching, 7) for _ in range(5)]
        await settle()
        late = wish(watching, 7)
        await settle()
        ((_, answer),) = line.sent
        answer.set_result(at(9))
        assert await asyncio.gather(*wishes, late) == [KeysRead((), 9)] * 6

    run(test)


@pytest.mark.parametrize("other", [{"index": 8}, {"key": "l"}, {"kind": WatchSession}])
def test_those_who_wait_for_something_else_do_not(other: dict[str, Any]) -> None:
    async def test(watching: Watches, line: Line) -> None:
        wishes = [wish(watching, 7), wish(watching, **{"index": 7, **other})]
        await line.arrived(2)
        for one in wishes:
            await gone(one)

    run(test)


def test_a_change_after_a_shared_look_is_not_missed() -> None:
    """The look was answered before the change, and joined after it: the next query asks from that answer on."""

    async def test(watching: Watches, line: Line) -> None:
        first = wish(watching)
        await line.arrived(1)  # Consul looks now, at index 5; then the key changes, index 6
        late = wish(watching)
        await settle()
        line.sent[0][1].set_result(at(5))
        assert [(await one).index for one in (first, late)] == [5, 5]
        again = [wish(watching, 5), wish(watching, 5)]
        await line.arrived(2)
        assert ("index", "5") in line.sent[1][0].params
        line.sent[1][1].set_result(at(6))  # which Consul does at once, since 6 is after 5
        assert [(await one).index for one in again] == [6, 6]
        assert len(line.sent) == 2

    run(test)


def test_an_answered_query_is_joined_no_more() -> None:
    """Its answer is on the way to those who have waited; the next wish needs a newer one."""

    async def test(watching: Watches, line: Line) -> None:
        first = wish(watching, 7)
        await line.arrived(1)
        second = []
        just_before(watching, "_unshare", lambda: second.append(wish(watching, 7)))
        line.sent[0][1].set_result(at(8))
        await line.arrived(2)
        assert await first == KeysRead((), 8)
        line.sent[1][1].set_result(at(9))
        assert await second[0] == KeysRead((), 9)

    run(test)


def test_only_the_last_one_to_give_up_ends_the_query() -> None:
    async def test(watching: Watches, line: Line) -> None:
        first, second, third = (wish(watching, 7) for _ in range(3))
        await line.arrived(1)
        (answer,) = line.open()
        await gone(first)  # the one who began it
        await gone(third)
        assert not answer.done()
        await gone(second)
        assert answer.cancelled()

    run(test)


def test_who_stays_gets_the_answer() -> None:
    async def test(watching: Watches, line: Line) -> None:
        first, second = wish(watching, 7), wish(watching, 7)
        await line.arrived(1)
        await gone(first)
        line.open()[0].set_result(at(8))
        assert await second == KeysRead((), 8)

    run(test)


def test_who_comes_as_the_last_one_leaves_begins_a_query_of_his_own() -> None:
    async def test(watching: Watches, line: Line) -> None:
        first = wish(watching, 7)
        await line.arrived(1)
        first.cancel()
        second = wish(watching, 7)
        await line.arrived(2)
        assert line.sent[0][1].cancelled()
        await settle()  # the end of the first query takes nothing from the second
        third = wish(watching, 7)
        await settle()
        line.open()[0].set_result(at(8))
        assert await asyncio.gather(second, third) == [KeysRead((), 8)] * 2
        assert len(line.sent) == 2
        assert first.cancelled()

    run(test)


def test_a_failure_is_everyone_s() -> None:
    async def test(watching: Watches, line: Line) -> None:
        wishes = [wish(watching, 7), wish(watching, 7)]
        await line.arrived(1)
        line.open()[0].set_exception(ConsulUnavailable("no answer", sent=True))
        for one in wishes:
            with pytest.raises(ConsulUnavailable, match="no answer"):
                await one
        again = wish(watching, 7)  # it is not remembered
        await line.arrived(2)
        line.open()[0].set_result(at(8))
        assert await again == KeysRead((), 8)

    run(test)


def test_a_failure_that_nobody_waits_for_is_no_complaint(caplog: pytest.LogCaptureFixture) -> None:
    async def test(watching: Watches, line: Line) -> None:
        only = wish(watching, 7)
        await line.arrived(1)
        just_before(watching, "_unshare", only.cancel)
        line.open()[0].set_exception(ConsulUnavailable("no answer", sent=True))
        await asyncio.wait({only})
        assert only.cancelled()

    with caplog.at_level(logging.ERROR, "asyncio"):
        run(test)
        gc.collect()  # asyncio complains when the task is collected
    assert not caplog.records


# ------------------------------------------------------------------------------------------------ turns


def test_one_who_shares_needs_no_place_of_his_own() -> None:
    async def test(watching: Watches, line: Line) -> None:
        wishes = [wish(watching, 7), wish(watching, 7)]
        await line.arrived(1)
        assert not watching._lines[WatchKey]
        line.open()[0].set_result(at(8))
        await asyncio.gather(*wishes)

    run(test, connections=2)


def test_a_watch_that_is_given_up_frees_its_place() -> None:
    async def test(watching: Watches, line: Line) -> None:
        first, second, third = (wish(watching, index) for index in (7, 8, 9))
        await line.arrived(1)
        await gone(second)
        await gone(first)
        await line.arrived(2)
        line.open()[0].set_result(at(10))
        assert await third == KeysRead((), 10)

    run(test, connections=2)


def test_a_watch_that_is_given_up_leaves_the_line() -> None:
    async def test(watching: Watches, line: Line) -> None:
        first, second = wish(watching, 7), wish(watching, 8)
        await eventually(lambda: watching._lines[WatchKey])
        await gone(second)
        assert not watching._lines[WatchKey]
        assert not watching._crowded.is_set()
        await gone(first)

    run(test, connections=2)


def test_a_place_given_to_one_who_is_just_given_up() -> None:
    async def test(watching: Watches, line: Line) -> None:
        first, second = wish(watching, 7), wish(watching, 8)
        await line.arrived(1)
        await eventually(lambda: watching._lines[WatchKey])
        just_before(watching, "_end_turn", second.cancel)
        line.open()[0].set_result(at(9))
        assert await first == KeysRead((), 9)
        await asyncio.wait({second})
        assert second.cancelled()
        assert len(line.sent) == 1

    run(test, connections=2)


def test_a_turn_that_is_cut_short_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consul_locker.runtime.watches.WATCH_TURN", 0.001)

    async def test(watching: Watches, line: Line) -> None:
        first = wish(watching, 7)
        await line.arrived(1)
        second = wish(watching, 8)
        await line.arrived(2)
        assert line.sent[0][1].cancelled()
        line.open()[0].set_result(at(9))
        assert await second == KeysRead((), 9)
        await line.arrived(3)
        assert ("index", "7") in line.sent[2][0].params
        line.open()[0].set_result(at(9))
        assert await first == KeysRead((), 9)

    run(test, connections=2)


def test_who_begins_while_others_wait_asks_for_a_turn_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Consul ends such a query by itself: it is waited for, not broken off."""
    monkeypatch.setattr("consul_locker.runtime.watches.WATCH_TURN", 0.001)

    async def test(watching: Watches, line: Line) -> None:
        wishes = [wish(watching, index) for index in (7, 8, 9)]
        await line.arrived(2)
        assert [dict(request.params)["wait"] for request, _ in line.sent] == ["300000ms", "1ms"]
        while watching._lines[WatchKey]:
            line.open()[0].set_result(at(10))
            await settle()
        await eventually(line.open)
        line.open()[0].set_result(at(10))
        assert await asyncio.gather(*wishes) == [KeysRead((), 10)] * 3

    run(test, connections=2)


@pytest.mark.parametrize(
    ("length", "index", "told"),
    [(0.0, 7, False), (0.0, 8, True), (60.0, 7, True)],
    ids=["its time was over", "something is new", "it was broken off"],
)
def test_a_turn_that_ends_with_nothing_new_is_told_only_when_it_was_broken_off(
    monkeypatch: pytest.MonkeyPatch, length: float, index: int, told: bool
) -> None:
    """One that comes back early with nothing new was broken off, as by a restored snapshot: the core sweeps then."""
    monkeypatch.setattr("consul_locker.runtime.watches.WATCH_TURN", length)

    async def test(watching: Watches, line: Line) -> None:
        watching._lines[WatchKey].append(asyncio.get_running_loop().create_future())  # others wait for a place
        turn = asyncio.create_task(watching._turn(WatchKey(1, "k", 7, 300.0)))
        await line.arrived(1)
        line.open()[0].set_result(at(index))
        assert await turn == (KeysRead((), index) if told else None)
        watching._lines[WatchKey].clear()

    run(test)


@pytest.mark.parametrize("rounds", range(16))
def test_whoever_is_given_up_as_a_place_comes_free_does_no_harm(rounds: int) -> None:
    """Whatever the loop does first: the place is there for the next one, and the answer is that of who had it."""

    async def test(watching: Watches, line: Line) -> None:
        first, second, third = wish(watching, 7), wish(watching, 8), wish(watching, 9)
        await line.arrived(1)
        await settle()
        line.open()[0].set_result(at(20))
        for _ in range(rounds):
            await asyncio.sleep(0)
        await gone(second)
        assert await asyncio.wait_for(first, WAIT) == KeysRead((), 20)
        await eventually(line.open)
        line.open()[0].set_result(at(21))
        assert await asyncio.wait_for(third, WAIT) == KeysRead((), 21)

    run(test, connections=2)


def test_who_waits_for_a_key_goes_before_who_watches_a_session() -> None:
    session = "00000000-0000-0000-0000-000000000000"

    async def test(watching: Watches, line: Line) -> None:
        first = wish(watching, 7)
        await line.arrived(1)
        last, next_one = wish(watching, 1, session, WatchSession), wish(watching, 8)
        await settle()
        line.open()[0].set_result(at(20))
        await first
        await line.arrived(2)
        assert "/kv/" in line.sent[1][0].path
        line.open()[0].set_result(at(20))
        await next_one
        await line.arrived(3)
        assert "/session/" in line.sent[2][0].path
        await gone(last)

    run(test, connections=2)
