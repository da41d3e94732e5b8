"""The watch of a call that waits, as the tests of lines and waits need it."""

from __future__ import annotations

from consul_locker.core.requests import KeysRead, Watch, WatchKey

from .helpers import STRANGER, Driver, entry


def watch(driver: Driver) -> Watch:
    """The only watch on a key."""
    (found,) = (each for each in driver.all(Watch) if isinstance(each, WatchKey))
    return found


def watches(driver: Driver) -> int:
    return sum(isinstance(each, WatchKey) for each in driver.all(Watch))


def taken(index: int = 200, session: str | None = STRANGER) -> KeysRead:
    return KeysRead((entry("svc/a/lock", session, index),), index)
