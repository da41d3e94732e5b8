"""What Consul refuses as a whole because of one key: only the culprit is refused, after few transactions."""

from __future__ import annotations

from typing import Any

import pytest

from consul_locker.core.messages import Log
from consul_locker.core.refused_keys import MAX_REFUSED, REFUSED_FOR, RefusedKeys, halves
from consul_locker.core.requests import (
    Committed,
    KeysRead,
    NamesRead,
    Operation,
    RawTransact,
    ReadKey,
    ReadPrefix,
    Refusal,
    Refused,
    RefusedWhole,
    RolledBack,
    Transact,
    Verb,
    Watch,
)
from consul_locker.core.step import Outbox
from consul_locker.errors import AlreadyLocked, ConsulUnavailable, InvalidLockId

from .helpers import STRANGER, Driver, entry, failure, held

BAD = "my%20file"
WORDS = "Invalid key in transaction: invalid key name, must not have a space"
SPOILT = RefusedWhole(400, WORDS)
LONG = 86_400.0  # a TTL, in seconds: the session lives all through a test


def spoils(request: Transact) -> bool:
    return any("%20" in operation.key for operation in request.operations)


def open_transactions(driver: Driver, purpose: str) -> list[Transact]:
    return [request for request in driver.all(Transact) if request.purpose == purpose]


def commit_all(driver: Driver) -> int:
    """A newer Consul answers all transactions of the batch. Returns how many they were."""
    count = 0
    while requests := open_transactions(driver, "commit"):
        count += 1
        driver.answer(requests[0], SPOILT if spoils(requests[0]) else driver.committed(requests[0]))
    return count


def key_watches(driver: Driver) -> list[Watch]:
    return [watch for watch in driver.all(Watch) if watch.target != "session"]


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


@pytest.mark.parametrize("place", [0, 30, 60])
def test_one_bad_key_among_61_is_refused_alone(place: int) -> None:
    driver = Driver().ready()
    busy(driver)
    ids = [BAD if at == place else f"id-{at}" for at in range(61)]
    calls = [driver.call("lock", id) for id in ids]
    driver.grant()
    assert len(driver.commit().operations) == 61
    assert commit_all(driver) <= 1 + 2 * 6  # the whole, then two for each halving
    for call, id in zip(calls, ids, strict=True):
        if id != BAD:
            assert driver.result(call).id == id
    error = driver.result(calls[place])
    assert isinstance(error, InvalidLockId)
    assert error.id == BAD
    assert WORDS in error.reason
    assert not driver.timers.keys() & {("look",)}, "what Consul never takes is in no doubt"


def test_bad_keys_only() -> None:
    driver = Driver().ready()
    busy(driver)
    calls = [driver.call("lock", f"{BAD}-{at}") for at in range(64)]
    driver.grant()
    assert commit_all(driver) <= 127
    assert all(isinstance(driver.result(call), InvalidLockId) for call in calls)


def test_a_key_that_was_refused_shares_no_transaction_for_a_while() -> None:
    driver = Driver(ttl=LONG).ready()
    driver.call("lock", BAD)
    assert commit_all(driver) == 1
    busy(driver)
    calls = [driver.call("lock", id) for id in ("a", "b", BAD, "c", "d")]
    driver.grant()
    assert commit_all(driver) == 3
    assert isinstance(driver.result(calls[2]), InvalidLockId)
    assert [driver.result(call).id for at, call in enumerate(calls) if at != 2] == ["a", "b", "c", "d"]
    driver.now += REFUSED_FOR
    driver.call("lock", BAD)
    assert driver.commit()  # not for ever: it may be taken by now
    driver.grant()
    assert BAD in driver.core.ledger.leases


def test_the_memory_of_refused_keys_is_bounded() -> None:
    outbox = Outbox(lambda: 0.5)
    refused = RefusedKeys(outbox)
    for at in range(MAX_REFUSED + 1):
        refused.add(str(at))
    assert "0" not in refused
    assert "1" in refused
    outbox.now += REFUSED_FOR
    assert "1" not in refused
    assert "1" not in refused


