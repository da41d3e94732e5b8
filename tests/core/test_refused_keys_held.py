"""Keys that Consul refuses, and what is held, or was, beside them; sweeps."""

from __future__ import annotations

import pytest

from consul_locker.core.messages import Log
from consul_locker.core.refused_keys import REFUSED_FOR, halves
from consul_locker.core.requests import (
    Committed,
    NamesRead,
    RawTransact,
    ReadKey,
    ReadPrefix,
    Refusal,
    Refused,
    RefusedWhole,
    RolledBack,
)
from consul_locker.errors import AlreadyLocked, ConsulUnavailable, InvalidLockId

from .helpers import STRANGER, Driver, entry, failure, held
from .refused import BAD, LONG, SPOILT, WORDS, busy, commit_all, locked, open_transactions, read_all, spoils

# ------------------------------------------------------------------------------------- what is held, or was


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
    assert len(audit.operations) == 7
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
    driver.answer(open_transactions(driver, "audit")[0], SPOILT)
    driver.answer(open_transactions(driver, "audit")[0], RolledBack((Refused(0, Refusal.INDEX, "failed index check"),)))
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
    assert len(read_all(driver, "look")) <= 1 + 2 * 2
    assert driver.core.ledger.slots.keys() == {"a", "b", "c"}
    driver.fire("look")
    (look,) = read_all(driver, "look")
    assert not spoils(look)


def test_a_former_bad_key_is_looked_at_no_more() -> None:
    driver = Driver().ready()
    for id in ("a", BAD):
        driver.call("lock", id)
        driver.answer(driver.commit(), held())
    driver.fire("look")
    assert len(read_all(driver, "look")) == 3
    driver.fire("look")
    assert [len(look.operations) for look in read_all(driver, "look")] == [1]


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
    read_all(driver, "look")
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
    left = driver.call("leave", [driver.result(call)])
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
    call = driver.call("guarded", lease, [*lease.guard(), *operations])
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
    driver.core.audit.sweep()
    driver._take()
    names = (*(f"svc/{at}/lock" for at in range(count - 1)), f"svc/{BAD}/lock", "svc/last/lock")
    driver.answer(driver.one(ReadPrefix), NamesRead(names))
    asked = read_all(driver, "sweep")
    assert len(asked) <= 2 + 2 * 6
    assert "svc/last/lock" in asked[-1].operations[-1].key
    assert driver.core.ledger.slots == {}
    driver.core.audit.sweep()
    driver.fire("audit")
    driver.answer(driver.one(ReadPrefix), NamesRead(names))
    assert not any(spoils(each) for each in read_all(driver, "sweep"))


def test_a_sweep_finds_what_is_ours_beside_a_bad_key() -> None:
    driver = Driver().ready()
    driver.core.audit.sweep()
    driver._take()
    driver.answer(driver.one(ReadPrefix), NamesRead((f"svc/{BAD}/lock", "svc/a/lock")))
    for answer in (SPOILT, SPOILT, Committed(())):
        driver.answer(open_transactions(driver, "sweep")[0], answer)
    assert driver.one(ReadKey).key == "svc/a/lock"


def test_a_sweep_that_is_refused_for_another_reason_goes_on_later() -> None:
    driver = Driver().ready()
    driver.core.audit.sweep()
    driver._take()
    driver.answer(driver.one(ReadPrefix), NamesRead(("svc/a/lock",)))
    driver.answer(open_transactions(driver, "sweep")[0], RefusedWhole(413, "large"))
    assert open_transactions(driver, "sweep") == []
    driver.fire("audit")
    assert [operation.key for operation in open_transactions(driver, "sweep")[0].operations] == ["svc/a/lock"]


def test_halves() -> None:
    assert halves(["0", "1", "2"]) == (["0", "1"], ["2"])
