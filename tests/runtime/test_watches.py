"""Blocking queries: shared by those who wait for the same, left when nobody does; and polls where there is no place.

A line to Consul that the test answers by hand stands where the connections are, so each order of events is
played as it is written here.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest

from consul_locker.core.requests import KeysRead, WatchSession
from consul_locker.errors import ConsulUnavailable
from consul_locker.runtime.watches import Watches

from ..behaviour.tools import settle
from .line import Line, at, gone, just_before, run, wish

SESSION = "00000000-0000-0000-0000-000000000000"

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


def test_a_query_that_nobody_waits_for_is_left_and_can_be_joined() -> None:
    """To close it would free nothing: Consul counts its connection until the wait is over (measured)."""

    async def test(watching: Watches, line: Line) -> None:
        session = wish(watching, 1, SESSION, WatchSession)
        first, second = wish(watching, 7), wish(watching, 7)
        await line.arrived(2)
        await gone(first)  # the one who began it
        await gone(second)
        assert len(line.open()) == watching._running == 2
        third = wish(watching, 7)
        await settle()
        line.sent[1][1].set_result(at(8))
        assert await third == KeysRead((), 8)
        assert len(line.sent) == 2
        await gone(session)

    run(test)


@pytest.mark.parametrize("answer", [at(8), at(7), ConsulUnavailable("no answer", sent=True)])
def test_the_answer_to_a_left_query_is_nobody_s(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def test(watching: Watches, line: Line) -> None:
        session, only = wish(watching, 1, SESSION, WatchSession), wish(watching, 7)
        await line.arrived(2)
        await gone(only)
        if isinstance(answer, Exception):
            line.sent[1][1].set_exception(answer)
        else:
            line.sent[1][1].set_result(answer)
        await settle()
        assert (len(line.sent), watching._running) == (2, 1)
        await gone(session)

    with caplog.at_level(logging.ERROR, "asyncio"):
        run(test)
        gc.collect()  # asyncio complains when the task is collected
    assert not caplog.records


def test_a_left_query_ends_when_another_address_comes_in_use() -> None:
    async def test(watching: Watches, line: Line) -> None:
        session, only = wish(watching, 0, SESSION, WatchSession), wish(watching, 7)
        await line.arrived(2)
        await gone(only)
        line.addresses.failed(line.addresses.current)
        await settle()
        assert line.sent[1][1].cancelled()
        assert len(line.sent) == 2
        await gone(session)

    run(test)


def test_with_the_last_watch_left_queries_end() -> None:
    """A session is watched as long as there is a Locker; after that a program may close its event loop."""

    async def test(watching: Watches, line: Line) -> None:
        session, only = wish(watching, 1, SESSION, WatchSession), wish(watching, 7)
        await line.arrived(2)
        await gone(only)
        await gone(session)
        assert not line.open()

    run(test)


def test_who_stays_gets_the_answer() -> None:
    async def test(watching: Watches, line: Line) -> None:
        first, second = wish(watching, 7), wish(watching, 7)
        await line.arrived(1)
        await gone(first)
        line.open()[0].set_result(at(8))
        assert await second == KeysRead((), 8)

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


# ------------------------------------------------------------------------------------------- places and polls


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consul_locker.runtime.watches.POLL_PAUSE", 0.0)
    monkeypatch.setattr("consul_locker.runtime.watches.POLLS", 1e9)


def test_one_who_shares_needs_no_place_of_his_own() -> None:
    async def test(watching: Watches, line: Line) -> None:
        wishes = [wish(watching, 7), wish(watching, 7)]
        await line.arrived(1)
        await settle()
        assert not watching._pausing
        line.open()[0].set_result(at(8))
        await asyncio.gather(*wishes)

    run(test, connections=2)


def test_one_without_a_place_polls_until_there_is_one(no_pause: None) -> None:
    async def test(watching: Watches, line: Line) -> None:
        first = wish(watching, 7)
        await line.arrived(1)
        second = wish(watching, 8)
        await line.arrived(2)
        assert "index" not in dict(line.sent[1][0].params)
        line.sent[0][1].set_result(at(8))
        assert await first == KeysRead((), 8)
        line.sent[1][1].set_result(at(8))  # nothing new
        await line.arrived(3)
        assert ("index", "8") in line.sent[2][0].params
        line.sent[2][1].set_result(at(9))
        assert await second == KeysRead((), 9)

    run(test, connections=2)


def test_a_left_query_keeps_its_place(no_pause: None) -> None:
    async def test(watching: Watches, line: Line) -> None:
        stays, first = wish(watching, 7), wish(watching, 8)
        await line.arrived(2)
        await gone(first)
        second = wish(watching, 9)
        await line.arrived(3)
        assert "index" not in dict(line.sent[2][0].params)
        await gone(second)
        await gone(stays)

    run(test, connections=4)


def test_the_last_place_is_for_keys(no_pause: None) -> None:
    """A caller waits for each of those; the end of a session is noticed by its renewal, too."""

    async def test(watching: Watches, line: Line) -> None:
        session = wish(watching, 7, SESSION, WatchSession)
        await line.arrived(1)
        assert "index" not in dict(line.sent[0][0].params)
        key = wish(watching, 8)
        await line.arrived(2)
        assert ("index", "8") in line.sent[1][0].params
        await gone(session)
        await gone(key)

    run(test, connections=2)


def test_a_poll_that_is_given_up_ends(no_pause: None) -> None:
    async def test(watching: Watches, line: Line) -> None:
        first, second = wish(watching, 7), wish(watching, 8)
        await line.arrived(2)
        await gone(second)
        assert line.sent[1][1].cancelled()
        await gone(first)

    run(test, connections=2)


def test_many_polls_pause_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A factory makes so many a second at most, however many of its calls wait."""
    pauses: list[float] = []
    monkeypatch.setattr("consul_locker.runtime.watches.POLLS", 2)

    async def test(watching: Watches, line: Line) -> None:
        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            await asyncio.get_running_loop().create_future()

        with monkeypatch.context() as patched:
            patched.setattr("consul_locker.runtime.watches.asyncio.sleep", sleep)
            wishes = [wish(watching, 7 + number) for number in range(5)]
            while len(pauses) < 4:
                await settled()
        assert pauses == [1.0, 1.0, 1.5, 2.0]
        for one in wishes:
            await gone(one)

    run(test, connections=2)


async def settled() -> None:
    """One round of the loop, where `asyncio.sleep` is another one."""
    turn = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turn.set_result, None)
    await turn
