"""The user's own objects, such as a strategy, on our threads: an exception of theirs never ends a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from ..config.options import LockerOptions
from ..lease import BaseLease
from ..strategies import PermanentStrategy, Strategy

__all__ = ["GuardedStrategy", "on_threads", "guard_users_code"]


def on_threads(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the user's, on any thread.

    A `BaseException` that is no `Exception`, such as SystemExit, must not end a thread of ours. In the main thread it
    is raised all the same: there it may come from a signal handler, which wants to end the program.

    Raises:
        RuntimeError: the function raised such an exception, not in the main thread.
    """
    try:
        return function(*args)
    except Exception:
        raise
    except BaseException as error:
        if threading.current_thread() is threading.main_thread():
            raise
        raise RuntimeError(f"{error!r}; it does not end this thread") from error


class GuardedStrategy:
    """A user's strategy, called by `on_threads`."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy

    @property
    def shares_in_flight(self) -> bool:
        """What the strategy says; False, which is always safe, if it raises."""
        try:
            return bool(on_threads(getattr, self._strategy, "shares_in_flight"))
        except Exception:
            return False

    def keeps(self, lease: BaseLease) -> bool:
        """What the strategy says."""
        return bool(on_threads(self._strategy.keeps, lease))

    def serves(self, lease: BaseLease, now: float) -> bool:
        """What the strategy says."""
        return bool(on_threads(self._strategy.serves, lease, now))


def guard_users_code(options: LockerOptions) -> LockerOptions:
    """The same options; the user's own objects in them are called by `on_threads`."""
    changed: dict[str, Any] = {}
    if options.strategy is not None and type(options.strategy) is not PermanentStrategy:
        changed["strategy"] = GuardedStrategy(options.strategy)
    if callable(options.retry_interval):
        changed["retry_interval"] = partial(on_threads, options.retry_interval)
    return replace(options, **changed)
