"""Watches when another address comes in use: what an index means there is asked of the leader."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consul_locker.client.decode import HttpResponse
from consul_locker.core.requests import KeysRead, SessionRead
from consul_locker.errors import AccessDenied, ConsulUnavailable
from consul_locker.runtime import watches
from consul_locker.runtime.watches import Watches

from ..behaviour.tools import settle
from .line import Line, at, gone, node_at, on_node, run, wish

LEADERLESS = HttpResponse(500, {}, b"No cluster leader")


def move(line: Line) -> None:
    """A request to the address in use has failed."""
    line.addresses.failed(line.addresses.current)


def params(line: Line) -> dict[str, str]:
    """Of the latest query."""
    return dict(line.sent[-1][0].params)


def is_look(line: Line) -> bool:
    """Whether the latest query is a consistent read of the present state."""
    return "index" not in params(line) and "consistent" in params(line)


@pytest.mark.parametrize("index", [9, 5])
def test_a_change_is_told_and_so_is_an_index_that_the_leader_says_fell(index: int) -> None:
    async def test(watching: Watches, line: Line) -> None:
        watch = wish(watching, 7)
        await line.arrived(1)
        move(line)
        await line.arrived(2)
        assert line.sent[0][1].cancelled()
        assert is_look(line)
        line.sent[1][1].set_result(at(index))
        assert await watch == KeysRead((), index)

    run(test)


def test_an_unchanged_state_is_watched_on_at_the_new_address() -> None:
    async def test(watching: Watches, line: Line) -> None:
        watch = wish(watching, 7)
        await line.arrived(1)
        move(line)
        await line.arrived(2)
        line.sent[1][1].set_result(at(7))
        await line.arrived(3)
        assert params(line)["index"] == "7"
        assert "consistent" not in params(line)
        line.sent[2][1].set_result(at(8))
        assert await watch == KeysRead((), 8)

    run(test)


def test_a_look_under_way_goes_on() -> None:
    """Without an index nothing of the old address is in it; its transport sends it elsewhere if that is needed."""

    async def test(watching: Watches, line: Line) -> None:
        watch = wish(watching)
        await line.arrived(1)
        move(line)
        await settle()
        line.sent[0][1].set_result(at(3))
        assert await watch == KeysRead((), 3)
        assert len(line.sent) == 1

    run(test)


def test_an_index_that_is_handed_back_after_a_move_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(watching: Watches, line: Line) -> None:
        move(line)
        await settle()
        watch = wish(watching, 7)
        await line.arrived(1)
        assert is_look(line)
        line.sent[0][1].set_result(at(4))
        assert await watch == KeysRead((), 4)
        monkeypatch.setattr(watches, "INDEX_RETURNS", 0.0)  # later
        watch = wish(watching, 4)
        await line.arrived(2)
        assert params(line)["index"] == "4"
        await gone(watch)

    run(test)


@pytest.mark.parametrize("failure", [ConsulUnavailable("broken off", sent=True), LEADERLESS])
def test_a_query_that_fails_where_the_address_does_looks_at_the_next_one_at_once(failure: Any) -> None:
    async def test(watching: Watches, line: Line) -> None:
        watch = wish(watching, 7)
        await line.arrived(1)
        fail(line, failure)
        await line.arrived(2)
        assert is_look(line)
        line.sent[1][1].set_result(at(8))
        assert await watch == KeysRead((), 8)

    run(test)


def fail(line: Line, failure: Any) -> None:
    """The query under way fails, and so its address."""
    (answer,) = line.open()
    if isinstance(failure, HttpResponse):
        answer.set_result(failure)
    else:
        answer.set_exception(failure)
    line.addresses.current = line.addresses.peers[line.addresses.moves % 2 + 1]
    line.addresses.moves += 1


def test_queries_that_fail_at_every_address_are_a_failure() -> None:
    """The core makes a pause then: nothing may be repeated without one for ever."""

    async def test(watching: Watches, line: Line) -> None:
        watch = wish(watching, 7)
        for count in (1, 3, 5):
            await line.arrived(count)
            assert params(line)["index"] == "7"
            fail(line, ConsulUnavailable(f"no answer {count}", sent=True))
            if count < 5:
                await line.arrived(count + 1)
                assert is_look(line)
                line.open()[0].set_result(at(7))
        with pytest.raises(ConsulUnavailable, match="no answer 5"):
            await watch

    run(test)


def test_a_look_that_fails_is_a_failure() -> None:
    async def test(watching: Watches, line: Line) -> None:
        watch = wish(watching, 7)
        await line.arrived(1)
        move(line)
        await line.arrived(2)
        line.sent[1][1].set_exception(ConsulUnavailable("at no address"))
        with pytest.raises(ConsulUnavailable, match="at no address"):
            await watch

    run(test)


def test_a_refusal_is_told() -> None:
    async def test(watching: Watches, line: Line) -> None:
        watch = wish(watching, 7)
        await line.arrived(1)
        line.sent[0][1].set_result(HttpResponse(403, {}, b"Permission denied"))
        outcome = await watch
        assert isinstance(outcome.error, AccessDenied)

    run(test)


def test_those_who_share_a_query_share_its_look() -> None:
    async def test(watching: Watches, line: Line) -> None:
        both = [wish(watching, 7), wish(watching, 7)]
        await line.arrived(1)
        move(line)
        await line.arrived(2)
        line.sent[1][1].set_result(at(8))
        assert await asyncio.gather(*both) == [KeysRead((), 8)] * 2
        assert len(line.sent) == 2

    run(test)


def test_the_query_on_a_node_moves_too() -> None:
    async def test(watching: Watches, line: Line) -> None:
        (one,) = await on_node(watching, line, (1, 5))
        line.open()[0].set_result(node_at(6, 1))
        await settle()
        assert params(line)["index"] == "6"
        move(line)
        await settle()
        assert is_look(line)
        line.open()[0].set_result(node_at(9, 2))
        assert await one == SessionRead(None, 9)

    run(test)


def test_a_move_that_comes_when_the_loop_is_closed_is_nothing() -> None:
    kept: list[Line] = []

    async def test(watching: Watches, line: Line) -> None:
        kept.append(line)

    run(test)
    move(kept[0])
    assert kept[0].addresses.moves == 1
