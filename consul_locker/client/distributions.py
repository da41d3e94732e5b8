"""Which distribution the package ``consul`` is of: python-consul2, or py-consul, which has the same name for it."""

from __future__ import annotations

import functools
import importlib
import warnings
from importlib.metadata import Distribution
from typing import Any

__all__ = ["consul_base", "warn_of_both"]

NAMES = ("python-consul2", "py-consul")

#: How to have exactly one of them.
_ONE = "have one only, as in: pip uninstall -y {}; pip install --force-reinstall --no-deps {}"


def consul_base() -> Any:
    """The module with the endpoints. It brings requests with it (190 ms), so it comes with the first factory.

    Raises:
        ImportError: there is none, or what uninstalling one of two has left; says what to do.
    """
    try:
        return importlib.import_module("consul.base")
    except ImportError as error:
        raise ImportError(
            f"{error}; the package 'consul' comes from {' or '.join(NAMES)}, and is broken when one of the two was "
            f"uninstalled beside the other; {_ONE.format(*NAMES)}"
        ) from error


@functools.cache
def warn_of_both(stacklevel: int) -> None:
    """Warn, once, when both are installed: whichever was installed last has overwritten the other's files.

    Args:
        stacklevel: whose line is shown, as ``warnings.warn`` counts from here.
    """
    if all(any(True for _ in Distribution.discover(name=name)) for name in NAMES):
        text = (
            f"{' and '.join(NAMES)} are both installed, and both are the package 'consul': the one installed last has "
            f"overwritten the other, and uninstalling either breaks both. consul_locker works with each of them; "
            f"{_ONE.format(*NAMES)}"
        )
        warnings.warn(text, RuntimeWarning, stacklevel=stacklevel)
