"""The directive ``fsm-diagram`` draws a machine into documentation, for HTML and for LaTeX."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from consul_locker.core.machine import TABLE
from consul_locker.fsm.diagrams import mermaid

PAGE = """
Machines
========

.. fsm-diagram:: consul_locker.core.machine:TABLE
    :width: 50%
    :alt: A Locker.
    :caption: The *machine* of a Locker.

.. fsm-diagram:: consul_locker.core.machine:TABLE
    :format: png

.. fsm-diagram:: consul_locker.core.machine:TABLE
    :format: table

.. fsm-diagram:: consul_locker.core.machine:TABLE
    :format: mermaid

.. fsm-diagram:: consul_locker.core.machine:TABLE
    :format: dot
"""


def build(builder: str, page: str, folder: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "conf.py").write_text(f'{before}\nextensions = ["consul_locker.fsm.diagrams.sphinx"]\n')
    (folder / "index.rst").write_text(page)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", builder, str(folder), str(folder / builder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_html(tmp_path: Path) -> None:
    built = build("html", PAGE, tmp_path)
    assert (built.returncode, "WARNING" in built.stderr) == (0, False), built.stderr
    page = (tmp_path / "html" / "index.html").read_text()
    assert len(list((tmp_path / "html" / "_images").glob("fsm-*.svg"))) == 1
    assert len(list((tmp_path / "html" / "_images").glob("fsm-*.png"))) == 1
    assert 'alt="A Locker."' in page
    assert "The <em>machine</em> of a Locker." in page
    assert "goes to paused" in page
    assert mermaid(TABLE).splitlines()[5].strip().replace(">", "&gt;") in page
    assert "digraph" in page


def test_latex(tmp_path: Path) -> None:
    built = build("latex", PAGE, tmp_path)
    assert (built.returncode, "WARNING" in built.stderr) == (0, False), built.stderr
    assert len(list((tmp_path / "latex").glob("fsm-*.pdf"))) == 1


@pytest.mark.parametrize(
    ("page", "before", "said"),
    [
        (".. fsm-diagram:: consul_locker.core.machine:NOTHING", "", "there is no 'NOTHING'"),
        (".. fsm-diagram:: consul_locker.core.machine:TABLE\n    :format: jpeg", "", '"jpeg" unknown'),
        (
            ".. fsm-diagram:: consul_locker.core.machine:TABLE",
            "import sys; sys.modules['pygraphviz'] = None",
            "pip install 'consul_locker[diagrams]'",
        ),
    ],
)
def test_what_cannot_be_drawn_is_an_error_of_the_page(page: str, before: str, said: str, tmp_path: Path) -> None:
    built = build("html", f"Title\n=====\n\n{page}\n", tmp_path, before)
    assert built.returncode != 0
    assert said in built.stderr
