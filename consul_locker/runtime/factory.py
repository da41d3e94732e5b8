"""The base of the factories of both faces: options, an embedded agent of their own, and what happens after a fork."""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar

from ..arguments import seconds
from ..config.options import ClientOptions, LockerOptions, RetryInterval
from ..core.machine import STOPPED
from ..errors import ConfigurationError
from ..models import Behavior, StateName
from ..strategies import PermanentStrategy, Strategy
from .clock import Clock, SystemClock
from .given_observers import observers_of

if TYPE_CHECKING:
    from ..client.addresses import Addresses
    from ..embedded import Agent

__all__ = [
    "BaseFactory",
    "CLOSED",
    "PERMANENT",
    "living",
]


LockerT = TypeVar("LockerT", bound="Member")
FactoryT = TypeVar("FactoryT", bound="BaseFactory[Any]")

#: The strategy of a Locker that is given none. It has no state, so all Lockers share it.
PERMANENT = PermanentStrategy()
#: The error of a call that a closed factory cannot answer.
CLOSED = "the factory is closed; make a new one"
#: What a ResourceWarning says of a factory that was thrown away.
DROPPED = "was not closed before it was thrown away; one a process is enough, and use 'with', 'async with' or close()"
#: The error when a factory or a Locker is copied, or pickled (mostly to give it to another process).
NOT_COPIED = (
    "factories and Lockers can be neither pickled nor copied: their connections and sessions belong to this process; "
    "make a factory in each process"
)


class Member(Protocol):
    """What a factory needs of its Lockers."""

    _forked: bool
    _factory: Any

    @property
    def state(self) -> StateName:
        """Its state."""

    @property
    def _runtime(self) -> Any:
        """Of the face."""

    def _mark_forked(self) -> None:
        """In the child of a fork: what it was is the parent's from now on."""


def _changed(known: Callable[[], Any]) -> None:
    """The state of a Locker has changed, if there still is one."""
    locker = known()
    if locker is not None:
        locker._factory._keep(locker)


