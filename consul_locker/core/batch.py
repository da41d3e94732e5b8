"""Group commit: many wanted operations become one transaction, and its answer their outcomes.

Operations wanted while a transaction is in flight, or two on asyncio, go together into the next one (docs/design.rst):
a real Consul serves about 4,000 single acquires a second, and over 30,000 when they come 64 to a
transaction (measured), because each transaction is one write to its log.

A transaction does all or nothing. If some operations fail, Consul answers 409 and names them: their works (the losers)
are refused, and the rest is sent again. Consul checks lock-delays before all else, so more losers may show up
in a later round (measured). After two rounds the rest is sent in halves, so the number of rounds grows with the
logarithm only.
"""

from __future__ import annotations

from math import inf

from ..keys import lock_key_of
from .key import LockWork, Progress, ReleaseWork, Work
from .requests import Committed, Entry, Operation, Refused, RolledBack, Transact, Verb

__all__ = ["MAX_BYTES", "MAX_OPS", "Batch", "Item"]

#: Consul's limit of operations in a transaction (1.8.7, measured: 413 past it; newer versions take 128).
MAX_OPS = 64
#: Fewer works than this go together, whatever their share: each transaction has its own cost.
SHARED_FROM = 4
#: The most bytes in a transaction, as estimated by `_size`. Consul takes about 512 KB (measured); half of
#: it leaves room for the estimate to be wrong.
MAX_BYTES = 256 * 1024
#: What JSON adds around one operation, in bytes: names, braces, the session's id. Rather too much.
OVERHEAD = 200
#: After so many rolled back rounds the rest of a batch goes in halves.
ROUNDS_BEFORE_HALVES = 2

#: A work, and the operations that do it.
Item = tuple[Work, list[Operation]]


