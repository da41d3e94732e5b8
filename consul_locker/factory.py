"""What the factories of both faces have in common: options, an agent of their own, and what a fork leaves of them."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .client.requests import Encoder
from .config import ClientOptions
from .exchange import Clock, SystemClock
from .strategies import PermanentStrategy
from .types import seconds

if TYPE_CHECKING:
    from .face import BaseLocker

__all__ = ["CLOSED", "PERMANENT", "BaseFactory", "living"]

LockerT = TypeVar("LockerT", bound="BaseLocker[Any]")
FactoryT = TypeVar("FactoryT", bound="BaseFactory[Any]")

#: What `create` uses when no strategy is named. It has no state, so all Lockers share it.
PERMANENT = PermanentStrategy()
#: What is told to those who ask more of a closed factory than it can do.
CLOSED = "the factory is closed; make a new one"


class BaseFactory(Generic[LockerT]):
    """The part of a factory that never waits. See the LockerFactory of the face."""

    #: How it is called in a repr.
    _full_name: str

    def _open(self, client: ClientOptions, clock: Clock | None = None, own_agent: Any = None) -> None:
        """Begin, with checked options; without a clock with the system's. An agent of its own ends with it."""
        self._client = client
        self._clock = SystemClock() if clock is None else clock
        self._own_agent = own_agent
        self._encoder = Encoder(client)
        # One that is stopped goes when its user forgets it; the others are known to requests and timers under way.
        self._lockers: weakref.WeakSet[LockerT] = weakref.WeakSet()
        self._closed = False  # or about to be
        self._over = False  # closed, and no state will change any more
        self._poisoned = False
        self._prepare()
        _FACTORIES.add(self)

    def _prepare(self) -> None:
        """Begin what the face needs besides."""

    @classmethod
    def _embedded(cls: type[FactoryT], agent: Any, timeout: float | None) -> FactoryT:
        from .embedded import Agent

        ClientOptions.build(timeout=timeout, environ={})  # an argument that is refused leaves no agent behind
        own = None
        if agent is None:
            agent = own = Agent().start()
        factory = cls.__new__(cls)
        factory._open(ClientOptions.build(agent.address, timeout=timeout, environ={}), agent.clock, own)
        return factory

    def _stop_limit(self, timeout: float | None) -> float:
        """The limit on a stop, in seconds: as it is given, else twice that on a request."""
        limit = seconds("timeout", timeout)
        return 2 * self._client.timeout if limit is None else limit

    def __repr__(self) -> str:
        return f"<{self._full_name} {self._client.address}>"

    # -------------------------------------------------------------------------------- after a fork

    def _check(self, open: bool = False) -> None:
        """Refuse what comes from a forked child.

        Args:
            open: refuse it also when the factory is closed, or about to be.
        """
        if self._poisoned:
            raise RuntimeError("a Locker cannot be used after a fork; make a new factory in the child process")
        if open and self._closed:
            raise RuntimeError(CLOSED)

    def _poison(self) -> None:
        """In the child of a fork: nothing of this factory may be used, and no mutex is touched (rule 10)."""
        self._poisoned = True
        for locker in self._lockers:
            locker._poison()


_FACTORIES: weakref.WeakSet[BaseFactory[Any]] = weakref.WeakSet()


def living(face: type[FactoryT]) -> list[FactoryT]:
    """The factories of a face that are still there."""
    return [factory for factory in list(_FACTORIES) if isinstance(factory, face)]


def _after_fork() -> None:
    for factory in list(_FACTORIES):
        factory._poison()


if hasattr(os, "register_at_fork"):  # pragma: no branch - only Windows has no fork
    os.register_at_fork(after_in_child=_after_fork)
