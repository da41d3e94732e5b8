"""`Locker` for threads.

A factory has at most three threads: one for I/O (sessions, renewals, watches, audits, `submit_*`), one that calls the
observers, and that of an embedded agent, if it runs one. One or two more run while a host's name is looked up. A
Locker has no thread of its own.

How calls are carried out is in `consul_locker.threads.runtime`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any

from ..arguments import seconds
from ..config.options import LockerOptions
from ..core.calls import Holder, Info, Lock, LockMany, Stop, Waiters
from ..core.locker import LockerCore
from ..core.machine import STOPPED
from ..errors import SessionEnded
from ..keys import LockId
from ..models import LockInfo, SessionInfo, StateName
from .holds import Holds
from .lease import Lease
from .runtime import ThreadRuntime
from .users_code import guard_users_code

__all__ = [
    "Locker",
]


class Locker(Holds):
    """Hands out locks through one session of Consul; made by `LockerFactory.create`. For any thread.

    The locks of `lock` belong to the Locker, not to the caller: every caller gets a lock that it
    holds. Use `hold` if the callers of one Locker must exclude each other.
    """

    _full_name = "consul_locker.Locker"
    def __init__(self, factory: Any, options: LockerOptions) -> None:
        super().__init__(factory, guard_users_code(options), Lease)
        self._equip()
        self._factory._attach(self)
        self._runtime.begin()

    def _inputs(self) -> dict[str, Callable[..., Any]]:
        def stop() -> Any:
            return self._submit(Stop(timeout=self._factory._stop_limit(None)))

        return {"lock": self.submit_lock, "release": self.submit_release, "stop": stop}

    def _equip(self, first: LockerCore | None = None) -> None:
        """Have a runtime, with what the factory has now; ``first`` is its core, if that is made already."""
        factory = self._factory
        self._delivery = factory._delivery
        self._runtime = ThreadRuntime(
            self._core_maker(first),
            self,
            factory._clock,
            factory._encoder,
            factory._transport,
            factory._io_thread,
            factory._delivery,
            factory._client.timeout,
        )

    def _begin_anew(self) -> None:
        with self._factory._guard:  # as in `create`
            if self._forked:  # else another thread was first
                self._factory._io_thread.start()
                stopped = self._core if self._core.state == STOPPED else None
                self._equip(stopped)
                self._idle = None
                self._factory._attach(self)
                if stopped is None:
                    self._runtime.begin()
                self._forked = False

    # ---------------------------------------------------------------------------------------- locking

    def lock(self, id: LockId, *, wait: float | None = 0.0, timeout: float | None = None) -> Lease:
        """Get a lock, shared among the callers of this Locker.

        Args:
            id: which lock; 1 and ``"1"`` are one, and a UUID and its text.
            wait: how long to wait for another holder, in seconds; 0: one attempt; None: without a limit.
            timeout: the limit on the whole call in seconds, including the time until there is a session; None: the
                Locker's ``default_timeout``.

        Returns:
            The lease, which other callers of this Locker may share.

        Raises:
            AlreadyLocked: another holder has it, and the time to wait is over.
            LockTimeout: ``timeout`` is over.
            SessionEnded: the Locker is stopped, or was while the call waited.
            SessionUnavailable: the Locker gave up while the call waited: its retries are exhausted.
            ConsulUnavailable: Consul did not answer, or its answer cannot be read.
            AccessDenied: Consul's ACL refused the request.
            InvalidLockId: the id cannot name a lock.
            ConfigurationError: ``wait`` or ``timeout`` is not valid.
            RuntimeError: the call would wait inside an observer, or for the call that it interrupts.
        """
        found = self._cached(id)
        if found is not None:
            return found
        lease: Lease = self._ask(self._lock_call(Lock, (id,), wait, timeout))
        return lease

    def submit_lock(self, id: LockId, *, wait: float | None = 0.0, timeout: float | None = None) -> Future[Lease]:
        """The same as `lock`, as a future: for many calls from one thread. Never waits.

        A future that is cancelled before it is done leaves no lock behind. Its callbacks run in the thread of the
        observers, after the call's signals.

        Args:
            id, wait, timeout: as for `lock`.

        Returns:
            A future of the lease. Its errors are those of `lock`; only those below are raised at once.

        Raises:
            InvalidLockId: the id cannot name a lock.
            ConfigurationError: ``wait`` or ``timeout`` is not valid.
        """
        call = self._lock_call(Lock, (id,), wait, timeout)
        try:
            self._refuse_new()
        except SessionEnded as refused:
            future: Future[Lease] = Future()
            future.set_exception(refused)
        else:
            future = self._submit(call)
            future.add_done_callback(self._outlive)
        return future

    def _outlive(self, future: Future[Any]) -> None:
        """Not to be thrown away before a future is done: as its callback this keeps the Locker."""

    def lock_many(
        self, ids: Iterable[LockId], *, wait: float | None = 0.0, timeout: float | None = None
    ) -> list[Lease]:
        """Get several locks, all or none, in one transaction of Consul. Raises what `lock` raises, and those below.

        Args:
            ids: at most 64, with ``fair=True`` 32; one that is given twice is one.
            wait, timeout: as for `lock`.

        Returns:
            A lease for each id, in the order given.

        Raises:
            AlreadyLocked: not all were free; its ``ids`` are those that were refused.
            ConfigurationError: there are too many for one transaction, or ``ids`` is one text and no list.
        """
        given = self._ids(ids)
        if not given:
            return []
        return self._in_order(self._ask(self._lock_call(LockMany, given, wait, timeout)), given)

    def release(self, id: LockId) -> bool:
        """Give a lock back. From the moment of the call no caller that shares it may rely on it.

        Args:
            id: which lock, as for `lock`. The limit on the call is the Locker's ``default_timeout``.

        Returns:
            True, also in *acquiring*, where nothing is held; False if the session did not hold it or has ended
            meanwhile, or if a `hold` has it.

        Raises:
            LockTimeout: the limit is over; a release that has begun goes on in the background.
            SessionEnded: the Locker is stopped.
            SessionUnavailable: the Locker gave up while the call waited for a session.
            ConsulUnavailable: it is unknown whether the lock was released; the Locker keeps trying.
            AccessDenied: Consul's ACL refused the request.
            InvalidLockId: the id cannot name a lock.
            RuntimeError: as for `lock`.
        """
        released: bool = self._ask(self._release_call(id))
        return released

    def submit_release(self, id: LockId) -> Future[bool]:
        """The same as `release`, as a future. Never waits.

        Args:
            id: as for `release`.

        Returns:
            A future of what `release` returns. Its errors are those of `release`; only those below are raised at once.

        Raises:
            InvalidLockId: the id cannot name a lock.
        """
        future: Future[bool] = self._submit(self._release_call(id))
        return future

    def release_all(self) -> int:
        """Give back every lock that `lock` and `lock_many` got. Never ends a `hold`.

        The limit on the call is the Locker's ``default_timeout``. Raises what `release` raises; if several
        releases fail, it raises the error of the first.

        Returns:
            How many of them the session held.
        """
        released: int = self._ask(self._release_all_call())
        return released

    def guarded(self, lease: Lease, operations: Iterable[Mapping[str, Any]]) -> list[LockInfo]:
        """Run your own KV operations in one transaction, which takes effect only if the lease is still valid in Consul.

        Args:
            lease: of this Locker.
            operations: in the form that Consul's ``/v1/txn`` takes, values in base64; at most 62.

        Returns:
            What Consul answers for each, in order.

        Raises:
            LockLost: Consul refused them because the lock is lost; nothing was done.
            ConfigurationError: an operation is not valid, or the lease is not of this Locker; nothing was sent.
            ConsulUnavailable: Consul refused them for another reason, or did not answer. If ``sent`` is True they may
                be done all the same: they are not sent again, since a late copy would overwrite newer data.
            LockTimeout: the Locker's ``default_timeout`` is over; they may be done all the same.
        """
        return self._own_answers(lease, self._ask(self._guarded_call(lease, operations)))

    # ------------------------------------------------------------------------------------------ life

    def stop(self, timeout: float | None = None) -> None:
        """Destroy the session, and so free every lock. The Locker stays stopped until `start` or `reboot`.

        Args:
            timeout: how long it may take, in seconds; None: twice the factory's ``timeout``. When it is over the
                Locker is stopped all the same, and the session is destroyed in the background while the process lives.

        Raises:
            ConfigurationError: ``timeout`` is not valid.
            RuntimeError: the call would wait inside an observer, or for the call that it interrupts.
        """
        self._ask(Stop(timeout=self._factory._stop_limit(timeout)))

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until every lock is given back, then stop: for a program that ends and lets its work finish.

        Meanwhile every new call for a lock is refused with `SessionEnded`. Calls that wait already are served if their
        turn comes meanwhile. Locks of `lock` are waited for as those of `hold` are: release what is not needed.

        Args:
            timeout: how long to wait for the locks, in seconds; None: without a limit. The stop takes its own time
                (see `stop`). When it is over the Locker is stopped all the same, and what is held then is lost
                ("stopped"): who holds it is told so.

        Returns:
            Whether everything was given back (or lost) in time. An interrupted drain does not stop the Locker.

        Raises:
            ConfigurationError: ``timeout`` is not valid.
            RuntimeError: the call would wait inside an observer, or for the call that it interrupts.
        """
        limit = seconds("timeout", timeout)
        self._use()
        self._runtime.refuse_wait()
        end = None if limit is None else time.monotonic() + limit
        with self._no_new_locks():
            while (lease := self._held_one()) is not None:
                if lease.wait_lost(None if end is None else max(0.0, end - time.monotonic())) is None:
                    break
            self.stop()
        return lease is None

    def __enter__(self) -> Locker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._forked:  # else the session is the parent's (rule 10)
            self.stop()

    def wait_for_state(self, state: StateName, timeout: float | None = None) -> bool:
        """Wait until the Locker is in a state, even if only for a moment.

        Args:
            state: ``"acquiring"``, ``"ready"``, ``"paused"`` or ``"stopped"``.
            timeout: how long to wait, in seconds; None: without a limit.

        Returns:
            True; False when the time was over first.

        Raises:
            RuntimeError: the factory is closed, now or during the wait: the Locker stays stopped.
            ConsulUnavailable: the factory's I/O thread has died.
        """
        limit = self._wait_limit(state, timeout)
        if self.state == state:
            return True
        self._runtime.refuse_wait()
        reached = self._runtime.state_waits.wait(state, lambda: self.state, limit)
        if reached is False:
            self._factory._check(open=True)  # it raises: the factory is closed, or its I/O thread has died
        return bool(reached)

    # ------------------------------------------------------------------------------------- questions

    def info(self, id: LockId) -> LockInfo | None:
        """The key of a lock as Consul has it, by one request, in any state of the Locker.

        Args:
            id: which lock, as for `lock`.

        Returns:
            What is there; None when the key does not exist.

        Raises:
            ConsulUnavailable: Consul did not answer within ``outage_timeout``, or its answer cannot be read.
            LockTimeout: the Locker's ``default_timeout`` is over.
            AccessDenied: Consul's ACL refused the request.
            InvalidLockId: the id cannot name a lock.
            RuntimeError: the factory is closed, or as for `stop`.
        """
        info: LockInfo | None = self._ask(self._question(Info, id))
        return info

    def holder(self, id: LockId) -> LockInfo | None:
        """Who has a lock, with the holder's session, by two requests. Raises what `info` raises.

        Args:
            id: which lock, as for `lock`.

        Returns:
            The key with its ``session``, which is None if it ended between the requests; None if the lock is free.
        """
        info: LockInfo | None = self._ask(self._question(Holder, id))
        return info

    def waiters(self, id: LockId) -> list[LockInfo]:
        """Who waits for a lock in the queue of ``fair=True`` Lockers, by one request. Raises what `info` raises.

        Args:
            id: which lock, as for `lock`.

        Returns:
            The places in the queue, in the order in which they are served; the ``value`` of each says who it is, as
            that of a lock. Callers of one Locker that wait by ``lock`` share a place. Empty where nobody waits; waiters
            of Lockers without ``fair=True`` have no places.
        """
        queue: list[LockInfo] = self._ask(self._question(Waiters, id))
        return queue

    def session_info(self, session_id: str | None = None) -> SessionInfo | None:
        """A session as Consul has it, by one request. Raises what `info` raises, and what is below.

        Args:
            session_id: which session; None: the present one of this Locker.

        Returns:
            What Consul knows of it; None if there is no such session, or the Locker has none.

        Raises:
            ConfigurationError: ``session_id`` cannot be the id of a session.
        """
        info: SessionInfo | None = self._ask(self._session_question(session_id))
        return info
