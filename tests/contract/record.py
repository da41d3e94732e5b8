"""What real Consuls of three versions answered to each scenario, in comparable form.

expected.json has all answers of 1.8.7; each file of a newer version has the scenarios whose answers differ from those.
"""

from __future__ import annotations

import json
import pathlib
import re

from .compare import Recorded

__all__ = ["RECORDINGS", "load", "nearest", "save"]

_HERE = pathlib.Path(__file__).parent

#: The version that has all scenarios.
WHOLE = "1.8.7"

#: Version -> its file.
RECORDINGS = {
    WHOLE: _HERE / "expected.json",
    "1.16.4": _HERE / "consul-1.16.4.json",
    "1.23.0-dev": _HERE / "consul-1.23.0-dev.json",
}


def load(version: str = WHOLE) -> dict[str, list[Recorded]]:
    """Scenario's name -> its answers, of a version that was recorded."""
    found: dict[str, list[Recorded]] = json.loads(RECORDINGS[WHOLE].read_text(encoding="utf-8"))
    if version != WHOLE:
        found.update(json.loads(RECORDINGS[version].read_text(encoding="utf-8")))
    return found


def nearest(version: str) -> str:
    """The recording that an agent of any version is compared with.

    Its own, else the one whose version is the fewest steps of the second number away; of two the older.

    Args:
        version: as ``consul version`` has it, for example ``1.20.1`` or ``1.22.0-dev``.
    """
    if version in RECORDINGS:
        return version
    wanted = _numbers(version)
    return min(RECORDINGS, key=lambda known: abs(_numbers(known) - wanted))


def _numbers(version: str) -> int:
    """The second number; a thousand for each first one, which has been 1 so far."""
    found = re.match(r"(\d+)\.(\d+)", version)
    assert found is not None, f"{version!r} is no version"
    return int(found[1]) * 1000 + int(found[2])


def save(answers: dict[str, list[Recorded]], version: str = WHOLE) -> None:
    """One answer a line, so that a difference can be read; of a newer version only what differs."""
    if version != WHOLE:
        whole = load()
        answers = {name: steps for name, steps in answers.items() if steps != whole[name]}
    rows = []
    for name, steps in answers.items():
        lines = ",\n".join("  " + json.dumps(step, ensure_ascii=False) for step in steps)
        rows.append(f" {json.dumps(name, ensure_ascii=False)}: [\n{lines}\n ]")
    RECORDINGS[version].write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
