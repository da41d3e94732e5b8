"""What is told to those who make a mistake that is easily made: what to do instead."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any

import pytest

from consul_locker import ConfigurationError, ConsulUnavailable, Locker, LockerFactory, LockLost, SessionEnded, aio
from consul_locker.embedded import Agent

from .behaviour.tools import WAIT

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


# -------------------------------------------------------------------------------------------- guarded

SET = {"KV": {"Verb": "set", "Key": "k", "Value": "eA=="}}


def wrong(place: str, **inner: Any) -> tuple[Any, str]:
    return [SET, {"KV": {"Verb": "set", "Key": "k", **inner}}], place


@pytest.mark.parametrize(
    ("operations", "told"),
    [
        (None, "operations=None: a list of operations, each like {"),
        (5, "operations=5: a list"),
        ("x", "operations='x': a list"),
        (b"x", "operations=b'x': a list"),
        (SET, "a list of operations, each like {"),
        ([SET] * 63, "operations='(63 operations)': at most 62"),
        ([5], "operations[0]=5: an operation looks like {"),
        ([SET, {}], "operations[1]={}: an operation looks like {"),
        ([("KV", SET["KV"])], "operations[0]=('KV', {"),
        ([SET["KV"]], "operations[0]={'Verb': 'set'"),
        ([{**SET, "Node": {}}], "operations[0]={'KV': {'Verb': 'set'"),
        ([{"KV": {}}], "operations[0]={'KV': {}}: an operation looks like {"),
        ([{"KV": 5}], "operations[0]={'KV': 5}: an operation"),
        ([{"kv": SET["KV"]}], "operations[0]={'kv': {"),
        wrong("operations[1]={'KV': {'Verb': 5", Verb=5),
        wrong("operations[1]={'KV': {'Verb': 'set', 'Key': None}}: an operation looks like {", Key=None),
        wrong("'Value': b'x'}}: its Value is a text in base64", Value=b"x"),
        wrong("'Value': 5}}: its Value is a text in base64", Value=5),
        wrong("'Value': 'not b64!'}}: its Value is a text in base64", Value="not b64!"),
        wrong("'Value': 'é'}}: its Value is a text in base64", Value="é"),
        wrong("JSON cannot carry it: Object of type object", Flags=object()),
        wrong("JSON cannot carry it: Out of range float", Flags=float("nan")),
    ],
)  # fmt: skip
def test_operations_that_cannot_be_meant(agent: Agent, locker: Locker, operations: Any, told: str) -> None:
    lease = locker.lock("x")
    before = agent.requests["PUT", "/v1/txn"]
    with pytest.raises(ConfigurationError) as refused:
        locker.guarded(lease, operations)
    assert told in str(refused.value)
    assert "check-session" not in str(refused.value)  # which is the guard's own
    assert agent.requests["PUT", "/v1/txn"] == before


def test_operations_as_they_are_meant(locker: Locker) -> None:
    lease = locker.lock("x")
    assert len(locker.guarded(lease, [SET] * 62)) == 62
    folded = {"KV": MappingProxyType({**SET["KV"], "Value": "eHh4\r\neHh4\n"})}
    assert len(locker.guarded(lease, iter([MappingProxyType(folded), {"KV": {"Verb": "delete", "Key": "k"}}]))) == 1
    assert locker.guarded(lease, []) == []


def test_a_lease_that_is_none(locker: Locker) -> None:
    for wrong in (None, 5, "x"):
        with pytest.raises(ConfigurationError, match=r"lease=.*: a lease of this Locker"):
            locker.guarded(wrong, [])


def test_a_lease_of_another_locker(factory: LockerFactory, locker: Locker) -> None:
    for other in (factory.create("mistakes"), factory.create("others")):
        lease = other.lock("other")
        with pytest.raises(ConfigurationError, match="it is another Locker's"):
            locker.guarded(lease, [SET])
        assert lease.valid


def test_a_lease_that_is_lost(locker: Locker) -> None:
    released, lost = locker.lock("released"), locker.lock("lost")
    locker.release("released")
    locker.reboot()
    for lease, reason in ((released, "released"), (lost, "rebooted")):
        with pytest.raises(LockLost, match=reason):
            locker.guarded(lease, [SET])


def test_a_lease_that_is_lost_while_it_is_looked_at(locker: Locker) -> None:
    """The session ends after the first look at the lease, before that at the session."""
    lease = locker.lock("x")

    class Late(Locker):
        @property
        def session_id(self) -> str | None:
            self.reboot()
            return None

    locker.__class__ = Late
    with pytest.raises(LockLost, match="rebooted"):
        locker.guarded(lease, [SET])


@pytest.mark.parametrize("wrong", ["nope", "", 5, "../kv", "0" * 36], ids=repr)
def test_what_is_no_session_s_id(locker: Locker, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"session_id=.*: the id of a session is a UUID"):
        locker.session_info(wrong)
    assert locker.session_info("12345678-1234-1234-1234-123456789ABC") is None


# ------------------------------------------------------------------------------------ why it is stopped


def test_the_factory_is_closed(agent: Agent) -> None:
    factory = LockerFactory.embedded(agent)
    locker = factory.create("mistakes")
    locker.stop()
    with pytest.raises(SessionEnded, match=r"is stopped; call start\(\) to begin again") as stopped:
        locker.lock("x")
    assert not stopped.value.closed
    factory.close()
    for call in (lambda: locker.lock("x"), lambda: locker.release("x")):
        with pytest.raises(SessionEnded, match="is stopped; its factory is closed; make a new one") as ended:
            call()
        assert ended.value.closed
    with pytest.raises(RuntimeError, match="the factory is closed; make a new one"):
        locker.start()


def test_the_factory_is_closed_on_asyncio(agent: Agent) -> None:
    async def main() -> None:
        async with aio.LockerFactory.embedded(agent) as factory:
            locker = factory.create("mistakes")
        with pytest.raises(SessionEnded, match="its factory is closed"):
            await locker.lock("x")

    asyncio.run(main())


def test_it_gave_up(agent: Agent, factory: LockerFactory) -> None:
    """Whoever comes later hears why, too."""
    agent.fail_next(body="Fortuna is against it", path="/v1/session/create")
    locker = factory.create("mistakes", max_retries=0)
    assert locker.wait_for_state("stopped", WAIT)
    for _ in range(2):
        with pytest.raises(SessionEnded, match=r"stopped since it gave up \(.*: Fortuna is against it") as ended:
            locker.lock("x")
        assert isinstance(ended.value.cause, ConsulUnavailable)
    locker.start()
    assert locker.lock("x").valid
    locker.stop()
    with pytest.raises(SessionEnded, match="is stopped; call start") as ended:
        locker.lock("x")
    assert ended.value.cause is None


@pytest.mark.parametrize("option", ["checks", "dc", "node"])
def test_an_option_names_what_consul_does_not_know(agent: Agent, option: str) -> None:
    wrong: dict[str, Any] = {option: ["no-such-check"] if option == "checks" else "nowhere"}
    with LockerFactory(agent.address, dc=wrong.pop("dc", None)) as factory:
        locker = factory.create("mistakes", **wrong)
        heard = rf"session create: Consul does not know what the option '{option}' names \(status 500: .*(No|Missing) "
        for _ in range(2):  # nobody waits for what time alone does not mend
            with pytest.raises(ConsulUnavailable, match=heard) as error:
                locker.lock("x")
            assert (error.value.option, error.value.status) == (option, 500)


def test_a_locker_that_gave_up_names_the_option(factory: LockerFactory, agent: Agent) -> None:
    # The agent's own health check, which nobody named: it may be there in a moment.
    agent.fail_next(body="Missing check 'serfHealth' registration", path="/v1/session/create")
    locker = factory.create("mistakes", max_retries=0)
    assert locker.wait_for_state("stopped", WAIT)
    with pytest.raises(SessionEnded, match="the option 'checks' names"):
        locker.lock("x")


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
