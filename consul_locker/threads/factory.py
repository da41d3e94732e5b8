"""LockerFactory for threads, and what happens to its sessions when the interpreter ends."""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
from types import TracebackType

from ..config.options import LockerOptions
from ..core.messages import Call
from ..errors import ConsulUnavailable
from ..may_wait import INSIDE, MACHINES
from ..runtime.delivery import PATIENCE
from ..runtime.factory import BaseFactory, living
from ..runtime.locker import to_raise
from .locker import Locker
from .observers import Delivery

__all__ = [
    "LockerFactory",
]


_LOGGER = logging.getLogger("consul_locker")

#: At interpreter exit living Lockers are stopped; all together get this long, in seconds.
EXIT_LIMIT = 2.0
#: A part of the connections is for callers who carry requests; the rest is the I/O thread's.
CARRIER_SHARE = 0.25


class LockerFactory(BaseFactory[Locker]):
    """Makes Lockers that use one Consul agent; a context manager.

    Args:
        host, port, secure: where the agent's HTTP API is; ``host`` may be an address as Consul's own
            tools take it (``host:port``, ``https://…``, ``unix:///path``). Default 127.0.0.1:8500, plain HTTP.
        ca: trusted certificates, a list of texts in PEM form, or the path of a file of them.
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
        # imported with the first factory: they bring msgspec, httptools, asyncio and ssl
        from ..client.allowance import Allowance
        from ..client.blocking import BlockingTransport
        from ..runtime.io_loop import Exchange
        from .io_thread import IoThread

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
            locker = Locker(self, options, self._transport, self._io_thread, self._delivery)
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
            RuntimeError: it was called inside an observer, in an action of a machine with a Locker below its state,
                or within a step of this thread.
        """
        limit = self._stop_limit(timeout)
        if self._poisoned:  # before any mutex: the parent may have held it (rule 10)
            return
        if self._delivery.here or INSIDE.stepping or MACHINES.here:
            raise RuntimeError(
                "a factory cannot be closed inside an observer, in an action of a machine with a Locker below its"
                " state, or within a step of this thread"
            )
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
