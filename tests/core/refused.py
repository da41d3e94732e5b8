"""Keys that Consul refuses, and the transactions that they spoil."""

from __future__ import annotations

from typing import Any

from consul_locker.core.requests import (
    Committed,
    Refusal,
    Refused,
    RefusedWhole,
    RolledBack,
    Transact,
    Watch,
    WatchSession,
)

from .helpers import Driver

BAD = "my%20file"
WORDS = "Invalid key in transaction: invalid key name, must not have a space"
SPOILT = RefusedWhole(400, WORDS)
LONG = 86_400.0  # a TTL, in seconds: the session lives all through a test


def spoils(request: Transact) -> bool:
    return any("%20" in operation.key for operation in request.operations)


def open_transactions(driver: Driver, purpose: str) -> list[Transact]:
    return [request for request in driver.all(Transact) if driver.purpose(request) == purpose]


def commit_all(driver: Driver) -> int:
    """A newer Consul answers all transactions of the batch. Returns how many they were."""
    count = 0
    while requests := open_transactions(driver, "commit"):
        count += 1
        driver.answer(requests[0], SPOILT if spoils(requests[0]) else driver.committed(requests[0]))
    return count


def key_watches(driver: Driver) -> list[Watch]:
    return [watch for watch in driver.all(Watch) if not isinstance(watch, WatchSession)]


def key_watch(driver: Driver) -> Watch:
    (watch,) = key_watches(driver)
    return watch


def none_ours(request: Transact) -> RolledBack:
    places = range(len(request.operations))
    return RolledBack(tuple(Refused(place, Refusal.SESSION, "failed session check") for place in places))


def read_all(driver: Driver, purpose: str) -> list[Transact]:
    """A newer Consul answers all reads for a purpose, at which no key is ours but in an audit."""
    asked = []
    while requests := open_transactions(driver, purpose):
        asked += requests[:1]
        fine = Committed(()) if purpose == "audit" else none_ours(requests[0])
        driver.answer(requests[0], SPOILT if spoils(requests[0]) else fine)
    return asked


def busy(driver: Driver) -> None:
    """A transaction is under way, so that what is asked next shares one."""
    driver.call("lock", "busy")


def locked(driver: Driver, *ids: str) -> list[Any]:
    """Held since a Consul that took all their keys."""
    return [driver.locked(id) for id in ids]
