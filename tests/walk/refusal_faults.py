"""Planted bugs, more of them: what becomes of what Consul refuses as a whole. They stand in `faults.PLANTED`, too."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from consul_locker.core.locker import LockerCore
from consul_locker.core.messages import Answered, Event
from consul_locker.core.requests import Outcome, RefusedWhole, Request, Transact, Verb

from .faults import PLANTED, plant
from .streams import answer_at_once

_BEFORE = set(PLANTED)


def _refuse_parts(patch: pytest.MonkeyPatch, concerns: Callable[[Transact], bool]) -> None:
    """Consul refused a transaction: so each part of it that is to be sent again counts as refused, too."""

    def refuse(core: LockerCore, event: Event, request: Request) -> Outcome | None:
        if not isinstance(event, Answered) or not isinstance(event.outcome, RefusedWhole):
            return None
        whole = event.request
        if not isinstance(whole, Transact) or not isinstance(request, Transact) or not concerns(whole):
            return None
        return event.outcome if set(whole.operations) & set(request.operations) else None

    answer_at_once(patch, refuse)


@plant
def one_bad_key_spoils_the_calls_of_others(patch: pytest.MonkeyPatch) -> None:
    _refuse_parts(patch, lambda whole: any(op.verb in (Verb.LOCK, Verb.UNLOCK) for op in whole.operations))


@plant
def one_bad_key_ends_the_doubts_of_others(patch: pytest.MonkeyPatch) -> None:
    _refuse_parts(patch, lambda look: all(op.verb is Verb.CHECK_SESSION for op in look.operations))


NAMES = sorted(set(PLANTED) - _BEFORE)
