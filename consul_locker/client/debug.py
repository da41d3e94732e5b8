"""The log of requests: one line for each, when the logger ``consul_locker.http`` has the level DEBUG.

A line has what was asked, method, path and query, status and size of the answer or the failure, and how long it took.
Tokens are in headers, and values in bodies: neither is logged. Keys and the ids of sessions are in paths.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import wraps
from typing import Any, TypeVar

from .encode import HttpRequest, HttpResponse

__all__ = ["logged", "logged_async", "logs"]

_LOGGER = logging.getLogger("consul_locker.http")

Send = TypeVar("Send", bound=Callable[..., HttpResponse])
SendAsync = TypeVar("SendAsync", bound=Callable[..., Awaitable[HttpResponse]])


def logs() -> bool:
    """Whether requests are logged."""
    return _LOGGER.isEnabledFor(logging.DEBUG)


class _Line:
    """One request's line: begun here, written when it is over."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._begun = time.monotonic()
        self.answer: HttpResponse | None = None

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self.answer is not None:
            outcome = f"{self.answer.status}, {len(self.answer.body)} bytes"
        else:
            outcome = str(error) or type(error).__name__  # CancelledError has no words
        request, took = self._request, (time.monotonic() - self._begun) * 1000
        with suppress(Exception):  # a handler's fault must not become the request's
            _LOGGER.debug("%s: %s %s: %s; %.1f ms", request.operation, request.method, request.target, outcome, took)


def logged(send: Send) -> Send:
    """A transport's ``send``, with the log; without it, it costs one look at the level."""

    @wraps(send)
    def logging_send(transport: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not logs():
            return send(transport, request, *args, **kwargs)
        with _Line(request) as line:
            line.answer = send(transport, request, *args, **kwargs)
            return line.answer

    return logging_send  # type: ignore[return-value]  # the same signature, which no type can say before 3.12


def logged_async(send: SendAsync) -> SendAsync:
    """The same for asyncio."""

    async def timed(sending: Awaitable[HttpResponse], request: HttpRequest) -> HttpResponse:
        with _Line(request) as line:
            line.answer = await sending
            return line.answer

    @wraps(send)
    def logging_send(transport: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Awaitable[HttpResponse]:
        sending = send(transport, request, *args, **kwargs)
        return timed(sending, request) if logs() else sending

    return logging_send  # type: ignore[return-value]  # as above
