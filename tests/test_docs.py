"""README, docs/ and the other pages: they parse without a warning, and their examples run.

Python examples (``.. code-block:: python``) of a page run from top to bottom in one namespace, against an
embedded agent that ``CONSUL_HTTP_ADDR`` names, so an example makes its factory by ``LockerFactory()``. A block
with ``>>>`` is a doctest, its answers compared. The comment ``.. not run: REASON`` right before a block says
that it is only compiled.
"""

from __future__ import annotations

import importlib
import inspect
import io
import json
import os
import re
import subprocess
import sys
import typing
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import docutils.core
import docutils.writers
import pytest
from docutils import nodes
from docutils.parsers.rst import Directive, directives, roles

import consul_locker
import consul_locker.aio
from consul_locker.models import LossReason

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.rst"), *(ROOT / "docs").rglob("*.rst")])
EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

#: The modules that users import from.
PUBLIC_MODULES = (
    "consul_locker",
    "consul_locker.aio",
    "consul_locker.embedded",
    "consul_locker.errors",
    "consul_locker.fsm",
    "consul_locker.fsm.diagrams",
    "consul_locker.signals",
)

#: How long the examples of one page may take, in seconds: a limit for hangs, far above what they need.
EXAMPLES_LIMIT = 120

#: Runs the blocks of a page (a list of (line, source)) in one namespace; in a process of its own, so that an
#: example's factories, threads and exit hooks are those of a program.
RUNNER = """
import doctest, json, sys
page, namespace = sys.argv[1], {"__name__": "__main__"}
for line, source in json.load(sys.stdin):
    if source.lstrip().startswith(">>>"):
        test = doctest.DocTestParser().get_doctest(source, {}, page, page, line)
        test.globs = namespace
        failed, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, clear_globs=False)
        if failed:
            sys.exit(1)
    else:
        exec(compile("\\n" * line + source, page, "exec"), namespace)
"""


class Block(NamedTuple):
    """A Python example: the line before its first, its source, and why it is not run (None: it is)."""

    line: int
    source: str
    not_run: str | None


def python_blocks(text: str) -> list[Block]:
    """The Python examples of a page."""
    lines = text.splitlines()
    blocks = []
    for number, line in enumerate(lines):
        start = re.fullmatch(r"( *)\.\. code-block:: (?:python|pycon)", line)
        if not start:
            continue
        margin = len(start[1])
        body: list[str] = []
        for following in lines[number + 1 :]:
            if following.strip() and len(following) - len(following.lstrip()) <= margin:
                break
            body.append(following)
        while body and (not body[0].strip() or body[0].lstrip().startswith(":")):
            body.pop(0)  # options of the directive, and the empty line after them
        while body and not body[-1].strip():
            body.pop()
        first = next(at for at in range(number + 1, len(lines)) if body and lines[at] == body[0])
        width = min(len(one) - len(one.lstrip()) for one in body if one.strip())
        before = next((one.strip() for one in reversed(lines[:number]) if one.strip()), "")
        reason = re.fullmatch(r"\.\. not run: (.+)", before)
        blocks.append(Block(first, "\n".join(one[width:] for one in body) + "\n", reason and reason[1]))
    return blocks


class _AnyOption(dict[str, object]):
    """Options of any name are text."""

    def __bool__(self) -> bool:
        return True  # docutils asks an empty table of options whether there is one

    def __missing__(self, name: str) -> object:
        return directives.unchanged


class _SphinxDirective(Directive):
    """Stands for a directive of Sphinx, whose content says nothing to docutils."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec = _AnyOption()

    def run(self) -> list[nodes.Node]:
        return []


class _Tab(_SphinxDirective):
    """A tab, which has a title, and whose content is read as any other text."""

    required_arguments = 1
    optional_arguments = 0

    def run(self) -> list[nodes.Node]:
        container = nodes.container()
        self.state.nested_parse(self.content, self.content_offset, container)
        return [container]


def _sphinx_role(name: str, rawtext: str, text: str, *_: object) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    return [nodes.literal(rawtext, text)], []


@pytest.fixture
def sphinx_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """docutils knows Sphinx's roles and directives (of which pages in docs/ may use these), for one test."""
    monkeypatch.setattr(roles, "_roles", dict(roles._roles))
    monkeypatch.setattr(directives, "_directives", dict(directives._directives))
    for name in "attr class data doc exc func meth mod obj option ref term".split():
        roles.register_local_role(name, _sphinx_role)
    words = "autoclass autodata autoexception autofunction automodule currentmodule fsm-diagram literalinclude py:data"
    for name in [*words.split(), "toctree"]:
        directives.register_directive(name, _SphinxDirective)
    directives.register_directive("tab", _Tab)


def warnings_of(text: str, source: str) -> str:
    """What docutils has to say against a page; empty when nothing."""
    heard = io.StringIO()
    docutils.core.publish_string(
        text,
        source_path=source,
        writer=docutils.writers.get_writer_class("html5")(),
        settings_overrides={"warning_stream": heard, "report_level": 1, "halt_level": 5, "embed_stylesheet": False},
    )
    return heard.getvalue()


@EVERY_PAGE
def test_page_parses_without_a_warning(page: Path, request: pytest.FixtureRequest) -> None:
    if page.is_relative_to(ROOT / "docs"):
        request.getfixturevalue("sphinx_words")
    assert warnings_of(page.read_text(encoding="utf-8"), str(page)) == ""


