"""Observers that a Locker holds itself: those that `create` is given, and the listeners of its `fsm`.

They also hear the first signals, which may have been sent before a ``connect`` that comes after `create`. And they live
as long as the Locker; blinker would have to keep them as long as the program. All observers are called in the same way:
threads/observers.py, aio/observers.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from ..errors import ConfigurationError
from ..signals import ALL

__all__ = ["EXPECTED", "Observer", "observers_of"]

Observer = Callable[..., Any]

#: What `observers` may be, for errors.
EXPECTED = "an object with methods named after signals, a mapping of signals to callables, or several of these"


def observers_of(given: Any, awaits: bool) -> dict[str, tuple[Observer, ...]]:
    """The observers of each signal, in the order in which they are given.

    Args:
        given: what `create` got as ``observers``.
        awaits: whether they may be coroutine functions.

    Raises:
        ConfigurationError: one of them has no method or key named after a signal, or cannot be called.
    """
    found: dict[str, tuple[Observer, ...]] = {}
    several = given if isinstance(given, Iterable) and not isinstance(given, (str, bytes, Mapping)) else (given,)
    if given is None:
        several = ()
    for each in several:
        for signal, observer in (_mapped(each) if isinstance(each, Mapping) else _methods(each)).items():
            if not callable(observer):
                raise ConfigurationError("observers", observer, f"a callable for the signal {signal}")
            if not awaits and _is_coroutine_function(observer):
                raise ConfigurationError(
                    "observers", observer, "a plain function; coroutine functions can observe on consul_locker.aio"
                )
            found[signal] = (*found.get(signal, ()), observer)
    return found


def _mapped(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    found = {}
    for name, observer in mapping.items():
        signal = name.replace("-", "_") if isinstance(name, str) else ""
        if signal not in ALL:
            near = get_close_matches(signal, ALL, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigurationError("observers", name, f"the name of a signal: one of {', '.join(ALL)}{hint}")
        found[signal] = observer
    return found


def _methods(each: Any) -> dict[str, Any]:
    found = {signal: getattr(each, signal) for signal in ALL if callable(getattr(each, signal, None))}
    if not found or isinstance(each, type):
        raise ConfigurationError("observers", each, f"{EXPECTED}; the signals are {', '.join(ALL)}")
    return found


def _is_coroutine_function(observer: Any) -> bool:
    called = observer if inspect.isroutine(observer) else getattr(type(observer), "__call__")  # noqa: B004, B009
    return inspect.iscoroutinefunction(observer) or inspect.iscoroutinefunction(called)
