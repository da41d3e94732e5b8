"""Replay a trace of a machine with child machines (the format: README.md): the same as without, and all agree."""

from __future__ import annotations

from replay_machina import replay  # beside this file; replay.py sees to the path

__all__ = ["replay"]
