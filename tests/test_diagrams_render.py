"""diagrams/render.py draws what runs, and its check notices a text that is out of date."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

RENDER = Path(__file__).parents[1] / "diagrams" / "render.py"


@pytest.fixture
def render(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("render", RENDER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_drawings_in_the_repository_are_those_of_the_table(render: ModuleType) -> None:
    assert render.main(["--check"]) == 0


def test_all_is_drawn_and_a_text_that_changed_is_noticed(
    render: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert render.main(["--check"], tmp_path) == 1
    assert not list(tmp_path.iterdir())
    assert render.main([], tmp_path) == 0
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {path.name for path in RENDER.parent.iterdir() if path.suffix not in (".py", "")}
    (tmp_path / "locker.dot").write_text("digraph {}")
    capsys.readouterr()
    assert render.main(["--check"], tmp_path) == 1
    assert capsys.readouterr().err == "out of date: locker.dot; run diagrams/render.py\n"