def test_a_set_with_a_bad_key() -> None:
    driver = Driver().ready()
    call = driver.call("lock_many", "a", BAD)
    assert commit_all(driver) == 1
    error = driver.result(call)
    assert isinstance(error, InvalidLockId)
    assert error.id == ("a", BAD)
    assert "the key of one of them" in error.reason
    call = driver.call("lock", "a")
    assert commit_all(driver) == 1
    assert driver.result(call).id == "a"


def test_whoever_waits_does_not_wait_for_a_bad_key() -> None:
    driver = Driver().ready()
    call = driver.call("lock", BAD, wait=None)
    driver.answer(driver.commit(), held())
    driver.answer(key_watch(driver), RefusedWhole(500, "invalid key name"))  # Consul was upgraded
    driver.answer(key_watch(driver), SPOILT)
    driver.fire("pause", BAD)
    assert commit_all(driver) == 1
    assert isinstance(driver.result(call), InvalidLockId)
    assert key_watches(driver) == []


def test_what_is_refused_for_another_reason() -> None:
    driver = Driver().ready()
    busy(driver)
    a, b = driver.call("lock", "a"), driver.call("lock", "b")
    driver.grant()
    driver.answer(driver.commit(), RefusedWhole(422, "no"))
    driver.answer(driver.commit(), RefusedWhole(422, "no"))
    driver.grant()
    error = driver.result(a)
    assert isinstance(error, ConsulUnavailable)
    assert (error.status, error.sent) == (422, False)
    assert "no" in str(error)
    assert driver.result(b).id == "b"


def test_callers_who_are_gone_are_not_asked_for_again() -> None:
    driver = Driver().ready()
    busy(driver)
    calls = [driver.call("lock", id) for id in ("a", "b", "c", BAD)]
    driver.grant()
    driver.abandon(calls[0])
    driver.answer(driver.commit(), SPOILT)
    assert [operation.key for operation in driver.commit().operations] == ["svc/b/lock", "svc/c/lock"]
    commit_all(driver)
    assert driver.result(calls[1]).id == "b"


# ------------------------------------------------------------------------------------- what is held, or was


def locked(driver: Driver, *ids: str) -> list[Any]:
    """Held since a Consul that took all their keys."""
    return [driver.locked(id) for id in ids]


def test_an_audit_leaves_out_what_consul_does_not_take() -> None:
    driver = Driver(ttl=LONG).ready()
    leases = locked(driver, "a", "b", BAD, "c", "d", "e", "f", "g")
    driver.fire("audit")
    assert len(read_all(driver, "audit")) <= 1 + 2 * 3
    assert [command.text for command in driver.commands if isinstance(command, Log) and BAD in command.text]
    assert all(lease.live for lease in leases)
    driver.fire("audit")
    (audit,) = read_all(driver, "audit")
    assert not spoils(audit)
    assert len(audit.operations) == 14
    driver.now += REFUSED_FOR
    driver.fire("audit")
    assert len(read_all(driver, "audit")) > 1  # once more, in case it is taken by now


def test_an_audit_that_is_refused_for_another_reason_is_made_again() -> None:
    driver = Driver().ready()
    locked(driver, "a")
    for _ in range(2):
        driver.fire("audit")
        (audit,) = open_transactions(driver, "audit")
        driver.answer(audit, RefusedWhole(413, "large"))


def test_a_loss_beside_a_bad_key_is_noticed() -> None:
    driver = Driver().ready()
    lease, _ = locked(driver, "a", BAD)
    driver.fire("audit")
    driver.answer(open_transactions(driver, "audit")[0], SPOILT)
    first, second = open_transactions(driver, "audit")
    driver.answer(second, SPOILT)
    driver.answer(first, RolledBack((Refused(1, Refusal.INDEX, "failed index check"),)))
    driver.found(driver.one(ReadKey), None)
    assert lease.reason == "key deleted"


