#!/usr/bin/env python3
"""Draws a Locker's machine from the table that runs, into locker.mmd and locker.svg beside this file.

With ``--check`` nothing is written: it fails when a drawing is not that of the table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # the table of this tree, not that of an installed version

from consul_locker.core.machine import TABLE  # noqa: E402
from consul_locker.diagrams import mermaid, svg  # noqa: E402


def main(arguments: list[str] | None = None, folder: Path = HERE) -> int:
    """Draw, or check; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a drawing is out of date")
    check = parser.parse_args(arguments).check
    stale = []
    for name, drawing in (("locker.mmd", mermaid(TABLE)), ("locker.svg", svg(TABLE))):
        path = folder / name
        if path.exists() and path.read_text(encoding="utf-8") == drawing:
            continue
        stale.append(name)
        if not check:
            path.write_text(drawing, encoding="utf-8")
            print(f"{name}: drawn")
    if check and stale:
        print(f"out of date: {', '.join(stale)}; run diagrams/render.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
