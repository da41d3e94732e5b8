"""What an embedded agent refuses by its options: requests above a rate, callers without a right, keys. Pure.

All of it may change while the agent runs; a blocking query keeps the rights with which it began, as in Consul.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import ConfigurationError

__all__ = ["RIGHTS", "Policy", "RequestLimits"]

#: The rights that a token may lack.
RIGHTS = ("key:read", "key:write", "session:read", "session:write")

#: The rights that are missing when reads are filtered. A token that may write sessions may read them, so this right is
#: missing, too.
FILTERED = frozenset({"key:read", "session:read", "session:write"})


@dataclass(frozen=True)
class RequestLimits:
    """Rates as Consul 1.15 and newer enforce them (``limits.request_limits``, mode ``enforcing``).

    As many requests as fit into a second may come at once, one at least; each counts once, whatever its size, on
    the agent's clock. A write over the rate is answered 503, a read 429, and nothing of it is done.

    Args:
        write_rate: writes a second: keys, sessions' create, renew and destroy, transactions with a write; 0 refuses
            all, None none.
        read_rate: reads a second: keys, sessions, transactions of reads; the same.

    Raises:
        ConfigurationError: a rate is no number, or negative.
    """

    write_rate: float | None = None
    read_rate: float | None = None

    def __post_init__(self) -> None:
        for name in ("write_rate", "read_rate"):
            rate = getattr(self, name)
            if rate is None:
                continue
            if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate < math.inf:
                raise ConfigurationError(name, rate, "requests a second, 0 or more, or None for no limit")


class _Bucket:
    """Tokens of one second at most, at least one; each request takes one."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._full = 0.0 if not rate else max(1.0, rate)
        self._tokens = self._full
        self._filled_at: float | None = None

    def take(self, now: float) -> bool:
        """Whether a request may be served."""
        if self._rate is None:
            return True
        if self._filled_at is not None:
            self._tokens = min(self._full, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Policy:
    """The options of an agent for what it refuses. Each attribute is replaced as a whole, so any thread may set it.

    Args:
        request_limits: the rates that are enforced, or None.
        check_keys: check the keys in /v1/kv as 1.21.5 did.
        filter_reads: what is read looks as if it were not there.
        refuse: the rights that are missing (`RIGHTS`).

    Raises:
        ConfigurationError: a value is not valid.
    """

    def __init__(
        self, request_limits: RequestLimits | None, check_keys: bool, filter_reads: bool, refuse: Iterable[str]
    ) -> None:
        self.request_limits = request_limits
        self.check_keys = check_keys
        self.filter_reads = filter_reads
        self.refuse = refuse

    @property
    def request_limits(self) -> RequestLimits | None:
        """The rates that are enforced; a new one begins with its first second."""
        return self._limits

    @request_limits.setter
    def request_limits(self, limits: RequestLimits | None) -> None:
        if limits is not None and not isinstance(limits, RequestLimits):
            raise ConfigurationError("request_limits", limits, "an embedded.RequestLimits, or None")
        self._limits = limits
        rates = limits or RequestLimits()
        self._buckets = (_Bucket(rates.read_rate), _Bucket(rates.write_rate))

    @property
    def refuse(self) -> frozenset[str]:
        """The rights that are missing."""
        return self._refuse

    @refuse.setter
    def refuse(self, rights: Iterable[str]) -> None:
        known = frozenset((rights,) if isinstance(rights, str) else rights)
        for right in known:
            if right not in RIGHTS:
                raise ConfigurationError("refuse", right, f"a right is one of {', '.join(RIGHTS)}")
        self._refuse = known

    def admits(self, write: bool, now: float) -> bool:
        """Whether a request is within the rate. If it is, it is counted."""
        return self._buckets[write].take(now)

    def lacks(self, right: str) -> bool:
        """Whether the caller's token does not have a right."""
        return right in self._refuse or (self.filter_reads and right in FILTERED)
