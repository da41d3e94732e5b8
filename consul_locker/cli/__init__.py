"""The command ``consul-locker``: a demo of what a Locker does, and drawings and inspection of machines.

click and rich come with the extra ``cli``; without them the command says how to get them.
"""

from .app import FAILED, command, main

__all__ = ["FAILED", "command", "main"]
