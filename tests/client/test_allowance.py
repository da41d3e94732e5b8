"""client/allowance: what a factory's transports make of connections that Consul closes without a byte."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from consul_locker.client.allowance import Allowance
from consul_locker.client.encode import HttpResponse
from consul_locker.client.http import Wire

from .drivers import Asyncio, Make, failure, until
from .servers import PUT, SOON, Server, gate, options


def closing(sock: socket.socket) -> None:
    """A script that closes at once, without a byte."""


def allowance_of(driver: Any) -> Allowance:
    found: Allowance = driver.transport._allowance
    return found


def limit_of(driver: Any) -> int:
    transport = driver.transport
    found: int = transport.limit if isinstance(driver, Asyncio) else transport._limit
    return found


def test_refused_connections_are_tried_no_more(make: Make) -> None:
    """With three accepted of eight: a request that is refused fails, all others wait for one of the three."""
    opened, held = gate()
    with Server(held, held, held, closing) as server:
        driver = make(server, 8)
        running = [driver.start(PUT) for _ in range(3)]
        until(lambda: server.accepted == 3)
        for _ in range(2):
            assert failure(driver, PUT, 1.0).sent in (True, False)
        assert limit_of(driver) == 3
        waiting = [driver.start(PUT) for _ in range(4)]
        assert "became free" in str(failure(driver, PUT, 0.05))
        opened.set()
        answers: list[HttpResponse] = [each.result(SOON) for each in running + waiting]
        assert all(answer.status == 200 for answer in answers)
        assert server.accepted == 5


def test_what_is_idle_beyond_a_lowered_limit_is_closed(make: Make) -> None:
    """By the transport that has met it, and by connections that are busy then when they are done."""
    first, second = gate(), gate()
    ended = threading.Semaphore(0)

    def script(which: tuple[threading.Event, Any]) -> Any:
        def serve(sock: socket.socket) -> None:
            with contextlib.suppress(OSError):
                which[1](sock)
            ended.release()

        return serve

    with Server(*[script(first)] * 4, script(second)) as server:
        driver = make(server, 8)
        idle = [driver.start(PUT) for _ in range(4)]
        until(lambda: server.accepted == 4)
        busy = [driver.start(PUT) for _ in range(4)]
        until(lambda: server.accepted == 8)
        allowance = allowance_of(driver)
        until(lambda: sum(count() for count in allowance._counts) == 8)  # the client, too, knows of all of them
        first[0].set()
        assert [each.result(SOON).status for each in idle] == [200] * 4
        allowance.share(lambda: -4)
        for _ in range(2):  # of another transport of the factory, which tells of fewer than there are
            allowance.refused()
        assert limit_of(driver) == 3
        if isinstance(driver, Asyncio):
            driver.call(driver.transport.close_idle)  # as the exchange does
        for _ in range(4):
            assert ended.acquire(timeout=SOON)
        second[0].set()
        assert [each.result(SOON).status for each in busy] == [200] * 4
        assert ended.acquire(timeout=SOON)
        assert driver.call(lambda: len(driver.transport._idle)) <= 3
        assert driver.send(PUT).status == 200


def test_a_handshake_that_is_closed_at_once_is_a_refusal(make: Make) -> None:
    with Server(closing) as server:
        driver = make(options(server.port, secure=True), 8)
        allowance_of(driver).share(lambda: 4)  # another transport has so many
        for _ in range(2):
            assert not failure(driver, PUT).sent
        assert limit_of(driver) == 4


# ------------------------------------------------------------------------------------------------- the allowance


class Parts:
    """An allowance of 64, of which another transport has so many open."""

    def __init__(self, opened: int) -> None:
        self.opened = opened
        self.told = 0
        self.allowance = Allowance(64)
        self.allowance.share(lambda: self.opened)
        self.allowance.on_lowered(self.tell)

    def tell(self) -> None:
        self.told += 1

    def refuse(self, times: int) -> None:
        for _ in range(times):
            self.allowance.refused()

    @property
    def parts(self) -> tuple[int, int]:
        """For callers, and for the event loop."""
        return self.allowance.part(16, 1), self.allowance.part(48, 2)


def test_two_refusals_lower_it_to_what_is_open_and_so_does_each_further_one() -> None:
    made = Parts(21)
    made.refuse(1)
    assert (made.parts, made.told) == ((16, 48), 0)
    made.refuse(1)
    assert (made.parts, made.told) == ((5, 15), 1)  # of 20
    made.opened = 17  # some of the 20 were about to be refused, too
    made.refuse(4)
    assert (made.parts, made.told) == ((4, 12), 5)
    made.opened = 30  # elsewhere, say: there are never more than were open then
    made.refuse(1)
    assert made.parts == (4, 12)
    made.opened = 3
    made.refuse(1)
    assert made.parts == (1, 2)


def test_an_answered_new_connection_between_them_means_something_else() -> None:
    made = Parts(21)
    for _ in range(3):
        made.refuse(1)
        made.allowance.answered(made.allowance.begun(new=True))
    assert made.parts == (16, 48)
    made.refuse(1)
    made.allowance.answered(made.allowance.begun(new=False))  # says nothing
    made.refuse(1)
    assert made.parts == (5, 15)


def test_without_any_other_connection_nothing_is_known() -> None:
    made = Parts(1)
    made.refuse(5)
    assert made.parts == (16, 48)


@pytest.mark.parametrize("what", ["used before", "an answer began", "its time was over", "late"])
def test_other_failures_are_no_refusals(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, wire = Parts(21), Wire("c")
    wire.started = what == "an answer began"
    if what == "late":
        monkeypatch.setattr("consul_locker.client.allowance.REFUSED_WITHIN", -1.0)
    error = TimeoutError() if what == "its time was over" else ConnectionResetError()
    for _ in range(3):
        made.allowance.failed(made.allowance.begun(new=what != "used before"), error, wire)
    assert made.parts == (16, 48)


def test_after_a_while_there_may_be_more_again_a_longer_one_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("consul_locker.client.allowance.time", SimpleNamespace(monotonic=lambda: now))
    made = Parts(21)
    for length in (30, 60, 120, 240, 480, 480):
        made.refuse(2)
        now += length - 1
        assert made.parts == (5, 15)
        now += 1
        assert made.parts == (16, 48)
    now += 480
    made.refuse(2)  # long after: it is something new
    now += 30
    assert made.parts == (16, 48)
