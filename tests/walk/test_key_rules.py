"""The rule for the states of keys."""

from __future__ import annotations

import pytest

from consul_locker.core.ledger import Ledger
from consul_locker.lease import BaseLease, SessionLife

from ..core.works import want_lock
from .around import Violation
from .key_rules import KeyRules


def test_a_lease_out_of_nothing_is_found() -> None:
    ledger, rules = Ledger("svc"), KeyRules()
    lease = BaseLease("a", SessionLife(1, "S1", 10.0, "svc", lambda: 0.0), 7, 0.0, False)
    rules.stepped(ledger)
    ledger.grant(ledger.slot("a"), lease)
    with pytest.raises(Violation, match="changes as its table says"):
        rules.stepped(ledger)


def test_an_acquire_and_its_grant_are_as_they_should_be() -> None:
    ledger, rules = Ledger("svc"), KeyRules()
    slot = ledger.slot("a")
    work = want_lock(ledger, slot)
    rules.stepped(ledger)
    ledger.finish(work)
    ledger.grant(slot, BaseLease("a", SessionLife(1, "S1", 10.0, "svc", lambda: 0.0), 7, 0.0, False))
    rules.stepped(ledger)
