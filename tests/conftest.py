"""What all tests share: the agents that they run against, and the account of which Consul was used.

Fixtures:
    consul_binary   the path of a real Consul; the test is skipped, or with CI=true fails, without one
    real_agent      one real agent for the whole run; a test that kills its agent starts one of its own
    agent           the test runs twice, against the embedded agent and against `real_agent`; has `.address`
    nothing_lingers  by itself: what closed factories go on with in the background ends with the test

A test that uses a real agent gets the mark ``real`` by itself. With CI=true a run in which such a test was
skipped, for whatever reason, has failed.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

from consul_locker import threaded
from consul_locker.factory import living

from .real_consul import RealConsul, find_binary

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

_real_skipped = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def consul_binary() -> str:
    """The path of a real Consul's binary."""
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
    for factory in living(threaded.LockerFactory):
        if factory._closed:
            factory._io_thread.close()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_real_skipped] = []


@pytest.hookimpl(tryfirst=True)  # before -m selects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "consul_binary" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.get_closest_marker("real"):
        item.config.stash[_real_skipped].append(item.nodeid)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if IN_CI and session.config.stash[_real_skipped] and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    skipped = config.stash[_real_skipped]
    binary = find_binary()
    if binary is not None:
        terminalreporter.write_line(f"real Consul: {_version(binary)} at {binary}")
    else:
        terminalreporter.write_line(
            f"NO REAL CONSUL FOUND: the tests that need one were {'failed' if IN_CI else 'skipped'}, the others ran "
            f"against the embedded agent or none; .ci/get-consul gets one",
            yellow=True,
            bold=True,
        )
    if IN_CI and skipped:
        terminalreporter.write_line(f"FAILED (CI=true): {len(skipped)} tests of a real Consul were skipped", red=True)
        for nodeid in skipped:
            terminalreporter.write_line(f"    {nodeid}")


def _version(binary: str) -> str:
    """What the binary says of itself: "Consul v1.8.7" or "Consul 1.8.7" in the first line."""
    answer = subprocess.run([binary, "version"], capture_output=True, text=True, timeout=30, check=False)
    words = answer.stdout.split()
    return words[1].lstrip("v") if len(words) > 1 else "of unknown version"
