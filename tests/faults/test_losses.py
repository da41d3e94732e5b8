"""Rules 2 and 3: each way to lose a lock is told for exactly the locks concerned, in its time; and nothing else is.

With both faces, and against both agents but for what takes seconds, which the real one alone is asked. The times are
those that docs/safety.rst names, and `SLACK` for the machine.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from consul_locker import LockerFactory, LockLost

from ..behaviour.tools import Consul, Ear, until
from ..real_consul import RealConsul
from .conftest import real_only
from .proxy import (
    AUDIT,
    LIST,
    READ,
    RELEASE,
    WAIT,
    Answer,
    Fate,
    Proxy,
    watch_for_a_change,
)
from .times import PAUSED_FOR, PERIOD, SLACK, TTL

ROOT = Path(__file__).parents[2]


def is_over(lease: Any, reason: str) -> None:
    """The lease is over, for this reason, in every way that it can be asked."""
    assert not lease.valid
    assert lease.remaining == 0.0
    assert lease.reason == reason
    assert lease.wait_lost(0) == reason
    with pytest.raises(LockLost) as lost:
        lease.check()
    assert (lost.value.id, lost.value.reason) == (lease.id, reason)


# ------------------------------------------------------------------------------------------- losses


def test_a_destroyed_session_is_told_within_a_second(
    factory: Any, agent: Any, consul: Consul, ear: Ear, name: str
) -> None:
    locker, other = factory.create(name), factory.create(name)
    leases, kept = [locker.lock("a"), locker.lock("b")], other.lock("c")
    began = time.monotonic()
    consul.destroy(leases[0].session_id)
    assert leases[0].wait_lost(WAIT) == "session destroyed"
    ear.wait("lock_lost", 2)
    assert time.monotonic() - began < 1.0
    for lease in leases:
        is_over(lease, "session destroyed")
    assert [(facts["id"], facts["reason"]) for facts in ear.of("lock_lost")] == [
        ("a", "session destroyed"),
        ("b", "session destroyed"),
    ]
    assert locker.wait_for_state("ready", WAIT)
    assert not locker.held
    assert kept.valid


@real_only
def test_what_happens_to_a_key_is_told_within_a_renewal_period(
    factory: Any, rival: Any, consul: Consul, ear: Ear, name: str
) -> None:
    locker = factory.create(name, ttl=TTL)
    reasons = {
        "deleted": "key deleted",
        "taken": "key taken over",
        "overwritten": "key overwritten",
        "freed": "released by a stranger",
    }
    leases = {id: locker.lock(id) for id in (*reasons, "kept")}
    assert rival.wait_for_state("ready", WAIT)
    began = time.monotonic()
    consul.delete(leases["deleted"].key)
    consul.delete(leases["taken"].key)
    taken = rival.lock("taken")
    consul.put(leases["overwritten"].key, "a stranger was here")
    freed = leases["freed"]
    assert consul.call("PUT", f"/v1/kv/{freed.key}?release={freed.session_id}", "") == (200, True)
    for id, reason in reasons.items():
        assert leases[id].wait_lost(WAIT) == reason
        is_over(leases[id], reason)
    ear.wait("lock_lost", len(reasons))
    assert time.monotonic() - began < PERIOD + SLACK
    assert {facts["id"]: facts["reason"] for facts in ear.of("lock_lost")} == reasons
    assert set(locker.held) == {"kept"}
    assert leases["kept"].valid
    assert locker.state == "ready"
    assert "session_ended" not in ear.names()
    # What was overwritten is ours in Consul still: it is given back at once, and nobody else's tenure is touched.
    until(lambda: consul.key(leases["overwritten"].key).session is None, SLACK)
    assert taken.valid
    assert consul.key(taken.key).fence == taken.fence


@real_only
def test_an_audit_that_crosses_releases_is_no_loss(
    face: Any, proxy: Proxy, consul: Consul, ear: Ear, name: str
) -> None:
    """Sent when two leases stood, it arrives when one key has a newer tenure and the other is just being released."""
    with face.factory(proxy.address) as factory:
        locker = factory.create(name, ttl=TTL)
        first, leaving = locker.lock("again"), locker.lock("leaving")
        audit = proxy.arrange(Fate.SLOW, AUDIT, 1)
        audit.wait()
        assert locker.release("again") is True
        second = locker.lock("again")
        release = proxy.arrange(Fate.ANSWER_SLOW, RELEASE, 1)
        released = locker.submit_release("leaving")
        release.wait()  # done in Consul, not known here
        audit.let_go()
        audit.wait_answered()
        assert audit.answers[0].status == 409
        next_audit = proxy.arrange(Fate.SLOW, AUDIT, 1)
        next_audit.let_go()
        release.let_go()
        assert released.result(WAIT) is True
        # When the next audit has found nothing amiss, the verdict of this one has long been dealt with.
        next_audit.wait_answered()
        assert next_audit.answers[0].status == 200
        assert second.valid
        assert second.fence > first.fence
        assert consul.key(second.key).fence == second.fence
        assert leaving.wait_lost(0) == "released"
        assert locker.stats()["lost"] == 0
        assert "lock_lost" not in ear.names()
        assert [facts["id"] for facts in ear.of("released")] == ["again", "leaving"]


@real_only
def test_what_a_server_that_lags_says_is_no_loss(face: Any, proxy: Proxy, consul: Consul, ear: Ear, name: str) -> None:
    """It has not applied its log yet, and knows neither the session nor the lock; the leader is asked, and does."""
    unknown = Answer(200, (("X-Consul-Index", "1"),), b"[]")
    watch = proxy.arrange(Fate.FORGED, watch_for_a_change, 1, unknown)
    refusal = Answer(409, (), b'{"Results":null,"Errors":[{"OpIndex":0,"What":"failed session check for key"}]}')
    with face.factory(proxy.address) as factory:
        locker = factory.create(name, ttl=TTL)
        lease = locker.lock("a")
        # What follows: all of the name is listed, as after a restored snapshot; the key is read.
        for rule, following in ((watch, LIST), (proxy.arrange(Fate.FORGED, AUDIT, 1, refusal), READ)):
            rule.wait()
            look = proxy.arrange(Fate.SLOW, following, 1)
            look.let_go()
            rule.let_go()
            look.wait_answered()
            assert look.answers[0].status == 200
            assert locker.info("a").session_id == lease.session_id  # asked for after that, so it is dealt with
            assert lease.valid
        assert locker.stats()["lost"] == 0
        assert locker.session_id == lease.session_id
        assert not {"lock_lost", "session_ended"} & set(ear.names())
        consul.destroy(lease.session_id)  # the watch is on its guard again
        assert lease.wait_lost(1.0) == "session destroyed"


def snapshot(agent: RealConsul, restored: bytes | None = None) -> bytes:
    """Take a snapshot of an agent, or restore one."""
    connection = http.client.HTTPConnection("127.0.0.1", agent.port, timeout=WAIT)
    try:
        connection.request("GET" if restored is None else "PUT", "/v1/snapshot", restored)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read()
    finally:
        connection.close()


def test_a_restored_snapshot(face: Any, private: RealConsul, name: str, ear: Ear) -> None:
    """What a Locker had then it has; what it got since is lost, what it gave back since is given back again."""
    consul = Consul(private.address)
    with face.factory(private.address) as factory:
        locker = factory.create(name, ttl=TTL)
        kept, returned = locker.lock("kept"), locker.lock("returned")
        taken = snapshot(private)
        assert locker.release("returned") is True
        got = locker.lock("got")
        later = factory.create(name, ttl=TTL)
        of_later = later.lock("of a later session")
        began = time.monotonic()
        snapshot(private, taken)
        assert of_later.wait_lost(WAIT) in ("session destroyed", "key deleted")  # whatever is looked at first
        assert got.wait_lost(WAIT) == "key deleted"
        until(lambda: consul.key(returned.key).session is None)
        assert time.monotonic() - began < PERIOD + SLACK
        assert kept.valid
        assert consul.key(kept.key).fence == kept.fence
        assert set(locker.held) == {"kept"}
        assert not later.held
        ear.wait("lock_lost", 2)
        # The fences rise, although the indexes have fallen. Where the session is gone too, this finds out.
        for one, lease in ((locker, got), (locker, returned), (later, of_later)):
            again = one.lock(lease.id)
            assert again.fence > lease.fence
            assert consul.key(lease.key).fence == again.fence
        assert [facts["session_id"] for facts in ear.of("session_ended")] == [of_later.session_id]
        assert {facts["id"] for facts in ear.of("lock_lost")} == {got.id, of_later.id}


#: Takes a lock, says so, and uses its lease when it is told to.
HOLDERS = {
    "threaded": """