class BaseFactory(ABC, Generic[LockerT]):
    """The part of a factory that never waits. The rest is in the `LockerFactory` of each face."""

    #: Its name in a repr.
    _full_name: str
    #: Whether observers may be coroutine functions.
    _awaits_observers = False
    #: Which address is in use; made by `_prepare`, since its mutex is of one process.
    _addresses: Addresses

    def __init__(
        self,
        host: str | Sequence[str] | None = None,
        port: int | None = None,
        secure: bool | None = None,
        ca: Iterable[str] | str | os.PathLike[str] | None = None,
        *,
        token: str | Callable[[], str] | None = None,
        cert: str | None = None,
        key: str | None = None,
        verify: bool | None = None,
        dc: str | None = None,
        namespace: str | None = None,
        partition: str | None = None,
        timeout: float | None = None,
        max_connections: int | None = None,
    ) -> None:
        options = ClientOptions.build(
            host, port, secure, ca,
            token=token, cert=cert, key=key, verify=verify, dc=dc, namespace=namespace, partition=partition,
            timeout=timeout, max_connections=max_connections,
        )  # fmt: skip
        self._open(options)

    @classmethod
    def embedded(cls: type[FactoryT], agent: Agent | None = None, *, timeout: float | None = None) -> FactoryT:
        """A factory that needs no Consul: for demos, tests and development.

        Args:
            agent: a `consul_locker.embedded.Agent` that was started; None starts one, which has a thread of its own and
                ends with the factory.
            timeout: the limit on every HTTP request as a whole, in seconds (10.0).

        Returns:
            The factory, of this face. It reads no environment variables.

        Raises:
            ConfigurationError: ``timeout`` is not valid, or ``agent`` is no agent, or was not started.
        """
        from ..embedded import Agent

        ClientOptions.build(timeout=timeout, environ={})  # checked before an agent is started
        own = None
        if agent is None:
            agent = own = Agent().start()
        elif not isinstance(agent, Agent):
            raise ConfigurationError(
                "agent", agent, "an embedded.Agent, or None for one of its own; an address is for LockerFactory()"
            )
        elif not agent.port:
            raise ConfigurationError("agent", agent, "it has no port yet; start() it first, or enter it with 'with'")
        factory = cls.__new__(cls)
        factory._open(ClientOptions.build(agent.address, timeout=timeout, environ={}), agent.clock, own)
        factory._embedded = True
        return factory

    def create(
        self,
        name: str,
        *,
        max_retries: int | None = None,
        outage_timeout: float | None = 20.0,
        retry_interval: RetryInterval = 30.0,
        ttl: float | None = 15.0,
        lock_delay: float = 0.0,
        checks: Iterable[str] | None = None,
        behavior: Behavior = "release",
        node: str | None = None,
        strategy: Strategy | None = PERMANENT,
        value: Mapping[str, Any] | None = None,
        flags: int = 0,
        delete_on_release: bool = False,
        identify_holder: bool = True,
        fair: bool = False,
        default_timeout: float | None = None,
        observers: Any = None,
    ) -> LockerT:
        """Make a Locker. It begins its session at once, and this call does not wait for that.

        On asyncio call it on the running event loop.

        Args:
            name: Lockers that compete for the same locks must have the same name.
            max_retries: how often the Locker tries again to get a session before it gives up; None: without a limit.
            outage_timeout: how long a call rides over an outage of Consul, in seconds: meanwhile it is tried again, and
                waits for a session; None: for ever; 0: nothing is tried again, and the wait for a session has no limit.
            retry_interval: the longest pause between retries, in seconds; pauses begin at 0.5 s and double, with
                jitter. Or a callable (number of the retry) -> seconds.
            ttl: the session's time to live, in seconds, 10 to 86400; None for a session without one.
            lock_delay: how long Consul keeps a lock closed after its holder's session ended, in seconds, 0 to 60.
            checks: health checks that end the session; None for none with a TTL, else Consul's default.
            behavior: what happens to the session's keys when it ends, ``"release"`` or ``"delete"``.
            node: the Consul node that the session belongs to; None: the agent's own, or with the factory's ``dc``, when
                that is another datacenter, one of its servers, looked up in its catalog.
            strategy: what is cached; None for nothing.
            value: what the value of a lock's key holds besides pid, host, name and tenure.
            flags: Consul's flags of a lock's key.
            delete_on_release: whether a released lock's key is deleted.
            identify_holder: whether a denied call reads which holder has the lock.
            fair: whether waiting calls of all processes are served in the order in which they came; then a lock that is
                not cached costs one read more (docs/fairness.rst).
            default_timeout: the limit of calls without a ``timeout``, in seconds; None: without a limit.
            observers: called at signals, from the first one on: an object with methods named after signals
                (``session_created``, ...), a mapping of signals to callables, or several of these. Each is called as
                ``observer(locker, **facts)``; on asyncio it may be a coroutine function. The Locker holds them.

        Returns:
            The Locker, of this factory's face.

        Raises:
            ConfigurationError: an option is not valid.
            RuntimeError: the factory is closed; on asyncio also: no event loop runs, or not that of the factory.
        """
        checked = observers_of(observers, self._awaits_observers)
        return self._make(replace(LockerOptions.build(
            name, max_retries=max_retries, outage_timeout=outage_timeout, retry_interval=retry_interval, ttl=ttl,
            lock_delay=lock_delay, checks=checks, behavior=behavior, node=node, dc=self._client.dc,
            token_source=self._client.token_source, strategy=strategy,
            value=value, flags=flags, delete_on_release=delete_on_release, identify_holder=identify_holder, fair=fair,
            default_timeout=default_timeout,
        ), observers=checked))  # fmt: skip

    @abstractmethod
    def _make(self, options: LockerOptions) -> LockerT:
        """A Locker of the face."""

    def _open(self, client: ClientOptions, clock: Clock | None = None, own_agent: Any = None) -> None:
        """Initialize it with checked options. None as clock: the system's. ``own_agent`` ends with the factory."""
        from ..client.distributions import warn_of_both
        from ..client.encode import Encoder  # with the first factory: it brings msgspec

        warn_of_both(stacklevel=4)  # the caller of __init__, or of embedded, which calls this
        self._client = client
        self._clock = SystemClock() if clock is None else clock
        self._own_agent = own_agent
        self._encoder = Encoder(client)
        self._embedded = False  # whether its agent is in this very process
        # A stopped Locker is freed when its user drops it; the factory keeps the others.
        self._lockers: weakref.WeakSet[LockerT] = weakref.WeakSet()
        self._running: set[LockerT] = set()
        self._keeping = threading.RLock()  # guards _running; a finalizer may come in between
        self._closed = False  # True as soon as the closing begins
        self._forked = False
        self._prepare()
        # Closed, and the state of its Lockers will not change any more. The last: without it `__del__` leaves it alone.
        self._over = False
        _FACTORIES.add(self)

    def _prepare(self) -> None:
        """Initialize what the face needs besides."""

    def _attach(self, locker: LockerT) -> None:
        """A Locker has a new runtime, which tells the factory from now on whether it has to keep the Locker."""
        locker._runtime.state_waits.then = partial(_changed, weakref.ref(locker))
        self._keep(locker)

    def _keep(self, locker: LockerT) -> None:
        """The state of a Locker has changed, or it is new."""
        with self._keeping:  # the state is read in it: of two changes at a time the last one counts
            if locker.state == STOPPED:
                self._running.discard(locker)
            else:
                self._running.add(locker)

    def _stop_limit(self, timeout: float | None) -> float:
        """The limit on a stop in seconds: ``timeout``, or without it twice the limit on a request."""
        limit = seconds("timeout", timeout)
        return 2 * self._client.timeout if limit is None else limit

    def __repr__(self) -> str:
        return f"<{self._full_name} {self._client.addresses}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(NOT_COPIED)

    def _present(self) -> list[LockerT]:
        """Its Lockers, but for those that were not used since a fork: all that they have is the parent's."""
        # Of a factory that was thrown away only `_running` knows them.
        return [locker for locker in {*self._lockers, *self._running} if not locker._forked]

    # --------------------------------------------------------------------------------- thrown away

    def __del__(self) -> None:
        """Nobody refers to it, nor to a Locker of it; and no lock is held: a lease would refer to its Locker.

        The garbage collector runs this in any thread, in the middle of anything. So it only begins the closing.
        """
        if not hasattr(self, "_over") or self._forked or not self._left_open():
            return
        _FACTORIES.add(self)  # the weak references to it, and to its Lockers, are cleared by now
        for locker in self._running:
            locker._runtime.belong_to(locker)
        self._close_later()
        warnings.warn(f"{self!r} {DROPPED}", ResourceWarning, stacklevel=2, source=self)

    @abstractmethod
    def _left_open(self) -> bool:
        """Whether there is something to close."""

    @abstractmethod
    def _close_later(self) -> None:
        """Close it, elsewhere."""

    # -------------------------------------------------------------------------------- after a fork

    def _check(self, open: bool = False) -> None:
        """Before each use: in a forked child the first one begins anew, or is refused.

        Args:
            open: refuse it also if the factory is closed, or being closed.
        """
        if self._forked:
            self._begin_anew()
        if open and self._closed:
            raise RuntimeError(CLOSED)

    def _mark_forked(self) -> None:
        """In the child of a fork: what this factory has is the parent's, and no mutex is touched (rule 10)."""
        self._forked = True
        self._keeping = threading.RLock()  # a thread of the parent may have had the other
        for locker in self._lockers:
            locker._mark_forked()

    def _begin_anew(self) -> None:
        """At the first use in the child of a fork.

        Raises:
            RuntimeError: it cannot be used there.
        """
        raise RuntimeError("a Locker cannot be used after a fork; make a new factory in the child process")


_FACTORIES: weakref.WeakSet[BaseFactory[Any]] = weakref.WeakSet()


def living(face: type[FactoryT]) -> list[FactoryT]:
    """The factories of a face that still exist."""
    return [factory for factory in list(_FACTORIES) if isinstance(factory, face)]


def _after_fork() -> None:
    for factory in list(_FACTORIES):
        factory._mark_forked()


if not hasattr(os, "register_at_fork"):  # on Windows, which has no select.poll either
    raise ImportError("consul_locker needs a POSIX system, such as Linux or macOS (docs/operations.rst)")
os.register_at_fork(after_in_child=_after_fork)
