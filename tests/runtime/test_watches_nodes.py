"""The sessions of many Lockers are watched together, by their node."""

from __future__ import annotations

import pytest

from consul_locker.client.decode import HttpResponse
from consul_locker.core.requests import Failed, SessionRead
from consul_locker.runtime.watches import NODE_QUERIES, OWN_SESSION_WATCHES, Watches

from ..behaviour.tools import settle
from .line import Line, gone, node_at, on_node, run, watch_session


async def answered(line: Line, response: HttpResponse) -> None:
    """Answer the one query that is under way, and let all who wait for it go on."""
    (answer,) = line.open()
    answer.set_result(response)
    await settle()


def test_who_is_gone_is_told_and_the_others_go_on() -> None:
    async def test(watching: Watches, line: Line) -> None:
        one, two = await on_node(watching, line, (1, 5), (2, 6))
        assert "index" not in dict(line.sent[-1][0].params)  # the first is a look at the present state
        await answered(line, node_at(6, 1, 2, 77))
        assert ("index", "6") in line.sent[-1][0].params
        await answered(line, node_at(8, 2))
        assert await one == SessionRead(None, 8)
        assert not two.done()
        await answered(line, node_at(9, 3))
        assert await two == SessionRead(None, 9)

    run(test)


def test_who_comes_later_joins_the_query_under_way() -> None:
    """It asks from before his session was there, or has shown it, or tells at once that it is gone."""

    async def test(watching: Watches, line: Line) -> None:
        (one,) = await on_node(watching, line, (1, 5))
        await answered(line, node_at(6, 1, 2))
        own = [watch_session(watching, 900 + number, 1) for number in range(OWN_SESSION_WATCHES)]
        await line.arrived(2 * OWN_SESSION_WATCHES + 2)
        shown, newer, too_late = (watch_session(watching, *seen) for seen in ((2, 4), (3, 7), (4, 5)))
        assert await too_late == SessionRead(None, 6)
        await settle()
        assert len(line.sent) == 2 * OWN_SESSION_WATCHES + 2
        for each in own:
            await gone(each)
        await answered(line, node_at(7, 1, 3))
        assert await shown == SessionRead(None, 7)
        assert not newer.done()
        await gone(newer)
        await gone(one)

    run(test)


@pytest.mark.parametrize("index", [6, 4])
def test_a_query_that_has_nothing_new_is_told_to_all_as_one_of_their_own(index: int) -> None:
    """Its time was over, or a snapshot was restored: by their index the Lockers know what to do."""

    async def test(watching: Watches, line: Line) -> None:
        one, two = await on_node(watching, line, (1, 5), (2, 3))
        await answered(line, node_at(6, 1, 2))
        await answered(line, node_at(index, 1))
        told = await one
        assert isinstance(told, SessionRead)
        assert told.session is not None
        assert told.index == min(index, 5)
        assert await two == SessionRead(None, min(index, 3))

    run(test)


def test_a_failure_is_told_to_all_who_watch_the_node() -> None:
    async def test(watching: Watches, line: Line) -> None:
        watchers = await on_node(watching, line, (1, 5), (2, 3))
        await answered(line, HttpResponse(500, {}, b"No cluster leader"))
        for watcher in watchers:
            assert isinstance(await watcher, Failed)

    run(test)


def test_without_its_node_a_session_is_watched_alone() -> None:
    async def test(watching: Watches, line: Line) -> None:
        (one,) = await on_node(watching, line, (1, 5))
        await gone(one)
        alone = [watch_session(watching, number, 5, "") for number in range(OWN_SESSION_WATCHES + 1)]
        await line.arrived(2 * OWN_SESSION_WATCHES + 2)
        assert all("/session/info/" in request.path for request, _ in line.sent[-len(alone) :])
        for each in alone:
            await gone(each)

    run(test)


def test_nobody_s_node_is_watched_no_more() -> None:
    async def test(watching: Watches, line: Line) -> None:
        one, two = await on_node(watching, line, (1, 5), (2, 6))
        await gone(two)
        assert line.open()
        await gone(one)
        assert not line.open()

    run(test)


def test_queries_that_are_answered_quickly_make_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that ignores the index answers each at once."""
    monkeypatch.setattr("consul_locker.runtime.watches.NODE_QUERIES_IN", 3600.0)

    async def test(watching: Watches, line: Line) -> None:
        (one,) = await on_node(watching, line, (1, 5))
        for index in range(NODE_QUERIES):
            await answered(line, node_at(6 + index, 1))
        assert not line.open()  # it pauses
        await gone(one)

    run(test)
