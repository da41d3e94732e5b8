"""The exceptions of consul_locker.

Every error that the library raises on purpose is one of these; no exception of an HTTP library, of
json or of python-consul2 escapes.

    ConsulLockerError
    +-- AlreadyLocked         another holder has the lock (or it is in its lock-delay)
    +-- LockTimeout           the call's own time limit is over           (also TimeoutError)
    +-- SessionEnded          the Locker was stopped
    +-- SessionUnavailable    the Locker gave up: its retries are exhausted
    +-- LockLost              the lease that the caller relies on is over
    +-- ConsulUnavailable     no answer from Consul, or one that is not valid
    +-- AccessDenied          Consul's ACL refused the request (401, 403)
    +-- InvalidLockId         an id that cannot name a lock               (also ValueError)
    +-- ConfigurationError    an option that is not valid                 (also ValueError)

All of them can be pickled and have their facts as attributes.
"""

from __future__ import annotations

import re
from typing import Any

from .models import LockInfo

__all__ = [
    "AccessDenied",
    "AlreadyLocked",
    "ConfigurationError",
    "ConsulLockerError",
    "ConsulUnavailable",
    "InvalidLockId",
    "LockLost",
    "LockTimeout",
    "SessionEnded",
    "SessionUnavailable",
]


#: Where a token is looked for, in words.
TOKEN_SOURCES = "argument token, CONSUL_HTTP_TOKEN_FILE, CONSUL_HTTP_TOKEN"

#: How Consul names the right that a token lacks, and on what (measured on 1.16.4 and newer).
_LACKS = re.compile(r"lacks permission '(?P<right>[a-z]+:[a-z]+)'(?: on \"(?P<on>[^\"]*)\")?")


def _rebuild(kind: type[ConsulLockerError], args: tuple[Any, ...], facts: dict[str, Any]) -> ConsulLockerError:
    """Make an error again from its pickled parts, without running its ``__init__``."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


class ConsulLockerError(Exception):
    """The base of all errors of this library."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


class AlreadyLocked(ConsulLockerError):
    """The lock was refused: another holder has it.

    Attributes:
        id: the lock's id.
        key: its key in Consul's KV store.
        reason: ``"held"`` (another session holds it), ``"lock-delay"`` (its last holder's session
            ended and Consul keeps it closed for a while) or ``"local"`` (another caller of this very
            Locker holds it exclusively; or the call wants it exclusively, and others share it).
        holder: its holder, a `LockInfo`, if it was read; else None.
        ids: for calls that ask for several locks, the ids that were refused.
        queued: whether the lock is free, but others wait in its queue and are served first (``fair=True``).
        shared: whether this very Locker has it by ``lock``, which keeps ``hold`` out (``"local"``).
    """

    def __init__(
        self,
        id: str,
        key: str,
        reason: str = "held",
        holder: LockInfo | None = None,
        ids: tuple[str, ...] = (),
        queued: bool = False,
        shared: bool = False,
    ) -> None:
        self.id = id
        self.key = key
        self.reason = reason
        self.shared = shared
        self.holder = holder
        self.queued = queued
        self.ids = ids or (id,)
        super().__init__(self._message())

    def _message(self) -> str:
        named = repr(self.id) if len(self.ids) == 1 else ", ".join(map(repr, self.ids))
        if self.reason == "lock-delay":
            return (
                f"Already locked: {named} is in its lock-delay (the session of its last holder ended a "
                f"moment ago); try again later, or wait for it with wait=seconds"
            )
        if self.shared:
            return (
                f"Already locked: this Locker has {named} by lock; release it first, or wait with wait=seconds until "
                f"another caller does"
            )
        if self.reason == "local":
            return (
                f"Already locked: {named} is in use by another caller of this Locker, or by this one's own hold (use "
                f"the lease that it gave); wait for it with wait=seconds"
            )
        if self.queued:
            return (
                f"Already locked: others wait in the queue of {named}, and are served first; wait behind them with "
                f"wait=seconds"
            )
        who = f" by {self.holder.described()}" if self.holder is not None else " by another session"
        return f"Already locked: {named} is held{who}; try again later, or wait for it with wait=seconds"


