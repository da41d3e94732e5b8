"""Machines drawn: as Mermaid and DOT text, as SVG and PNG pictures, as tables, and a run of one as a sequence.

All take a `consul_locker.fsm.Table`, or an `Fsm`, whose present state is marked then. Pictures are laid out by
Graphviz: ``pip install 'consul_locker[diagrams]'``. ``consul_locker.fsm.diagrams.sphinx`` is an extension for Sphinx.
"""

from .dot import dot, png, svg
from .mermaid import mermaid
from .sequence import Recording, record
from .table import as_table

__all__ = ["Recording", "as_table", "dot", "mermaid", "png", "record", "svg"]
