"""Planted bugs, more of them: the queue of a fair Locker. They stand in `faults.PLANTED`, too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consul_locker.core import (
    acquire as grants,
)
from consul_locker.core import (
    fair_line as queue,
)
from consul_locker.core import (
    fair_places as standing,
)
from consul_locker.core.messages import Call

from .faults import plant


@plant
def newcomer_does_not_look(patch: pytest.MonkeyPatch) -> None:
    admits = queue.Queue.admits

    def at_once(self: Any, call: Call) -> bool:
        if call not in self._standings:
            self._stand(call)
            self._line_out(self._standings[call])
            self._standings[call].asking = True
        return admits(self, call)

    patch.setattr(queue.Queue, "admits", at_once)


@plant
def lock_of_a_fair_locker_tried_whoever_waits(patch: pytest.MonkeyPatch) -> None:
    """Each waiter looks only whether the lock is free."""
    take_turn = queue.Queue._take_turn

    def blind(self: Any, standing: Any, entries: Any) -> None:
        own = {place.key for place in standing.places.values()}
        take_turn(self, standing, [entry for entry in entries if entry.key in own or entry.key.endswith("/lock")])

    patch.setattr(queue.Queue, "_take_turn", blind)


@plant
def places_in_the_order_of_their_names(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(standing, "_order", lambda entry: entry.key)


@plant
def place_of_a_dead_waiter_counts(patch: pytest.MonkeyPatch) -> None:
    """A place without a session is waited for as if somebody stood in it."""
    take_turn = queue.Queue._take_turn

    def haunted(self: Any, standing: Any, entries: Any) -> None:
        take_turn(self, standing, [replace(one, session="?") if is_ghost(one) else one for one in entries])

    def is_ghost(entry: Any) -> bool:
        return entry.session is None and not entry.key.endswith("/lock")

    patch.setattr(queue.Queue, "_take_turn", haunted)


@plant
def place_kept_by_who_gave_up(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(grants.Grants, "leave_place", lambda self, place: None)


@plant
def place_kept_by_who_was_served(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(queue.Queue, "places", lambda self, call: ())
    patch.setattr(queue.Queue, "_vacate", lambda self, standing: None)


@plant
def lost_place_not_noticed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(queue.Queue, "lost", lambda self, place: None)


@plant
def place_that_may_come_late_forgotten(patch: pytest.MonkeyPatch) -> None:
    doubt = grants.Grants._doubt

    def forget(self: Any, work: Any) -> None:
        if not work.takes_places:
            doubt(self, work)

    patch.setattr(grants.Grants, "_doubt", forget)
    patch.setattr(queue.Queue, "_tidy_up", lambda self, found, session_id: None)


@plant
def watch_on_the_place_before_not_renewed(patch: pytest.MonkeyPatch) -> None:
    def deaf(self: Any, request: Any, outcome: Any) -> None:
        standing = self._watched.pop(request, None)
        if standing is not None:
            standing.watch = None

    patch.setattr(queue.Queue, "watched", deaf)


@plant
def next_caller_of_the_same_locker_not_told(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(queue.Queue, "serve", lambda self, slot: None)
