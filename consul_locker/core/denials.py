"""How calls are refused: their errors, the signals, and the read that names the holder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from ..config.options import LockerOptions
from ..errors import AlreadyLocked, ConsulLockerError
from ..models import LockInfo
from .batch import MAX_OPS
from .calls import LockCall, Obstacle, Wait
from .destroys import PREDECESSOR_WAIT
from .key import Slot
from .leases import Leases
from .ledger import Ledger
from .pace import Pace
from .queries import lock_info
from .refused_keys import halves
from .requests import Committed, Entry, Operation, RefusedWhole, RolledBack, Transact, TransactAnswer, Verb
from .session import Session
from .step import Outbox
from .waits import Line, Waits

__all__ = ["Denials"]

#: The holder is read for a denied call unless less than this part of a request's timeout is left to the call.
NAMING_SHARE = 0.1

Denied = tuple[list[Slot], list[LockCall]]


class Denials:
    """The refusals of one Locker.

    Args:
        options, outbox, session, ledger, leases, waits, pace: of the Locker.
        timeout: the limit on one request, in seconds.

    Attributes:
        line: where a call waits for the end of a former session of its Locker; set once.
    """

    __slots__ = (
        "_leases", "_ledger", "_naming", "_options", "_out", "_pace", "_session", "_timeout", "_unnamed", "_waits",
        "line",
    )  # fmt: skip

    def __init__(
        self, options: LockerOptions, outbox: Outbox, session: Session, ledger: Ledger, leases: Leases, waits: Waits,
        pace: Pace, timeout: float
    ) -> None:  # fmt: skip
        self._options = options
        self._out = outbox
        self._session = session
        self._ledger = ledger
        self._leases = leases
        self._waits = waits
        self._pace = pace
        self._timeout = timeout
        self.line: Line
        # The refused slots and calls. The holder of the first slot is to be read, or is being read.
        self._unnamed: list[Denied] = []
        self._naming: dict[Transact, Sequence[Denied]] = {}

    def deny(self, slots: list[Slot], calls: list[LockCall], obstacle: Obstacle) -> None:
        """Refuse calls, after reading the holder of the lock if an option asks for that and there is time.

        The signal is sent even if there are no calls to refuse (all of them go on waiting).
        """
        self._out.count("denied", len(slots))
        asks = self._options.identify_holder or self._session.destroys.former()
        if calls and asks and obstacle is Obstacle.HELD and not self._pace.pausing:
            self._name_or_deny(slots, calls)
        else:
            self._deny_now(slots, calls, obstacle, None)

    def deny_local(self, call: LockCall, slot: Slot) -> None:
        """Refuse a call that is blocked by another call of its Locker."""
        self._out.count("denied")
        error = AlreadyLocked(slot.id, slot.key, Obstacle.LOCAL.value, shared=slot.is_shared)
        self._out.settle(call, error=error)

    def _name_or_deny(self, slots: list[Slot], calls: list[LockCall]) -> None:
        soon = self._out.now + self._timeout * NAMING_SHARE
        if any(call.deadline is not None and call.deadline < soon for call in calls):
            self._deny_now(slots, calls, Obstacle.HELD, None)
        else:
            self._unnamed.append((slots, calls))

    def _deny_now(
        self,
        slots: list[Slot],
        calls: list[LockCall],
        obstacle: Obstacle,
        holder: LockInfo | None,
        queued: bool = False,
    ) -> None:
        """Send a signal for each refused id. The error of a call names the first id, its holder, and all ids."""
        ids, reason = tuple(slot.id for slot in slots), obstacle.value
        first, *others = slots
        error = AlreadyLocked(first.id, first.key, reason, holder, ids, queued)
        self._out.emit("lock_denied", id=first.id, key=first.key, error=error)
        for slot in others:
            other = AlreadyLocked(slot.id, slot.key, reason, None, ids, queued)
            self._out.emit("lock_denied", id=slot.id, key=slot.key, error=other)
        for call in calls:
            self._out.settle(call, error=error)

    def flush(self) -> None:
        """At the end of a step: read the holders of refused locks."""
        while self._unnamed:
            denied, self._unnamed = self._unnamed[:MAX_OPS], self._unnamed[MAX_OPS:]
            self._read_holders(denied)

    def _read_holders(self, denied: Sequence[Denied]) -> None:
        """A transaction of reads only costs no Raft write (measured)."""
        operations = tuple(Operation(Verb.GET, slots[0].key) for slots, _ in denied)
        refused = tuple(call for _, calls in denied for call in calls)
        generation = self._session.current.generation
        read = Transact(generation, operations, refused, timeout=self._timeout)
        self._naming[read] = denied
        self._out.ask(read, partial(self._named, read))

    def _named(self, request: Transact, outcome: TransactAnswer) -> None:
        """A read of holders was answered, or failed: refuse the calls, with the holders that it shows."""
        denied = self._naming.pop(request)
        entries: dict[str, Entry] = {}
        if isinstance(outcome, RefusedWhole) and len(denied) > 1:
            for half in halves(denied):
                self._read_holders(half)
            return
        if isinstance(outcome, Committed):
            entries = {entry.key: entry for entry in outcome.entries}
        elif isinstance(outcome, RolledBack) and outcome.refused:
            # A key that no longer exists, as with delete_on_release, fails the whole transaction. It has no holder. The
            # other keys are read again, fewer each time.
            gone = {refused.position for refused in outcome.refused}
            for slots, calls in (each for at, each in enumerate(denied) if at not in gone):
                self._name_or_deny(slots, calls)
            denied = [each for at, each in enumerate(denied) if at in gone]
        for slots, calls in denied:
            entry = entries.get(slots[0].key)
            held = entry is not None and entry.session is not None
            holder = lock_info(slots[0].id, entry) if entry is not None and held else None
            queued = self._options.fair and not held and entry is not None
            known = isinstance(outcome, (Committed, RolledBack))
            waiting = [call for call in calls if known and not queued and self._blocked_by_former(call, entry)]
            others = [call for call in calls if call not in waiting]
            self._deny_now(slots, others, Obstacle.HELD, holder if self._options.identify_holder else None, queued)
            for call in waiting:
                self._wait_for_former(call, slots[0].id)

    def _blocked_by_former(self, call: LockCall, entry: Entry | None) -> bool:
        """Whether a call was refused because of a former session of this Locker, one that is being destroyed.

        ``entry`` is the key as it is now. If it is free now, such a session may have held it a moment ago.
        """
        former = self._session.destroys.former()
        holder = entry.session if entry is not None else None
        until = call.waiting.former_until if call.waiting is not None else None
        in_time = until is None or self._out.now < until
        return bool(former) and in_time and (holder is None or holder in former) and not call.settled

    def _wait_for_former(self, call: LockCall, id: str) -> None:
        """Let a call wait for the end of that session, even if it waits for no other holder."""
        if call.waiting is None:
            call.waiting = Wait(self._out.now)
        if call.waiting.former_until is None:
            call.waiting.former_until = call.waiting.until = self._out.now + PREDECESSOR_WAIT
        self._waits.limit(call, call.waiting.former_until)  # a refusal may have cancelled its timer
        self.line.wait(call, self._ledger.slot(id), Obstacle.HELD)

    def end_generation(self) -> None:
        """The session is over: calls that were to be refused with a holder are refused without one."""
        for denied in [*self._naming.values(), self._unnamed]:
            for slots, calls in denied:
                self._deny_now(slots, calls, Obstacle.HELD, None)
        self._naming.clear()
        self._unnamed = []

    def refuse_queued(self, call: LockCall, slots: list[Slot], lock: Entry | None) -> None:
        """Refuse a call that does not wait. ``lock``: the entry of the first slot's key, None if there is none."""
        self._out.count("denied", len(slots))
        held = lock is not None and lock.session is not None
        if held and self._blocked_by_former(call, lock):
            self._deny_now(slots, [], Obstacle.HELD, None)
            self._wait_for_former(call, slots[0].id)
            return
        known = lock_info(slots[0].id, lock) if lock is not None and held and self._options.identify_holder else None
        self._deny_now(slots, [call], Obstacle.HELD, known, queued=not held)

    def fail(self, call: LockCall, slots: Iterable[Slot], error: ConsulLockerError) -> None:
        """Answer a call with an error."""
        self._leases.tell_failed(slots, error)
        self._out.settle(call, error=error)
