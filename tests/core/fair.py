"""A fair Locker and its queue, as its tests need them."""

from __future__ import annotations

from typing import Any

from consul_locker.core.messages import Call
from consul_locker.core.requests import (
    Committed,
    Entry,
    Transact,
    Verb,
)
from consul_locker.keys import place_key

from .helpers import STRANGER, Driver, entry

KEY = "svc/a/lock"


def fair(**options: Any) -> Driver:
    """A fair Locker, ready; its locks are given one after another, so that requests can be told apart."""
    return Driver(fair=True, **options).ready()


def place(session: str | None, number: int, created: int, lock: str = KEY) -> Entry:
    """A place in the queue; it says by itself whose it was, the session holds it as long as it lives."""
    return Entry(place_key(lock, session or "dead", number), 0, created, created, 1, b"", session)


def asked(driver: Driver, purpose: str) -> Transact:
    """The only request of that purpose that was not answered."""
    (request,) = (each for each in driver.all(Transact) if driver.purpose(each) == purpose)
    return request


def look(driver: Driver, *entries: Entry) -> None:
    """The look that was asked for is answered."""
    driver.answer(asked(driver, "turn"), Committed(entries))


def take_place(driver: Driver, *others: Entry, created: int = 300) -> Entry:
    """Consul gives the place that was asked for, and shows the queue with it."""
    request = asked(driver, "commit")
    lock, *trees = request.operations
    assert lock.verb is Verb.LOCK
    assert [(tree.verb, tree.key) for tree in trees] in ([(Verb.GET_TREE, KEY)], [])
    own = Entry(lock.key, 0, created, created, 1, lock.value, "S1")
    driver.answer(request, Committed((own, *others, own) if trees else (own,)))
    return own


def waiting(driver: Driver, *others: Entry, created: int = 300, **limits: Any) -> tuple[Call, Entry]:
    """A hold that waits in the queue, behind these."""
    limits.setdefault("wait", None)
    call = driver.call("hold", "a", **limits)
    look(driver, *others)
    return call, take_place(driver, *others, created=created)


TAKEN = entry(KEY, STRANGER, 200)
FREE = entry(KEY, None, 201)
