"""signals: each is there under its name, and described. tests/behaviour/test_signals.py has what they tell."""

from __future__ import annotations

import re

from consul_locker import signals


def test_each_signal_has_its_name_in_all() -> None:
    assert sorted([*signals.ALL, "ALL"]) == sorted(signals.__all__)
    for name, signal in signals.ALL.items():
        assert signal is getattr(signals, name)
        assert signal.name == name.replace("_", "-")


def test_each_is_described() -> None:
    assert re.findall(r"^(\w+)  +``", signals.__doc__ or "", re.MULTILINE) == list(signals.ALL)
    assert all(signal.__doc__ for signal in signals.ALL.values())