import sys
from consul_locker import LockerFactory, LockLost

with LockerFactory(sys.argv[1]) as factory:
    lease = factory.create(sys.argv[2], ttl=float(sys.argv[3])).lock("threaded", timeout=30)
    print("held", lease.valid, lease.fence, flush=True)
    sys.stdin.readline()  # the process is stopped while it waits here
    valid = lease.valid
    try:
        lease.check()
        print("used", valid, flush=True)
    except LockLost as lost:
        print("lost", valid, lost.reason, flush=True)
""",
    "asyncio": """
import asyncio, sys
from consul_locker import LockLost
from consul_locker.aio import LockerFactory

async def main():
    async with LockerFactory(sys.argv[1]) as factory:
        lease = await factory.create(sys.argv[2], ttl=float(sys.argv[3])).lock("asyncio", timeout=30)
        print("held", lease.valid, lease.fence, flush=True)
        await asyncio.to_thread(sys.stdin.readline)  # the process is stopped while it waits here
        valid = lease.valid
        try:
            lease.check()
            print("used", valid, flush=True)
        except LockLost as lost:
            print("lost", valid, lost.reason, flush=True)

asyncio.run(main())
""",
}


class Holder:
    """A process of a face that holds the lock named like its face, stopped and told to go on by the test."""

    def __init__(self, face: str, address: str, name: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", HOLDERS[face], address, name, str(TTL)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )

    def says(self) -> list[str]:
        """The words of its next line."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().split()

    def stop(self) -> None:
        """It stands still, as one does that its machine gives no time to."""
        self._process.send_signal(signal.SIGSTOP)

    def use(self) -> list[str]:
        """It goes on, and uses its lease at once; returns what it says of that."""
        assert self._process.stdin is not None
        self._process.stdin.write("go on\n")
        self._process.stdin.flush()
        self._process.send_signal(signal.SIGCONT)
        return self.says()

    def __enter__(self) -> Holder:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.mark.real
