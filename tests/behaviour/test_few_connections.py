"""A factory with as few connections as it may have: everything works, and the limit is kept.

Counted is by the embedded agent: what is open at once, over the callers' own connections and the event loop's.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from consul_locker import AlreadyLocked, ConfigurationError, LockerFactory, aio
from consul_locker.config.options import FEWEST_CONNECTIONS
from consul_locker.core.requests import KeysRead
from consul_locker.embedded import Agent
from consul_locker.runtime.watches import Watches

from ..runtime.line import Line, at, gone, run, wish
from .faces import FACES
from .tools import WAIT, Consul, settle, until


class Counting(set[Any]):
    """Connections; knows how many there were at most."""

    peak = 0

    def add(self, connection: Any) -> None:
        super().add(connection)
        self.peak = max(self.peak, len(self))


@pytest.mark.parametrize("kind", list(FACES))
@pytest.mark.parametrize("connections", range(FEWEST_CONNECTIONS, 7))
def test_everything_works_with_few_connections(kind: str, connections: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consul_locker.runtime.watches.POLL_PAUSE", 0.05)
    face = FACES[kind]()
    with Agent() as agent:
        opened = Counting()
        agent._served.connections = opened
        with face.factory(agent.address, max_connections=connections, timeout=WAIT) as factory:
            locker, rival = factory.create("few"), factory.create("few")
            assert locker.lock("1").valid
            with pytest.raises(AlreadyLocked):
                rival.lock("1")
            # the sessions' watches are under way now, or are polls, as will be that on the key
            until(lambda: agent._served.requests["GET", "/v1/session/info/"] >= 4)
            waiting = rival.submit_lock("1", wait=WAIT)
            until(lambda: agent._served.requests["GET", "/v1/kv/"] >= 2)
            assert locker.info("1").id == "1"
            many = [locker.submit_lock(str(number)) for number in range(10, 30)]
            assert locker.lock("2").valid
            assert len(locker.lock_many(["3", "4"])) == 2
            assert all(lock.result(WAIT).valid for lock in many)
            assert locker.release("1")
            assert waiting.result(WAIT).valid
            locker.stop()
            rival.stop()
            assert Consul(agent.address).sessions("few") == []
        assert 0 < opened.peak - 1 <= connections  # one was the test's own
    face.close()


@pytest.mark.parametrize("face", [LockerFactory, aio.LockerFactory])
@pytest.mark.parametrize("connections", range(FEWEST_CONNECTIONS))
def test_fewer_are_refused_with_the_smallest_number_that_works(face: Any, connections: int) -> None:
    with pytest.raises(ConfigurationError, match=f"max_connections={connections}.*at least {FEWEST_CONNECTIONS}"):
        face(max_connections=connections)


# -------------------------------------------------------------------------------------------- watches as polls


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consul_locker.runtime.watches.POLL_PAUSE", 0.0)


@pytest.mark.usefixtures("no_pause")
def test_without_a_place_a_watch_is_a_read_again_and_again() -> None:
    async def test(watching: Watches, line: Line) -> None:
        one = wish(watching, 7)
        for count in (1, 2, 3):
            await line.arrived(count)
            assert dict(line.sent[-1][0].params).get("index") is None  # it would be kept from being answered
            line.open()[0].set_result(at(7))
            await settle()
        assert not one.done()
        await line.arrived(4)
        line.open()[0].set_result(at(8))
        assert await one == KeysRead((), 8)

    run(test, connections=1)


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize("index", [3, 0])
def test_a_poll_tells_of_an_index_that_fell_and_a_first_look_whatever_it_sees(index: int) -> None:
    async def test(watching: Watches, line: Line) -> None:
        one = wish(watching, 7 if index else 0)
        await line.arrived(1)
        line.open()[0].set_result(at(index))
        assert await one == KeysRead((), index)

    run(test, connections=1)


@pytest.mark.usefixtures("no_pause")
def test_polls_come_one_after_another_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(watching: Watches, line: Line) -> None:
        one, two = wish(watching, 7, "a"), wish(watching, 7, "b")
        await line.arrived(1)
        await settle()
        assert len(line.sent) == 1
        line.open()[0].set_result(at(8))
        await line.arrived(2)
        line.open()[0].set_result(at(8))
        await asyncio.gather(one, two)
        monkeypatch.setattr("consul_locker.runtime.watches.POLL_PAUSE", 3600.0)
        late = wish(watching, 8, "a")
        await settle()
        assert len(line.sent) == 2
        await gone(late)

    run(test, connections=1)
