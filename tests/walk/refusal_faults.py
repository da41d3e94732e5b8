"""Planted bugs, more of them: what becomes of what Consul refuses as a whole. They stand in `faults.PLANTED`, too."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.core import acquire, doubts
from consul_locker.core.requests import RefusedWhole

from .faults import PLANTED, plant

_BEFORE = set(PLANTED)


@plant
def one_bad_key_spoils_the_calls_of_others(patch: pytest.MonkeyPatch) -> None:
    answered = acquire.Grants.answered

    def refuse_all(self: Any, request: Any, outcome: Any) -> str | None:
        if not isinstance(outcome, RefusedWhole):
            return answered(self, request, outcome)
        for work, _ in self._batch.take(request) or ():
            self._refused_whole(work, outcome)
        return None

    patch.setattr(acquire.Grants, "answered", refuse_all)


@plant
def one_bad_key_ends_the_doubts_of_others(patch: pytest.MonkeyPatch) -> None:
    def end_all(self: Any, request: Any, outcome: Any) -> None:
        for slot in request.context:
            self.refused_alone(slot, outcome)

    patch.setattr(doubts.Doubts, "_refused_whole", end_all)


NAMES = sorted(set(PLANTED) - _BEFORE)
