"""`Agent`: the embedded agent as a program sees it, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

from ..may_wait import THIS_THREAD
from .addresses import listening_socket, loopback
from .api import Api
from .clock import ManualClock
from .forms import TEXT, Answer
from .policy import Policy, RequestLimits
from .server import Connection, Fault, Server
from .store import Store
from .versions import DEFAULT, version_of

__all__ = ["Agent"]

#: How long, in seconds, a call of the owner waits for the agent's thread. That thread never waits for anything
#: itself, so only a machine without any time to spare comes near it.
_PATIENCE = 30.0

_Result = TypeVar("_Result")


class Agent:
    """An agent with the part of Consul's HTTP API that lockers need, inside this process.

    For demos, tests and development: it is one node without peers, keeps everything in memory, knows no tokens and
    no TLS, and can be reached over loopback only. It runs in one daemon thread from `start` (or ``with``) to
    `close`; every method may be called, and every attribute set, from any thread.

    Args:
        port: to listen on; 0 for any that is free.
        host: a loopback address.
        clock: the agent's clock; None for one of its own, which goes with the real one and can be moved ahead.
        version: the Consul that it answers like: ``"1.23"``, ``"1.16"`` or ``"1.8"``.
        request_limits: the rates above which it refuses requests; None for no limit.
        check_keys: refuse keys in /v1/kv as 1.21.5 did.
        filter_reads: answer reads as to a token without rights: as if there were no sessions and keys.
        refuse: the rights that all callers lack: ``key:read``, ``key:write``, ``session:read``, ``session:write``.

    Raises:
        ConfigurationError: the host is not loopback, the version or a right is unknown, or a rate is no number.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        clock: ManualClock | None = None,
        version: str = DEFAULT,
        request_limits: RequestLimits | None = None,
        check_keys: bool = False,
        filter_reads: bool = False,
        refuse: Iterable[str] = (),
    ) -> None:
        self.host = loopback(host)
        self._version = version_of(version)
        self._policy = Policy(request_limits, check_keys, filter_reads, refuse)
        self.port = port
        self._clock = clock
        self._ahead = 0.0  # how far the agent's own clock is ahead of the real one, in seconds
        self._now: Callable[[], float] = self._own_time if clock is None else clock.now
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._listener: asyncio.Server | None = None
        self._store = Store(checks_ids=self._version.checks_ids)
        self._server: Server | None = None
        self._closed = False

    # ----------------------------------------------------------------------------------------- life

    def start(self) -> Agent:
        """Start to listen. Does nothing when it runs already.

        Returns:
            The agent itself.

        Raises:
            ConfigurationError: the port cannot be listened on.
            RuntimeError: the agent was closed.
        """
        if self._closed:
            raise RuntimeError("this agent was closed and has lost its data; make a new one")
        if self._thread is not None:
            return self
        listening = self._bind()
        loop = asyncio.new_event_loop()
        api = Api(self._store, self.address, self._version, self._policy)
        server = Server(api, self._now, loop.call_later if self._clock is None else None)
        self._loop, self._server = loop, server
        self._thread = threading.Thread(target=self._run, name="consul_locker-embedded", daemon=True)
        self._thread.start()
        self._wait_for(asyncio.run_coroutine_threadsafe(self._listen(listening), loop))
        if self._clock is not None:
            self._clock.subscribe(self._tick)
        return self

    def _run(self) -> None:
        assert self._loop is not None  # start() made it
        THIS_THREAD.is_internal = True  # a call that waits in this thread would wait for this thread's own answers
        self._loop.run_forever()
        self._loop.run_until_complete(self._wind_down())
        self._loop.close()

    async def _wind_down(self) -> None:
        """Close the connections, too, that were being accepted when the listener closed."""
        while accepting := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(accepting, timeout=_PATIENCE)
        self._served.hang_up()
        for _ in range(2):  # asyncio closes an aborted connection in the next round
            await asyncio.sleep(0)

    def _bind(self) -> socket.socket:
        listening = listening_socket(self.host, self.port)
        self.port = listening.getsockname()[1]
        return listening

    async def _listen(self, listening: socket.socket) -> None:
        server, loop = self._served, asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Connection(server), sock=listening)

    def close(self) -> None:
        """Close the connections, stop listening, end the thread. Calling it again does no harm."""
        self._closed = True
        thread, loop = self._thread, self._loop
        if thread is None or loop is None or not thread.is_alive():
            return
        if self._clock is not None:
            self._clock.unsubscribe(self._tick)
        self._await(self._end())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_PATIENCE)

    async def _end(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            # asyncio loses a connection whose accepting it has begun when the listener closes: accept no more,
            # let those begin, and only then close.
            for listening in listener.sockets:
                asyncio.get_running_loop().remove_reader(listening.fileno())
            for _ in range(2):
                await asyncio.sleep(0)
            listener.close()
        self._served.hang_up()

    def __enter__(self) -> Agent:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        running = self._thread is not None and not self._closed
        return f"<Agent {self.address if running else 'closed' if self._closed else 'not started'}>"

    # ------------------------------------------------------------------------------------- work in its thread

    @property
    def _served(self) -> Server:
        if self._server is None:
            raise RuntimeError("this agent is not running; use it in a with statement, or call start()")
        return self._server

    def _wait_for(self, future: Future[_Result]) -> _Result:
        return future.result(_PATIENCE)

    def _do(self, work: Callable[[], _Result]) -> _Result:
        """Do something in the agent's thread, and wait until it is done."""

        async def call() -> _Result:
            return work()

        return self._await(call())

    def _await(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run a coroutine on the agent's loop, and wait until it is done."""
        thread, loop = self._thread, self._loop
        if thread is None or loop is None or not thread.is_alive():
            work.close()
            raise RuntimeError("this agent is not running; use it in a with statement, or call start()")
        return self._wait_for(asyncio.run_coroutine_threadsafe(work, loop))

    # ------------------------------------------------------------------------------------- properties

    @property
    def address(self) -> str:
        """Where it listens: ``127.0.0.1:8500``, or ``[::1]:8500``. The port is known from `start` on."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def clock(self) -> ManualClock | None:
        """The clock it was made with; None for the real one."""
        return self._clock

    @property
    def requests(self) -> Counter[tuple[str, str]]:
        """How many requests came, by method and endpoint: ``("PUT", "/v1/txn")``, ``("GET", "/v1/kv/")``.

        An endpoint with a key or an id in its path is counted under the path before it. Requests that were made
        to fail count too; requests that come during a pause count when it is over. The result is a copy and does not
        change later.
        """
        return self._do(lambda: Counter(self._served.requests))

    # ---------------------------------------------------------------------------------------- its data

    def expire_session(self, session_id: str) -> bool:
        """End a session as if its TTL were over: its keys are released or deleted, and its lock-delay begins.

        Args:
            session_id: which session, as in `Lease.session_id`.

        Returns:
            Whether there was such a session.

        Raises:
            RuntimeError: the agent does not run.
        """
        return self._change(lambda: self._store.destroy_session(session_id, self._now()))

    def delete_key(self, key: str) -> bool:
        """Delete a key as an operator would, even if a session holds it.

        Args:
            key: its whole path, as in `Lease.key`.

        Returns:
            Whether there was such a key.

        Raises:
            RuntimeError: the agent does not run.
        """

        def delete() -> bool:
            self._store.index += 1
            found = self._store.find(key) is not None
            self._store.delete(key)
            return found

        return self._change(delete)

    def _change(self, work: Callable[[], bool]) -> bool:
        def change() -> bool:
            done = work()
            self._served.look()
            return done

        return self._do(change)

    # ---------------------------------------------------------------------------------------- its time

    def advance(self, seconds: float) -> float:
        """Move the agent's own clock forward; sessions, lock-delays and blocking queries follow at once.

        Without a `ManualClock` it is the agent's clock alone that moves, past the real time that goes on: a Locker is
        told by Consul what its own clock does not know yet. With one, those of `LockerFactory.embedded` move, too.

        Args:
            seconds: how far, in seconds; not negative.

        Returns:
            The new time, in seconds.

        Raises:
            RuntimeError: the agent does not run.
            ValueError: ``seconds`` is negative.
        """
        if self._clock is not None:
            return self._clock.advance(seconds)
        if seconds < 0:
            raise ValueError(f"a clock cannot go back: advance({seconds!r})")

        def ahead() -> float:
            self._ahead += seconds
            self._served.clock_moved()
            return self._own_time()

        return self._do(ahead)

    def _own_time(self) -> float:
        return time.monotonic() + self._ahead

    def _tick(self) -> None:
        self._do(self._served.tick)

    # ------------------------------------------------------------------------------------- what it refuses

    @property
    def request_limits(self) -> RequestLimits | None:
        """The rates above which it refuses requests, or None. Can be set while it runs."""
        return self._policy.request_limits

    @request_limits.setter
    def request_limits(self, limits: RequestLimits | None) -> None:
        self._policy.request_limits = limits

    @property
    def check_keys(self) -> bool:
        """Whether it refuses keys in /v1/kv as 1.21.5 did. Can be set while it runs."""
        return self._policy.check_keys

    @check_keys.setter
    def check_keys(self, check: bool) -> None:
        self._policy.check_keys = check

    @property
    def filter_reads(self) -> bool:
        """Whether reads are answered as if there were no sessions and keys. Can be set while it runs."""
        return self._policy.filter_reads

    @filter_reads.setter
    def filter_reads(self, filtered: bool) -> None:
        self._policy.filter_reads = filtered

    @property
    def refuse(self) -> frozenset[str]:
        """The rights that all callers lack. Can be set, to any iterable of them, while it runs."""
        return self._policy.refuse

    @refuse.setter
    def refuse(self, rights: Iterable[str]) -> None:
        self._policy.refuse = rights

    # ---------------------------------------------------------------------------------------- its faults

    def fail_next(
        self,
        count: int = 1,
        status: int = 500,
        body: str = "No cluster leader",
        path: str | None = None,
        after_commit: bool = False,
        drop: bool = False,
    ) -> None:
        """Let the next requests fail.

        Args:
            count: how many.
            status: of the answer.
            body: of the answer.
            path: only requests whose path begins with this, for example ``/v1/txn``; None for any.
            after_commit: carry the request out first, then answer as if it had failed.
            drop: close the connection instead of answering.
        """
        answer = Answer(status, body.encode(), (TEXT,))
        self._do(lambda: self._served.faults.append(Fault(count, answer, path, after_commit, drop)))

    def pause(self) -> contextlib.AbstractContextManager[None]:
        """Answer nothing from now on, like a process that is stopped: connections stay open, and time passes.

        Returns:
            A context manager that ends the pause; `resume` does the same.
        """

        def stop() -> None:
            self._served.paused = True

        self._do(stop)
        return self._paused()

    @contextlib.contextmanager
    def _paused(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.resume()

    def resume(self) -> None:
        """End a pause: what became due happens, then the requests that came meanwhile are carried out and answered.

        So are requests of clients that have given up since; a real agent does the same.
        """
        self._do(self._served.resume)

    def stop_listening(self) -> None:
        """Close all connections without an answer, and refuse new ones. The data stays; time passes."""
        self._await(self._end())

    def listen_again(self) -> None:
        """Listen on the same port again, after `stop_listening`."""
        if self._do(lambda: self._listener is not None):
            return
        assert self._loop is not None  # it runs, else _do would have raised
        self._wait_for(asyncio.run_coroutine_threadsafe(self._listen(self._bind()), self._loop))
