"""What makes the core of a Locker."""

from __future__ import annotations

import os
import socket
import weakref
from random import random
from typing import Any

from ..core.locker import LockerCore
from ..lease import BaseLease, SessionLife

__all__ = ["CoreMaker"]


class CoreMaker:
    """Makes the core of a Locker, and others in its place.

    What the I/O works for, the core, knows its Locker and the factory only as long as others do. But each lease that is
    held keeps them: ``LockerFactory().create("job").lock("nightly")`` holds the lock (docs/design.rst).

    Args:
        locker: whose; a `runtime.locker.BaseLocker`.
        lease_type: of its face.
        timeout: the limit on one request, in seconds.
        first: the first core, if it is made already.
    """

    __slots__ = ("_clock", "_first", "_lease_type", "_locker", "_max_in_flight", "_options", "_timeout")

    def __init__(self, locker: Any, lease_type: type[BaseLease], timeout: float, first: LockerCore | None) -> None:
        self._locker = weakref.ref(locker)
        self._options = locker._options
        self._clock = locker._clock.now
        self._lease_type = lease_type
        self._max_in_flight = locker._max_in_flight
        self._timeout = timeout
        self._first = first

    def make(self) -> LockerCore:
        """Another core."""
        core, self._first = self._first, None
        if core is None:
            options = self._options
            core = LockerCore(
                options,
                identity={"pid": os.getpid(), "host": socket.gethostname(), "name": options.name},
                timeout=self._timeout,
                clock=self._clock,
                random=random,
                lease_type=self._lease,
                closed=self._closed,
                max_in_flight=self._max_in_flight,
            )
        locker = self._locker()
        if locker is not None:
            locker._follow(core)
        return core

    def _lease(self, id: str, life: SessionLife, fence: int, now: float, exclusive: bool) -> BaseLease:
        made = self._lease_type(id, life, fence, now, exclusive)
        made.keep(self._locker())
        return made

    def _closed(self) -> bool:
        locker = self._locker()
        return locker is None or locker._factory._closed
