"""Where tests stand: each module has a test file of its own name in the folder of its package, and none is too long.

docs/contributing.rst, "Where a test goes", has the rule in words.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "consul_locker"

#: How many lines a file of the tests may have: a longer one is about several things.
MOST_LINES = 500

#: Modules without a test file of their own, with the reason. There is no other such list.
WITHOUT = {
    "core/requests.py": "data alone; what becomes of it: tests/client/test_encode.py and tests/client/test_decode.py",
}


def expected(module: str) -> str:
    """The test file of a module; both are paths, below the package and below ``tests/``."""
    path = PurePosixPath(module)
    return str(path.with_name(f"test_{path.stem.strip('_')}.py"))


def untested(modules: Iterable[str], files: Iterable[str]) -> list[str]:
    """The modules that have no test file. An ``__init__.py`` needs none: it only hands on names."""
    there = frozenset(files)
    wanted = (module for module in modules if not module.endswith("__init__.py"))
    return [f"{module} needs tests/{expected(module)}" for module in wanted if expected(module) not in there]


def too_long(files: dict[str, str]) -> list[str]:
    """The files, given as path -> text, that are."""
    lengths = {path: len(text.splitlines()) for path, text in files.items()}
    return [f"tests/{path}: {lines} lines" for path, lines in lengths.items() if lines > MOST_LINES]


def below(folder: Path) -> list[str]:
    """The paths of all Python files below a folder, as seen from there."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))


def test_each_module_has_its_test_file() -> None:
    assert untested((module for module in below(PACKAGE) if module not in WITHOUT), below(TESTS)) == []


def test_what_has_none_needs_none() -> None:
    """The list names no module that has a test file by now, or is no longer there."""
    modules, files = below(PACKAGE), below(TESTS)
    assert [module for module in WITHOUT if module not in modules or expected(module) in files] == []


def test_no_test_file_is_too_long() -> None:
    assert too_long({path: (TESTS / path).read_text(encoding="utf-8") for path in below(TESTS)}) == []


@pytest.mark.parametrize(
    ("module", "file"),
    [
        ("keys.py", "test_keys.py"),
        ("__main__.py", "test_main.py"),
        ("core/session.py", "core/test_session.py"),
        ("embedded/__main__.py", "embedded/test_main.py"),
        ("fsm/diagrams/dot.py", "fsm/diagrams/test_dot.py"),
    ],
)
def test_a_module_without_its_test_file_is_noticed(module: str, file: str) -> None:
    assert untested([module, "core/__init__.py"], [file]) == []
    elsewhere = [f"other/{file}", file.replace("test_", "test_more_"), module]
    assert untested([module], elsewhere) == [f"{module} needs tests/{file}"]


def test_a_long_file_is_noticed() -> None:
    assert too_long({"a.py": "x\n" * MOST_LINES, "b.py": "x\n" * (MOST_LINES + 1)}) == ["tests/b.py: 501 lines"]
