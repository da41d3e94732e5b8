"""An extension for Sphinx: ``extensions = ["consul_locker.fsm.diagrams.sphinx"]``.

.. code-block:: rst

    .. fsm-diagram:: package.module:TABLE
        :format: svg
        :alt: What is to be said to those who do not see it.
        :caption: What stands below it.

draws the machine when the documentation is built. ``format`` is ``svg`` (the default: a vector picture, in LaTeX a
PDF), ``png``, ``table``, ``mermaid`` or ``dot`` (both as text).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from .dot import dot, laid_out
from .found import found
from .mermaid import mermaid
from .table import as_table

__all__ = ["FsmDiagram", "setup"]

FORMATS = ("svg", "png", "table", "mermaid", "dot")


def _format(argument: str) -> str:
    return str(directives.choice(argument, FORMATS))


class FsmDiagram(SphinxDirective):
    """The directive ``fsm-diagram``."""

    required_arguments = 1
    final_argument_whitespace = False
    option_spec: ClassVar[dict[str, Any]] = {
        "format": _format,
        "alt": directives.unchanged,
        "caption": directives.unchanged,
        "width": directives.length_or_percentage_or_unitless,
    }

    def run(self) -> list[nodes.Node]:
        """Draw it; a machine that is not there is an error of the page."""
        place = self.arguments[0]
        try:
            drawn = found(place)
        except ValueError as error:
            raise self.error(str(error)) from error
        form = self.options.get("format", "svg")
        if form == "table":
            lines = as_table(drawn, "rst").splitlines()
            return self.parse_text_to_nodes("\n".join(lines))
        if form in ("mermaid", "dot"):
            text = (mermaid if form == "mermaid" else dot)(drawn)
            return [nodes.literal_block(text, text, language="text")]
        image = nodes.image(uri=self._picture(dot(drawn), form), alt=self.options.get("alt", f"The machine {place}"))
        if "width" in self.options:
            image["width"] = self.options["width"]
        if "caption" not in self.options:
            return [image]
        caption = nodes.caption("", "", *self.parse_inline(self.options["caption"], lineno=self.lineno)[0])
        return [nodes.figure("", image, caption)]

    def _picture(self, text: str, form: str) -> str:
        """Have it laid out into a file of the build; return where Sphinx's builders find that."""
        try:
            drawn = {ending: laid_out(text, ending) for ending in ((form, "pdf") if form == "svg" else (form,))}
        except RuntimeError as error:
            raise self.error(str(error)) from error
        # The folder of doctrees is the build's own, and Sphinx takes each builder's best kind of `name.*` from it.
        folder = Path(self.env.doctreedir) / "fsm-diagrams"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"fsm-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        for ending, picture in drawn.items():
            (folder / f"{name}.{ending}").write_bytes(picture)
        ending = "*" if form == "svg" else form
        # A path that begins with a slash would be one below the sources.
        return f"{os.path.relpath(folder, Path(self.env.doc2path(self.env.docname)).parent)}/{name}.{ending}"


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("fsm-diagram", FsmDiagram)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
