"""What the runtimes of both faces have in common: which observers a signal has, how long a call waits for them.

They are called in threads/observers.py and in aio/observers.py, where it is also decided what happens if one raises.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, Protocol

from ..core.locker import LockerCore
from ..core.messages import Call
from ..signals import ALL
from .fail_stop import FailStop

__all__ = [
    "DELIVERY_LIMIT",
    "Runtime",
    "Sender",
    "has_receivers",
    "receivers",
]


_LOGGER = logging.getLogger("consul_locker")

#: How long a call that is answered waits for the delivery of its own signals, in seconds: an observer that hangs must
#: not keep callers for ever (docs/safety.rst, rule 7).
DELIVERY_LIMIT = 1.0


class Runtime(Protocol):
    """What a Locker needs of its runtime: `ThreadRuntime` or `AsyncRuntime`."""

    @property
    def core(self) -> LockerCore:
        """The present core."""

    @property
    def unanswered(self) -> int:
        """How many calls have no answer yet."""

    def submit(self, call: Call) -> Any:
        """Submit a call without waiting for its answer."""

    def ask(self, call: Call) -> Any:
        """Submit a call and wait for its answer; on asyncio a coroutine."""

    def queue_for_observers(self, job: Callable[[], None]) -> None:
        """Queue a job for the observers."""


class Sender:
    """The part of a runtime that knows whose signals it sends, and what is known of its core without a step."""

    _fail_stop: FailStop

    @property
    def core(self) -> LockerCore:
        """The present core."""
        return self._fail_stop.core

    @property
    def unanswered(self) -> int:
        """How many calls have no answer yet."""
        return len(self._fail_stop.calls)

    def belong_to(self, sender: Any) -> None:
        """Send signals as the Locker's. It is not kept by that: what the I/O holds keeps nobody's Locker."""
        self._sender_reference = weakref.ref(sender)

    @property
    def _sender(self) -> Any:
        """The Locker; None once it was thrown away."""
        return self._sender_reference()


def _own(signal: str, sender: Any) -> tuple[Callable[..., Any], ...]:
    """The observers that a Locker holds itself."""
    own: Mapping[str, tuple[Callable[..., Any], ...]] = getattr(sender, "_observers", {})
    return own.get(signal, ())


def receivers(signal: str, sender: Any) -> Iterator[Callable[..., Any]]:
    """The observers of a signal of one sender: first those that the sender holds itself. None: it was thrown away."""
    if sender is None:
        return iter(())
    return chain(_own(signal, sender), ALL[signal].receivers_for(sender))


def has_receivers(signal: str, sender: Any) -> bool:
    """Whether a signal of this sender has an observer now. As in blinker, what counts is the moment when it is sent."""
    sent = ALL[signal]
    if sender is None:
        return False
    if _own(signal, sender):
        return True
    return bool(sent.receivers) and not sent.is_muted and any(True for _ in sent.receivers_for(sender))


def log_failure(signal: str, receiver: Callable[..., Any]) -> None:
    """Log the exception of an observer; to be called in an except clause."""
    _LOGGER.exception("an observer of %s failed: %r", signal.replace("_", "-"), receiver)
