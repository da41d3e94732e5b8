"""What ``hold(…, on_lost=function)`` does on threads: it calls the function when a lease is lost."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ..errors import ConfigurationError, LockLost
from .lease import Lease
from .observers import ObserverThread, write

__all__ = ["OnLost", "check_on_lost"]

_LOGGER = logging.getLogger("consul_locker")


def check_on_lost(function: Any) -> None:
    """Check the argument ``on_lost``.

    Raises:
        ConfigurationError: it cannot be called in the thread of the observers.
    """
    if function is not None and (not callable(function) or inspect.iscoroutinefunction(function)):
        raise ConfigurationError("on_lost", function, "a plain function, which is called with the LockLost")


class OnLost:
    """Calls a function of the user's, in the thread of the observers, for each lease that is over before `end`.

    Args:
        function: the user's; None for none.
        delivery: the factory's.
    """

    def __init__(self, function: Callable[[LockLost], Any] | None, delivery: ObserverThread) -> None:
        self._function = function
        self._delivery = delivery
        self._over = False

    def watch(self, leases: Iterable[Lease]) -> None:
        """The body begins."""
        if self._function is not None:
            for lease in leases:
                lease._when_over(partial(self._lost, lease, [True]))

    def end(self) -> None:
        """The body is over. A call that has begun goes on, no other begins."""
        self._over = True

    def _lost(self, lease: Lease, untold: list[bool]) -> None:
        if not self._over:
            self._delivery.settle(partial(self._tell, lease, untold))

    def _tell(self, lease: Lease, untold: list[bool]) -> None:
        if self._over or not untold:  # a lease may be told to be over more than once
            return
        untold.clear()
        assert self._function is not None, "else nothing is watched"
        try:
            self._function(lease.loss())
        except BaseException:  # SystemExit and the like would end the thread, and so all delivery
            write(_LOGGER.exception, "on_lost=%r failed for the lock %r", self._function, lease.id)
