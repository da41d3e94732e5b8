"""The settings of Sphinx: ``sphinx-build -W -n -b html docs docs/_build/html``."""

from importlib.metadata import version as version_of

project = "consul_locker"
author = "consul_locker contributors"
project_copyright = "2026, consul_locker contributors"
release = version_of("consul_locker")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "consul_locker.fsm.diagrams.sphinx"]
# Names of types that annotations need, and that have no page: what a client is, or a reaction, the docstrings tell.
nitpick_ignore_regex = [
    ("py:class", r"(consul_locker\.fsm\.[\w.]+\.)?(Client|Handler|Effect|Reaction|Child|Step|Made|Inputs|Drawn)")
]
exclude_patterns = ["_build"]
# `name` in a docstring is a name in the code, and need not be a link.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
html_theme = "alabaster"
