"""Turn reads of a fair Locker: calls that may be next read their locks and the queues, several of them in one request.

A turn read waits for the end of an outage like all that changes something: without it no call could go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Protocol

from ..errors import ConsulLockerError, ConsulUnavailable
from .batch import MAX_OPS
from .fair_places import Contender, Move, Standing
from .outage import Outage, outage_of
from .pace import Pace
from .refused_keys import failure_of, halves
from .requests import Committed, Entry, Operation, RefusedWhole, Transact, TransactAnswer, Verb
from .session import Session
from .step import Outbox
from .waits import Waits

__all__ = ["TurnReads", "TurnTaker", "packed", "turn_read_of"]


class TurnTaker(Protocol):
    """Who has the calls: `FairLine`."""

    def take_turn(self, contender: Contender, entries: Iterable[Entry]) -> None:
        """The turn read of a call was answered by ``entries``."""

    def fail(self, contender: Contender, error: ConsulLockerError) -> None:
        """It failed, and is not sent again."""


class TurnReads:
    """The turn reads of one Locker.

    Args:
        outbox, session, waits, outage, pace: of the Locker.
        timeout: the limit on one request, in seconds.
        taker: gets what they show.
    """

    def __init__(
        self, outbox: Outbox, session: Session, waits: Waits, outage: Outage, pace: Pace, timeout: float,
        taker: TurnTaker
    ) -> None:  # fmt: skip
        self._out = outbox
        self._session = session
        self._waits = waits
        self._outage = outage
        self._pace = pace
        self._timeout = timeout
        self._taker = taker
        self._wanted: list[Contender] = []

    def want(self, contender: Contender) -> None:
        """A call is to read whether it is its turn. While requests wait for the end of an outage, it rides along."""
        contender.go(Move.READ)
        self._wanted.append(contender)
        if self._pace.pausing:
            self._waits.rides(contender.call, self._out.now)

    def clear(self) -> None:
        """The session is over: no call waits any more."""
        self._wanted.clear()

    def flush(self) -> None:
        """At the end of a step: send those that are wanted, as far as requests go out."""
        if not (self._wanted and self._pace.may_send):
            return
        wanted, self._wanted = [one for one in dict.fromkeys(self._wanted) if one.standing is Standing.READ_DUE], []
        for part in packed(wanted):
            if self._pace.may_send:
                self._send(part)
            else:
                self._wanted += part

    def _send(self, part: Sequence[Contender]) -> None:
        request = turn_read_of(part, self._session.current.generation, self._timeout)
        self._pace.sent()
        self._out.ask(request, partial(self._answered, part, request, self._out.now))

    def _answered(self, part: Sequence[Contender], request: Transact, began: float, outcome: TransactAnswer) -> None:
        """A turn read was answered. Some of its calls may wait for something else by now, or no longer."""
        away = outage_of(outcome)
        if away is not None:
            self._again([one for one in part if one.reads(request)], began, away)
            return
        self._pace.answered()
        self._outage.over()
        for contender in part:
            self._outage.answered(contender.call)
        if isinstance(outcome, RefusedWhole) and len(part) > 1:
            for half in filter(None, halves([one for one in part if one.reads(request)])):
                self._send(half)
            return
        for contender in part:
            if not contender.reads(request):
                continue
            contender.go(Move.CAME)
            if isinstance(outcome, Committed):
                self._taker.take_turn(contender, outcome.entries)
            else:
                self._taker.fail(contender, failure_of(outcome, request.calls[0].ids)[0])

    def _again(self, part: Iterable[Contender], began: float, error: ConsulUnavailable) -> None:
        """Consul did not answer a turn read."""
        left = [contender for contender in part if not self._waits.rides(contender.call, began, error)]
        for contender in part:
            contender.go(Move.CAME)
            if contender not in left:
                self.want(contender)
        self._outage.failed(began, error)
        self._pace.failed()
        for contender in left:
            self._taker.fail(contender, error)


def packed(contenders: Iterable[Contender]) -> list[list[Contender]]:
    """The calls that are due, in parts whose reads fit into one transaction each."""
    parts: list[list[Contender]] = []
    room = 0
    for contender in contenders:
        if len(contender.slots) > room:
            parts.append([])
            room = MAX_OPS
        parts[-1].append(contender)
        room -= len(contender.slots)
    return parts


def turn_read_of(part: Sequence[Contender], generation: int, timeout: float) -> Transact:
    """The turn read of some calls: the locks and their queues, in one transaction of reads."""
    operations = tuple(
        dict.fromkeys(Operation(Verb.GET_TREE, slot.key) for contender in part for slot in contender.slots)
    )
    calls = tuple(contender.call for contender in part)
    request = Transact(generation, operations, calls, timeout=timeout)
    for contender in part:
        contender.turn_read = request
        contender.go(Move.SENT)
    return request
