"""Which core a Locker has: another one can come in its place, after a step that was broken off."""

from __future__ import annotations

import gc
import weakref

from consul_locker import LockerFactory
from consul_locker.strategies import NoStrategy

from ..behaviour.tools import until


def test_while_it_is_drained_no_core_answers_from_what_is_held() -> None:
    with LockerFactory.embedded() as factory:
        locker = factory.create("cores")
        with locker._no_new_locks():
            core = locker._core_maker()()
            assert locker._leases is core.ledger.leases
            assert isinstance(locker._strategy, NoStrategy)
        assert locker._strategy is locker._core.strategy


def test_a_core_can_come_when_its_locker_was_thrown_away() -> None:
    with LockerFactory.embedded() as factory:
        locker = factory.create("cores")
        locker.stop()
        make, known = locker._core_maker(), weakref.ref(locker)
        del locker
        until(lambda: gc.collect() >= 0 and known() is None)
        assert not make().ledger.leases


def test_the_machine_of_a_locker_is_made_once() -> None:
    with LockerFactory.embedded() as factory:
        locker = factory.create("cores")
        assert locker.fsm is locker.fsm
