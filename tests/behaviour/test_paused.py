"""A process that is stopped past its session's end must see that its lock is over before it uses it again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from consul_locker import LockerFactory

#: How long anything may take that is waited for, in seconds. A real Consul ends a session after twice its TTL.
LIMIT = 60.0
TTL = 10.0

HOLDER = """
import sys
from consul_locker import LockerFactory, LockLost

with LockerFactory(sys.argv[1]) as factory:
    lease = factory.create("paused", ttl=10.0).lock("a", timeout=30)
    print("held", lease.valid, flush=True)
    sys.stdin.readline()  # the process is stopped while it waits here
    valid = lease.valid
    try:
        lease.check()
        print("used", valid, flush=True)
    except LockLost as lost:
        print("lost", valid, lost.reason, flush=True)
"""


@pytest.mark.real
@pytest.mark.slow
def test_a_stopped_process_sees_its_loss_before_any_use(real_agent: Any) -> None:
    """SIGSTOP until Consul has ended its session and somebody else has the lock: 2 TTLs and more."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, real_agent.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=root,
        text=True,
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdin is not None
            assert holder.stdout.readline() == "held True\n"
            holder.send_signal(signal.SIGSTOP)
            with LockerFactory(real_agent.address) as factory:
                rival = factory.create("paused", ttl=TTL)
                lease = rival.lock("a", wait=LIMIT, timeout=LIMIT)
                # It has waited through three of its own renewals, and its own session lives.
                assert lease.valid
                assert rival.stats()["renewals"] >= 3
                assert rival.stats()["lost"] == 0
                holder.stdin.write("go on\n")
                holder.stdin.flush()
                holder.send_signal(signal.SIGCONT)
                answer = holder.stdout.readline().split()
                assert answer[:2] == ["lost", "False"]
                assert lease.valid
        finally:
            holder.send_signal(signal.SIGCONT)
            holder.kill()