class LockTimeout(ConsulLockerError, TimeoutError):
    """The time limit of a call (its ``timeout``) passed before it could be answered.

    Attributes:
        id: the lock's id, or None for a call that is not about one lock.
        timeout: the limit, in seconds.
        state: the Locker's state at that moment.
        reason: why a waiting call was last refused, as in `AlreadyLocked`: ``"held"``, ``"lock-delay"`` or
            ``"local"``; None for a call that Consul did not answer, or could not answer.
        holder: the holder at that time, a `LockInfo`, if it was read; else None.
        cause: the failure of the call's last attempt; in acquiring and paused, of the last attempt to get a session; in
            an outage, of the last request of its Locker; else None.
    """

    def __init__(
        self,
        id: str | None,
        timeout: float | None,
        state: str,
        doing: str = "lock",
        reason: str | None = None,
        holder: LockInfo | None = None,
        fair: bool = False,
        cause: BaseException | None = None,
    ) -> None:
        self.id = id
        self.timeout = timeout
        self.state = state
        self.reason = reason
        self.holder = holder
        self.cause = cause
        what = doing if id is None else f"{doing} of {id!r}"
        limit = "its limit" if timeout is None else f"{timeout:g} s"
        if reason is not None:
            hint = f"was not granted within {limit}: {self._obstacle(fair)}; try again later, or give a larger timeout"
        elif state in ("acquiring", "paused"):
            why = "is Consul reachable?" if cause is None else f"the last attempt failed ({cause})"
            hint = f"was not answered within {limit}; the Locker is {state}: its session does not exist yet; {why}"
        elif cause is not None:
            hint = (
                f"was not granted within {limit}: the last attempt failed ({cause}); try again later, or give a larger "
                f"timeout"
            )
        else:
            hint = (
                f"was not answered within {limit}; the Locker is {state}: Consul did not answer in time; a larger "
                f"timeout may help"
            )
        super().__init__(f"{what} {hint}")

    def _obstacle(self, fair: bool) -> str:
        if self.reason == "lock-delay":
            return "it is still in its lock-delay (the session of its last holder ended a moment ago)"
        if self.reason == "local":
            return "it is still in use by another caller of this Locker (a lock by lock() stays until it is released)"
        if self.holder is not None:
            return f"it is still held by {self.holder.described()}"
        return f"it is still held by another session{', or others wait before it in its queue' if fair else ''}"


class SessionEnded(ConsulLockerError):
    """The Locker is stopped, or was stopped while the call waited. ``start()`` begins again.

    Attributes:
        name: the Locker's name.
        cause: the last failure, if the Locker gave up; else None.
        closed: whether its factory is closed, so that it cannot be started again.
    """

    def __init__(self, name: str, detail: str = "", cause: BaseException | None = None, closed: bool = False) -> None:
        self.name = name
        self.cause = cause
        self.closed = closed
        last = f" (the last failure: {cause})" if cause is not None else ""
        advice = "its factory is closed; make a new one" if closed else "call start() to begin again"
        super().__init__(f"Locking session has ended: the Locker {name!r} is stopped{detail}{last}; {advice}")


class SessionUnavailable(ConsulLockerError):
    """There is no session: the call rode over an outage of Consul for ``outage_timeout``, or the Locker gave up.

    Attributes:
        name: the Locker's name.
        retries: how many retries were made until the Locker gave up (``max_retries``); 0 for a call whose
            ``outage_timeout`` is over: then the Locker goes on trying.
        cause: the error of the last attempt, or None when none was answered, or failed, yet.
        attempts: how many attempts failed while the call was there.
        sent: whether a request of the call's own went unanswered, with a session that was lost: it may have been done.
        outage_timeout: the limit that is over, in seconds; None when the Locker gave up.
    """

    def __init__(
        self,
        name: str,
        retries: int,
        cause: BaseException | None = None,
        *,
        attempts: int | None = None,
        sent: bool = False,
        outage_timeout: float | None = None,
    ) -> None:
        self.name = name
        self.retries = retries
        self.cause = cause
        self.attempts = retries + 1 if attempts is None else attempts
        self.sent = sent
        self.outage_timeout = outage_timeout
        last = f"; the last failure: {cause}" if cause is not None else ""
        option = cause.option if isinstance(cause, ConsulUnavailable) else None
        if outage_timeout is not None:
            tries = f"{self.attempts} attempt{'s' if self.attempts != 1 else ''} failed"
            super().__init__(
                f"The Locker {name!r} got no session from Consul within {outage_timeout:g} s (option outage_timeout), "
                f"{tries}{last}; it goes on trying: call again later"
            )
            return
        if option is None:
            advice = "call start() once Consul is reachable, or raise max_retries"
        else:
            advice = f"fix the option {option!r}, or call start() once Consul's side of it is right"
        super().__init__(f"The Locker {name!r} got no session within {retries} retries and is stopped{last}; {advice}")


