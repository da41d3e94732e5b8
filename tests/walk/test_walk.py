"""The random walk in small, and the proof that it looks: each planted bug is found."""

from __future__ import annotations

import pytest

from consul_locker.core.session import Session

from . import fair_faults as _fair_faults  # noqa: F401 # their bugs stand in `faults.PLANTED`
from . import faults, outage_faults, outage_rules, refusal_faults, session_faults, walk
from . import lock_faults as _lock_faults  # noqa: F401 # likewise
from .simulation import Violation, World, play

#: Schedules in which a planted bug must show. Most show in the first dozen, a few need a rare order of events.
BUDGET = 4000
#: Schedules of one test; eight tests make the 2,000 that every run plays.
SHARE = 250


@pytest.mark.parametrize("share", range(8))
def test_schedules_are_clean(share: int) -> None:
    count, failures = walk.walk(1, share * SHARE, (share + 1) * SHARE)
    assert not failures, "\n".join(failures)
    assert count == SHARE


def test_schedules_with_broken_off_steps_are_clean() -> None:
    _, failures = walk.walk(1, 0, SHARE, breaks=True)
    assert not failures, "\n".join(failures)


def test_a_broken_off_step_that_is_not_mended_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "recover", lambda self: None)
    with pytest.raises(Violation):
        for number in range(BUDGET):
            play(f"1/{number}", breaks=True)


@pytest.mark.parametrize("name", list(faults.PLANTED))
def test_a_planted_bug_is_found(name: str) -> None:
    with faults.planted(name), pytest.raises(Violation) as caught:
        for number in range(BUDGET):
            if name in refusal_faults.NAMES and not World(f"1/{number}").sim.spoilt:
                continue  # only where Consul refuses a key can it show
            if name in outage_faults.NAMES and not World(f"1/{number}").outages.meant:
                continue
            play(f"1/{number}")
    # A bug that only raises was planted in the wrong place: the walk has not looked for it.
    assert caught.value.invariant != "no exception comes out of a step"
    assert "seed 1/" in str(caught.value.args[0]) and caught.value.invariant in str(caught.value.args[0])


def test_a_call_that_outlasts_an_outage_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage_rules, "outage_timeout", lambda options: 0.1)  # which no Locker was told
    with pytest.raises(Violation) as caught:
        for number in range(BUDGET):
            if World(f"1/{number}").outages.meant:
                play(f"1/{number}")
    assert caught.value.invariant == "an outage ends a call in its time"


def test_those_of_the_end_of_sessions_are_among_them() -> None:
    assert set(session_faults.NAMES) < set(faults.PLANTED)


def test_those_of_refused_keys_are_among_them() -> None:
    assert set(refusal_faults.NAMES) < set(faults.PLANTED)


def test_those_of_outages_are_among_them() -> None:
    assert set(outage_faults.NAMES) < set(faults.PLANTED)


def test_there_are_enough_planted_bugs() -> None:
    assert len(faults.PLANTED) >= 30


def test_a_seed_decides_everything() -> None:
    first, second = play("again"), play("again")
    assert (first.now, first.log, list(first.fences)) == (second.now, second.log, list(second.fences))


def test_the_command_tells_the_seed_and_the_invariant(capsys: pytest.CaptureFixture[str]) -> None:
    assert walk.main(["--schedules", "3", "--seed", "5", "--jobs", "1"]) == 0
    assert "seed 5: 3 schedules, 0 failed" in capsys.readouterr().out
    assert walk.main(["--only", "5/0"]) == 0
    with faults.planted("value without tenure"):
        _, failures = walk.walk(1, 0, 100)
    assert any("seed 1/" in failure and "fences of a key rise" in failure for failure in failures)
