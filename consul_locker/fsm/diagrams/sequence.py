"""A run of a machine as a sequence diagram: who gave which input, what was deferred, where it went.

.. code-block:: python

    recording = record(fsm)
    fsm.handle("job")
    recording.stop()
    print(recording.mermaid())
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from ..events import BUILT_IN
from ..machine import Fsm
from ..parts import CATCH_ALL
from .mermaid import escaped
from .picture import visible

__all__ = ["Recording", "Step", "record"]

CALLER = "caller"
"""Who gives inputs, where nothing better is known."""

LIMIT = 1000
"""How many steps are kept, unless it is said otherwise: more than anybody reads in a drawing."""


class Step(NamedTuple):
    """One line of the diagram.

    Attributes:
        kind: ``"input"``, ``"note"`` (something that happens in the machine), or ``"event"`` (one of the user's own).
        source: who it comes from.
        target: whom it goes to; of a note, where it is.
        text: what is written beside it.
    """

    kind: str
    source: str
    target: str
    text: str


def record(
    fsm: Fsm[Any], *, callers: Mapping[str, str] | None = None, without: Collection[str] = (), limit: int = LIMIT
) -> Recording:
    """Begin to write down what a machine does.

    Args:
        fsm: the machine; what those below it do is heard through it.
        callers: who gives an input, by its name, where that is not simply the caller.
        without: events of your own that are not written down.
        limit: how many steps are kept; what comes later is left out, and the drawing says so.

    Returns:
        The recording, which goes on until it is stopped.
    """
    return Recording(fsm, callers or {}, without, limit)


class Recording:
    """What a machine did, step by step; made by `record`.

    It holds names alone: no arguments of inputs, and no data of events.
    """

    def __init__(
        self, fsm: Fsm[Any], callers: Mapping[str, str], without: Collection[str], limit: int
    ) -> None:
        self._name = fsm.namespace
        self._callers = callers
        self._without = frozenset(without)
        self._limit = limit
        self._steps: list[Step] = []
        self._left_out = 0
        self._inside: list[str] = []  # the machines whose inputs are being handled, the innermost last
        self._deferred: Counter[tuple[str, object]] = Counter()
        self._moved = False  # a transition by no input, which replays what is due outside any
        self._subscription = fsm.on(CATCH_ALL, self._hear)

    @property
    def steps(self) -> tuple[Step, ...]:
        """What was written down until now."""
        return tuple(self._steps)

    def stop(self) -> None:
        """Write down nothing more."""
        self._subscription.off()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    # ------------------------------------------------------------------------------------------ listening

    def _hear(self, event: str, data: Any) -> None:
        about = data if isinstance(data, Mapping) else {}
        where = str(about.get("namespace", self._name))
        if event == "handling":
            self._handling(where, about["input"])
        elif event == "handled":
            if self._inside:
                self._inside.pop()
        elif event == "transition":
            self._moved = not self._inside
            before = about["from_state"]
            self._add("note", where, where, f"{before} → {about['to_state']}" if before else str(about["to_state"]))
        elif event == "deferred":
            self._deferred[where, about["input"]] += 1
            self._add("note", where, where, f"{about['input']} is deferred{_until(about['until'])}")
        elif event == "nohandler":
            self._add("note", where, where, f"nothing handles {about['input']}")
        elif event == "invalidstate":
            self._add("note", where, where, f"no such state: {about['attempted_state']}")
        elif event not in BUILT_IN and event not in self._without:
            self._add("event", where, CALLER, str(event))

    def _handling(self, where: str, input: object) -> None:
        text = str(input)
        source = self._callers.get(text, CALLER if where == self._name else self._name)
        if self._inside or self._moved:
            replayed = self._deferred[where, input] > 0
            if replayed:
                self._deferred[where, input] -= 1
                text += " (deferred before)"
            if self._inside or replayed:
                source = self._inside[-1] if self._inside else where
            self._moved = replayed and not self._inside
        self._inside.append(where)
        self._add("input", source, where, text)

    def _add(self, kind: str, source: str, target: str, text: str) -> None:
        if len(self._steps) < self._limit:
            self._steps.append(Step(kind, source, target, text))
        else:
            self._left_out += 1

    def _drawn(self) -> tuple[list[str], list[Step]]:
        """Who takes part, in the order of appearance, and what is drawn."""
        steps = list(self._steps)
        if self._left_out:
            steps.append(Step("note", self._name, self._name, f"{self._left_out} more steps are left out"))
        return list(dict.fromkeys([CALLER, self._name, *(who for step in steps for who in step[1:3])])), steps

    # -------------------------------------------------------------------------------------------- drawing

    def mermaid(self) -> str:
        """The run as a Mermaid ``sequenceDiagram``, with a newline at its end."""
        people, steps = self._drawn()
        ids = {who: f"p{number}" for number, who in enumerate(people)}
        lines = ["sequenceDiagram", *(f"    participant {ids[who]} as {escaped(who) or ' '}" for who in people)]
        for kind, source, target, text in steps:
            if kind == "note":
                lines.append(f"    Note over {ids[target]}: {escaped(text)}")
            else:
                arrow = "->>" if kind == "input" else "-->>"
                lines.append(f"    {ids[source]}{arrow}{ids[target]}: {escaped(text)}")
        return "\n".join(lines) + "\n"

    def svg(self) -> str:
        """The run as an SVG picture; it needs nothing else."""
        people, steps = self._drawn()
        longest = max([len(visible(step.text)) for step in steps], default=0)
        widest = max(len(visible(who)) for who in people)
        # A text to oneself stands right of the line, and none may reach the next one.
        apart = max(longest * CHAR_WIDTH + 50, widest * CHAR_WIDTH + 2 * PADDING + 20)
        left = widest * CHAR_WIDTH / 2 + PADDING + 10
        across = {who: round(left + apart * number) for number, who in enumerate(people)}
        height = HEAD + ROW * (len(steps) + 1)
        behind = [len(visible(step.text)) for step in steps if step.source == step.target == people[-1]]
        width = across[people[-1]] + round(max([left, *(count * CHAR_WIDTH + 50 for count in behind)]))
        title = escape(visible(f"A run of the machine {self._name!r}"), {'"': "&quot;"})
        lines = [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{title}" width="{width}"'
                f' height="{height}" viewBox="0 0 {width} {height}" font-family="{FONT}" font-size="{FONT_SIZE}"'
                f' fill="{INK}">'
            ),
            f"<title>{title}</title>",
            f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        ]
        for who, x in across.items():
            half = len(visible(who)) * CHAR_WIDTH / 2 + PADDING
            lines += [
                f'<line x1="{x}" y1="{HEAD - 8}" x2="{x}" y2="{height - 8}" stroke="#8c959f" stroke-dasharray="3 3"/>',
                f'<rect x="{x - half:.0f}" y="8" width="{2 * half:.0f}" height="{HEAD - 16}" fill="{BLUE}"/>',
                (f'<text x="{x}" y="{HEAD / 2 + 4:.0f}" text-anchor="middle" font-weight="bold" fill="#ffffff">'
                f"{escape(visible(who))}</text>"),
            ]
        for number, step in enumerate(steps):
            lines += _svg_step(step, across[step.source], across[step.target], HEAD + ROW * number)
        return "\n".join([*lines, "</svg>"]) + "\n"


def _until(until: Any) -> str:
    names = until if isinstance(until, tuple) else (until,)
    return "" if until is None else f" until {' or '.join(map(str, names))}"


# ----------------------------------------------------------------------------------- the picture's measures

# Lengths are in pixels. The font has one width, so that the width of a text is known without the font at hand.
FONT = "DejaVu Sans Mono, Menlo, Consolas, monospace"
FONT_SIZE = 13
#: Of a character: 0.602 of the size in DejaVu Sans Mono and Menlo, 0.6 in Courier.
CHAR_WIDTH = 0.602 * FONT_SIZE
PADDING = 12
HEAD = 52
ROW = 38
INK, BLUE, NOTE = "#24292f", "#0b5c8a", "#fff8c5"


def _svg_step(step: Step, start: int, end: int, y: int) -> list[str]:
    text = escape(visible(step.text))
    if step.kind == "note":
        half = len(visible(step.text)) * CHAR_WIDTH / 2 + PADDING
        return [
            (f'<rect x="{end - half:.0f}" y="{y + 2}" width="{2 * half:.0f}" height="26" fill="{NOTE}"'
            ' stroke="#9a5b00"/>'),
            f'<text x="{end}" y="{y + 19}" text-anchor="middle">{text}</text>',
        ]
    dashed = ' stroke-dasharray="5 3"' if step.kind == "event" else ""
    if start == end:
        line = f'<path d="M{start} {y + 8}h26v14h-18" fill="none" stroke="{INK}"{dashed}/>'
        return [line, _head(end, y + 22, 1), f'<text x="{start + 34}" y="{y + 19}">{text}</text>']
    side = 1 if end < start else -1
    line = f'<line x1="{start}" y1="{y + 22}" x2="{end + 8 * side}" y2="{y + 22}" stroke="{INK}"{dashed}/>'
    # Beside the one who speaks: between two who stand far apart there may be others.
    anchor = "start" if side < 0 else "end"
    words = f'<text x="{start - 10 * side}" y="{y + 16}" text-anchor="{anchor}">{text}</text>'
    return [line, _head(end, y + 22, side), words]


def _head(x: int, y: int, side: int) -> str:
    """The head of an arrow that comes from the right (1) or the left (-1)."""
    return f'<polygon points="{x},{y} {x + 9 * side},{y - 4} {x + 9 * side},{y + 4}"/>'
