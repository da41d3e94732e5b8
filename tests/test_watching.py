"""watching: blocking queries shared by those who wait for the same, and the turns of too many.

A line to Consul that the test answers by hand stands where the connections are, so each order of events is
played as it is written here.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from consul_locker.client.answers import HttpResponse
from consul_locker.client.requests import Encoder, HttpRequest
from consul_locker.config.options import ClientOptions
from consul_locker.core.requests import Failed, KeysRead, Outcome, SessionRead, Watch
from consul_locker.errors import ConsulUnavailable
from consul_locker.runtime.watches import OWN_SESSION_WATCHES, Watches

from .behaviour.tools import WAIT, eventually, settle


class Line:
    """Takes requests as a transport does. Each is in ``sent`` with the future of its answer."""

    def __init__(self) -> None:
        self.sent: list[tuple[HttpRequest, asyncio.Future[HttpResponse]]] = []

    async def send(self, request: HttpRequest, limit: float) -> HttpResponse:
        answer: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        self.sent.append((request, answer))
        return await answer

    def open(self) -> list[asyncio.Future[HttpResponse]]:
        """The answers not given yet, of requests not given up."""
        return [answer for _, answer in self.sent if not answer.done()]

    async def arrived(self, count: int) -> None:
        """Wait until so many requests have come in all."""
        await eventually(lambda: len(self.sent) >= count)


def at(index: int) -> HttpResponse:
    """No such key, at this index."""
    return HttpResponse(404, {"x-consul-index": str(index)}, b"")


def run(test: Callable[[Watches, Line], Coroutine[Any, Any, None]], connections: int = 8) -> None:
    """Run a test on a loop; it must leave nothing behind there."""

    async def go() -> None:
        options = ClientOptions.build(environ={})
        line: Any = Line()
        watching = Watches(options, Encoder(options), line, lambda: connections // 2)
        await asyncio.wait_for(test(watching, line), WAIT)
        await settle()
        assert (watching._queries, watching._nodes, watching._running, watching._waiting) == ({}, {}, 0, False)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(go())


def wish(watching: Watches, index: int = 0, key: str = "k", target: str = "key") -> asyncio.Task[Outcome]:
    """Begin a watch."""
    return asyncio.create_task(watching.watch(Watch(1, target, key, index, 300.0)))


async def gone(task: asyncio.Task[Any]) -> None:
    """Give it up, and wait until it has ended."""
    task.cancel()
    await asyncio.wait_for(asyncio.wait({task}), WAIT)
    assert task.cancelled()


def just_before(watching: Watches, name: str, work: Callable[[], object]) -> None:
    """Do something at the very moment at which this method is called next."""
    method = getattr(watching, name)

    def wrapper(*args: Any) -> None:
        setattr(watching, name, method)
        work()
        method(*args)

    setattr(watching, name, wrapper)


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


@pytest.mark.parametrize("other", [{"index": 8}, {"key": "l"}, {"target": "session"}])
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
        assert not watching._lines["key"]
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
        await eventually(lambda: watching._lines["key"])
        await gone(second)
        assert not watching._lines["key"]
        assert not watching._crowded.is_set()
        await gone(first)

    run(test, connections=2)


def test_a_place_given_to_one_who_is_just_given_up() -> None:
    async def test(watching: Watches, line: Line) -> None:
        first, second = wish(watching, 7), wish(watching, 8)
        await line.arrived(1)
        await eventually(lambda: watching._lines["key"])
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
        while watching._lines["key"]:
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
        watching._lines["key"].append(asyncio.get_running_loop().create_future())  # others wait for a place
        turn = asyncio.create_task(watching._turn(Watch(1, "key", "k", 7, 300.0)))
        await line.arrived(1)
        line.open()[0].set_result(at(index))
        assert await turn == (KeysRead((), index) if told else None)
        watching._lines["key"].clear()

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
        last, next_one = wish(watching, 1, session, "session"), wish(watching, 8)
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


# -------------------------------------------------------------------------- the sessions of many Lockers


def session(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012}"


def node_at(index: int, *numbers: int) -> HttpResponse:
    """The sessions of a node, at this index."""
    body = [{"ID": session(number), "Node": "n", "CreateIndex": number} for number in numbers]
    return HttpResponse(200, {"x-consul-index": str(index)}, json.dumps(body).encode())


def watch_session(watching: Watches, number: int, index: int, node: str = "n") -> asyncio.Task[Outcome]:
    """Begin a watch on a session that was seen at an index."""
    return asyncio.create_task(watching.watch(Watch(1, "session", session(number), index, 300.0, node)))


async def on_node(watching: Watches, line: Line, *seen: tuple[int, int]) -> list[asyncio.Task[Outcome]]:
    """Begin watches that are one query on the node, beside those of Lockers that have their own; all are to be gone."""
    own = [watch_session(watching, 900 + number, 1) for number in range(OWN_SESSION_WATCHES)]
    await line.arrived(OWN_SESSION_WATCHES)
    shared = [watch_session(watching, number, index) for number, index in seen]
    await line.arrived(OWN_SESSION_WATCHES + 1)
    for one in own:
        await gone(one)
    assert len(line.sent) == OWN_SESSION_WATCHES + 1
    (answer,) = line.open()
    assert line.sent[-1][0].path == "/v1/session/node/n"
    assert line.sent[-1][1] is answer
    return shared


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
