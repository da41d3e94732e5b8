"""The command that draws machines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from consul_locker import cli
from consul_locker.core.machine import TABLE
from consul_locker.fsm.diagrams import as_table, dot, mermaid

from ..fsm.diagrams.drawn_machines import NESTED

MACHINES = "tests.fsm.diagrams.drawn_machines"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.command(), list(arguments))


@pytest.mark.parametrize(("form", "draw"), [("mermaid", mermaid), ("dot", dot), ("table", as_table)])
def test_a_machine_is_drawn_as_text(form: str, draw: Any) -> None:
    result = run("diagram", f"{MACHINES}:NESTED", "--format", form)
    assert (result.exit_code, result.output) == (0, draw(NESTED))


def test_without_a_name_a_locker_is_drawn() -> None:
    assert run("diagram").output == mermaid(TABLE)


@pytest.mark.parametrize(("form", "begin"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_a_picture_goes_into_a_file(form: str, begin: bytes, tmp_path: Path) -> None:
    file = tmp_path / "picture"
    assert run("diagram", f"{MACHINES}:LAMP", "--format", form, "-o", str(file)).output == ""
    assert file.read_bytes().startswith(begin)
    assert run("diagram", "--format", form).stdout_bytes.startswith(begin)
    failed = run("diagram", "-o", str(tmp_path / "no folder" / "file"))
    assert failed.exit_code == cli.FAILED
    assert "No such file or directory" in failed.output


@pytest.mark.parametrize(("name", "begin"), [("m.svg", b"<?xml"), ("m.PNG", b"\x89PNG"), ("m.mmd", b"stateDiagram")])
def test_the_name_of_the_file_says_the_format(name: str, begin: bytes, tmp_path: Path) -> None:
    assert run("diagram", "-o", str(tmp_path / name)).output == ""
    assert (tmp_path / name).read_bytes().startswith(begin)
    assert run("diagram", "--format", "dot", "-o", str(tmp_path / name)).output == ""
    assert (tmp_path / name).read_bytes().startswith(b"digraph")


def test_a_file_of_an_unknown_ending_is_not_written(tmp_path: Path) -> None:
    refused = run("diagram", "-o", str(tmp_path / "m.pdf"))
    assert refused.exit_code == 2
    assert "no format is known by the ending '.pdf'" in refused.output
    assert not (tmp_path / "m.pdf").exists()
    assert run("diagram", "--format", "mermaid", "-o", str(tmp_path / "m.txt")).exit_code == 0


def test_a_picture_is_not_written_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from consul_locker.cli import diagram

    class Terminal:
        @staticmethod
        def isatty() -> bool:
            return True

    monkeypatch.setattr(diagram, "sys", type("sys", (), {"stdout": Terminal}))
    result = run("diagram", "--format", "png")
    assert result.exit_code == 2
    assert "name a file: -o FILE" in result.output


def test_without_pygraphviz_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    result = run("diagram", "--format", "svg")
    assert result.exit_code == cli.FAILED
    assert "pip install 'consul_locker[diagrams]'" in result.output
