"""threads/carriers: callers who were served together ask again one by one; what they want goes together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import count

import pytest

from consul_locker import Lease, Locker, LockerFactory
from consul_locker.core.batch import Batch
from consul_locker.embedded import Agent
from consul_locker.threads import carriers

from ..behaviour.tools import WAIT, Gate, until
from .tools import in_thread, served_together


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Agent() as agent, Gate(agent.address) as gate:
        yield gate


@pytest.fixture
def locker(gate: Gate) -> Iterator[Locker]:
    """One whose last transaction had several callers."""
    with LockerFactory(gate.address) as factory:
        locker = factory.create("gathers")
        served_together(locker, gate, 5)
        yield locker


def meanwhile(monkeypatch: pytest.MonkeyPatch, locker: Locker, then: Callable[[], None]) -> list[Future[Lease]]:
    """While a caller lets others run, another one asks; then something happens to the first."""
    asked: list[Future[Lease]] = []

    def run_others() -> None:
        monkeypatch.undo()
        wanted = locker.stats()["requests"]
        asked.append(in_thread(lambda: locker.lock("another")))
        until(lambda: len(locker._core.batch._wanted) == 2)
        assert locker.stats()["requests"] == wanted + 1
        then()

    monkeypatch.setattr(carriers, "let_others_run", run_others)
    return asked


def test_those_who_come_meanwhile_go_along(locker: Locker, monkeypatch: pytest.MonkeyPatch) -> None:
    before = locker.stats()["transactions"]
    asked = meanwhile(monkeypatch, locker, lambda: None)
    assert locker.lock("one").valid
    assert asked[0].result(WAIT).valid
    assert locker.stats()["transactions"] == before + 1


def test_who_is_interrupted_meanwhile_leaves_nobody_waiting(locker: Locker, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    asked = meanwhile(monkeypatch, locker, interrupt)
    with pytest.raises(KeyboardInterrupt):
        locker.lock("one")
    assert asked[0].result(WAIT).valid
    assert "one" not in locker.held


def test_after_a_transaction_of_one_nobody_is_expected(locker: Locker, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locker.lock("alone").valid
    monkeypatch.setattr(carriers, "let_others_run", pytest.fail)
    assert locker.lock("alone again").valid


def test_it_waits_for_others_so_often_at_most(locker: Locker, monkeypatch: pytest.MonkeyPatch) -> None:
    more, times = count(1), []
    monkeypatch.setattr(Batch, "wanted", property(lambda batch: next(more)))
    monkeypatch.setattr(carriers, "let_others_run", lambda: times.append(1))
    monkeypatch.setattr(locker._core.batch, "last", 1000)
    carriers.gather(locker._core.batch)
    assert len(times) == carriers.GATHERS
