"""expected.json: what a real Consul answered to each scenario, in comparable form."""

from __future__ import annotations

import json
import pathlib

from .compare import Recorded

__all__ = ["EXPECTED", "load", "save"]

EXPECTED = pathlib.Path(__file__).with_name("expected.json")


def load() -> dict[str, list[Recorded]]:
    """Scenario's name -> its answers."""
    found: dict[str, list[Recorded]] = json.loads(EXPECTED.read_text(encoding="utf-8"))
    return found


def save(answers: dict[str, list[Recorded]]) -> None:
    """One answer a line, so that a difference can be read."""
    rows = []
    for name, steps in answers.items():
        lines = ",\n".join("  " + json.dumps(step, ensure_ascii=False) for step in steps)
        rows.append(f" {json.dumps(name, ensure_ascii=False)}: [\n{lines}\n ]")
    EXPECTED.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
