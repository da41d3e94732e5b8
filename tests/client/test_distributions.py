"""The package ``consul`` comes from python-consul2 or py-consul: either will do, both at once are warned of."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from pathlib import Path

import pytest

from consul_locker import LockerFactory
from consul_locker.client.distributions import consul_base, warn_of_both


def installed(folder: Path, *names: str) -> None:
    """Make it look as if these were installed there."""
    for name in names:
        found = folder / f"{name.replace('-', '_')}-1.dist-info"
        found.mkdir()
        (found / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")


@pytest.fixture(autouse=True)
def never_asked() -> None:
    warn_of_both.cache_clear()


def test_the_distribution_that_this_run_is_about() -> None:
    """The tox environments, and .ci/run, name it; python-consul2 is what the library brings along."""
    wanted = os.environ.get("CONSUL_DISTRIBUTION", "python-consul2")
    inside = hasattr(importlib.import_module("consul.base").Consul, "Session")  # as python-consul2 has it
    assert inside == (wanted == "python-consul2")


def test_both_are_warned_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, "python-consul2", "py-consul")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(RuntimeWarning, match="python-consul2 and py-consul are both installed.*pip uninstall") as told:
        LockerFactory().close()
    assert [one.filename for one in told] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LockerFactory().close()


def test_both_are_warned_of_where_an_embedded_agent_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, "python-consul2", "py-consul")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(RuntimeWarning) as told:
        LockerFactory.embedded().close()
    assert [one.filename for one in told] == [__file__]


@pytest.mark.parametrize("name", ["python-consul2", "py-consul"])
def test_one_is_not(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_both(stacklevel=1)


def test_neither_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "consul" or name.startswith("consul.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    words = r"No module named 'consul'; .* comes from python-consul2 or py-consul, .*pip uninstall"
    with pytest.raises(ImportError, match=words):
        consul_base()
