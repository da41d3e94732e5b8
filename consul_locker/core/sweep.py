"""The sweep: which keys of a name are our session's, and we do not know of them?

A restored snapshot may bring back locks that the session gave back long ago. Consul cannot be asked for the keys of a
session, so all keys of the Locker's name are listed, by their names only (70,000 of them are 4 MB, the keys themselves
18); then those that are not known as held are checked in transactions of reads, one at a time.

A name that has so many keys that the list alone is larger than what the client reads (16 MiB, some 250,000 keys)
cannot be swept. Nothing bounds the list better: Consul lists all that has a prefix, without pages, and a separator only
cuts off the end of each name. Keys in doubt, and former ones, are looked at all the same (doubts.py).

A list that is empty proves nothing, as when an ACL hides the keys: what is held is left to the audit.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from .batch import MAX_OPS
from .doubts import Doubts, not_ours
from .ledger import Ledger
from .refused_keys import RefusedKeys
from .requests import (
    Failed,
    NamesRead,
    Operation,
    Outcome,
    ReadPrefix,
    RefusedWhole,
    Request,
    RolledBack,
    Transact,
    Verb,
)
from .session import Session
from .step import Outbox

__all__ = ["Sweep"]

#: The pause after a request that failed, in seconds: it doubles up to the longest. What is due goes on with the next
#: audit, so a first pause below a renewal period means that.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
#: Between the end of a sweep and the next one, in seconds: at least the first, and so much for each request of the one
#: before. So sweeps are rare however often something asks for one, and the larger the name the rarer.
REST = 5.0
REST_EACH = 0.1
#: After so many lists in a row that failed the log says it, once: with a name that has too many keys it goes on so.
TOLD_AFTER = 3


class Sweep:
    """Finds keys of our session that nobody knows of; one request at a time.

    Args:
        name: the Locker's.
        doubts: told of the keys found.
        refused: the keys that Consul does not take, which are left out.
    """

    def __init__(
        self,
        name: str,
        outbox: Outbox,
        session: Session,
        ledger: Ledger,
        doubts: Doubts,
        refused: RefusedKeys,
        timeout: float,
    ) -> None:
        self._refused = refused
        self._prefix = name + "/"
        self._out = outbox
        self._session = session
        self._ledger = ledger
        self._doubts = doubts
        self._timeout = timeout
        self.begin()

    def begin(self) -> None:
        """A session is in use: there is nothing to sweep yet."""
        self._wanted = False  # another sweep is to begin
        self._pending: Request | None = None  # what was not answered yet
        self._names: Iterator[str] | None = None  # of keys yet to be checked, of the sweep under way
        self._parts: list[tuple[str, ...]] = []  # of the last transactions, that are to be checked again; the next last
        self._not_before = 0.0
        self._failures = 0  # in a row
        self._requests = 0  # of the sweep under way

    def want(self) -> bool:
        """A snapshot may have been restored. Returns whether a sweep begins now; if not, one follows."""
        self._wanted = True
        at_rest = self._names is None
        self.go_on()
        return at_rest and not self._wanted

    def go_on(self) -> None:
        """Begin or go on with what is due, if anything is."""
        if self._session.life is None or self._pending is not None or self._out.now < self._not_before:
            return
        if self._names is not None:
            self._check()
        elif self._wanted:
            self._wanted = False
            self._requests = 0
            self._send(ReadPrefix(self._session.life.generation, self._prefix, timeout=self._timeout))

    def listed(self, request: ReadPrefix, outcome: Outcome) -> None:
        """The names of all keys were read."""
        if request is not self._pending:
            return
        self._pending = None
        if isinstance(outcome, NamesRead):
            self._failures = 0
            self._names = iter(outcome.names)
            self._check()
        else:
            self._wanted = True
            self._pause()
            if self._failures == TOLD_AFTER and isinstance(outcome, Failed):
                what = f"the keys below {self._prefix!r} cannot be listed: {outcome.error}"
                self._out.warn(f"{what}; locks that a restored snapshot brought back may last as long as the session")

    def checked(self, request: Transact, outcome: Outcome) -> None:
        """Some keys were checked."""
        if request is not self._pending:
            return
        self._pending = None
        others = not_ours(outcome)
        if others is not None:
            for position, key in enumerate(request.context):
                slot = self._ledger.slot_of(key) if position not in others else None
                if slot is not None:
                    self._doubts.found(slot)
        elif isinstance(outcome, RolledBack) and outcome.refused:
            # Some may not be read, an ACL says: the rest was not looked at.
            refused = {refused.position for refused in outcome.refused}
            self._parts.append(tuple(key for position, key in enumerate(request.context) if position not in refused))
        elif isinstance(outcome, RefusedWhole) and len(request.context) > 1:
            middle = (len(request.context) + 1) // 2
            self._parts += [request.context[middle:], request.context[:middle]]
        elif isinstance(outcome, RefusedWhole) and outcome.of_key:
            self._refused.add(request.context[0])  # so it is not ours there
        else:
            self._parts.append(request.context)
            self._pause()
            return
        self._failures = 0
        self._check()

    def _check(self) -> None:
        life = self._session.current
        assert self._names is not None
        unknown = (key for key in self._names if self._is_unknown(key, life.session_id))
        keys: tuple[str, ...] = ()
        while self._parts and not keys:
            keys = self._parts.pop()
        keys = keys or tuple(islice(unknown, MAX_OPS))
        if not keys:
            self._names = None
            self._not_before = self._out.now + max(REST, self._requests * REST_EACH)
            return
        operations = tuple(Operation(Verb.CHECK_SESSION, key, session=life.session_id) for key in keys)
        self._send(Transact(life.generation, operations, "sweep", context=keys, consistent=True, timeout=self._timeout))

    def _is_unknown(self, key: str, session_id: str) -> bool:
        return self._ledger.may_be_unknown(key, session_id) and key not in self._refused

    def _send(self, request: Request) -> None:
        self._pending = request
        self._requests += 1
        self._out.send(request)

    def _pause(self) -> None:
        pause = min(FIRST_PAUSE * 2.0 ** min(self._failures, 10), LONGEST_PAUSE)
        self._failures += 1
        self._not_before = self._out.now + pause
