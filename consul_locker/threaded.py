"""LockerFactory and Locker for threads.

A factory has at most three threads: one for I/O (session, renewals, watches, audits, `submit_*`), one for
signals, and where it runs an embedded agent, that agent's; and one or two more while a host's name is looked
up. A Locker has none.

How calls are carried out is in `consul_locker.carrying`.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from .client.allowance import Allowance
from .client.transport import BlockingTransport
from .config import LockerOptions
from .carrying import Carrying
from .core.messages import Call
from .delivery import PATIENCE, Delivery
from .exchange import Exchange
from .io_thread import IoThread
from .errors import ConsulUnavailable
from .face import BaseLocker, Hold, listed, to_raise
from .factory import BaseFactory, living
from .inside import INSIDE
from .lease import Lease
from .strangers import with_strangers
from .types import LockInfo, SessionInfo, StateName

__all__ = ["Locker", "LockerFactory"]

_LOGGER = logging.getLogger("consul_locker")

#: At interpreter exit living Lockers are stopped; all together get this long, in seconds.
EXIT_LIMIT = 2.0
#: A part of the connections is for callers who carry requests; the rest is the I/O thread's.
CARRIER_SHARE = 0.25


#: The holds within which this code runs, of whatever Locker. Who copies a context to another thread takes them along.
_WITHIN: ContextVar[tuple[Hold, ...]] = ContextVar("consul_locker_within", default=())


class Locker(BaseLocker[Lease]):
    """Hands out locks through one session of Consul; made by `LockerFactory.create`. For any thread.

    The locks of `lock` belong to the Locker, not to the caller: a lock that it holds is given to whoever
    asks. For exclusion among the callers of one Locker use `hold`.

    Attributes:
        fsm: the Locker as an `Fsm`, for embedding, inspection and drawing; see `consul_locker.view`.
    """

    _caller = "thread"
    _factory: LockerFactory
    _runtime: Carrying

    def __init__(self, factory: LockerFactory, options: LockerOptions) -> None:
        super().__init__(factory, with_strangers(options), Lease)
        self._runtime = Carrying(
            self._core,
            self,
            factory._clock,
            factory._encoder,
            factory._transport,
            factory._io_thread,
            factory._delivery,
            factory._client.timeout,
        )
        self.fsm = self._view(
            self.submit_lock,
            self.submit_release,
            lambda: self._runtime.submit(Call("stop", timeout=factory._stop_limit(None))),
        )
        self._runtime.begin()

    # ---------------------------------------------------------------------------------------- locking

    def lock(self, id: str | int, *, wait: float | None = 0.0, timeout: float | None = None) -> Lease:
        """Get a lock, shared among the callers of this Locker.

        Args:
            id: which lock; 1 and ``"1"`` are one.
            wait: how long to wait for another holder, in seconds; 0 makes one attempt, None waits for ever.
            timeout: the limit on the whole call, the time before there is a session included, in
                seconds; None: the Locker's ``default_timeout``.

        Returns:
            The lease, which other callers of this Locker may share.

        Raises:
            AlreadyLocked: somebody else has it, and the time to wait is over.
            LockTimeout: ``timeout`` is over.
            SessionEnded: the Locker is stopped, or was while the call waited.
            SessionUnavailable: it gave up while the call waited: its retries are exhausted.
            ConsulUnavailable: Consul did not answer, or its answer makes no sense.
            AccessDenied: Consul's ACL refused the request.
            InvalidLockId: the id cannot name a lock.
            ConfigurationError: ``wait`` or ``timeout`` cannot be meant.
            RuntimeError: the call would wait inside an observer or for the very call it interrupts, or follows a fork.
        """
        found = self._cached(id)
        if found is not None:
            return found
        lease: Lease = self._ask(self._lock_call("lock", (id,), wait, timeout))
        return lease

    def submit_lock(self, id: str | int, *, wait: float | None = 0.0, timeout: float | None = None) -> Future[Lease]:
        """The same as `lock`, as a future: for many calls from one thread. Never waits.

        A future that is cancelled before it is done leaves no lock behind. Its callbacks run in the thread of the
        observers, after the call's signals.

        Args:
            id, wait, timeout: as for `lock`.

        Returns:
            A future of the lease. It has the errors of `lock` but for those below, which are raised at once.

        Raises:
            InvalidLockId: the id cannot name a lock.
            ConfigurationError: ``wait`` or ``timeout`` cannot be meant.
            RuntimeError: the call follows a fork.
        """
        future: Future[Lease] = self._submit(self._lock_call("lock", (id,), wait, timeout))
        return future

    def lock_many(
        self, ids: Iterable[str | int], *, wait: float | None = 0.0, timeout: float | None = None
    ) -> list[Lease]:
        """Get several locks, all or none, in one transaction of Consul. Raises what `lock` raises, and those below.

        Args:
            ids: at most 64, with ``fair=True`` 32; one that is given twice is one.
            wait, timeout: as for `lock`.

        Returns:
            A lease for each id, in the order given.

        Raises:
            AlreadyLocked: not all could be had; its ``ids`` are those that were refused.
            ConfigurationError: they are too many for one transaction, or one text and not a list.
        """
        given = self._ids(ids)
        if not given:
            return []
        return self._in_order(self._ask(self._lock_call("lock_many", given, wait, timeout)), given)

    @contextmanager
    def hold(self, id: str | int, *, wait: float | None = 0.0, timeout: float | None = None) -> Iterator[Lease]:
        """Hold a lock while the body of a ``with`` runs: exclusive among this Locker's callers too.

        Raises what `lock` raises, and those below.

        Args:
            id, wait, timeout: as for `lock`.

        Raises:
            LockLost: on leaving, when the lease was lost while the body ran.
            RuntimeError: this thread holds the same lock already.
        """
        with self._holding("hold", (id,), wait, timeout) as leases:
            yield leases[0]

    @contextmanager
    def hold_many(
        self, ids: Iterable[str | int], *, wait: float | None = 0.0, timeout: float | None = None
    ) -> Iterator[list[Lease]]:
        """Hold several locks, all or none, while the body of a ``with`` runs. As `hold` and `lock_many`."""
        with self._holding("hold_many", self._ids(ids), wait, timeout) as leases:
            yield leases

    @contextmanager
    def _holding(self, verb: str, ids: Iterable[Any], wait: Any, timeout: Any) -> Iterator[list[Lease]]:
        hold = Hold(threading.get_ident())
        call = self._hold_call(hold, verb, ids, wait, timeout)
        if not call.ids:
            yield []
            return
        granted: Any = None
        try:
            granted = self._ask(call)
            leases = self._begin_hold(hold, granted)
            _WITHIN.set((*(other for other in _WITHIN.get() if not other.over), hold))
            yield leases
        except BaseException as error:
            if granted is not None:
                self._leave(hold, listed(granted), error)
            raise
        else:
            self._leave(hold, leases, None)
        finally:
            hold.over = True
            if granted is not None and any(lease.live for lease in listed(granted)):  # interrupted before it was left
                self._runtime.let_go(listed(granted))

    def _leave(self, hold: Hold, leases: list[Lease], error: BaseException | None) -> None:
        if self._factory._poisoned:
            return  # the parent's hold, which goes on there (rule 10)
        with self._leaving(hold, leases, error) as call:
            self._ask(call)

    def _is_within(self, hold: Hold) -> bool:
        # A thread of a pool that began a hold is free for others until it is left.
        return hold in _WITHIN.get()

    def release(self, id: str | int) -> bool:
        """Give a lock back. Nobody who shares it may rely on it from the moment of the call.

        Args:
            id: which lock, as for `lock`. The limit on the call is the Locker's ``default_timeout``.

        Returns:
            True, also in *acquiring*, where nothing is held; False when the session did not hold it or is over
            meanwhile, or when a `hold` has it.

        Raises:
            LockTimeout: the limit is over; a release that was begun goes on in the background.
            SessionEnded: the Locker is stopped.
            SessionUnavailable: it gave up while the call waited for a session.
            ConsulUnavailable: whether it was released is unknown; the Locker goes on trying to.
            AccessDenied: Consul's ACL refused the request.
            InvalidLockId: the id cannot name a lock.
            RuntimeError: as for `lock`.
        """
        released: bool = self._ask(self._release_call(id))
        return released

    def submit_release(self, id: str | int) -> Future[bool]:
        """The same as `release`, as a future. Never waits.

        Args:
            id: as for `release`.

        Returns:
            A future of what `release` returns. It has the errors of `release` but for those below, which are raised
            at once.

        Raises:
            InvalidLockId: the id cannot name a lock.
            RuntimeError: the call follows a fork.
        """
        future: Future[bool] = self._submit(self._release_call(id))
        return future

    def release_all(self) -> int:
        """Give back every lock that `lock` and `lock_many` got. Never ends a `hold`.

        The limit on the call is the Locker's ``default_timeout``. Raises what `release` raises; where several
        releases fail, the error of the first.

        Returns:
            How many of them the session held.
        """
        released: int = self._ask(self._release_all_call())
        return released

    def guarded(self, lease: Lease, operations: Iterable[Mapping[str, Any]]) -> list[LockInfo]:
        """Run KV operations of one's own in one transaction that takes effect only while the lease stands.

        Args:
            lease: of this Locker.
            operations: in the form that Consul's ``/v1/txn`` takes, values in base64; at most 62.

        Returns:
            What Consul answers for each, in order.

        Raises:
            LockLost: Consul refused them because of the lock; nothing was done.
            ConfigurationError: an operation cannot be meant, or the lease is none of this Locker's; nothing was sent.
            ConsulUnavailable: it refused them for another reason, or did not answer.
        """
        return self._own_answers(lease, self._ask(self._guarded_call(lease, operations)))

    # ------------------------------------------------------------------------------------------ life

    def stop(self, timeout: float | None = None) -> None:
        """Destroy the session, and so free every lock; final until `start`, or `reboot`.

        Args:
            timeout: how long it may take, in seconds; None: twice the factory's. When it is over the Locker is
                stopped all the same, and the session is destroyed in the background, as long as the process lives.

        Raises:
            ConfigurationError: ``timeout`` cannot be meant.
            RuntimeError: the call would wait inside an observer or within a step of this thread, or follows a fork.
        """
        self._ask(Call("stop", timeout=self._factory._stop_limit(timeout)))

    def __enter__(self) -> Locker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._factory._poisoned:  # in a forked child it is the parent's (rule 10)
            self.stop()

    def wait_for_state(self, state: StateName, timeout: float | None = None) -> bool:
        """Wait until the Locker is in a state, be it for a moment.

        Args:
            state: ``"acquiring"``, ``"ready"``, ``"paused"`` or ``"stopped"``.
            timeout: in seconds; None waits as long as it takes.

        Returns:
            False when the time was over first.

        Raises:
            RuntimeError: the factory is closed, or was meanwhile: the Locker is stopped for good.
            ConsulUnavailable: the factory's I/O thread has died.
        """
        limit = self._wait_limit(state, timeout)
        if self.state == state:
            return True
        self._runtime.refuse_inside()
        reached = self._runtime.state_waits.wait(state, lambda: self.state, limit)
        if reached is False:
            self._factory._check(open=True)  # which raises: it is closed, or its I/O thread has died
        return bool(reached)

    # ------------------------------------------------------------------------------------- questions

    def info(self, id: str | int) -> LockInfo | None:
        """The key of a lock as Consul has it, by one request, in whatever state the Locker is.

        Args:
            id: which lock, as for `lock`.

        Returns:
            What is there; None when the key does not exist.

        Raises:
            ConsulUnavailable: Consul did not answer within the factory's ``timeout``, or its answer makes no sense.
            AccessDenied: Consul's ACL refused the request.
            InvalidLockId: the id cannot name a lock.
            RuntimeError: the factory is closed; else as for `stop`.
        """
        info: LockInfo | None = self._ask(self._question("info", id))
        return info

    def holder(self, id: str | int) -> LockInfo | None:
        """Who has a lock, with the holder's session, by two requests. Raises what `info` raises.

        Args:
            id: which lock, as for `lock`.

        Returns:
            The key with its ``session``, which is None when it ended between the requests; None when nobody has it.
        """
        info: LockInfo | None = self._ask(self._question("holder", id))
        return info

    def session_info(self, session_id: str | None = None) -> SessionInfo | None:
        """A session as Consul has it, by one request. Raises what `info` raises, and what is below.

        Args:
            session_id: which session; None: the one in use.

        Returns:
            What Consul knows of it; None when there is no such session, or none in use.

        Raises:
            ConfigurationError: ``session_id`` cannot be the id of a session.
        """
        info: SessionInfo | None = self._ask(self._session_question(session_id))
        return info


class LockerFactory(BaseFactory[Locker]):
    """Makes Lockers that use one Consul agent; a context manager.

    Args:
        host, port, secure: where the agent's HTTP API is; ``host`` may be an address as Consul's own
            tools take it (``host:port``, ``https://…``, ``unix:///path``). Default 127.0.0.1:8500, plain HTTP.
        ca: trusted certificates, a list of texts in PEM form.
        token: the ACL token. It never appears in a log, a repr or an error.
        cert, key: paths of the client certificate and its key.
        dc: the datacenter.
        timeout: the limit on every HTTP request as a whole, in seconds (10.0).
        max_connections: to Consul, of all the factory's Lockers, 3 or more (64; Consul refuses over 200 a client
            address).

    None, the default of each, means the environment variable that Consul's own tools read, else the
    default. Nothing is connected before a Locker is made.

    Raises:
        ConfigurationError: an option cannot be meant.
    """

    _full_name = "consul_locker.LockerFactory"

    def _prepare(self) -> None:
        client = self._client
        carriers = max(1, int(client.max_connections * CARRIER_SHARE))
        allowance = Allowance(client.max_connections)
        self._transport = BlockingTransport(client, carriers, allowance)
        self._delivery = Delivery("consul_locker-signals")
        others = client.max_connections - carriers
        self._io_thread = IoThread(
            lambda: Exchange(client, self._encoder, self._clock, others, allowance), self._report, self._io_died
        )
        self._guard = threading.RLock()  # a signal handler may come in between
        _see_to_the_exit()

    def _make(self, options: LockerOptions) -> Locker:
        self._check()
        with self._guard:
            self._check(open=True)
            self._io_thread.start()
            locker = Locker(self, options)
            self._lockers.add(locker)
        return locker

    def _check(self, open: bool = False) -> None:
        """Refuse also what can have no answer since the I/O thread has died."""
        super()._check(open)
        if open and self._io_thread.dead is not None:
            raise to_raise(self._io_thread.dead)

    def _report(self, text: str, error: BaseException | None) -> None:
        """On the I/O thread: something went wrong there."""
        self._delivery.log(logging.ERROR, text, error)
        self._delivery.wake()

    def _io_died(self, error: ConsulUnavailable) -> None:
        """On the I/O thread, about to end: nobody may wait for it."""
        self._report(str(error), error.cause)
        with self._guard:  # a Locker that is not made yet finds it dead
            lockers = list(self._lockers)
        for locker in lockers:
            try:
                locker._runtime.io_died(error)
            except BaseException as failure:  # the others are to hear of it all the same
                self._report(f"{locker!r} could not be stopped", failure)

    def close(self, timeout: float | None = None) -> None:
        """Stop the Lockers, close the connections, end the threads. Twice does no harm.

        Where Consul has not confirmed the end of a session, the I/O thread lives on to destroy it, and for nothing
        else: until it is done, or the process ends.

        Args:
            timeout: the limit on the stops together, in seconds; None: twice the limit of a request.

        Raises:
            ConfigurationError: ``timeout`` cannot be meant.
            RuntimeError: it was called inside an observer, or within a step of this thread.
        """
        limit = self._stop_limit(timeout)
        if self._poisoned:  # before any mutex: the parent may have held it (rule 10)
            return
        if self._delivery.here or INSIDE.stepping:
            raise RuntimeError("a factory cannot be closed inside an observer, or within a step of this thread")
        deadline = time.monotonic() + limit
        with self._guard:
            if self._closed:
                return
            self._closed = True
            lockers = list(self._lockers)
        stops = [(locker, Call("stop", timeout=max(0.0, deadline - time.monotonic()))) for locker in lockers]
        for locker, stop in stops:
            locker._runtime.submit(stop)
        for locker, stop in stops:
            locker._runtime.give_up(stop, deadline + PATIENCE)
        self._io_thread.close(linger=self._own_agent is None)  # the sessions of an agent of its own end with it
        self._transport.close()
        self._delivery.close(PATIENCE)
        self._over = True
        for locker in lockers:
            locker._runtime.state_waits.end()
        if self._own_agent is not None:
            self._own_agent.close()

    def __enter__(self) -> LockerFactory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _at_exit() -> None:
    deadline = time.monotonic() + EXIT_LIMIT
    for factory in living(LockerFactory):
        try:
            factory.close(max(0.0, deadline - time.monotonic()))
            factory._io_thread.close()  # one that lingers would be broken off anywhere; in a forked child there is none
        except Exception:  # the interpreter is going down; the session expires by its TTL
            _LOGGER.debug("a factory was not closed at exit", exc_info=True)


atexit.register(_at_exit)


def _see_to_the_exit() -> None:
    """A forked child of multiprocessing ends by ``os._exit``: there only multiprocessing's own hooks are called."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _at_exit, exitpriority=0)
