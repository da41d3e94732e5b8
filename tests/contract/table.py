"""The table of endpoints and errors in docs/contract.rst, made from the contract.

``python tests/contract/table.py --write`` writes it, ``--check`` fails when it is not as it would be written.
``--record`` asks a real Consul first and writes the recording of its version anew.

What the real agents answer comes from the recordings, which the contract's tests hold against a real agent; what the
embedded one answers as each of these versions is asked for on the spot.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

if __package__ in (None, ""):  # run as a program: the package's root is two folders up
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from consul_locker.embedded import Agent
from consul_locker.embedded.versions import VERSIONS
from tests.contract.compare import Recorded, loosely, run
from tests.contract.record import RECORDINGS, load, nearest, save
from tests.contract.scenarios import SCENARIOS, Step
from tests.real_consul import RealConsul, find_binary

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "contract.rst"
BEGIN = ".. table of the contract: written by tests/contract/table.py --write\n"
END = ".. end of the table\n"

#: Endpoints whose path ends in a key or an id.
_BELOW = {
    "/v1/kv/": "key",
    "/v1/session/info/": "id",
    "/v1/session/renew/": "id",
    "/v1/session/destroy/": "id",
    "/v1/session/node/": "node",
}
_EXACT = (
    "/v1/agent/self",
    "/v1/session/create",
    "/v1/session/list",
    "/v1/status/leader",
    "/v1/status/peers",
    "/v1/txn",
)
_ORDER = (*(f"{path}<{kind}>" for path, kind in _BELOW.items()), *_EXACT, "elsewhere")

Row = tuple[str, str, str]  #: endpoint, answer, headers


def _endpoint(step: Step) -> str:
    path = step.path.partition("?")[0]
    for prefix, kind in _BELOW.items():
        if path.startswith(prefix):
            return f"{prefix}<{kind}>"
    return path if path in _EXACT else "elsewhere"


def _answers(step: Step, answer: Recorded) -> Iterator[Row]:
    """The rows an answer stands for: itself, and each error of a transaction."""
    headers = answer["headers"]
    seen = [name for name in ("X-Consul-Index", "X-Consul-Knownleader", "X-Consul-Lastcontact") if name in headers]
    shown = ", ".join(name.removeprefix("X-Consul-") for name in seen)
    shown = "all three" if len(seen) == 3 else shown or "none"
    if headers.get("X-Consul-Knownleader") == "false":
        shown += "; no leader"
    place, body = f"{step.method} {_endpoint(step)}", answer["body"]
    errors = body.get("Errors") if isinstance(body, dict) else None
    if errors:
        for what in dict.fromkeys(_bare(error["What"]) for error in errors):
            yield place, f"{answer['status']} {what}", shown
        return
    if "Location" in headers:
        yield place, f"{answer['status']} to the cleaned path", shown
        return
    text = {True: "true", False: "false", None: "(empty)"}.get(body) if not isinstance(body, (dict, list)) else None
    yield place, f"{answer['status']} {text or _form(body, headers)}", shown


def _form(body: Any, headers: dict[str, str]) -> str:
    if isinstance(body, dict):
        return "{" + ", ".join(body) + "}"
    if isinstance(body, list):
        return "[]" if not body else f"[{_form(body[0], headers) if isinstance(body[0], dict) else 'texts'}, …]"
    kind = headers["Content-Type"]
    if "Content-Security-Policy" in headers:
        return "(the value)"
    if kind == "application/json":
        return "a text"
    return _bare(str(body))


#: What differs from one case to the next in an error's words.
_CASES = (
    (r'"(?:[^"\\]|\\.)*"', '"…"'),
    (r"\b(id|TTL|setting|check|character) '[^']*'", r"\1 '…'"),
    (r"#?\d+ != #?\d+", "… != …"),
    (r"body\(\d+ bytes\)", "body(… bytes)"),
    (r"\b(got|input byte) \d+", r"\1 …"),
    (r"(Conflicting flags:|invalid byte:) .*", r"\1 …"),
    (r"cannot unmarshal .*", "cannot unmarshal … into Go …"),
)


def _bare(text: str) -> str:
    """An error's words without the names and numbers of one case."""
    for pattern, instead in _CASES:
        text = re.sub(pattern, instead, text)
    return text.rstrip()


def _count(answers: dict[str, list[Recorded]]) -> Counter[Row]:
    rows: Counter[Row] = Counter()
    for scenario in SCENARIOS:
        for step, answer in zip(scenario.steps, answers[scenario.name], strict=True):
            rows.update(_answers(step, loosely(answer)))
    return rows


@functools.cache
def embedded_answers(version: str) -> dict[str, list[Recorded]]:
    """What the embedded agent answers to each scenario as that version."""
    with Agent(version=version) as agent:
        return {scenario.name: run(scenario, agent.address) for scenario in SCENARIOS}


def _place(row: Row) -> tuple[int, str, str, str]:
    method, _, path = row[0].partition(" ")
    return _ORDER.index(path), method, row[1], row[2]


def table() -> str:
    """The table as reStructuredText."""
    counts = [
        (_count(load(nearest(version.number))), _count(embedded_answers(name))) for name, version in VERSIONS.items()
    ]
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 24 46 10 7 7 7", ""]
    lines += ["   * - request", "     - answer", "     - X-Consul-…", *(f"     - {name}" for name in VERSIONS)]
    last = ""
    for row in sorted({row for pair in counts for count in pair for row in count}, key=_place):
        place, answer, headers = row
        lines += [
            f"   * - {'' if place == last else f'``{place}``'}".rstrip(),
            f"     - ``{answer}``",
            f"     - {headers}",
        ]
        for real, embedded in counts:
            alike = str(real[row] or "no")
            lines.append(f"     - {alike if real[row] == embedded[row] else f'{real[row]}, embedded {embedded[row]}'}")
        last = place
    return "\n".join(lines) + "\n"


def page() -> tuple[str, str]:
    """The page as it is, and as it ought to be."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return text, f"{before}{BEGIN}\n{table()}\n{END}{after}"


def record() -> None:
    """Ask a real Consul, and write the recording of its version."""
    binary = find_binary()
    if binary is None:
        raise SystemExit("no real Consul found (CONSUL_BINARY, PATH, .ci/cache/)")
    with RealConsul(binary) as agent:
        if agent.version not in RECORDINGS:
            raise SystemExit(f"there are recordings of {', '.join(RECORDINGS)}, and this is {agent.version}")
        save({scenario.name: run(scenario, agent.address) for scenario in SCENARIOS}, agent.version)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python tests/contract/table.py", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="fail when the page is not up to date")
    what.add_argument("--write", action="store_true", help="write the page")
    what.add_argument("--record", action="store_true", help="ask a real Consul, write its recording and the page")
    options = parser.parse_args(arguments)
    if options.record:
        record()
    present, wanted = page()
    if options.check:
        if present != wanted:
            print(f"{PAGE} is not up to date; run: python tests/contract/table.py --write", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
