"""What `hold` and `hold_many` answer with: a context manager that says so when it is thrown away without being entered.

The common slip is ``locker.hold("id")`` on a line of its own, which takes no lock: the lines after it run unprotected,
and nothing else tells.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

from ..errors import InvalidLockId

__all__ = ["AsyncHolding", "Holding", "check_no_function"]

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")
Manager = TypeVar("Manager")


def check_no_function(id: object) -> None:
    """Refuse at once what ``@locker.hold`` without an id gives: the function.

    Raises:
        InvalidLockId: ``id`` can be called.
    """
    if callable(id):
        raise InvalidLockId(id, 'an id is a str or an int, or a UUID; before a function write @locker.hold("id")')


class _Holding(Generic[Manager]):
    """What both share.

    Args:
        make: makes the context manager that does it; once for each time it is entered.
        call: the call as the user wrote it, for the warning.
        statement: with what it is to be entered.
    """

    __slots__ = ("_call", "_inner", "_make", "_statement", "_used")

    def __init__(self, make: Callable[[], Manager], call: str, statement: str) -> None:
        self._make = make
        self._call = call
        self._statement = statement
        self._inner: Manager | None = None
        self._used = False

    def _begin(self) -> Manager:
        if self._inner is not None:
            raise RuntimeError(f"{self._call} was entered before: make a new one for each '{self._statement}'")
        self._used = True
        self._inner = inner = self._make()
        return inner

    def __del__(self) -> None:
        if not self._used:
            warnings.warn(
                f"{self._call} was never entered, so it took no lock: write '{self._statement} {self._call}:'",
                RuntimeWarning,
                stacklevel=2,
            )


class Holding(_Holding[AbstractContextManager[T]], AbstractContextManager[T]):
    """That of threads: for ``with``, or before a function."""

    __slots__ = ()

    def __enter__(self) -> T:
        return self._begin().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._inner is not None, "it was entered"
        return self._inner.__exit__(kind, error, trace)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """A function that holds the lock while ``function`` runs, anew for each call.

        Raises:
            TypeError: the function gives its work back unfinished: it is a coroutine function or a generator.
        """
        self._used = True
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise TypeError(
                f"{self._call} cannot be held around {function.__qualname__}(), which returns before its body has run: "
                f"write '{self._statement} {self._call}:' in its body"
            )

        @functools.wraps(function)
        def held(*args: P.args, **options: P.kwargs) -> R:
            with self._make():
                return function(*args, **options)

        return held


class AsyncHolding(_Holding[AbstractAsyncContextManager[T]], AbstractAsyncContextManager[T]):
    """That of asyncio: for ``async with``, or before a coroutine function."""

    __slots__ = ()

    def __aenter__(self) -> Coroutine[Any, Any, T]:
        return self._begin().__aenter__()

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Coroutine[Any, Any, bool | None]:
        assert self._inner is not None, "it was entered"
        return self._inner.__aexit__(kind, error, trace)

    def __call__(self, function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        """A coroutine function that holds the lock while ``function`` runs, anew for each call.

        Raises:
            TypeError: it is no coroutine function.
        """
        self._used = True
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"{self._call} can only be held around a coroutine function")

        @functools.wraps(function)
        async def held(*args: P.args, **options: P.kwargs) -> R:
            async with self._make():
                return await function(*args, **options)

        return held
