"""``hold(…, on_lost=function)``: when it is called, and what it may do."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from consul_locker import ConfigurationError, Locker, LockLost

from ..behaviour.tools import WAIT


async def coroutine(lost: LockLost) -> None:
    """No plain function."""


@pytest.mark.parametrize("wrong", [coroutine, "a text", 1])
def test_what_cannot_be_called_is_refused(locker: Locker, wrong: Any) -> None:
    for hold in (lambda: locker.hold("a", on_lost=wrong), lambda: locker.hold_many(["a"], on_lost=wrong)):
        with pytest.raises(ConfigurationError, match=r"on_lost=.*plain function"):
            hold()


@pytest.mark.parametrize("failure", [ValueError("its own"), SystemExit(3)])
def test_its_errors_are_logged(locker: Locker, caplog: pytest.LogCaptureFixture, failure: BaseException) -> None:
    def fail(lost: LockLost) -> None:
        raise failure

    with pytest.raises(LockLost), locker.hold("a", on_lost=fail):
        locker.reboot()
        assert locker._delivery.flush(WAIT)
    assert "on_lost" in caplog.text
    assert type(failure).__name__ in caplog.text


def test_a_loss_during_the_leaving_tells_nobody(locker: Locker) -> None:
    """The observers' thread is busy while the body ends."""
    told: list[LockLost] = []
    busy = threading.Event()
    locker._delivery.settle(lambda: busy.wait(WAIT))
    with pytest.raises(LockLost), locker.hold("a", on_lost=told.append):
        locker.reboot()
    with locker.hold("b", on_lost=told.append, timeout=WAIT):
        pass
    busy.set()
    assert locker._delivery.flush(WAIT)
    assert told == []


def test_a_loss_before_the_body_is_told(locker: Locker, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a lease that is told to be over twice is told once."""
    told: list[LockLost] = []
    begin = locker._begin_hold

    def lose(*args: Any) -> Any:
        leases = begin(*args)
        locker.reboot()
        return leases

    monkeypatch.setattr(locker, "_begin_hold", lose)
    with pytest.raises(LockLost), locker.hold("a", on_lost=told.append) as lease:
        assert not lease.valid
        lease.wake()
        assert locker._delivery.flush(WAIT)
    assert [(lost.id, lost.reason) for lost in told] == [("a", "rebooted")]


def test_before_a_function(locker: Locker) -> None:
    told: list[LockLost] = []

    @locker.hold("a", on_lost=told.append, timeout=WAIT)
    def work(lose: bool) -> None:
        if lose:
            locker.reboot()
            assert locker._delivery.flush(WAIT)

    for lose in (True, False, True):
        if lose:
            with pytest.raises(LockLost):
                work(lose)
        else:
            work(lose)
    assert len(told) == 2
