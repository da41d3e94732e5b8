"""The account of the real Consul (tests/conftest.py) holds in one process and over workers: tiny runs of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from . import real_consul
from .conftest import WORKERS, pytest_xdist_auto_num_workers

ROOT = Path(__file__).resolve().parents[1]

#: In one process, and over two workers; as a run that decides over a change, and as one by hand. Whether it decides is
#: asked in the process that was started, whatever the number of workers.
EACH_WAY = pytest.mark.parametrize(("workers", "ci"), [(0, True), (2, True), (0, False)])

#: A limit for hangs, in seconds.
LIMIT = 120.0

CONFTEST = """
from pathlib import Path
from tests import real_consul
from tests.conftest import *
here = Path(__file__).parent
real_consul.CACHE = here / "cache"
real_consul.GET_CONSUL = here / "get-consul"
"""

TESTS = """
import os
import pytest
{test}
@pytest.mark.xdist_group("others")
@pytest.mark.parametrize("number", range(6))
def test_of_others(number):
    with open("workers", "a") as file:
        print(os.environ.get("PYTEST_XDIST_WORKER"), file=file)
"""

USES_IT = "def test_of_it(consul_binary): assert consul_binary\ndef test_of_it_too(consul_binary): pass"
IS_SKIPPED = "def test_of_it(consul_binary): pytest.skip('for whatever reason')"

#: A Consul as far as the report of a run looks at it.
STAND_IN = "#!/bin/sh\necho Consul v9.8.7\n"


class Run(NamedTuple):
    """A run of pytest that has ended."""

    code: int
    lines: list[str]

    def has(self, words: str) -> int:
        return sum(words in line for line in self.lines)


def program(path: Path, words: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(words)
    path.chmod(0o755)
    return path


def run(folder: Path, workers: int, test: str, ci: bool, binary: str | None) -> Run:
    """Run a test, and others, in a folder."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text(
        "[pytest]\naddopts = --strict-markers -p no:asyncio\nmarkers =\n    real\n    slow\n"
    )
    (folder / "test_tiny.py").write_text(TESTS.format(test=test))
    left_out = ("CI", "CONSUL_BINARY", "PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER")
    env = {name: value for name, value in os.environ.items() if name not in left_out}
    env |= {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    if ci:
        env["CI"] = "true"
    if binary is not None:
        env["CONSUL_BINARY"] = binary
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", str(workers), "--dist", "loadgroup", "."]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=LIMIT, check=False)
    return Run(done.returncode, (done.stdout + done.stderr).splitlines())


@EACH_WAY
def test_a_skipped_test_of_a_real_consul_fails_a_run_of_ci(tmp_path: Path, workers: int, ci: bool) -> None:
    binary = program(tmp_path / "stand-in", STAND_IN)
    ended = run(tmp_path, workers, IS_SKIPPED, ci, str(binary))
    assert ended.has("6 passed, 1 skipped") == 1, ended.lines
    assert len(set((tmp_path / "workers").read_text().split())) == 1  # a group has one worker
    assert ended.code == (1 if ci else 0)
    assert ended.has("FAILED (CI=true): 1 tests of a real Consul were skipped") == ci
    assert ended.lines.count("    test_tiny.py::test_of_it") == ci
    assert ended.lines.count(f"real Consul: 9.8.7 at {binary}") == 1


@EACH_WAY
def test_a_missing_consul_fails_a_run_of_ci(tmp_path: Path, workers: int, ci: bool) -> None:
    program(tmp_path / "get-consul", "echo asked >>asked\necho no network >&2\nexit 3\n")
    ended = run(tmp_path, workers, USES_IT, ci, binary=None)
    assert ended.code == (1 if ci else 0), ended.lines
    # The fixture of the session has failed: an error in each test of it.
    assert ended.has("6 passed, 2 errors" if ci else "6 passed, 2 skipped") == 1
    assert ended.has("NO REAL CONSUL FOUND") == ended.has("it got none: no network") == 1
    assert (tmp_path / "asked").read_text() == "asked\n"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_consul_is_got_once_and_then_used(tmp_path: Path, workers: int) -> None:
    binary = tmp_path / "cache" / "consul" / "usr" / "bin" / "consul"
    program(tmp_path / "unpacked", STAND_IN)
    program(tmp_path / "get-consul", f"echo asked >>asked\nmkdir -p {binary.parent}\ncp -p unpacked {binary}\n")
    ended = run(tmp_path, workers, USES_IT, ci=True, binary=None)
    assert ended.code == 0, ended.lines
    assert ended.has("8 passed") == ended.has("there was none; .ci/get-consul has been asked for one") == 1
    assert ended.has(f"real Consul: 9.8.7 at {binary}") == 1
    assert (tmp_path / "asked").read_text() == "asked\n"


@pytest.mark.parametrize("binary", ["none", None])
def test_who_names_a_consul_means_that_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, binary: str | None) -> None:
    """The script is not asked, nor when it has been asked already."""
    monkeypatch.setattr(real_consul, "account_of_getting", [] if binary else ["asked"])
    monkeypatch.setattr(real_consul, "GET_CONSUL", program(tmp_path / "get-consul", f"touch {tmp_path}/asked\n"))
    monkeypatch.setattr(real_consul, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    if binary is None:
        monkeypatch.delenv("CONSUL_BINARY", raising=False)
    else:
        monkeypatch.setenv("CONSUL_BINARY", binary)
    real_consul.get_binary()
    assert not (tmp_path / "asked").exists()


def test_getting_a_consul_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What it has started ends with it."""
    monkeypatch.setattr(real_consul, "account_of_getting", [])
    monkeypatch.setattr(real_consul, "GET_CONSUL", program(tmp_path / "get-consul", "sleep 100 | cat\n"))
    monkeypatch.setattr(real_consul, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(real_consul, "GET_PATIENCE", 0.2)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("CONSUL_BINARY", raising=False)
    said: list[str] = []
    real_consul.get_binary(said.append)
    assert said == ["no Consul found: .ci/get-consul gets one now"]
    assert real_consul.account_of_getting[-1] == "it did not end within 0.2 s"


def test_files_by_name_run_in_one_process_and_folders_over_workers(pytestconfig: pytest.Config) -> None:
    class Given:
        invocation_params = pytestconfig.invocation_params

        def __init__(self, *args: str) -> None:
            self.args = args

    file = f"{__file__}::test_files_by_name"
    assert pytest_xdist_auto_num_workers(Given(__file__, file)) == 0
    assert pytest_xdist_auto_num_workers(Given(str(ROOT / "tests"))) == WORKERS
    assert pytest_xdist_auto_num_workers(Given(file, str(ROOT / "tests" / "core"))) == WORKERS