def _size(operations: list[Operation]) -> int:
    size = 0
    for op in operations:
        size += len(op.key) * 3 + (len(op.value) * 4 // 3 if op.value else 0) + OVERHEAD
    return size


class Batch:
    """The operations wanted, and the transactions in flight.

    Args:
        max_ops: the most operations in a transaction.
        max_in_flight: the most transactions in flight at a time; None for no limit.

    Attributes:
        last: how many works the transaction had that was answered last.
    """

    def __init__(self, max_ops: int, max_in_flight: int | None) -> None:
        self._max_ops = max_ops
        self._max_in_flight = max_in_flight
        self._wanted: dict[Work, list[Operation]] = {}
        self._in_flight: dict[Transact, list[Item]] = {}
        self.last = 0

    @property
    def under_way(self) -> int:
        """How many transactions are in flight."""
        return len(self._in_flight)

    @property
    def wanted(self) -> int:
        """How many works wait to be sent."""
        return len(self._wanted)

    @property
    def expects(self) -> bool:
        """Whether more is likely to come at once: the last transaction had many callers, who come back one by one."""
        return self.last > 1 and not self._in_flight and not self._wanted

    def want(self, work: Work, operations: list[Operation]) -> None:
        """Add a work with the operations that do it."""
        self._wanted[work] = operations

    def unwant(self, work: Work) -> bool:
        """Take back a work that was not sent yet. Returns whether it was there."""
        return self._wanted.pop(work, None) is not None

    def clear(self) -> None:
        """The generation is over: nothing more is sent, and answers still to come are ignored."""
        self._wanted.clear()
        self._in_flight.clear()

    def pack(self, generation: int, timeout: float) -> Transact | None:
        """The next transaction to send, or None when there is nothing to send or enough in flight."""
        if not self._wanted or (self._max_in_flight is not None and len(self._in_flight) >= self._max_in_flight):
            return None
        items: list[Item] = []
        operations: list[Operation] = []
        size, limit = 0, self._share()
        for work, ops in self._wanted.items():
            limit = min(limit, work.limit)
            size += _size(ops)
            if items and (
                len(items) + 1 > limit
                or len(operations) + len(ops) > self._max_ops
                or size > MAX_BYTES
                or len(work.slots) > 1
                or len(items[0][0].slots) > 1
            ):
                break
            work.go_on(Progress.PACKED)
            work.landings += 1
            items.append((work, ops))
            operations.extend(ops)
        for work, _ in items:
            del self._wanted[work]
        calls = tuple([call for work, _ in items for call in work.answers if not call.settled])
        request = Transact(generation, tuple(operations), calls, timeout=timeout)
        self._in_flight[request] = items
        return request

    def _share(self) -> float:
        """The most works of the next transaction: a fair share of all, so that each in flight has about as many."""
        if self._max_in_flight is None:
            return inf
        works = len(self._wanted) + sum(map(len, self._in_flight.values()))
        return max(SHARED_FROM, -(-works // self._max_in_flight))

    def take(self, request: Transact) -> list[Item]:
        """The works of a transaction that was answered."""
        items = self._in_flight.pop(request)
        self.last = len(items)
        return items

    @staticmethod
    def committed(items: list[Item], answer: Committed) -> dict[str, Entry]:
        """What a transaction that was committed has left, by key.

        Each key is in a transaction for one work only (rule 6); the last entry counts, since a check answers with one
        too.
        """
        by_key = {entry.key: entry for entry in answer.entries}
        for _, ops in items:
            for op in ops:
                if op.verb is Verb.DELETE or op.verb is Verb.DELETE_CAS:
                    by_key.pop(op.key, None)  # the check before a delete shows the key, which is deleted
        return by_key

    def rolled_back(
        self, items: list[Item], answer: RolledBack
    ) -> list[tuple[Work, list[tuple[Operation, Refused]]]]:
        """A transaction was rolled back. The losers are returned, each with what was refused; the rest goes first."""
        by_position = {refused.position: refused for refused in answer.refused}
        losers: list[tuple[Work, list[tuple[Operation, Refused]]]] = []
        rest: list[Item] = []
        position = 0
        for work, ops in items:
            found = []
            for op in ops:
                refused = by_position.get(position)
                if refused is not None:
                    found.append((op, refused))
                position += 1
            if found:
                losers.append((work, found))
            else:
                rest.append((work, ops))
        self.again(rest, halves=all(work.rounds >= ROUNDS_BEFORE_HALVES - 1 for work, _ in rest))
        return losers

    def again(self, items: list[Item], halves: bool) -> None:
        """Send works again, before all others. ``halves``: in transactions of at most half their number."""
        limit = max(1, (len(items) + 1) // 2)
        for work, _ in items:
            work.rounds += 1
            if halves:
                work.limit = limit
        self.first(items)

    def first(self, items: list[Item]) -> None:
        """Works that were sent are wanted again, as they are, before all others."""
        for work, _ in items:
            work.go_on(Progress.AGAIN)
        self._wanted = {**dict(items), **self._wanted}

    @staticmethod
    def locking(work: LockWork, session_id: str, value: str, flags: int) -> list[Operation]:
        """The operations of a lock. ``value``: of each key, but for the number of its tenure and the end (rule 4)."""
        operations = [Operation(Verb.CHECK_NOT_EXISTS, key) for key in work.unless]
        for slot, tenure in zip(work.slots, work.tenures, strict=True):
            if tenure == 0:
                assert slot.lease is not None
                # Held already: it must still be held when the others are taken. The index is enough: each
                # change of the holder changes it too.
                operations.append(Operation(Verb.CHECK_INDEX, slot.key, index=slot.lease.fence))
            else:
                operations.append(Operation(Verb.LOCK, slot.key, f"{value}{tenure}}}".encode(), flags, session_id))
        if work.shows:
            operations += [Operation(Verb.GET_TREE, lock_key_of(slot.key)) for slot in work.slots]
        return operations

    @staticmethod
    def releasing(work: ReleaseWork, session_id: str, flags: int, delete: bool) -> list[Operation]:
        """The operations of a release, and of the place that is given back with the lock.

        It is guarded by the index of its tenure (rule 5), so it can free no other tenure, whenever it arrives. An
        unlock without flags would set them to 0 (measured), so they are given again.
        """
        key = work.slot.key
        # A place's key is used once, so its delete needs no guard: it can be late, or come twice.
        gives_back = [] if work.place is None else [Operation(Verb.DELETE, work.place.key)]
        if delete or work.slot.is_place:
            return [
                Operation(Verb.CHECK_SESSION, key, session=session_id),
                Operation(Verb.DELETE_CAS, key, index=work.index),
                *gives_back,
            ]
        return [
            Operation(Verb.CHECK_INDEX, key, index=work.index),
            Operation(Verb.UNLOCK, key, b"", flags, session_id),
            *gives_back,
        ]
