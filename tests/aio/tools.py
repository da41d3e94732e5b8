"""What the tests of the asyncio face share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
#: The limit on anything that is waited for, in seconds; far above what it takes.
LIMIT = 20.0

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
since_311 = pytest.mark.skipif(sys.version_info < (3, 11), reason="task groups and asyncio.timeout came with 3.11")


def a_program(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CONSUL_")}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**environment, "PYTHONPATH": os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=6 * LIMIT,
        check=False,
    )
