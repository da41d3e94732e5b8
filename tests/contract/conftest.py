"""Says in the summary what a real agent was compared with."""

from __future__ import annotations

from typing import Any

from ..real_consul import find_binary, version_of
from .record import nearest


def pytest_terminal_summary(terminalreporter: Any) -> None:
    binary = find_binary()
    if binary is not None:
        version = version_of(binary)
        recording = nearest(version)
        own = "its own" if recording == version else f"the nearest one, of {recording}"
        terminalreporter.write_line(f"contract: Consul {version} is compared with {own} recording")
