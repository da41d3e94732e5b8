"""Waits beside keys that Consul refuses: the queue of a fair Locker, and keys that /v1/kv does not show."""

from __future__ import annotations

from typing import Any

from consul_locker.core.requests import (
    Committed,
    KeysRead,
    PollKey,
    RefusedWhole,
    Watch,
    WatchKey,
)
from consul_locker.errors import InvalidLockId

from .helpers import STRANGER, Driver, entry, failure, held
from .refused import BAD, SPOILT, commit_all, key_watch, key_watches, open_transactions, spoils

# ------------------------------------------------------------------------------------------- a fair Locker


def looking(ids: list[str]) -> tuple[Driver, list[Any]]:
    """Calls that came while there was no session: they look together."""
    driver = Driver(fair=True)
    calls = [driver.call("lock", id) for id in ids]
    driver.ready()
    return driver, calls


def look_all(driver: Driver) -> int:
    """A newer Consul answers all looks, and all that follows: nobody waits anywhere. Returns how many looks."""
    count = 0
    while requests := open_transactions(driver, "turn"):
        count += 1
        driver.answer(requests[0], SPOILT if spoils(requests[0]) else Committed(()))
        commit_all(driver)
    return count


def test_a_look_at_queues_beside_a_bad_key() -> None:
    driver, calls = looking([BAD if at == 20 else f"id-{at}" for at in range(61)])
    assert look_all(driver) <= 1 + 2 * 6
    assert isinstance(driver.result(calls[20]), InvalidLockId)
    assert [driver.result(call).id for at, call in enumerate(calls) if at != 20] == [
        f"id-{at}" for at in range(61) if at != 20
    ]


def test_only_those_who_still_look_do_so_again() -> None:
    driver, calls = looking(["a", BAD])
    driver.abandon(calls[1])
    (look,) = open_transactions(driver, "turn")
    driver.answer(look, SPOILT)
    (look,) = open_transactions(driver, "turn")
    assert [operation.key for operation in look.operations] == ["svc/a/lock"]
    driver.abandon(calls[0])
    driver.answer(look, SPOILT)
    assert open_transactions(driver, "turn") == []


def test_a_place_in_the_queue_of_a_bad_key_ends_the_wait() -> None:
    driver = Driver(fair=True).ready()
    call = driver.call("lock", BAD, wait=None)
    (look,) = open_transactions(driver, "turn")
    driver.answer(look, Committed((entry(f"svc/{BAD}/lock", STRANGER, 7),)))  # an older server
    assert commit_all(driver) == 1
    error = driver.result(call)
    assert isinstance(error, InvalidLockId)
    assert error.id == BAD


# ------------------------------------------------------------------------- keys that /v1/kv does not show

HIDDEN = RefusedWhole(500, 'invalid key name, keys should respect the "^[a-z]+$" format')


def waiting(driver: Driver, id: str = "order:17") -> Any:
    call = driver.call("lock", id, wait=None)
    driver.answer(driver.commit(), held())
    driver.answer(key_watch(driver), HIDDEN)
    return call


def poll(driver: Driver) -> Watch:
    watch = key_watch(driver)
    assert isinstance(watch, PollKey)
    assert watch.wait == 0.0
    return watch


def test_a_key_that_cannot_be_watched_is_polled() -> None:
    driver = Driver().ready()
    call = waiting(driver)
    taken = (entry("svc/order:17/lock", STRANGER, 200),)
    for index in (200, 200, 201, 7):  # nothing new, another holder, a restored snapshot: at the same pace
        driver.answer(poll(driver), KeysRead((entry("svc/order:17/lock", STRANGER, index),), index))
        assert key_watches(driver) == []
        assert 1.0 <= driver.timers["pause", "order:17"] - driver.now <= 1.5
        driver.fire("pause", "order:17")
    driver.answer(poll(driver), failure())
    driver.fire("pause", "order:17")
    driver.answer(driver.commit(), held())
    driver.answer(poll(driver), KeysRead(taken, 200))  # remembered, while it is waited for
    driver.fire("pause", "order:17")
    driver.answer(poll(driver), KeysRead((), 0))
    driver.grant()
    assert driver.result(call).id == "order:17"
    driver.call("release", "order:17")
    driver.grant()
    driver.call("lock", "order:17", wait=1.0)
    driver.answer(driver.commit(), held())
    assert isinstance(key_watch(driver), WatchKey)  # not for ever


def test_a_session_that_ends_ends_the_polls() -> None:
    driver = Driver().ready()
    waiting(driver)
    driver.call("reboot")
    assert key_watches(driver) == []


def test_a_fair_locker_looks_again_where_it_cannot_watch() -> None:
    driver = Driver(fair=True).ready()
    call = driver.call("lock", "order:17", wait=None)
    key = "svc/order:17/lock"
    taken, free = entry(key, STRANGER, 200), entry(key, None, 300)

    def look(lock: Any) -> None:
        (request,) = open_transactions(driver, "turn")
        driver.answer(request, Committed((lock, *places)))

    places: tuple[Any, ...] = ()
    look(taken)
    request = driver.commit()
    place = request.operations[0]
    places = (entry(place.key, "S1", 250, place.value),)
    driver.answer(request, Committed((*places, taken)))
    driver.answer(key_watch(driver), HIDDEN)
    for _ in range(3):
        assert key_watches(driver) == []
        (name,) = [name for name in driver.timers if name[0] == "pause"]
        assert 1.0 <= driver.timers[name] - driver.now <= 1.5
        driver.fire(*name)
        look(taken)
    driver.fire(*name)
    look(free)
    driver.grant()
    assert driver.result(call).id == "order:17"