class LockLost(ConsulLockerError):
    """A lease is over: work that relies on it must stop.

    Attributes:
        id: the lock's id.
        key: its key in Consul's KV store.
        reason: why, e.g. ``"session destroyed"``, ``"deadline passed"``, ``"released"``.
        fence: the fence of the lease that is over.
    """

    def __init__(self, id: str, key: str, reason: str, fence: int) -> None:
        self.id = id
        self.key = key
        self.reason = reason
        self.fence = fence
        super().__init__(
            f"The lock {id!r} is lost ({reason}); stop the work it protects, and lock it again before "
            f"starting again"
        )


class ConsulUnavailable(ConsulLockerError):
    """Consul did not answer, or its answer is not valid.

    Attributes:
        operation: the operation of Consul, e.g. ``"session create"``.
        status: the HTTP status of the answer, or None when there was none.
        cause: the error below, or None.
        sent: whether the request may have taken effect although it failed.
        option: the option that is about the reason, where time alone does not mend it: ``"node"``, ``"checks"`` or
            ``"dc"`` if Consul does not know what it names; ``"host"`` if another agent, address or name is needed;
            ``"secure"`` if only one side speaks TLS; ``"ca"``, ``"cert"`` or ``"verify"`` if a side refuses the other's
            certificate; ``"token"`` if a callable returned what is none; ``"namespace"`` or ``"partition"`` if Consul
            has none; else None.
        outage: whether time alone may mend it: no connection, no answer, a rate limit, no leader.
        attempts: how many attempts were made until the call was answered.
    """

    def __init__(
        self,
        message: str,
        *,
        operation: str = "",
        status: int | None = None,
        cause: BaseException | None = None,
        sent: bool = False,
        option: str | None = None,
        outage: bool = False,
        attempts: int = 1,
    ) -> None:
        self.operation = operation
        self.status = status
        self.cause = cause
        self.sent = sent
        self.option = option
        self.outage = outage
        self.attempts = attempts
        super().__init__(message)


class AccessDenied(ConsulLockerError):
    """Consul's ACL refused the request.

    Attributes:
        operation: the operation of Consul.
        status: 401 or 403.
        detail: Consul's own words.
        right: the right that is missing, e.g. ``"session:write"``, or None where that is not known.
        on: what it is missing on: the name of a node, a key, or the beginning of keys with its slash; None where that
            is not known.
        token_source: where the token came from (never the token itself); None when none was given.
    """

    def __init__(
        self,
        operation: str,
        status: int,
        detail: str,
        *,
        right: str | None = None,
        on: str | None = None,
        token_source: str | None = "option 'token'",
    ) -> None:
        self.operation = operation
        self.status = status
        self.detail = detail
        self.token_source = token_source
        told = _LACKS.search(detail)
        self.right = told["right"] if told else right
        self.on = on or (told["on"] if told else None)
        super().__init__(f"Consul refused {operation} ({status}: {detail}); {self._advice()}")

    def _advice(self) -> str:
        token = f"the token ({self.token_source})"
        if "ACL not found" in self.detail:
            return f"it does not know {token}, or not yet: a new token takes a while to reach it"
        if self.token_source is None:
            token = f"no token was given ({TOKEN_SOURCES}), and the token that counts then"
        if self.right is None:
            return f"{token} needs session:write for the node and key:write for the Locker's keys"
        kind, _, access = self.right.partition(":")
        if kind == "session":
            where = "the node of the agent that was asked" if self.on is None else f"the node {self.on!r}"
            rule = "session_prefix" if self.on is None else "session"
        else:
            where = "a key" if self.on is None else repr(self.on)
            rule = f"{kind}_prefix" if self.on is None or self.on.endswith("/") else kind
        return f'{token} lacks {self.right} on {where}: {rule} "{self.on or ""}" {{ policy = "{access}" }}'


class InvalidLockId(ConsulLockerError, ValueError):
    """An id that cannot name a lock.

    Attributes:
        id: the id as it was given.
        reason: what is wrong with it.
    """

    def __init__(self, id: object, reason: str) -> None:
        self.id = id
        self.reason = reason
        super().__init__(f"{id!r:.600} cannot be the id of a lock: {reason}")


class ConfigurationError(ConsulLockerError, ValueError):
    """An option that is not valid.

    Attributes:
        option: the option's name.
        value: the value as it was given (never a token).
    """

    def __init__(self, option: str, value: object, expected: str) -> None:
        self.option = option
        self.value = value
        super().__init__(f"{option}={value!r:.600}: {expected}")
