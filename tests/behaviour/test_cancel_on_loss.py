"""What happens when the lock is lost: ``on_lost`` on threads, ``cancel_on_loss`` on asyncio."""

from __future__ import annotations

import asyncio
import queue
import threading
from typing import Any

import pytest

from consul_locker import LockerFactory, LockLost, aio

from .tools import WAIT, Consul


def test_on_lost_is_called_while_the_body_runs(agent: Any, consul: Consul, name: str) -> None:
    told: queue.Queue[Any] = queue.Queue()

    def on_lost(lost: LockLost) -> None:
        told.put((lost, threading.current_thread().name))

    with LockerFactory(agent.address) as factory:
        locker = factory.create(name)
        with pytest.raises(LockLost) as raised, locker.hold("a", on_lost=on_lost) as lease:
            consul.destroy(lease.session_id)
            lost, thread = told.get(timeout=WAIT)
            assert not lease.valid
        assert (lost.id, lost.reason, lost.fence) == ("a", "session destroyed", lease.fence)
        assert str(raised.value) == str(lost)
        assert thread == "consul_locker-signals"
        with pytest.raises(LockLost), locker.hold_many(["b", "c"], on_lost=on_lost, timeout=WAIT) as leases:
            consul.destroy(leases[0].session_id)
            assert {told.get(timeout=WAIT)[0].id for _ in range(2)} == {"b", "c"}
        with locker.hold("a", on_lost=on_lost, timeout=WAIT):
            pass
        locker.lock("flush")
    assert told.empty()  # its release is no loss


def test_the_body_is_cancelled(agent: Any, consul: Consul, name: str) -> None:
    async def go() -> None:
        async with aio.LockerFactory(agent.address) as factory:
            locker = factory.create(name)
            with pytest.raises(LockLost) as lost:
                async with locker.hold("a", cancel_on_loss=True) as lease:
                    await asyncio.to_thread(consul.destroy, lease.session_id)
                    await asyncio.Event().wait()
            assert (lost.value.id, lost.value.reason, lost.value.fence) == ("a", "session destroyed", lease.fence)
            with pytest.raises(LockLost):
                async with locker.hold_many(["b", "c"], cancel_on_loss=True, timeout=WAIT) as leases:
                    await asyncio.to_thread(consul.destroy, leases[0].session_id)
                    await asyncio.Event().wait()
            async with locker.hold("a", cancel_on_loss=True, timeout=WAIT):
                pass
            await asyncio.sleep(0)  # nobody is cancelled by the release

    asyncio.run(asyncio.wait_for(go(), WAIT))
