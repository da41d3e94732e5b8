"""The settings of Sphinx: ``sphinx-build -W -n -b html docs docs/_build/html``."""

from importlib.metadata import version as version_of

from docutils import nodes
from sphinx.util import logging

project = "consul_locker"
author = "consul_locker contributors"
project_copyright = "2026, consul_locker contributors"
release = version_of("consul_locker")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_inline_tabs", "consul_locker.fsm.diagrams.sphinx"]
# Names of types that annotations need, and that have no page: what a client is, or a reaction, the docstrings tell.
nitpick_ignore_regex = [
    ("py:class", r"os\.PathLike|uuid\.UUID|datetime"),
    ("py:class", r"consul_locker\.runtime\.(holding\.(Async)?Holding|locker_fsm\.FsmView)"),
    ("py:class", r"(consul_locker\.fsm\.[\w.]+\.)?(Client|Handler|Effect|Reaction|Child|Step|Made|Inputs|Drawn)")
]
exclude_patterns = ["_build"]
# `name` in a docstring is a name in the code, and need not be a link.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
# Wide pages: an example of 120 columns is not cut off at the right on a screen of 1,200 pixels.
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["wide.css"]

#: Made by factories and Lockers only: the arguments of their constructors are no part of the API.
MADE_BY_FACTORIES = ("Lease", "Locker")


def hide_constructor(app, domain, objtype, content):
    """Take the arguments of a constructor, with their types, out of the description of its class."""
    if objtype == "class" and content.parent[0].get("fullname") in MADE_BY_FACTORIES:
        for field in list(content.findall(nodes.field)):
            if field[0].astext().split()[0] in ("param", "type"):
                field.parent.remove(field)


def parameters_once(app, domain, objtype, content):
    """Warn where the parameters of something would stand twice: autodoc wants all fields in the last paragraph."""
    lists = [child for child in content if isinstance(child, nodes.field_list)]
    with_parameters = [fields for fields in lists if any(field[0].astext().startswith("param") for field in fields)]
    if len(lists) > 1 and with_parameters:
        logging.getLogger(__name__).warning("%s: text stands between its fields", content.parent[0].astext())


def setup(app):
    """After autodoc has written the types into the descriptions."""
    app.connect("object-description-transform", hide_constructor, priority=900)
    app.connect("object-description-transform", parameters_once, priority=910)
