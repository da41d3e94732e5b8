"""A user's own objects, a strategy say, on the threads of the threaded face: what they raise ends none of these."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from ..config.options import LockerOptions
from ..lease import BaseLease
from ..strategies import PermanentStrategy, Strategy

__all__ = ["StrategyOnThreads", "on_threads", "with_strangers"]


def on_threads(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the user's own, on whatever thread.

    Signal handlers run in the main thread only. So an exception that is no `Exception`, SystemExit say, is the
    function's own in all other threads, and must not end them; in the main thread it may be a signal handler's, which
    is to end the program.

    Raises:
        RuntimeError: in place of such an exception.
    """
    try:
        return function(*args)
    except Exception:
        raise
    except BaseException as error:
        if threading.current_thread() is threading.main_thread():
            raise
        raise RuntimeError(f"{error!r}, which ends no thread here") from error


class StrategyOnThreads:
    """A user's strategy, asked by `on_threads`."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy

    @property
    def shares_in_flight(self) -> bool:
        """What the strategy says; False, with which nothing can go wrong, where it raises."""
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


def with_strangers(options: LockerOptions) -> LockerOptions:
    """The same options; a user's own objects among them are asked by `on_threads`."""
    changed: dict[str, Any] = {}
    if options.strategy is not None and type(options.strategy) is not PermanentStrategy:
        changed["strategy"] = StrategyOnThreads(options.strategy)
    if callable(options.retry_interval):
        changed["retry_interval"] = partial(on_threads, options.retry_interval)
    return replace(options, **changed)
