"""The clocks of a factory."""

from __future__ import annotations

import time

import pytest

from consul_locker.embedded import ManualClock
from consul_locker.runtime.clock import Clock, SystemClock


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock()])
def test_a_clock_never_goes_back(clock: Clock) -> None:
    times = [clock.now() for _ in range(1000)]
    assert times == sorted(times)


def test_the_clock_of_the_system_goes_on_during_suspend_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(time, "clock_gettime", lambda clock: asked.append(clock) or 1.0)
    SystemClock().now()
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    SystemClock().now()
    assert asked[1] == time.CLOCK_MONOTONIC
    assert asked[0] == getattr(time, "CLOCK_BOOTTIME", asked[0])
