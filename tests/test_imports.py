"""The order of the rooms: a module imports only from those above it, and the pure ones stay pure.

docs/design.rst has the reasons. An import under ``TYPE_CHECKING`` is how a circle of types is broken, so it may
go against the order only where the same import at run time would be a circle.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "consul_locker"

#: From the top down. `__init__` modules are free: they only hand on names. A new module gets its place here.
ORDER = """
errors inside sleepers state_waits types keys environment config signals
fsm.errors fsm.parts fsm.checks fsm.export fsm.spec fsm.rows fsm.events fsm.threads fsm.children fsm.snapshots
fsm.machine fsm.behavior fsm.inspection fsm.walks strategies strangers
core.call core.messages core.outbox core.refusals core.machine core.gone core.destroys core.session core.ledger
core.batch core.doubts core.sweep core.audit
core.waiting core.standing core.queue core.questions core.operations core.releases core.denials
core.grants core.lifecycle
core.locker
client.answers client.requests client.wire client.allowance client.connection client.transport
client.aio_connection client.aio_transport
embedded.golang embedded.records embedded.store embedded.versions embedded.policy embedded.txn embedded.forms
embedded.api embedded.server embedded.clock embedded.agent embedded.__main__
watching exchange io_thread lease observing delivery view factory face waiter carrying threaded aio_delivery
aio_carrying aio
diagrams cli __main__
""".split()

#: What a pure module must not know: a clock, chance, other threads, sockets, HTTP.
IMPURE = frozenset(
    "time threading asyncio socket random secrets select selectors ssl subprocess concurrent multiprocessing "
    "http urllib.request requests urllib3 aiohttp httpx httpcore h11".split()
)
PURE = (
    *("fsm.errors", "fsm.parts", "fsm.checks", "fsm.export", "fsm.spec", "fsm.rows", "fsm.events", "fsm.children"),
    *("strategies", "keys", "types", "core.", "client.answers", "client.requests"),
    *("embedded.golang", "embedded.records", "embedded.store", "embedded.versions", "embedded.policy", "embedded.txn"),
)


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
    imports = {
        module: [(found, room) for found in imports_of(source, module) if (room := room_of(found.target, rooms))]
        for module, source in sources.items()
    }

    def reaches(start: str, goal: str) -> bool:
        """Whether importing ``start`` imports ``goal`` at run time, by whatever way."""
        seen, todo = {start}, [start]
        while todo:
            for found, room in imports[todo.pop()]:
                if found.typing_only or room in seen:
                    continue
                if room == goal:
                    return True
                seen.add(room)
                todo.append(room)
        return False

    bad = []
    for module in sorted(rooms):
        if module.split(".")[-1] in ("__init__", "__main__"):
            continue
        if module not in ORDER:
            bad.append(f"{module}: has no place in ORDER")
            continue
        for found, room in imports[module]:
            if room in ORDER and ORDER.index(room) < ORDER.index(module):
                continue
            if room.split(".")[-1] == "__init__" and room.split(".")[0] in ("fsm", "core", "client", "embedded"):
                continue  # a package's own file imports nothing at run time that its modules may not
            if found.typing_only and reaches(room, module):
                continue
            bad.append(f"{module}, line {found.line}: imports {room}, which is not above it")
    return bad


def impurities(sources: dict[str, str]) -> list[str]:
    """Which pure modules import what they must not, among modules given as name -> source."""
    bad = []
    for module, source in sorted(sources.items()):
        if not (module in PURE or module.startswith(tuple(room for room in PURE if room.endswith(".")))):
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
    assert [room for room in PURE if not any(f"{name}.".startswith(f"{room.rstrip('.')}.") for name in names)] == []


def test_modules_import_only_from_those_above_them() -> None:
    assert violations(our_sources()) == []


def test_pure_modules_know_no_clock_thread_socket_or_chance() -> None:
    assert impurities(our_sources()) == []


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({"errors": "from .types import Lease", "types": ""}, "errors, line 1: imports types"),
        ({"errors": "def f():\n    from . import types", "types": ""}, "errors, line 2: imports types"),
        ({"keys": "import consul_locker.aio", "aio": ""}, "keys, line 1: imports aio"),
        ({"core.batch": "from .locker import X", "core.locker": ""}, "core.batch, line 1: imports core.locker"),
        ({"core.batch": "from ..client import requests", "client.requests": ""}, "imports client.requests"),
        ({"errors": "if TYPE_CHECKING:\n    from .types import Lease", "types": ""}, "errors, line 2: imports types"),
        ({"surprise": ""}, "surprise: has no place in ORDER"),
        ({"threaded": "from consul_locker import Lease", "__init__": ""}, "threaded, line 1: imports __init__"),
    ],
)
def test_an_import_against_the_order_is_noticed(sources: dict[str, str], expected: str) -> None:
    (found,) = violations(sources)
    assert expected in found


@pytest.mark.parametrize(
    "sources",
    [
        {"errors": "if TYPE_CHECKING:\n    from .types import Lease", "types": "from .errors import LockLost"},
        {"aio": "from .core import batch\nfrom .core.batch import Batch", "core.batch": "", "core.__init__": ""},
        {"core.locker": "from . import batch, machine", "core.batch": "", "core.machine": "", "core.__init__": ""},
        {"__init__": "from .aio import Locker", "aio": ""},
    ],
)
def test_an_import_in_order_is_none_of_its_business(sources: dict[str, str]) -> None:
    assert violations(sources) == []


@pytest.mark.parametrize(
    "source",
    ["import time", "from threading import Lock", "def f():\n    import http.client", "from urllib import request"],
)
def test_an_impure_import_is_noticed(source: str) -> None:
    assert len(impurities({"core.batch": source, "fsm.spec": source, "client.requests": source, "aio": source})) == 3


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
