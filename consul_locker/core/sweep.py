"""The sweep: find keys that our session holds in Consul without a lease, after a snapshot was restored.

A restored snapshot may bring back locks that the session gave back long ago. Consul has no request for the keys of a
session. So all keys of the Locker's name are listed, by their names only (70,000 names are 4 MB, the keys with their
values 18 MB); then those without a lease are checked in transactions of reads, one at a time.

If the list is larger than the client reads (16 MiB, some 250,000 keys), the name cannot be swept. There is no way to
get a part of the list: Consul lists all keys with a prefix, without pages, and a separator only cuts off the end of
each name. Looks at keys in doubt and at former keys go on (doubts.py).

A list that is empty proves nothing, since an ACL may hide the keys. Held keys are checked by the audit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice

from .batch import MAX_OPS
from .doubts import Doubts, not_ours
from .ledger import Ledger
from .pace import Pace
from .refused_keys import RefusedKeys, halves
from .requests import (
    Failed,
    NamesAnswer,
    NamesRead,
    Operation,
    ReadPrefix,
    RefusedWhole,
    RolledBack,
    Transact,
    TransactAnswer,
    Verb,
)
from .session import Session
from .step import Outbox

__all__ = ["Sweep"]

#: The first and the longest pause after a request that failed, in seconds; it doubles. A sweep goes on with the next
#: audit after the pause, so a pause shorter than the period of audits has no effect of its own.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
#: The time between the end of a sweep and the next one, in seconds: at least REST, and at least REST_EACH for each
#: request of the last sweep. So sweeps stay rare even if one is wanted often, and rarer for a name with more keys.
REST = 5.0
REST_EACH = 0.1
#: The log has a warning after this many failed lists in a row, once: a name with too many keys fails each time.
TOLD_AFTER = 3


class Sweep:
    """Finds keys that our session holds without a lease; one request at a time.

    Args:
        name: the Locker's.
        doubts: gets the keys that are found.
        refused: the keys that Consul does not take; they are left out.
    """

    __slots__ = (
        "_doubts", "_failures", "_ledger", "_names", "_not_before", "_out", "_pace", "_parts", "_pending", "_prefix",
        "_refused", "_requests", "_session", "_timeout", "_wanted",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        outbox: Outbox,
        session: Session,
        ledger: Ledger,
        doubts: Doubts,
        refused: RefusedKeys,
        pace: Pace,
        timeout: float,
    ) -> None:
        self._refused = refused
        self._pace = pace
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
        self._pending = False  # whether a request was not answered yet
        self._names: Iterator[str] | None = None  # of keys yet to be checked, of the sweep under way
        self._parts: list[Sequence[str]] = []  # keys to check again; the next part is last
        self._not_before = 0.0
        self._failures = 0  # in a row
        self._requests = 0  # of the sweep under way

    def want(self) -> bool:
        """A snapshot may have been restored. Returns whether a sweep begins now; if not, it begins later."""
        self._wanted = True
        at_rest = self._names is None
        self.go_on()
        return at_rest and not self._wanted

    def go_on(self) -> None:
        """Begin a sweep, or go on with one, if it is due; during an outage once that is over."""
        if not self._pace.when_open(self.go_on):
            return
        if self._session.life is None or self._pending or self._out.now < self._not_before:
            return
        if self._names is not None:
            self._check()
        elif self._wanted:
            self._wanted = False
            self._requests = 0
            self._begin_request()
            self._out.ask(
                ReadPrefix(self._session.life.generation, self._prefix, timeout=self._timeout), self._listed
            )

    def _begin_request(self) -> None:
        self._pending = True
        self._requests += 1

    def _listed(self, outcome: NamesAnswer) -> None:
        """The names of all keys were read."""
        self._pending = False
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

    def _checked(self, keys: Sequence[str], outcome: TransactAnswer) -> None:
        """Some keys were checked."""
        self._pending = False
        others = not_ours(outcome)
        if others is not None:
            for position, key in enumerate(keys):
                slot = self._ledger.slot_of(key) if position not in others else None
                if slot is not None:
                    self._doubts.found(slot)
        elif isinstance(outcome, RolledBack) and outcome.refused:
            # An ACL forbids to read some of them: check the rest again.
            refused = {refused.position for refused in outcome.refused}
            self._parts.append(tuple(key for position, key in enumerate(keys) if position not in refused))
        elif isinstance(outcome, RefusedWhole) and len(keys) > 1:
            self._parts += reversed(halves(keys))
        elif isinstance(outcome, RefusedWhole) and outcome.of_key:
            self._refused.add(keys[0])  # Consul does not take it, so we cannot have it
        else:
            self._parts.append(keys)
            self._pause()
            return
        self._failures = 0
        self._check()

    def _check(self) -> None:
        life = self._session.current
        assert self._names is not None
        unknown = (key for key in self._names if self._is_unknown(key, life.session_id))
        keys: Sequence[str] = ()
        while self._parts and not keys:
            keys = self._parts.pop()
        keys = keys or tuple(islice(unknown, MAX_OPS))
        if not keys:
            self._names = None
            self._not_before = self._out.now + max(REST, self._requests * REST_EACH)
            return
        operations = tuple(Operation(Verb.CHECK_SESSION, key, session=life.session_id) for key in keys)
        self._begin_request()
        check = Transact(life.generation, operations, consistent=True, timeout=self._timeout)
        self._out.ask(check, partial(self._checked, keys))

    def _is_unknown(self, key: str, session_id: str) -> bool:
        return self._ledger.may_be_unknown(key, session_id) and key not in self._refused

    def _pause(self) -> None:
        pause = min(FIRST_PAUSE * 2.0 ** min(self._failures, 10), LONGEST_PAUSE)
        self._failures += 1
        self._not_before = self._out.now + pause
