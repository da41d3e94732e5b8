"""Planted bugs, more of them: what is believed of the end of a session. They stand in `faults.PLANTED`, too."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.core import destroys, lifecycle, session
from consul_locker.core.gone import Sign
from consul_locker.core.requests import DestroySession, Failed

from .faults import PLANTED, plant

_BEFORE = set(PLANTED)


@plant
def a_404_believed_alone(patch: pytest.MonkeyPatch) -> None:
    """A server that has just started answers it for sessions that live."""
    hear = session.Session._hear

    def believe(self: Any, sign: Sign) -> str | None:
        return "session destroyed" if sign is Sign.RENEWAL_404 else hear(self, sign)

    patch.setattr(session.Session, "_hear", believe)


@plant
def an_empty_read_believed_alone(patch: pytest.MonkeyPatch) -> None:
    """An ACL without session:read shows no session at all."""
    hear = session.Session._hear

    def believe(self: Any, sign: Sign) -> str | None:
        return "session destroyed" if sign in (Sign.UNSEEN, Sign.READ_EMPTY) else hear(self, sign)

    patch.setattr(session.Session, "_hear", believe)


@plant
def a_stop_believed_without_a_read(patch: pytest.MonkeyPatch) -> None:
    """A server that has just started says yes to a destroy and does nothing."""

    def believe(self: Any, request: Any, outcome: Any) -> None:
        self._finish_stop(confirmed=not isinstance(outcome, Failed))

    patch.setattr(lifecycle.Lifecycle, "_stop_answered", believe)


@plant
def a_destroy_in_the_background_believed_without_a_read(patch: pytest.MonkeyPatch) -> None:
    answered = destroys.Destroys.answered

    def believe(self: Any, request: Any, outcome: Any) -> None:
        if isinstance(request, DestroySession) and not isinstance(outcome, Failed):
            self._given.pop(request.session_id, None)
        else:
            answered(self, request, outcome)

    patch.setattr(destroys.Destroys, "answered", believe)


@plant
def a_session_given_up_not_destroyed(patch: pytest.MonkeyPatch) -> None:
    give_up = lifecycle.Lifecycle._give_up_session

    def leave(self: Any, reason: str) -> None:
        add, self.session.destroys.add = self.session.destroys.add, lambda session_id: None
        give_up(self, reason)
        self.session.destroys.add = add

    patch.setattr(lifecycle.Lifecycle, "_give_up_session", leave)


NAMES = sorted(set(PLANTED) - _BEFORE)
