"""What both faces have in common: checked arguments, properties, and the fast path to a cached lock."""

from __future__ import annotations

import copy
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from .config import LockerOptions
from .core.batch import MAX_OPS
from .core.locker import LockerCore
from .core.machine import STATES
from .core.messages import Call
from .errors import ConfigurationError
from .factory import BaseFactory
from .keys import check_id
from .types import BaseLease, seconds

__all__ = ["NEED_OPEN", "BaseLocker", "note", "to_raise"]

LeaseT = TypeVar("LeaseT", bound=BaseLease)

#: Calls that a closed factory refuses: they ask Consul, or begin anew. The others have an answer without it.
NEED_OPEN = frozenset(("guarded", "holder", "info", "reboot", "session_info", "start"))
#: Ids of one `lock_many`: each is one operation of a transaction, which is never split; two where it gives a place in a
#: queue back besides (fair=True).
MAX_MANY = MAX_OPS
MAX_MANY_FAIR = MAX_OPS // 2


def note(error: BaseException, text: str) -> None:
    """Add a note to an exception, as ``add_note`` does from Python 3.11 on."""
    notes: list[str] = [*getattr(error, "__notes__", ()), text]
    vars(error)["__notes__"] = notes


def to_raise(error: BaseException) -> BaseException:
    """An answer that callers may share, for one of them to raise: each has a traceback of his own.

    Raised by one after another, the very same exception would collect the frames of all of them.
    """
    if error.__traceback__ is None:
        return error  # nobody has raised it yet
    copied = copy.copy(error)
    vars(copied).pop("__notes__", None)
    return copied


class BaseLocker(Generic[LeaseT]):
    """The part of a Locker that never waits. See the Locker of the face."""

    def __init__(
        self,
        factory: BaseFactory[Any],
        options: LockerOptions,
        random: Callable[[], float],
        lease_type: type[LeaseT],
    ) -> None:
        identity = {"pid": os.getpid(), "host": socket.gethostname(), "name": options.name}
        self._factory = factory
        self._options = options
        self._core = LockerCore(
            options,
            identity=identity,
            timeout=factory._client.timeout,
            clock=factory._clock.now,
            random=random,
            lease_type=lease_type,
        )
        self._clock = factory._clock
        self._leases: Mapping[str, BaseLease] = self._core.ledger.leases
        self._strategy = self._core.strategy
        self._served = 0

    # ------------------------------------------------------------------------------------- properties

    @property
    def name(self) -> str:
        """The name that it shares with the Lockers it competes with."""
        return self._options.name

    @property
    def state(self) -> str:
        """``"acquiring"``, ``"ready"``, ``"paused"`` or ``"stopped"``."""
        return self._core.state

    @property
    def session_id(self) -> str | None:
        """The id of the session in use; None when there is none."""
        life = self._core.session.life
        return None if life is None else life.session_id

    @property
    def reboot_count(self) -> int:
        """Failed attempts to get a session since the Locker was last ready."""
        return self._core.session.retries

    @property
    def held(self) -> Mapping[str, LeaseT]:
        """The leases held now, by id: a snapshot that cannot be written to."""
        leases: dict[str, Any] = dict(self._leases)
        return MappingProxyType(leases)

    def stats(self) -> dict[str, int]:
        """Counters since the Locker was made.

        Among them: ``granted``, ``denied``, ``cached`` (calls answered without a request), ``shared`` (calls that
        joined a request in flight), ``requests`` (lock operations), ``transactions``, ``released``, ``lost``,
        ``failed``, ``renewals``, ``renewals_failed``. All are there from the beginning.
        """
        counters = dict.fromkeys(
            (
                "granted", "denied", "cached", "shared", "requests", "transactions", "released", "lost", "failed",
                "renewals", "renewals_failed",
            ),
            0,
        )  # fmt: skip
        counters.update(self._core.counters())
        counters["cached"] += self._served
        return counters

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} {self.name!r} {self.state} held={len(self._leases)}>"

    # -------------------------------------------------------------------------------------- for the faces

    def _poison(self) -> None:
        """In the child of a fork: the leases are over, and nothing is kept that could be held for a lock."""
        life = self._core.session.life
        if life is not None:
            life.deadline = float("-inf")
        for lease in self._leases.values():
            lease.end("forked")
        self._leases = {}

    def _cached(self, id: Any) -> LeaseT | None:
        """The lease that answers a call without a request, and without the mutex (DESIGN.md section 5).

        The ledger takes a lease out of its dictionary before anything else happens to it, so one that
        is found there and valid is held in the state ready.
        """
        lease: Any = self._leases.get(id) if type(id) is str else None
        if (
            lease is not None
            and not lease.exclusive
            and lease.valid
            and self._strategy.serves(lease, self._clock.now())
        ):
            self._served += 1
            lease.takers += 1
            found: LeaseT = lease
            return found
        return None

    def _lock_call(self, verb: str, ids: Iterable[Any], wait: Any, timeout: Any) -> Call:
        """A call for locks, its arguments checked before anything is done."""
        limit = seconds("timeout", timeout)
        return Call(
            verb,
            tuple(dict.fromkeys(check_id(id) for id in ids)),
            wait=seconds("wait", wait),
            timeout=self._options.default_timeout if timeout is None else limit,
        )

    @staticmethod
    def _check_state(state: str) -> str:
        if state not in STATES:
            raise ConfigurationError("state", state, f"one of {', '.join(STATES)}")
        return state

    def _ids(self, ids: Iterable[Any]) -> list[Any]:
        """The ids of `lock_many`, which must be a collection and not one id.

        Raises:
            ConfigurationError: they are one text, or more than a transaction can take.
        """
        if isinstance(ids, (str, bytes)):
            raise ConfigurationError("ids", ids, "a list of ids, not one; lock() takes one")
        found = list(ids)
        most = MAX_MANY_FAIR if self._options.fair else MAX_MANY
        if len(dict.fromkeys(check_id(id) for id in found)) > most:
            raise ConfigurationError("ids", f"({len(found)} ids)", f"at most {most} at once")
        return found
