"""What is told to those who make a mistake that is easily made: what to do instead."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from consul_locker import ConfigurationError, Locker, LockerFactory, aio
from consul_locker.embedded import Agent

Factory = LockerFactory | aio.LockerFactory
FACTORIES = pytest.mark.parametrize("factory_type", [LockerFactory, aio.LockerFactory])


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as agent:
        yield agent


@pytest.fixture
def factory(agent: Agent) -> Iterator[LockerFactory]:
    with LockerFactory.embedded(agent) as factory:
        yield factory


@pytest.fixture
def locker(factory: LockerFactory) -> Locker:
    return factory.create("mistakes")


# ------------------------------------------------------------------------------------- a lease in a `with`


def test_with_a_lease(locker: Locker) -> None:
    lease: Any = locker.lock("x")
    entered = False
    with pytest.raises(TypeError) as refused, lease:
        entered = True
    assert not entered
    assert "release('x')" in str(refused.value)
    assert "with locker.hold('x') as lease:" in str(refused.value)
    assert lease.valid


def test_async_with_a_lease(agent: Agent) -> None:
    async def main() -> None:
        async with aio.LockerFactory.embedded(agent) as factory, factory.create("mistakes") as locker:
            lease: Any = await locker.lock("x")
            with pytest.raises(TypeError, match=r"async with locker\.hold\('x'\) as lease:"):
                async with lease:
                    pass
            assert lease.valid

    asyncio.run(main())


# --------------------------------------------------------------------------------- to another process


@pytest.mark.parametrize("make", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_factory_cannot_be_sent_or_copied(factory: LockerFactory, locker: Locker, make: Callable[[Any], Any]) -> None:
    for one in (factory, locker, [locker.lock]) if make is not copy.copy else (factory, locker):
        with pytest.raises(TypeError, match="make a factory in each process"):
            make(one)


# ------------------------------------------------------------------------------------ an embedded agent


@FACTORIES
@pytest.mark.parametrize("wrong", ["127.0.0.1:8500", 5, Agent], ids=repr)
def test_what_is_no_agent(factory_type: type[Factory], wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"agent=.*an address is for LockerFactory\(\)"):
        factory_type.embedded(wrong)


@FACTORIES
def test_an_agent_that_was_not_started(factory_type: type[Factory]) -> None:
    with pytest.raises(ConfigurationError, match=r"<Agent not started>: .*start\(\) it first"):
        factory_type.embedded(Agent())
