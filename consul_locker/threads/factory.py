"""`LockerFactory` for threads. When the interpreter ends, the factories that are still open are closed."""

from __future__ import annotations

import _thread
import atexit
import logging
import sys
import threading
import time
import weakref
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any

from ..config.options import LockerOptions
from ..core.calls import Stop
from ..errors import ConsulUnavailable
from ..may_wait import MACHINES, THIS_THREAD
from ..runtime.delivery import DELIVERY_LIMIT
from ..runtime.factory import CLOSED, BaseFactory, living
from ..runtime.locker import raisable
from .locker import Locker
from .observers import ObserverThread

__all__ = [
    "LockerFactory",
]


_LOGGER = logging.getLogger("consul_locker")

#: How long the factories that are open at interpreter exit may take together to close, in seconds. Short,
#: since the end of a program waits for it; a session that is left ends by its TTL.
EXIT_LIMIT = 2.0
#: The part of the connections that is for calls that carry transactions; the rest is the I/O thread's. A Locker has one
#: transaction in flight, so a quarter serves many Lockers.
CARRIER_SHARE = 0.25


#: In the child of a fork: what its parent's factories have. It is kept for ever: were a connection closed here, the
#: event loop of the parent would not hear of its own any more, since both share what the operating system watches.
_PARENTS: list[Any] = []


