"""What all tests share: the agents that they run against, and the account of which Consul was used.

Fixtures:
    consul_binary   the path of a real Consul; the test is skipped, or with CI=true fails, without one
    real_agent      one real agent for the whole run; a test that kills its agent starts one of its own
    agent           the test runs twice, against the embedded agent and against `real_agent`; has `.address`
    unmeasured      for searches: coverage does not look at what the tests of this module do
    nothing_lingers  by itself: what closed factories go on with in the background ends with the test

A test that uses a real agent gets the mark ``real`` by itself. With CI=true a run in which such a test was
skipped, for whatever reason, has failed.

A run of more than single files is spread over workers (pytest-xdist), each with a real agent of its own. The process
that was started hands the tests out and hears of every outcome: it alone gets a Consul where there is none, counts
what was skipped, and says which Consul was used.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from consul_locker import LockerFactory
from consul_locker.runtime.factory import living

from . import real_consul
from .behaviour.faces import FACES
from .contract.record import nearest
from .real_consul import RealConsul, find_binary, version_of

#: How many processes run the tests. Tests wait more than they compute: five keep two processors busy (measured).
WORKERS = 5

#: How many of these run the tests that only wait for long, one after another: the others compute meanwhile.
LANES = 2

#: Whether this run decides over a change: then nothing may be left out.
IN_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")

NO_CONSUL = "no real Consul found (CONSUL_BINARY, PATH, .ci/cache/); .ci/get-consul gets one"

# No deadline for a single example: it would measure the machine. The blob of a failure repeats it elsewhere.
# In CI the same commit has the same examples; long random runs are commands of their own, with a seed.
_COMMON: dict[str, Any] = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [hypothesis.HealthCheck.too_slow],
}
hypothesis.settings.register_profile("dev", **_COMMON)
hypothesis.settings.register_profile("ci", derandomize=True, database=None, **_COMMON)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "dev"))


@pytest.fixture(params=list(FACES))
def face(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One face after the other."""
    face = FACES[request.param]()
    yield face
    face.close()


@pytest.fixture
def name() -> str:
    """A Locker's name that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def consul_binary(pytestconfig: pytest.Config) -> str:
    """The path of a real Consul's binary."""
    if not _is_worker(pytestconfig):
        real_consul.get_binary()
    binary = find_binary()
    if binary is None:
        if IN_CI:
            pytest.fail(NO_CONSUL, pytrace=False)
        pytest.skip(NO_CONSUL)
    return binary


@pytest.fixture(scope="session")
def real_agent(consul_binary: str) -> Iterator[RealConsul]:
    """A real agent on free ports of loopback, shared by all tests: each uses names of its own."""
    with RealConsul(consul_binary) as agent:
        yield agent


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.real)])
def agent(request: pytest.FixtureRequest) -> Iterator[Any]:
    """An agent with an `address`: the embedded one, made for this test, then the real one of the run."""
    if request.param == "real":
        yield request.getfixturevalue("real_agent")
        return
    from consul_locker.embedded import Agent

    with Agent() as embedded:
        yield embedded


@pytest.fixture(autouse=True)
def nothing_lingers() -> Iterator[None]:
    """A destroy that failed is not tried again in the tests that follow, whose agents may have the same ports."""
    yield
    for factory in living(LockerFactory):
        if factory._closed:
            factory._io_thread.close()


@pytest.fixture(scope="module")
def unmeasured() -> Iterator[None]:
    """Coverage does not count what a search does in this thread, which takes three times as long with it (measured).

    Every branch is taken by a test that means it; that a search comes upon one by chance shows nothing.
    """
    before = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(before)


def _is_worker(config: pytest.Config) -> bool:
    """Whether this process runs tests that another one hands out."""
    return hasattr(config, "workerinput")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many workers the ``-n auto`` of setup.cfg means: none when only files, or tests in them, are named."""
    named = (Path(config.invocation_params.dir, argument.partition("::")[0]) for argument in config.args)
    return WORKERS if any(path.is_dir() for path in named) else 0


def pytest_configure(config: pytest.Config) -> None:
    if not _is_worker(config):
        config.pluginmanager.register(_Account(), "account of the real Consul")


def pytest_sessionstart(session: pytest.Session) -> None:
    # Before the workers begin, so that all of them find it. Without workers the first test that needs it gets it.
    if session.config.getoption("numprocesses", 0) and not session.config.getoption("collectonly"):
        real_consul.get_binary(print)


@pytest.hookimpl(tryfirst=True)  # before -m selects by marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "consul_binary" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real)
    if _is_worker(config):
        lanes: dict[Path, int] = {}
        for item in items:
            if item.get_closest_marker("slow") and not item.get_closest_marker("xdist_group"):
                lane = lanes.setdefault(item.path, len(lanes) % LANES)
                item.add_marker(pytest.mark.xdist_group(f"waits {lane}"))
        # Groups begin first, those that wait before the others: nothing that is long begins last.
        items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if item.get_closest_marker("slow"):
        return 0
    return 1 if item.get_closest_marker("xdist_group") else 2


def pytest_collection_finish() -> None:
    """What is there before the first test stays, so the collector need not look at it again and again.

    Thousands of collected tests made each `gc.collect` of a test take 0.15 s; now it takes 0.01 s (measured).
    """
    gc.collect()
    gc.freeze()


class _Account:
    """What became of the tests of a real Consul, whichever process ran them; and which Consul it was."""

    def __init__(self) -> None:
        self.skipped: list[str] = []
        self.contract = False  # whether answers were compared with recorded ones

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.contract = self.contract or "contract/" in report.nodeid
        if report.skipped and not hasattr(report, "wasxfail") and "real" in report.keywords:
            self.skipped.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if IN_CI and self.skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        binary = find_binary()
        if binary is not None:
            terminalreporter.write_line(f"real Consul: {_version(binary)} at {binary}")
            if self.contract:
                version = version_of(binary)
                recording = nearest(version)
                own = "its own" if recording == version else f"the nearest one, of {recording}"
                terminalreporter.write_line(f"contract: Consul {version} is compared with {own} recording")
        else:
            terminalreporter.write_line(
                f"NO REAL CONSUL FOUND: the tests that need one were {'failed' if IN_CI else 'skipped'}, the others "
                f"ran against the embedded agent or none; .ci/get-consul gets one",
                yellow=True,
                bold=True,
            )
        for line in real_consul.account_of_getting:
            terminalreporter.write_line(f"    {line}")
        if IN_CI and self.skipped:
            count = len(self.skipped)
            terminalreporter.write_line(f"FAILED (CI=true): {count} tests of a real Consul were skipped", red=True)
            for nodeid in self.skipped:
                terminalreporter.write_line(f"    {nodeid}")


def _version(binary: str) -> str:
    """What the binary says of itself: "Consul v1.8.7" or "Consul 1.8.7" in the first line."""
    answer = subprocess.run([binary, "version"], capture_output=True, text=True, timeout=30, check=False)
    words = answer.stdout.split()
    return words[1].lstrip("v") if len(words) > 1 else "of unknown version"