def test_a_verdict_on_a_bad_key_says_nothing() -> None:
    driver = Driver().ready()
    (lease,) = locked(driver, BAD)
    driver.fire("audit")
    (audit,) = open_transactions(driver, "audit")
    driver.answer(audit, RolledBack((Refused(0, Refusal.SESSION, "failed session check"),)))
    driver.answer(driver.one(ReadKey), SPOILT)
    assert lease.live


def test_doubts_of_a_bad_key_are_given_up_the_others_are_not() -> None:
    driver = Driver().ready()
    busy(driver)
    for id in ("a", "b", BAD, "c"):
        driver.call("lock", id)
    driver.grant()
    driver.answer(driver.commit(), failure())  # sent, and not answered
    driver.fire("look")
    assert len(read_all(driver, "unheld")) <= 1 + 2 * 2
    assert driver.core.ledger.slots.keys() == {"busy", "a", "b", "c"}
    driver.fire("look")
    (look,) = read_all(driver, "unheld")
    assert not spoils(look)


def test_a_former_bad_key_is_looked_at_no_more() -> None:
    driver = Driver().ready()
    for id in ("a", BAD):
        driver.call("lock", id)
        driver.answer(driver.commit(), held())
    driver.fire("look")
    assert len(read_all(driver, "unheld")) == 3
    driver.fire("look")
    assert [len(look.operations) for look in read_all(driver, "unheld")] == [1]


def test_a_look_that_is_refused_for_another_reason_is_made_again_later() -> None:
    driver = Driver().ready()
    driver.call("lock", "a")
    driver.answer(driver.commit(), failure())
    driver.answer(driver.look(), RefusedWhole(413, "large"))
    assert driver.core.ledger.slots["a"].doubts
    assert ("look",) in driver.timers


def test_a_doubt_whose_key_is_in_use_waits_for_that() -> None:
    driver = Driver().ready()
    driver.call("lock", BAD)
    driver.answer(driver.commit(), failure())
    look = driver.look()
    driver.call("lock", BAD)
    driver.answer(look, SPOILT)
    assert driver.core.ledger.slots[BAD].doubts
    commit_all(driver)


def test_a_bad_key_that_was_found_ours_by_another_server() -> None:
    driver = Driver().ready()
    driver.call("lock", BAD)
    driver.answer(driver.commit(), failure())
    driver.answer(driver.look(), Committed(()))
    driver.answer(driver.one(ReadKey), SPOILT)
    assert driver.core.ledger.slots == {}


def test_a_release_of_a_bad_key() -> None:
    driver = Driver().ready()
    locked(driver, "a", BAD)
    busy(driver)
    calls = [driver.call("release", id) for id in ("a", BAD)]
    driver.grant()
    assert commit_all(driver) == 3
    assert driver.result(calls[0]) is True
    assert isinstance(driver.result(calls[1]), InvalidLockId)
    assert driver.emitted("lock_lost") == [("lock_lost", "release failed")]
    call = driver.call("release", BAD)
    driver.answer(driver.one(ReadKey), SPOILT)
    assert isinstance(driver.result(call), InvalidLockId)
    driver.fire("look")
    read_all(driver, "unheld")
    assert BAD not in driver.core.ledger.slots


def test_release_all_beside_a_lock_that_is_refused() -> None:
    driver = Driver().ready()
    locked(driver, "a")
    refused = driver.call("lock", BAD)
    everything = driver.call("release_all")
    commit_all(driver)
    assert isinstance(driver.result(refused), InvalidLockId)
    driver.answer(driver.one(ReadKey), SPOILT)
    assert driver.result(everything) == 1


def test_leaving_a_hold_of_a_bad_key_raises_nothing() -> None:
    driver = Driver().ready()
    call = driver.call("hold", BAD)
    driver.grant()
    left = driver.call("leave", BAD, argument=[driver.result(call)])
    assert commit_all(driver) == 1
    assert driver.result(left) == 0


@pytest.mark.parametrize("verb", ["info", "holder"])
def test_questions_about_a_bad_key(verb: str) -> None:
    driver = Driver().ready()
    call = driver.call(verb, BAD)
    driver.answer(driver.one(ReadKey), SPOILT)
    assert isinstance(driver.result(call), InvalidLockId)