class LockerFactory(BaseFactory[Locker]):
    """Makes Lockers that use one Consul; a context manager.

    The default of each argument is None: then the environment variable counts that Consul's own tools read, and without
    it the value that is named below. Nothing is connected before a Locker is made.

    Args:
        host: where the agent's HTTP API is (127.0.0.1), also as an address as Consul's own tools take it
            (``host:port``, ``https://…``, ``https://…/path``, ``unix:///path``), or a list of addresses of one
            datacenter: the one that answers is kept until it fails (docs/operations.rst).
        port: its port, where the address names none (8500).
        secure: whether it is asked over TLS, where the address has no scheme (False).
        ca: trusted certificates, a list of texts in PEM form, or the path of a file of them.
        token: the ACL token, or a callable without arguments that returns it, on a thread of its own
            (docs/operations.rst). It never appears in a log, a repr or an error.
        cert, key: paths of the client certificate and its key.
        verify: whether Consul's certificate is checked (True). Without that anybody in between can read the token.
        dc: the datacenter.
        namespace, partition: of Consul Enterprise (None: the token's, and the agent's own).
        timeout: the limit on every HTTP request as a whole, in seconds (10.0).
        max_connections: to Consul, of all the factory's Lockers together; 3 or more (64; Consul refuses more than
            200 from one client address).

    Raises:
        ConfigurationError: an option is not valid.
    """

    _full_name = "consul_locker.LockerFactory"

    def _prepare(self) -> None:
        self._guard = threading.RLock()  # a signal handler may run in the same thread
        self._equip()

    def _equip(self) -> None:
        """Have what does the work: connections, threads. None of it refers to the factory, else it would keep that."""
        # imported with the first factory: they bring msgspec, httptools, asyncio and ssl
        from ..client.addresses import Addresses
        from ..client.allowance import Allowance
        from ..client.blocking import BlockingTransport
        from ..client.credentials import Credentials
        from ..runtime.io_loop import IoLoop
        from .io_thread import IoThread

        client = self._client
        addresses = self._addresses = Addresses(client)
        carriers = max(1, int(client.max_connections * CARRIER_SHARE))
        allowance = Allowance(client.max_connections)
        self._delivery = ObserverThread("consul_locker-signals")
        credentials = Credentials(client, partial(self._delivery.report, level=logging.WARNING))
        self._transport = BlockingTransport(client, carriers, allowance, addresses, credentials)
        encoder, clock, others = self._encoder, self._clock, client.max_connections - carriers
        died = weakref.WeakMethod(self._io_thread_died)
        self._io_thread = IoThread(
            lambda: IoLoop(client, encoder, clock, others, allowance, addresses, credentials),
            self._delivery.report,
            lambda error: None if (told := died()) is None else told(error),
        )
        _register_exit_hook()

    def _left_open(self) -> bool:
        return not self._closed and (self._io_thread.started or self._own_agent is not None)

    def _close_later(self) -> None:
        closing = threading.Thread(target=self.close, name="consul_locker-dropped", daemon=True)
        with suppress(RuntimeError):  # the interpreter ends
            # The start takes a mutex of Python's, which this very thread may have: so it is another one that starts it.
            _thread.start_new_thread(closing.start, ())

    def _mark_forked(self) -> None:
        _PARENTS.append((self._transport, self._delivery, self._io_thread))
        self._guard = threading.RLock()
        super()._mark_forked()

    def _begin_anew(self) -> None:
        if self._embedded:
            raise RuntimeError("the embedded agent of this factory is in the parent process; make another in the child")
        with self._guard:
            if self._closed:
                raise RuntimeError(CLOSED)
            if self._forked:  # else another thread was first
                self._equip()
                self._forked = False

    def _make(self, options: LockerOptions) -> Locker:
        self._check()
        with self._guard:
            self._check(open=True)
            self._io_thread.start()
            locker = Locker(self, options)
            self._lockers.add(locker)
        return locker

    def _check(self, open: bool = False) -> None:
        """Refuse a call also if the I/O thread has died: it could have no answer."""
        super()._check(open)
        if open and self._io_thread.dead is not None:
            raise raisable(self._io_thread.dead)

    def _io_thread_died(self, error: ConsulUnavailable) -> None:
        """On the I/O thread, just before it ends: no call may wait for it any more."""
        self._delivery.report(str(error), error.cause)
        with self._guard:  # a Locker that is made later finds the thread dead
            lockers = self._present()
        for locker in lockers:
            try:
                locker._runtime.io_thread_died(error)
            except BaseException as failure:  # the other Lockers must be told all the same
                self._delivery.report(f"{locker!r} could not be stopped", failure)

    def close(self, timeout: float | None = None) -> None:
        """Stop the Lockers, close the connections, end the threads. Calling it again does no harm.

        If Consul has not confirmed the end of a session, the I/O thread lives on, only to destroy that session: until
        this is done, or the process ends.

        Args:
            timeout: the limit on the stops together, in seconds; None: twice the limit of a request.

        Raises:
            ConfigurationError: ``timeout`` is not valid.
            RuntimeError: it was called inside an observer, in an action of a machine with a Locker below its state,
                or within a step of this thread.
        """
        limit = self._stop_limit(timeout)
        if self._forked:  # not used in this process: all that could be closed is the parent's (rule 10)
            self._closed = self._over = True
            return
        if self._delivery.here or THIS_THREAD.in_step or MACHINES.here:
            raise RuntimeError(
                "a factory cannot be closed inside an observer, in an action of a machine with a Locker below its"
                " state, or within a step of this thread"
            )
        deadline = time.monotonic() + limit
        with self._guard:
            if self._closed:
                return
            self._closed = True
            lockers = self._present()
        stops = [(locker, Stop(timeout=max(0.0, deadline - time.monotonic()))) for locker in lockers]
        for locker, stop in stops:
            locker._runtime.submit(stop)
        for locker, stop in stops:
            locker._runtime.wait_until(stop, deadline + DELIVERY_LIMIT)
        self._io_thread.close(linger=self._own_agent is None)  # an agent of its own ends with its sessions
        self._transport.close()
        self._delivery.close(DELIVERY_LIMIT)
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
            factory._io_thread.close()  # a thread that lingers would be ended anywhere in its work
        except Exception:  # the interpreter ends; the session expires by its TTL
            _LOGGER.debug("a factory was not closed at exit", exc_info=True)


atexit.register(_at_exit)


def _register_exit_hook() -> None:
    """Close the factories, too, where a child of multiprocessing ends: by ``os._exit``, which runs no `atexit` hook."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _at_exit, exitpriority=0)
