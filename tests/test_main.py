"""``python -m consul_locker`` is the command `consul-locker`."""

from __future__ import annotations

import runpy
import sys

import pytest


def test_the_module_is_a_second_way_in(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["consul_locker", "--help"])
    with pytest.raises(SystemExit) as exit:
        runpy.run_module("consul_locker", run_name="__main__")
    assert exit.value.code == 0
    assert "consul-locker [OPTIONS] COMMAND" in capsys.readouterr().out
    runpy.run_module("consul_locker", run_name="consul_locker.__main__")  # importing it runs nothing
