"""What the command line needs is told when it is missing."""

from __future__ import annotations

import sys

import pytest

from consul_locker import __version__, cli


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_click_or_rich_it_says_how_to_get_them(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit) as exit:
        cli.main(["demo"])
    assert exit.value.code == cli.FAILED
    said = capsys.readouterr()
    assert said.out == ""
    assert f"{missing} is missing" in said.err
    assert "pip install 'consul_locker[cli]'" in said.err


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        cli.main(["--version"])
    assert exit.value.code == 0
    assert capsys.readouterr().out == f"consul-locker, version {__version__}\n"
