"""What `hold` answers with: entered, thrown away, before a function."""

from __future__ import annotations

import gc
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from consul_locker import InvalidLockId, Locker, LockerFactory, LockTimeout, aio

WAIT = 30.0


@pytest.fixture
def locker() -> Iterator[Locker]:
    with LockerFactory.embedded() as factory:
        yield factory.create("holding", default_timeout=WAIT)


def told_by(throw_away: Any) -> list[str]:
    """The RuntimeWarnings of something, in order."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        throw_away()
        gc.collect()
    return [str(one.message) for one in told if one.category is RuntimeWarning]


def test_a_hold_that_is_never_entered_says_so(locker: Locker) -> None:
    told = told_by(lambda: locker.hold("job"))
    assert told == ["locker.hold('job') was never entered, so it took no lock: write 'with locker.hold('job'):'"]
    (words,) = told_by(lambda: locker.hold_many(["a", 7]))
    assert words.startswith("locker.hold_many(['a', '7']) was never entered")
    assert not locker.held


def test_the_warning_names_the_line(locker: Locker) -> None:
    with pytest.warns(RuntimeWarning, match="never entered") as told:
        locker.hold("job")
    assert told[0].filename == __file__


def test_what_was_entered_says_nothing(locker: Locker) -> None:
    def enter() -> None:
        with locker.hold("job"), locker.hold_many(["a", "b"]), pytest.raises(LockTimeout), locker.hold("c", timeout=0):
            pass

    assert told_by(enter) == []


def test_it_is_entered_once(locker: Locker) -> None:
    holding = locker.hold("job")
    with holding:
        pass
    with pytest.raises(RuntimeError, match="was entered before: make a new one for each 'with'"), holding:
        pass
    assert not locker.held


def test_before_a_function_it_holds_for_each_call(locker: Locker) -> None:
    seen = []

    @locker.hold("nightly", wait=5)
    def nightly(what: str, *, again: bool = False) -> str:
        """Its words."""
        seen.append(sorted(locker.held))
        return f"{what} {again}"

    assert nightly.__doc__ == "Its words."
    assert not locker.held
    assert nightly("one") == "one False"
    assert nightly("two", again=True) == "two True"
    assert seen == [["nightly"], ["nightly"]]
    assert not locker.held


def test_before_a_function_that_raises_it_is_given_back(locker: Locker) -> None:
    @locker.hold_many(iter(["a", "b"]))
    def fails() -> None:
        assert sorted(locker.held) == ["a", "b"]
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fails()
        assert not locker.held


def test_before_a_function_without_an_id_it_says_what_to_write(locker: Locker) -> None:
    with pytest.raises(InvalidLockId, match=r'before a function write @locker\.hold\("id"\)$'):

        @locker.hold  # type: ignore[arg-type]
        def nightly() -> None:
            pass


async def work() -> None:
    pass


def numbers() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("function", [work, numbers])
def test_it_cannot_be_held_around_what_returns_unfinished(locker: Locker, function: Any) -> None:
    with pytest.raises(TypeError, match="returns before its body has run"):
        locker.hold("job")(function)


pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def loop_locker(anyio_backend: str) -> AsyncIterator[aio.Locker]:
    async with aio.LockerFactory.embedded() as factory:
        yield factory.create("holding", default_timeout=WAIT)


async def test_on_asyncio(loop_locker: aio.Locker) -> None:
    told = told_by(lambda: loop_locker.hold("job"))
    assert told == ["locker.hold('job') was never entered, so it took no lock: write 'async with locker.hold('job'):'"]
    seen = []

    @loop_locker.hold_many(["a", "b"])
    async def nightly(what: str) -> str:
        seen.append(sorted(loop_locker.held))
        return what

    assert [await nightly("one"), await nightly("two")] == ["one", "two"]
    assert seen == [["a", "b"]] * 2
    assert not loop_locker.held
    with pytest.raises(InvalidLockId, match="before a function write"):
        loop_locker.hold(work)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="only be held around a coroutine function"):
        loop_locker.hold("job")(print)
    holding = loop_locker.hold("job")
    async with holding as lease:
        assert lease.valid
    with pytest.raises(RuntimeError, match="'async with'"):
        async with holding:
            pass
