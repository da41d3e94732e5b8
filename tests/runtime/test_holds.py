"""What the holds of both faces have in common; tests/behaviour/test_holds.py has what they do."""

from __future__ import annotations

from math import inf

from consul_locker.lease import BaseLease, SessionLife
from consul_locker.runtime.holds import as_list, note


def test_a_note_on_an_error() -> None:
    error = KeyError("a")
    note(error, "first")
    note(error, "second")
    assert error.__notes__ == ["first", "second"]


def test_one_lease_or_several_are_a_list() -> None:
    life = SessionLife(1, "s", inf, "svc", lambda: 0.0)
    lease = BaseLease("a", life, 7, 0.0, False)
    assert as_list(lease) == [lease]
    several = [lease, lease]
    assert as_list(several) is several
