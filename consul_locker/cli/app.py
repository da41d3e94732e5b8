"""The command line as a whole: what is asked of it goes to a file for each command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

__all__ = ["FAILED", "command", "main"]

#: The exit status when no agent answers, or an option is not valid; click's own for wrong usage is 2.
FAILED = 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; it ends the process with an exit status, as console scripts do.

    Args:
        arguments: of the command line; None for the process's own.

    Raises:
        SystemExit: always.
    """
    try:
        import click  # noqa: F401 - only whether they are there
        import rich  # noqa: F401
    except ImportError as missing:
        print(
            f"consul-locker needs click and rich ({missing.name} is missing). Install them with:\n"
            f"    pip install 'consul_locker[cli]'",
            file=sys.stderr,
        )
        sys.exit(FAILED)
    command()(arguments, prog_name="consul-locker")


def command() -> click.Group:
    """Return the command line as a click group.

    It is made here and not when the module is imported, so that the module can be imported without click.
    """
    import click

    from . import demo, diagram, inspection

    @click.group(context_settings={"help_option_names": ["-h", "--help"]})
    @click.version_option(package_name="consul_locker")
    def group() -> None:
        """Distributed locks on Consul, as an explicit state machine."""

    for each in (demo, diagram, inspection):
        each.add(group)
    return group
