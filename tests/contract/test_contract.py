"""Both agents answer every scenario as a real Consul did when expected.json was recorded."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest

from consul_locker.embedded import Agent

from . import table
from .compare import Recorded, run
from .record import load
from .scenarios import SCENARIOS, Scenario


@pytest.fixture(scope="module", params=["embedded", pytest.param("real", marks=pytest.mark.real)])
def shared(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One agent for all scenarios: each has keys of its own, and what others left must make no difference."""
    if request.param == "real":
        yield request.getfixturevalue("real_agent")
        return
    with Agent() as embedded:
        yield embedded


@pytest.fixture(scope="module")
def expected() -> dict[str, list[Recorded]]:
    return load()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario(shared: Any, scenario: Scenario, expected: dict[str, list[Recorded]]) -> None:
    answers = run(scenario, shared.address)
    wanted = expected[scenario.name]
    assert len(answers) == len(wanted)
    for step, answer, record in zip(scenario.steps, answers, wanted, strict=True):
        assert answer == record, step.shown


def test_names_are_unique_and_recorded(expected: dict[str, list[Recorded]]) -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(names) == len(set(names))
    assert set(names) == set(expected)


def test_table_is_up_to_date() -> None:
    assert table.main(["--check"]) == 0


def test_table_that_is_stale_is_found(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = tmp_path / "embedded.rst"
    stale.write_text(table.PAGE.read_text(encoding="utf-8").replace("lock is already held", "…"), encoding="utf-8")
    monkeypatch.setattr(table, "PAGE", stale)
    assert table.main(["--check"]) == 1
    assert "--write" in capsys.readouterr().err
    assert table.main(["--write"]) == 0
    assert table.main(["--check"]) == 0
