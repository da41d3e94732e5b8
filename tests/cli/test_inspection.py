"""The command that inspects machines."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from consul_locker import cli


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.command(), list(arguments))


def test_inspect_says_what_it_found_and_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_machine.py").write_text(
        "from consul_locker.fsm import Behavior, State, Table\n"
        "BAD = Table({'a': State(), 'b': State()}, initial_state='a')\n"
        "GOOD = Behavior(Table({'a': State()}, initial_state='a'))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    result = run("inspect", "users_machine:BAD")
    assert result.exit_code == 1
    assert result.output.startswith("states['b']: no way leads from 'a' to 'b'")
    result = run("inspect", "users_machine:GOOD")
    assert (result.exit_code, result.output) == (0, "")
    sys.modules.pop("users_machine")