@EVERY_PAGE
def test_what_a_page_names_in_the_repository_exists(page: Path) -> None:
    """Relative links and images."""
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`[^`<]*<(?!\w+:)([^`>#]+)>`_", text) + re.findall(r"\.\. (?:image|figure):: (\S+)", text)
    assert [target for target in named if not (page.parent / target).exists()] == []


@EVERY_PAGE
def test_python_examples_of_a_page_run(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = python_blocks(text)
    for block in blocks:
        if not block.source.lstrip().startswith(">>>"):
            compile("\n" * block.line + block.source, str(page), "exec")
    to_run = [(block.line, block.source) for block in blocks if block.not_run is None]
    if to_run:
        answer = run_examples(page, to_run)
        assert answer.returncode == 0, f"{answer.stdout}\n{answer.stderr}"


def run_examples(page: Path, blocks: list[tuple[int, str]]) -> subprocess.CompletedProcess[str]:
    """Run examples as a program of their own, with an embedded agent as the Consul of the machine."""
    from consul_locker.embedded import Agent

    with Agent() as agent:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CONSUL_")}
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", RUNNER, str(page)],
            input=json.dumps(blocks),
            env={**environment, "CONSUL_HTTP_ADDR": agent.address, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=EXAMPLES_LIMIT,
            check=False,
        )


def test_blocks_are_found_with_their_lines() -> None:
    text = (
        "Title\n=====\n\n.. code-block:: python\n   :caption: one\n\n   x = 1\n\n   y = 2\n\nText.\n\n"
        ".. not run: needs a cluster\n\n.. code-block:: python\n\n    z = 3\n\n.. code-block:: sh\n\n    ls\n"
    )
    assert python_blocks(text) == [
        Block(6, "x = 1\n\ny = 2\n", None),
        Block(16, "z = 3\n", "needs a cluster"),
    ]


def test_a_bad_page_is_noticed() -> None:
    assert "Title underline too short" in warnings_of("A title\n====\n\nText.\n", "page")
    assert "Unknown interpreted text role" in warnings_of("Title\n=====\n\n:class:`Locker`\n", "page")


def test_everything_public_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")
    named: set[str] = set()
    for arguments in re.findall(r"^\.\. (?:auto\w+|py:\w+):: (.+(?:\n {10,}\S+)*)", text, re.MULTILINE):
        named |= {one.partition("(")[0] for one in arguments.split()}
    for module in re.findall(r"^\.\. automodule:: (\S+)\n    :members:", text, re.MULTILINE):
        named |= {f"{module}.{name}" for name in importlib.import_module(module).__all__}
    errors = {f"consul_locker.{name.rpartition('.')[2]}" for name in named if name.startswith("consul_locker.errors.")}
    missing = [
        f"{module}.{name}"
        for module in PUBLIC_MODULES
        for name in importlib.import_module(module).__all__
        if f"{module}.{name}" not in named | errors
    ]
    assert missing == []


@pytest.mark.parametrize(("method", "section"), [("create", "Options of a Locker"), ("__init__", "Where Consul is")])
def test_usage_has_every_option_once(method: str, section: str) -> None:
    """In the tables of docs/usage.rst; other pages link there."""
    text = (ROOT / "docs" / "usage.rst").read_text(encoding="utf-8").partition(f"{section}\n---")[2]
    cells = re.findall(r"^   \* - (``.+)$", text.partition("\n---")[0], re.MULTILINE)
    told = [name for cell in cells for name in re.findall(r"``(\w+)``", cell)]
    for factory in (consul_locker.LockerFactory, consul_locker.aio.LockerFactory):
        options = set(inspect.signature(getattr(factory, method)).parameters) - {"self"}
        assert {name: told.count(name) for name in options} == dict.fromkeys(options, 1)


def test_usage_has_every_reason_of_a_loss() -> None:
    text = (ROOT / "docs" / "usage.rst").read_text(encoding="utf-8").partition("``lost.reason`` says why")[2]
    told = re.findall(r'``"([a-z ]+)"``', text.partition("\nWhat the work does")[0])
    assert sorted(told) == sorted([*typing.get_args(LossReason), "forked"])


@pytest.mark.parametrize("page", [*PAGES, *(ROOT / "examples").glob("*.py")], ids=lambda page: page.name)
def test_no_example_connects_an_observer_that_is_gone_at_once(page: Path) -> None:
    """Blinker holds observers weakly, so every example has weak=False (or ``observers=``)."""
    calls = re.findall(r"\bsignals\.\w+(?:\[\w+\])?\.connect(?:ed_to)?\(.*", page.read_text(encoding="utf-8"))
    assert [call for call in calls if "weak=False" not in call] == []


CHANGES = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")


def test_changelog_has_the_form_of_keep_a_changelog() -> None:
    lines = (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8").splitlines()
    headings = [(under[0], title) for title, under in pairwise(lines) if re.fullmatch(r"(=|-|~)\1{2,}", under)]
    assert headings[0] == ("=", "Changelog")
    versions = [title for mark, title in headings if mark == "-"]
    assert versions[0] == "Unreleased"
    assert [one for one in versions[1:] if not re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", one)] == []
    assert {title for mark, title in headings if mark == "~"} <= set(CHANGES)


def test_readme_has_one_command_for_the_tests() -> None:
    """.ci/run takes it from here, so that what users are told is what is tried."""
    lines = (ROOT / "README.rst").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.endswith(" -m pytest")]) == 1


def test_the_first_program_has_about_ten_lines() -> None:
    (program, *_) = python_blocks((ROOT / "README.rst").read_text(encoding="utf-8"))
    assert len([line for line in program.source.splitlines() if line]) <= 12
