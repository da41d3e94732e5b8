"""The two faces are one: `consul_locker` and `consul_locker.aio`, name by name, signature by signature."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import consul_locker
from consul_locker import aio
from consul_locker.embedded import Agent

#: What only threads have: asyncio has tasks for it.
ONLY_THREADS = {"Locker": {"submit_lock", "submit_release"}}
#: What can wait: a coroutine on asyncio. All else is the same on both.
WAITS = {
    "LockerFactory": {"close"},
    "Locker": {
        "lock", "lock_many", "release", "release_all", "guarded", "stop", "drain", "wait_for_state", "info", "holder",
        "waiters", "session_info",
    },
    "Lease": {"wait_lost"},
}  # fmt: skip
#: Context managers that can wait.
HOLDS = {"Locker": {"hold", "hold_many"}}
#: How a face enters and leaves a ``with`` is said by these.
ENTRANCES = {"__enter__": "__aenter__", "__exit__": "__aexit__"}

CLASSES = ["LockerFactory", "Locker", "Lease"]

#: What the documentation promises of each (docs/api.rst), attributes of its objects included.
PROMISED = {
    "LockerFactory": {"create", "embedded", "close", "__enter__", "__exit__"},
    "Locker": {
        "lock", "submit_lock", "submit_release", "lock_many", "hold", "hold_many", "release", "release_all", "guarded",
        "start", "stop", "drain", "reboot", "__enter__", "__exit__", "info", "holder", "waiters", "session_info",
        "name", "state", "session_id", "reboot_count", "held", "health", "stats", "wait_for_state", "fsm",
    },
    "Lease": {
        "id", "key", "session_id", "fence", "acquired_at", "valid", "remaining", "reason", "check", "guard",
        "wait_lost",
    },
}  # fmt: skip


def members(cls: type) -> dict[str, Any]:
    """The public names of a class, its bases' too; with how it is made, entered and left."""
    wanted = {"__init__", *ENTRANCES, *ENTRANCES.values()}
    return {
        name: inspect.getattr_static(cls, name)
        for name in dir(cls)
        if (not name.startswith("_") or name in wanted) and inspect.getattr_static(cls, name, None) is not None
    }


def functions(cls: type) -> dict[str, Any]:
    """Those of the members that are called, with class methods unwrapped."""
    return {
        name: getattr(found, "__func__", found)
        for name, found in members(cls).items()
        if callable(getattr(found, "__func__", found))
    }


def parameters(function: Any) -> list[tuple[str, Any, Any, Any]]:
    found = inspect.signature(function).parameters.values()
    return [(one.name, one.kind, one.default, one.annotation) for one in found]


@pytest.mark.parametrize("name", CLASSES)
def test_the_names_are_the_same(name: str) -> None:
    threads, loop = members(getattr(consul_locker, name)), members(getattr(aio, name))
    expected = {ENTRANCES.get(one, one) for one in threads} - ONLY_THREADS.get(name, set())
    assert set(loop) == expected


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_promised_is_there(name: str) -> None:
    promised = PROMISED[name]
    assert promised <= set(members(getattr(consul_locker, name)))
    expected = {ENTRANCES.get(one, one) for one in promised} - ONLY_THREADS.get(name, set())
    assert expected <= set(members(getattr(aio, name)))


@pytest.mark.parametrize("name", CLASSES)
def test_properties_are_properties_on_both(name: str) -> None:
    threads, loop = members(getattr(consul_locker, name)), members(getattr(aio, name))
    for member in threads.keys() & loop.keys():
        assert isinstance(threads[member], property) == isinstance(loop[member], property), member


@pytest.mark.parametrize("name", CLASSES)
def test_the_signatures_are_the_same(name: str) -> None:
    threads, loop = functions(getattr(consul_locker, name)), functions(getattr(aio, name))
    for member in threads.keys() - ONLY_THREADS.get(name, set()):
        if (name, member) in (("Locker", "__init__"), ("Lease", "__init__")):
            continue  # users make neither
        here, there = parameters(threads[member]), parameters(loop[ENTRANCES.get(member, member)])
        if member in HOLDS.get(name, ()):  # a thread cannot be cancelled; it is told
            assert (here.pop()[0], there.pop()[0]) == ("on_lost", "cancel_on_loss")
        assert here == there, member


@pytest.mark.parametrize("name", CLASSES)
def test_what_can_wait_is_a_coroutine(name: str) -> None:
    waits = WAITS[name] | (set(ENTRANCES.values()) & set(members(getattr(aio, name))))
    for member, function in functions(getattr(aio, name)).items():
        assert inspect.iscoroutinefunction(function) == (member in waits), member
    for member, function in functions(getattr(consul_locker, name)).items():
        assert not inspect.iscoroutinefunction(function), member


@pytest.mark.parametrize("name", CLASSES)
def test_both_return_the_same(name: str) -> None:
    """The annotations, in the words of each face: a context manager, an iterator and a class have another name."""
    threads, loop = functions(getattr(consul_locker, name)), functions(getattr(aio, name))
    for member in threads.keys() & loop.keys():
        if member in HOLDS.get(name, ()):
            continue
        assert (
            inspect.signature(threads[member]).return_annotation == inspect.signature(loop[member]).return_annotation
        ), member


@pytest.mark.parametrize("name", CLASSES)
def test_everything_public_says_what_it_does(name: str) -> None:
    for cls in (getattr(consul_locker, name), getattr(aio, name)):
        assert cls.__doc__
        for member, found in members(cls).items():
            if not member.startswith("__") and not inspect.ismemberdescriptor(found):  # the class describes those
                assert inspect.getdoc(getattr(found, "__func__", found)), member


def test_what_only_threads_have_is_said_where_users_of_asyncio_look() -> None:
    """And what takes its place."""
    page = (Path(__file__).parents[1] / "docs" / "asyncio.rst").read_text(encoding="utf-8")
    for name in ONLY_THREADS["Locker"]:
        assert name in page
        assert name in (aio.Locker.__doc__ or "")


def test_holds_are_context_managers_on_both() -> None:
    with Agent() as agent:
        with consul_locker.LockerFactory(agent.address) as factory:
            locker = factory.create("surface")
            with pytest.warns(RuntimeWarning, match="never entered"):
                assert isinstance(locker.hold("a"), AbstractContextManager)
                assert isinstance(locker.hold_many(["a"]), AbstractContextManager)
            assert not [name for name in vars(locker) if not name.startswith("_")]

        async def on_a_loop() -> None:
            async with aio.LockerFactory(agent.address) as factory:
                locker = factory.create("surface")
                with pytest.warns(RuntimeWarning, match="never entered"):
                    assert isinstance(locker.hold("a"), AbstractAsyncContextManager)
                    assert isinstance(locker.hold_many(["a"]), AbstractAsyncContextManager)
                assert not [name for name in vars(locker) if not name.startswith("_")]

        asyncio.run(on_a_loop())
