"""The order of the rooms: a module imports only from those above it, and the pure ones stay pure.

The order is the table in docs/design.rst. An import for type checkers alone keeps to it, too: no circles.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "consul_locker"

DESIGN = PACKAGE.parent / "docs" / "design.rst"


def _rows() -> list[tuple[list[str], bool]]:
    """The modules of each row of the table of rooms, from the top down, and whether they are pure."""
    table = DESIGN.read_text(encoding="utf-8").partition(".. list-table::")[2].partition("\n.. _")[0]
    cells = [cell.partition("\n     - ")[0] for cell in table.split("   * - ")[1:]]
    return [(re.findall(r"``([\w.]+)``", cell), "*(pure)*" in cell) for cell in cells]


#: From the top down. `__init__` modules are free: they only hand on names.
ORDER = [module for modules, _ in _rows() for module in modules]

#: What a pure module must not know: a clock, chance, other threads, sockets, HTTP.
IMPURE = frozenset(
    "time threading asyncio socket random secrets select selectors ssl subprocess concurrent multiprocessing "
    "http urllib.request requests urllib3 aiohttp httpx httpcore h11 httptools".split()
)
PURE = frozenset(module for modules, pure in _rows() for module in modules if pure)
#: Nothing goes between these.
FACES = frozenset(("threads", "aio"))
#: For type checkers alone: a table is made of states, and below a state may be a table.
RECURSIVE = ("fsm.parts", "fsm.spec")


class Import(NamedTuple):
    """One import statement: what it names (absolute, dotted), where, and whether only for type checkers."""

    target: str
    line: int
    typing_only: bool


def module_name(path: Path) -> str:
    """``core.batch`` for ``consul_locker/core/batch.py``; ``core.__init__`` for a package's own file."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def _nodes(tree: ast.AST, typing_only: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for inner in node.body:
                yield inner, True
                yield from _nodes(inner, True)
            for inner in node.orelse:
                yield inner, typing_only
                yield from _nodes(inner, typing_only)
            continue
        yield node, typing_only
        yield from _nodes(node, typing_only)


def imports_of(source: str, module: str) -> list[Import]:
    """All imports of a module, those inside functions too; relative ones made absolute."""
    package = ["consul_locker", *module.split(".")[:-1]]
    found = []
    for node, typing_only in _nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, typing_only) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join(base + ([node.module] if node.module else []))
            # `from . import batch` may name a module; `from .batch import x` names one already.
            found += [Import(f"{origin}.{alias.name}", node.lineno, typing_only) for alias in node.names]
    return found


def room_of(target: str, rooms: frozenset[str]) -> str | None:
    """The module of ours that an import reaches, or None; a package itself counts as its ``__init__``."""
    if target.split(".")[0] != "consul_locker":
        return None
    parts = target.split(".")[1:]
    while parts and ".".join(parts) not in rooms:
        if ".".join([*parts, "__init__"]) in rooms:
            return ".".join([*parts, "__init__"])
        parts.pop()
    return ".".join(parts) or "__init__"


def violations(sources: dict[str, str]) -> list[str]:
    """What is against the order among modules given as name -> source."""
    rooms = frozenset(sources)
    bad = []
    for module in sorted(rooms):
        if module.split(".")[-1] in ("__init__", "__main__"):
            continue
        if module not in ORDER:
            bad.append(f"{module}: has no place in ORDER")
            continue
        for found in imports_of(sources[module], module):
            room = room_of(found.target, rooms)
            if room is None:
                continue
            if room.split(".")[-1] == "__init__" and room.split(".")[0] in ("fsm", "core", "client", "embedded"):
                continue  # a package's own file imports nothing that its modules may not
            if found.typing_only and (module, room) == RECURSIVE:
                continue
            ends = {room.split(".")[0], module.split(".")[0]}
            if room not in ORDER or ORDER.index(room) >= ORDER.index(module) or ends == FACES:
                bad.append(f"{module}, line {found.line}: imports {room}, which is not above it")
    return bad


def impurities(sources: dict[str, str]) -> list[str]:
    """Which pure modules import what they must not, among modules given as name -> source."""
    bad = []
    for module, source in sorted(sources.items()):
        if module not in PURE:
            continue
        for found in imports_of(source, module):
            for name in IMPURE:
                if f"{found.target}.".startswith(f"{name}.") and not found.typing_only:
                    bad.append(f"{module}, line {found.line}: imports {name}")
    return bad


def our_sources() -> dict[str, str]:
    return {module_name(path): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def test_every_name_in_the_order_is_a_module() -> None:
    names = our_sources().keys()
    assert [name for name in ORDER if name not in names] == []
    assert len(ORDER) == len(set(ORDER))


def test_modules_import_only_from_those_above_them() -> None:
    assert violations(our_sources()) == []


def test_pure_modules_know_no_clock_thread_socket_or_chance() -> None:
    assert impurities(our_sources()) == []


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({"errors": "from .lease import BaseLease", "lease": ""}, "errors, line 1: imports lease"),
        ({"errors": "def f():\n    from . import lease", "lease": ""}, "errors, line 2: imports lease"),
        ({"keys": "import consul_locker.aio.locker", "aio.locker": ""}, "keys, line 1: imports aio.locker"),
        ({"core.batch": "from .locker import X", "core.locker": ""}, "core.batch, line 1: imports core.locker"),
        ({"core.batch": "from ..client import encode", "client.encode": ""}, "imports client.encode"),
        ({"errors": "if TYPE_CHECKING:\n    from .lease import X", "lease": ""}, "errors, line 2: imports lease"),
        ({"aio.locker": "from ..threads import lease", "threads.lease": ""}, "aio.locker, line 1: imports threads"),
        ({"surprise": ""}, "surprise: has no place in ORDER"),
        ({"cli.demo": "from consul_locker import Lease", "__init__": ""}, "cli.demo, line 1: imports __init__"),
    ],
)
def test_an_import_against_the_order_is_noticed(sources: dict[str, str], expected: str) -> None:
    (found,) = violations(sources)
    assert expected in found


@pytest.mark.parametrize(
    "sources",
    [
        {"cli.demo": "from ..core import batch\nfrom ..core.batch import Batch", "core.batch": "", "core.__init__": ""},
        {"core.locker": "from . import batch, machine", "core.batch": "", "core.machine": "", "core.__init__": ""},
        {"__init__": "from .aio.locker import Locker", "aio.locker": ""},
    ],
)
def test_an_import_in_order_is_none_of_its_business(sources: dict[str, str]) -> None:
    assert violations(sources) == []


@pytest.mark.parametrize(
    "source",
    ["import time", "from threading import Lock", "def f():\n    import http.client", "from urllib import request"],
)
def test_an_impure_import_is_noticed(source: str) -> None:
    modules = ("core.batch", "fsm.spec", "client.encode", "aio.locker")
    assert len(impurities(dict.fromkeys(modules, source))) == 3


def test_importing_the_package_brings_neither_the_client_nor_the_agent() -> None:
    """python-consul2 (it brings requests, most of the time of an import) comes with the first factory, not before."""
    program = "import sys, consul_locker; print(*sorted(sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(answer.stdout.split())
    assert "consul_locker" in loaded
    unwanted = {"consul", "requests", "urllib3", "http.client", "click", "rich", "consul_locker.embedded"}
    assert loaded & unwanted == set()
