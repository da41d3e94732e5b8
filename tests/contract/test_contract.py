"""The embedded agent answers every scenario as the real Consul did whose ways it has, and so does a real one.

A real agent is compared with the recording of its own version, or of the nearest; the run's summary says which.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from consul_locker.embedded import Agent
from consul_locker.embedded.versions import VERSIONS

from . import record, table
from .compare import Recorded, loosely, run
from .record import RECORDINGS, load, nearest
from .scenarios import SCENARIOS, Scenario

#: The two agents of the module are asked in one go.
pytestmark = pytest.mark.xdist_group("contract")


@dataclass(frozen=True)
class Compared:
    """An agent, and what it is compared with; ``exactly``: Go's own words too."""

    address: str
    recording: str
    exactly: bool
    expected: dict[str, list[Recorded]]


@pytest.fixture(scope="module", params=[*VERSIONS, pytest.param("real", marks=pytest.mark.real)])
def shared(request: pytest.FixtureRequest) -> Iterator[Compared]:
    """One agent for all scenarios: each has keys of its own, and what others left must make no difference."""
    if request.param == "real":
        real: Any = request.getfixturevalue("real_agent")
        recording = nearest(real.version)
        yield Compared(real.address, recording, real.version == record.WHOLE, load(recording))
        return
    with Agent(version=request.param) as embedded:
        recording = nearest(VERSIONS[request.param].number)
        yield Compared(embedded.address, recording, recording == record.WHOLE, load(recording))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario(shared: Compared, scenario: Scenario) -> None:
    answers = run(scenario, shared.address)
    wanted = shared.expected[scenario.name]
    assert len(answers) == len(wanted)
    for step, answer, recorded in zip(scenario.steps, answers, wanted, strict=True):
        if not shared.exactly:
            answer, recorded = loosely(answer), loosely(recorded)
        assert answer == recorded, f"{step.shown}: otherwise than the recording of {shared.recording}"


def test_names_are_unique_and_recorded() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(names) == len(set(names))
    for version in RECORDINGS:
        assert set(names) == set(load(version))


def test_recordings_hold_what_differs() -> None:
    whole, newer, newest = (load(version) for version in RECORDINGS)
    assert 0 < sum(newer[name] != whole[name] for name in whole) < sum(newest[name] != whole[name] for name in whole)


@pytest.mark.parametrize(
    ("version", "recording"),
    [
        ("1.8.7", "1.8.7"),
        ("1.8.4", "1.8.7"),
        ("1.12.9", "1.8.7"),
        ("1.16.4", "1.16.4"),
        ("1.18.2+ent", "1.16.4"),
        ("1.20.1", "1.23.0-dev"),
        ("1.22.0-dev", "1.23.0-dev"),
        ("1.23.0-dev", "1.23.0-dev"),
        ("2.0.0", "1.23.0-dev"),
    ],
)
def test_an_agent_is_compared_with_the_nearest_recording(version: str, recording: str) -> None:
    assert nearest(version) == recording


def test_what_is_saved_is_loaded(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {version: load(version) for version in RECORDINGS}
    monkeypatch.setattr(record, "RECORDINGS", {version: tmp_path / path.name for version, path in RECORDINGS.items()})
    for version, answers in before.items():
        record.save(answers, version)
    assert {version: load(version) for version in RECORDINGS} == before
    assert [len((tmp_path / path.name).read_text()) for path in RECORDINGS.values()] == [
        len(path.read_text()) for path in RECORDINGS.values()
    ]


def test_gos_own_words_are_compared_loosely() -> None:
    """Everything else is compared as it is."""
    place = {"Location": "/v1/kv/c%3F/"}
    old: Recorded = {"status": 301, "reason": "Moved Permanently", "headers": place, "body": "<a>"}
    new: Recorded = {"status": 307, "reason": "…", "headers": {"Location": "/v1/kv/c%253F/"}, "body": None}
    assert loosely(old) == loosely(new)
    assert loosely(old) != loosely({**new, "headers": {"Location": "/v1/kv/d/"}})
    words = "Request decode failed: json: cannot unmarshal number into Go struct field {}TTL of type string"
    told = [{"status": 400, "reason": "", "headers": {}, "body": words.format(where)} for where in (".", ".Alias.")]
    assert loosely(told[0]) == loosely(told[1])
    assert loosely(told[0]) != loosely({**told[1], "body": "Request decode failed"})
    assert loosely({**told[0], "body": {"Errors": [{"What": "x"}]}})["body"] == {"Errors": [{"What": "x"}]}


def test_table_is_up_to_date() -> None:
    assert table.main(["--check"]) == 0


def test_table_that_is_stale_is_found(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stale = tmp_path / "contract.rst"
    stale.write_text(table.PAGE.read_text(encoding="utf-8").replace("lock is already held", "…"), encoding="utf-8")
    monkeypatch.setattr(table, "PAGE", stale)
    assert table.main(["--check"]) == 1
    assert "--write" in capsys.readouterr().err
    assert table.main(["--write"]) == 0
    assert table.main(["--check"]) == 0
