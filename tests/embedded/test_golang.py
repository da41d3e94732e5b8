"""Durations and quotes as in Go."""

from __future__ import annotations

import pytest

from consul_locker.embedded.golang import Invalid, duration, quote


def test_durations_and_quotes_as_in_go() -> None:
    assert duration("1h2m3s4ms5us6ns") == 3723_004_005_006
    assert duration("-1.5µs") == -1500
    for text in ("", "+", "1.2.3s"):
        with pytest.raises(Invalid):
            duration(text)
    assert quote("a\U000e0001b\udcff") == '"a\\U000e0001b\\xff"'