@pytest.mark.slow
def test_real_ttls(real_agent: Any, name: str, ear: Ear) -> None:
    """Side by side: processes stopped for 2.5 TTLs, a Locker that lives for as long, and one that loses its agent."""
    consul = Consul(real_agent.address)
    with (
        Proxy(real_agent.address) as proxy,
        LockerFactory(real_agent.address) as factory,
        LockerFactory(proxy.address) as cut_off,
        Holder("threaded", real_agent.address, name) as threaded,
        Holder("asyncio", real_agent.address, name) as asyncio,
    ):
        locker, lonely = factory.create(name, ttl=TTL), cut_off.create(name, ttl=TTL, retry_interval=1.0)
        lives, lost = locker.lock("lives"), lonely.lock("agent gone")
        holders = {"threaded": threaded, "asyncio": asyncio}
        fences = {}
        for id, holder in holders.items():
            held, valid, fence = holder.says()
            assert (held, valid) == ("held", "True")
            fences[id] = int(fence)
            holder.stop()
        stopped = time.monotonic()
        waiting = {id: locker.submit_lock(id, wait=None) for id in holders}

        proxy.shut()
        shut = time.monotonic()
        assert lost.wait_lost(WAIT) == "deadline passed"
        assert time.monotonic() - shut < TTL + SLACK
        is_over(lost, "deadline passed")
        assert ear.wait("lock_lost")["lease"] is lost
        assert consul.key(lost.key).session == lost.session_id  # Consul takes twice that
        proxy.open()
        assert lonely.wait_for_state("ready", WAIT)
        until(lambda: consul.key(lost.key).session is None)  # the old session is destroyed
        assert not lonely.held
        assert lonely.lock("agent gone").fence > lost.fence

        assert lives.wait_lost(stopped + PAUSED_FOR - time.monotonic()) is None
        for id, holder in holders.items():
            next_holder = waiting[id].result(WAIT)  # Consul has ended the session of the one that is stopped
            assert next_holder.fence > fences[id]
            assert holder.use()[:2] == ["lost", "False"]
            assert next_holder.valid
            assert consul.key(next_holder.key).fence == next_holder.fence

        assert lives.valid
        lives.check()
        assert consul.key(lives.key).fence == lives.fence
        assert locker.stats()["renewals"] >= 6
        assert locker.stats()["lost"] == 0
        assert [facts["lease"] for facts in ear.of("lock_lost")] == [lost]
