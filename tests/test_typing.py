"""What a type checker tells users of the library: that right programs are right, and first mistakes are none."""

from __future__ import annotations

import re
from pathlib import Path

import mypy.api
import pytest

ROOT = Path(__file__).parents[1]

#: A line with a mistake ends in the code that mypy gives it.
PROGRAM = """
from consul_locker import Lease, LockerFactory, aio

factory = LockerFactory()
locker = factory.create("typed", behavior="delete")
locker.wait_for_state(locker.state)
lease: Lease = locker.lock("a", wait=None)
with locker.hold(1) as held:
    fence: int = held.fence
    held.release()  # attr-defined
    locker.guarded(held, [{"KV": {"Verb": "delete", "Key": "k"}}])

lease.fence = 3  # misc
lease.valid = True  # misc
with lease:  # attr-defined
    pass
factory.create("typed", behavior="destroy")  # arg-type
locker.wait_for_state("Ready")  # arg-type
LockerFactory.embedded("127.0.0.1:8500")  # arg-type


async def main() -> None:
    other = aio.LockerFactory().create("typed")
    leased: aio.Lease = await other.lock("a")
    async with other.hold("a") as entered, other.hold_many(["b"]) as several:
        await leased.wait_lost()
        fence = entered.fence + several[0].fence
        entered.release()  # attr-defined
    other.lock("a")  # unused-coroutine
    async with leased:  # attr-defined
        pass
    leased.key = "k"  # misc
    locker.guarded(leased, [])  # arg-type
"""


def test_mistakes_are_found_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    monkeypatch.chdir(ROOT)
    said, broken, _ = mypy.api.run(["--config-file=setup.cfg", "--python-version=3.10", str(program)])
    assert broken == ""
    found = {(int(line), code) for line, code in re.findall(r":(\d+): error: .*\[([\w-]+)\]$", said, re.MULTILINE)}
    expected = {
        (number, line.partition("  # ")[2])
        for number, line in enumerate(PROGRAM.splitlines(), 1)
        if "  # " in line
    }
    assert found == expected, said
