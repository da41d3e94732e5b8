"""Beside Consul's own tools: its command ``consul lock`` is not excluded, a lock as Go's ``api.Lock`` makes it is.

What is said here stands in docs/differences.rst, "Beside Consul's own tools".
"""

from __future__ import annotations

import os
import subprocess

import pytest

from consul_locker import GO_LOCK_FLAG, AlreadyLocked, Locker, LockerFactory
from tests.real_consul import RealConsul

NAME = "own-tools"
#: A limit for hangs, in seconds; each command takes a tenth of a second.
LIMIT = 60


def consul(agent: RealConsul, *words: str) -> str:
    """Run one of the commands of Consul's binary; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CONSUL_")}
    answer = subprocess.run(
        [agent.binary, *words],
        env={**environment, "CONSUL_HTTP_ADDR": agent.address},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    return answer.stdout + answer.stderr


def flags_of(agent: RealConsul, key: str) -> int:
    """The flags of a key, as the command shows them."""
    shown = consul(agent, "kv", "get", "-detailed", key)
    (line,) = (line for line in shown.splitlines() if line.startswith("Flags"))
    return int(line.split()[1])


def session_of_another(other: Locker) -> str:
    """A session that is not the Locker's."""
    assert other.wait_for_state("ready", timeout=LIMIT)
    assert other.session_id is not None
    return other.session_id


def go_takes(agent: RealConsul, session: str, id: str) -> bool:
    """Take a lock as Go's api.Lock does (source: api/lock.go): an acquire with its flags."""
    key = f"{NAME}/{id}/lock"
    said = consul(agent, "kv", "put", "-acquire", f"-session={session}", f"-flags={GO_LOCK_FLAG}", key, "")
    assert "Success" in said or "Did not acquire lock" in said, said
    return "Success" in said


def test_consul_lock_is_not_excluded(real_agent: RealConsul) -> None:
    with (
        LockerFactory(real_agent.address) as factory,
        factory.create(NAME, flags=GO_LOCK_FLAG) as locker,
        locker.hold("script"),
    ):
        # It would wait without end for a lock that somebody has.
        said = consul(real_agent, "lock", "-try=5s", "-verbose", f"{NAME}/script", "echo inside")
        assert said.splitlines().count("inside") == 1
        assert f"path: {NAME}/script/.lock" in said


@pytest.mark.parametrize("below", ["", "/lock"])
def test_no_prefix_makes_it_take_the_key_of_a_locker(real_agent: RealConsul, below: str) -> None:
    with LockerFactory(real_agent.address) as factory, factory.create(NAME) as locker, locker.hold("prefix"):
        said = consul(real_agent, "lock", "-try=5s", "-verbose", f"{NAME}/prefix{below}", "echo inside")
        assert f"path: {NAME}/prefix{below}/.lock" in said
        assert "inside" in said.splitlines()


def test_the_flag_is_that_of_consuls_own_locks(real_agent: RealConsul) -> None:
    command = f"{real_agent.binary} kv get -detailed {NAME}/flag/.lock"
    said = consul(real_agent, "lock", "-try=5s", f"{NAME}/flag", command)
    assert str(GO_LOCK_FLAG) in said
    assert GO_LOCK_FLAG == 0x2DDCCBC058A50C18


def test_a_locker_and_gos_lock_exclude_each_other(real_agent: RealConsul) -> None:
    with (
        LockerFactory(real_agent.address) as factory,
        factory.create(NAME, flags=GO_LOCK_FLAG) as locker,
        factory.create(f"{NAME}-go") as other,
    ):
        go = session_of_another(other)
        key = f"{NAME}/go/lock"
        locker.lock("go")
        assert flags_of(real_agent, key) == GO_LOCK_FLAG
        assert not go_takes(real_agent, go, "go")

        assert locker.release("go")
        assert flags_of(real_agent, key) == GO_LOCK_FLAG  # Go takes no free key with other flags
        assert go_takes(real_agent, go, "go")
        with pytest.raises(AlreadyLocked) as refused:
            locker.lock("go")
        assert refused.value.holder is not None
        assert refused.value.holder.session_id == go
        assert refused.value.holder.flags == GO_LOCK_FLAG
