"""docs/safety.rst and docs/differences.rst name tests: each file, test and corner that they name is there.

The numbers that safety, fairness and usage tell are those of the code.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from consul_locker.config.options import DEFAULT_MAX_CONNECTIONS, DEFAULT_TIMEOUT
from consul_locker.core.destroys import DESTROY_PAUSE, DESTROY_PAUSE_MAX, PREDECESSOR_WAIT
from consul_locker.core.line import LONGEST_PAUSE
from consul_locker.core.session import (
    READ_EVERY,
    RENEW_AFTER,
    RENEW_ATTEMPT,
    RENEW_SOON,
    RENEW_SOON_PART,
    TRUST_AFTER_READ,
)
from consul_locker.core.session_watch import QUICK_WATCHES, WATCH_PAUSE, WATCH_PAUSE_MAX
from consul_locker.runtime.watches import OWN_SESSION_WATCHES, POLL_PAUSE, POLLS, WATCH_SHARE
from consul_locker.threads.factory import CARRIER_SHARE, EXIT_LIMIT

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "docs" / "safety.rst", ROOT / "docs" / "differences.rst")
#: A file below tests/, and a test in it where one is named.
NAMED = re.compile(r"``(tests/[\w/]+\.py)(?:::(\w+))?``")


def missing(text: str) -> list[str]:
    """What a page names below tests/ and is not there."""
    found = []
    for path, test in NAMED.findall(text):
        file = ROOT / path
        if not file.is_file():
            found.append(path)
        elif test and not re.search(rf"^ *(async )?def {test}\(", file.read_text(encoding="utf-8"), re.MULTILINE):
            found.append(f"{path}::{test}")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert NAMED.search(text)
    assert missing(text) == []


def test_what_is_missing_is_noticed() -> None:
    assert missing("``tests/none.py``, ``tests/test_safety_docs.py::test_nothing``, ``tests/test_safety_docs.py``") == [
        "tests/none.py",
        "tests/test_safety_docs.py::test_nothing",
    ]


def test_every_rule_names_what_shows_it() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    rules = re.search(r"\nRule by rule\n-+\n(.*?)\nThe time to failover\n-+\n", text, re.DOTALL)
    assert rules is not None
    parts = re.split(r"^(\d+)\. ", rules[1], flags=re.MULTILINE)[1:]
    assert parts[::2] == [str(number) for number in range(1, 12)]
    assert [number for number, rule in zip(parts[::2], parts[1::2], strict=True) if not NAMED.search(rule)] == []


def test_every_corner_of_the_differences_has_a_test() -> None:
    """The first column of the table names the corners; each is in the name of a test."""
    text = PAGES[1].read_text(encoding="utf-8")
    rows = re.findall(r"^   \* - (.+)$", text, re.MULTILINE)[1:]
    corners = [corner for row in rows for corner in row.split(", ")]
    assert len(corners) > 20
    tests = (ROOT / "tests" / "core" / "test_corners.py").read_text(encoding="utf-8")
    assert [corner for corner in corners if f"test_{corner.replace('-', '_')}" not in tests] == []


def test_the_numbers_that_the_pages_tell_are_those_of_the_code() -> None:
    assert (RENEW_AFTER, RENEW_ATTEMPT, READ_EVERY, TRUST_AFTER_READ) == (1 / 3, 1 / 6, 5.0, 15.0)
    assert (RENEW_SOON, RENEW_SOON_PART) == (0.3, 1 / 40)
    assert (DESTROY_PAUSE, DESTROY_PAUSE_MAX, PREDECESSOR_WAIT) == (1.0, 60.0, 1.0)
    assert (WATCH_PAUSE, WATCH_PAUSE_MAX, QUICK_WATCHES + 1) == (0.5, 5.0, 3)
    assert (DEFAULT_TIMEOUT, EXIT_LIMIT, LONGEST_PAUSE) == (10.0, 2.0, 1.0)
    assert (OWN_SESSION_WATCHES, POLL_PAUSE, POLLS) == (3, 1.0, 100)
    carriers = int(DEFAULT_MAX_CONNECTIONS * CARRIER_SHARE)
    of_the_io_thread = DEFAULT_MAX_CONNECTIONS - carriers
    assert (DEFAULT_MAX_CONNECTIONS, carriers, of_the_io_thread) == (64, 16, 48)
    assert (of_the_io_thread * WATCH_SHARE, DEFAULT_MAX_CONNECTIONS * WATCH_SHARE) == (24, 32)
