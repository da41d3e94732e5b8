"""The rule of the walk for the states of keys: they change only as the table of the core says."""

from __future__ import annotations

from consul_locker.core.key import CHANGES, KeyState
from consul_locker.core.ledger import Ledger

from .around import Violation

__all__ = ["KeyRules"]

#: From which state to which.
ALLOWED = {(before, then) for (before, _), then in CHANGES.items()}


class KeyRules:
    """The rule, for one core.

    Attributes:
        states: of the locks, as they were after the last step.
    """

    def __init__(self) -> None:
        self.states: dict[str, KeyState] = {}

    def stepped(self, ledger: Ledger) -> None:
        """A step is over."""
        before, self.states = self.states, dict.fromkeys((*ledger.leases, *ledger.parting), KeyState.HELD)
        self.states |= {slot.id: slot.state for slot in ledger.slots.values() if not slot.is_place}
        for id in before.keys() | self.states.keys():
            change = before.get(id, KeyState.FREE), self.states.get(id, KeyState.FREE)
            if change[0] is not change[1] and change not in ALLOWED:
                raise Violation("a key changes as its table says", f"{id!r}: {change[0].name} to {change[1].name}")
