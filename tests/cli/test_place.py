"""What is no place of a machine is told by the commands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from consul_locker import cli

MACHINES = "tests.fsm.diagrams.drawn_machines"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.command(), list(arguments))


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("nonsense", "is no place of a machine: MODULE:NAME is needed"),
        ("no_such_module:TABLE", "No module named 'no_such_module'; the folder that it is in must be in sys.path"),
        ("tests.nothing:TABLE", "No module named 'tests.nothing'; the folder that it is in must be in sys.path"),
        (f"{MACHINES}:NOTHING", "there is no 'NOTHING'"),
        (f"{MACHINES}:run_job", "which is neither a Table nor a machine"),
    ],
)
def test_a_machine_that_is_not_there_is_told(place: str, said: str) -> None:
    result = run("inspect", place)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_a_module_that_imports_what_is_not_there_is_found_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_machine.py").write_text("import no_such_thing\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    output = " ".join(run("inspect", "broken_machine:TABLE").output.split())
    assert output.endswith("cannot be imported: No module named 'no_such_thing'")
