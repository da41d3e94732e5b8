"""The hint: which of many held keys were deleted, soon after it happened.

With many keys an audit takes a minute to come round. So, while this Locker has nothing to do, a blocking query waits
for a change of any key below its name. It costs Consul nothing until there is one. The answer then has the names of all
keys (100,000 names: 5.7 MB, 95 ms of Consul's time, measured), and held keys that are missing are audited at once.

It is a hint and no proof, and there is much that it cannot tell: that a key has another holder or another value; and
what happens while this Locker is busy, or in the pause after a change, until the next query sees it. The pause doubles
up to a minute while each query ends early. So a name that others write to costs one list a minute, and all else is left
to the audit, which goes on in any case. The list may be refused, too large (16 MiB), or emptied by an ACL: then there
is no hint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from ..lease import BaseLease
from .ledger import Ledger
from .requests import NamesAnswer, NamesRead, WatchNames
from .session import Session
from .step import Outbox

__all__ = ["Hint"]

#: How long Consul may hold the query, in seconds: as long as it can (doc), since each answer is a list of all keys.
WATCH_WAIT = 600.0
#: For so long, in seconds, this Locker must have sent no transaction before a query begins.
QUIET = 2.0
#: The first and the longest pause between two queries, in seconds. It doubles after each that ended sooner than the
#: longest pause.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
#: Held keys that one step compares with the names in Consul: some 2 ms.
AT_ONCE = 10_000


class Hint:
    """Finds held keys that are not there.

    Args:
        name: the Locker's.
        timeout: the limit on a request that Consul answers at once, in seconds.
        more_than: with so many keys or fewer there is no hint: the audit comes round in a renewal period.
        missing: told which held keys are not among the names in Consul.

    Attributes:
        more_than: see above.
    """

    __slots__ = (
        "_index", "_ledger", "_limit", "_missing", "_not_before", "_out", "_pause", "_prefix", "_query", "_session",
        "_since", "_transactions", "more_than",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        outbox: Outbox,
        session: Session,
        ledger: Ledger,
        timeout: float,
        more_than: int,
        missing: Callable[[Sequence[BaseLease]], None],
    ) -> None:
        self._prefix = name + "/"
        self._out = outbox
        self._session = session
        self._ledger = ledger
        self._limit = WATCH_WAIT * (1 + 1 / 16) + timeout  # Consul adds up to a sixteenth (doc)
        self.more_than = more_than
        self._missing = missing
        self.begin()

    def begin(self) -> None:
        """A session is in use: it has no keys yet."""
        self._query: WatchNames | None = None  # under way
        self._index = 0  # seen last
        self._pause = FIRST_PAUSE
        self._not_before = 0.0
        self._transactions = -1  # of this Locker, as counted last
        self._since = 0.0  # when the query began; before, when that count was another one

    def end(self) -> None:
        """The session is over, or about to be destroyed."""
        self._out.cancel(("names",))
        if self._query is not None:
            self._out.give_up(self._query)
            self._query = None

    def look(self, highest: int) -> None:
        """Begin a query, if it is time for one. ``highest``: the highest index that this session has seen."""
        if self._query is not None or self._out.now < self._not_before or len(self._ledger.leases) <= self.more_than:
            return
        transactions = self._out.counters.get("transactions", 0)
        if transactions != self._transactions:
            self._transactions, self._since = transactions, self._out.now
        elif self._out.now - self._since >= QUIET:
            self._since = self._out.now
            index = self._index or highest
            generation = self._session.current.generation
            query = self._query = WatchNames(generation, self._prefix, index, WATCH_WAIT, timeout=self._limit)
            self._out.ask(query, partial(self._answered, query))

    def _answered(self, query: WatchNames, outcome: NamesAnswer) -> None:
        self._query = None
        now = self._out.now
        self._pause = FIRST_PAUSE if now - self._since >= LONGEST_PAUSE else min(2 * self._pause, LONGEST_PAUSE)
        self._not_before = now + self._pause
        if isinstance(outcome, NamesRead):
            self._index = outcome.index
            if outcome.names and outcome.index != query.index:
                self._later(partial(self._begin, outcome.names))

    def _later(self, then: Callable[[], None]) -> None:
        """In the next step: none may take long."""
        self._out.timer(("names",), self._out.now, then)

    def _begin(self, names: Sequence[str]) -> None:
        there = set(names)
        self._later(partial(self._compare, there, self._ledger.held(), []))

    def _compare(self, there: set[str], leases: list[BaseLease], missing: list[BaseLease]) -> None:
        part, rest = leases[:AT_ONCE], leases[AT_ONCE:]
        missing += [lease for lease in part if lease.key not in there]
        if rest:
            self._later(partial(self._compare, there, rest, missing))
        elif missing:
            self._missing(missing)