def test_guarded_operations_are_not_split() -> None:
    driver = Driver().ready()
    (lease,) = locked(driver, "a")
    operations = ({"KV": {"Verb": "get", "Key": "a%20b"}},)
    call = driver.call("guarded", argument=(lease, [*lease.guard(), *operations]))
    driver.answer(driver.one(RawTransact), SPOILT)
    error = driver.result(call)
    assert isinstance(error, ConsulUnavailable)
    assert WORDS in str(error)
    assert (error.operation, error.status, error.sent) == ("guarded", 400, False)
    assert lease.live


def test_a_name_for_the_holders_beside_a_bad_key() -> None:
    driver = Driver(identify_holder=True).ready()
    busy(driver)
    calls = [driver.call("lock", id) for id in ("a", BAD, "c")]
    driver.grant()
    driver.answer(driver.commit(), RolledBack(tuple(Refused(at, Refusal.HELD, "held") for at in range(3))))
    while reads := open_transactions(driver, "holder"):  # Consul was upgraded meanwhile
        found = Committed(tuple(entry(operation.key, STRANGER, 7) for operation in reads[0].operations))
        driver.answer(reads[0], SPOILT if spoils(reads[0]) else found)
    errors = [driver.result(call) for call in calls]
    assert all(isinstance(error, AlreadyLocked) for error in errors)
    assert [error.holder is None for error in errors] == [False, True, False]


# ----------------------------------------------------------------------------------------------------- sweeps


@pytest.mark.parametrize("count", [1, 64])
def test_a_sweep_leaves_bad_keys_out(count: int) -> None:
    driver = Driver(ttl=LONG).ready()
    driver.core._audit.sweep()
    driver._take()
    names = (*(f"svc/{at}/lock" for at in range(count - 1)), f"svc/{BAD}/lock", "svc/last/lock")
    driver.answer(driver.one(ReadPrefix), NamesRead(names))
    asked = read_all(driver, "sweep")
    assert len(asked) <= 2 + 2 * 6
    assert "svc/last/lock" in asked[-1].operations[-1].key
    assert driver.core.ledger.slots == {}
    driver.core._audit.sweep()
    driver.fire("audit")
    driver.answer(driver.one(ReadPrefix), NamesRead(names))
    assert not any(spoils(each) for each in read_all(driver, "sweep"))


def test_a_sweep_finds_what_is_ours_beside_a_bad_key() -> None:
    driver = Driver().ready()
    driver.core._audit.sweep()
    driver._take()
    driver.answer(driver.one(ReadPrefix), NamesRead((f"svc/{BAD}/lock", "svc/a/lock")))
    for answer in (SPOILT, SPOILT, Committed(())):
        driver.answer(open_transactions(driver, "sweep")[0], answer)
    assert driver.one(ReadKey).key == "svc/a/lock"


def test_a_sweep_that_is_refused_for_another_reason_goes_on_later() -> None:
    driver = Driver().ready()
    driver.core._audit.sweep()
    driver._take()
    driver.answer(driver.one(ReadPrefix), NamesRead(("svc/a/lock",)))
    driver.answer(open_transactions(driver, "sweep")[0], RefusedWhole(413, "large"))
    assert open_transactions(driver, "sweep") == []
    driver.fire("audit")
    assert [operation.key for operation in open_transactions(driver, "sweep")[0].operations] == ["svc/a/lock"]


def test_halves_keep_what_belongs_together() -> None:
    operations = tuple(Operation(Verb.CHECK_SESSION, str(at // 2)) for at in range(6))
    first, second = halves(Transact(3, operations, "audit", context=["0", "1", "2"], timeout=2.0))
    assert [[operation.key for operation in half.operations] for half in (first, second)] == [
        ["0", "0", "1", "1"],
        ["2", "2"],
    ]
    assert (first.context, second.context) == (["0", "1"], ["2"])
    assert (first.generation, first.purpose, first.timeout) == (3, "audit", 2.0)


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
    assert (watch.target, watch.wait) == ("poll", 0.0)
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
    assert key_watch(driver).target == "key"  # not for ever


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
