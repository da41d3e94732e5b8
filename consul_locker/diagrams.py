"""Draws a machine from its table: as Mermaid text, and as an SVG picture. In pure Python, without another program.

Both show the same, in UML's manner: an arrow for each pair of states, labelled with the inputs that lead
from one to the other; inside a state the inputs that do not leave it, as ``lock / defer until ready``.
Inputs that a state does not declare, and inputs that do nothing, are left out.
A drawing depends on the table alone: two drawings of one table are equal byte for byte.

`mermaid` and `svg` take a `consul_locker.fsm.Table` or an `Fsm`; ``diagrams/render.py`` draws a Locker's.
"""

from __future__ import annotations

import itertools
import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from .fsm import CATCH_ALL, Fsm, Table

__all__ = ["mermaid", "svg"]

#: The label of actions that do nothing, and so are not drawn.
NOTHING = "nothing"
#: Stands for the machine itself, which is no state: its catch-all handles the inputs that a state does not.
ANY_STATE = "(any state)"


def mermaid(drawn: Table | Fsm) -> str:
    """Draw a machine as a Mermaid ``stateDiagram-v2``, for pages that render Mermaid (GitHub's do).

    Args:
        drawn: the table, or a machine of it.

    Returns:
        The text, with a newline at its end.
    """
    picture = _picture(drawn)
    ids = {name: name if re.fullmatch(r"[a-zA-Z]\w*", name) else f"s{i}" for i, name in enumerate(picture.inside)}
    lines = ["stateDiagram-v2", "    direction LR"]
    lines += [f'    state "{_mermaid_text(name)}" as {ids[name]}' for name in picture.inside]
    lines += [f"    [*] --> {ids[picture.initial]}"]
    lines += [
        f"    {ids[arrow.source]} --> {ids[arrow.target]} : {_mermaid_text(', '.join(arrow.inputs))}"
        for arrow in picture.arrows
    ]
    lines += [
        f"    {ids[name]} : {_mermaid_text(answer)}" for name, answers in picture.inside.items() for answer in answers
    ]
    return "\n".join(lines) + "\n"


def svg(drawn: Table | Fsm) -> str:
    """Draw a machine as an SVG picture, for everything else.

    Args:
        drawn: the table, or a machine of it.

    Returns:
        The document, with a newline at its end. Good for up to about ten states.
    """
    return _Drawing(_picture(drawn), _table_of(drawn).namespace).document()


# ---------------------------------------------------------------------------------- what there is to see


class _Arrow(NamedTuple):
    """Inputs that lead from a state to another."""

    source: str
    target: str
    inputs: tuple[str, ...]


class _Picture(NamedTuple):
    """What both forms show.

    Attributes:
        initial: where the machine begins.
        inside: the states in their order, each with the lines ``inputs / what they do there``.
        arrows: one for each pair of states.
    """

    initial: str
    inside: dict[str, list[str]]
    arrows: list[_Arrow]


def _table_of(drawn: Table | Fsm) -> Table:
    return drawn if isinstance(drawn, Table) else drawn.table


def _picture(drawn: Table | Fsm) -> _Picture:
    table = _table_of(drawn)
    gone: dict[tuple[str, str], list[str]] = {}
    done: dict[str, dict[str, list[str]]] = {name: {} for name in table.states}
    for row in table.rows():
        state = ANY_STATE if row.state == CATCH_ALL else row.state
        name = "any other input" if row.input == CATCH_ALL else row.input
        label = row.label
        stays = row.kind == "goto" and row.target == state  # machina's rule: it does nothing
        if row.kind == "nothing" or label == NOTHING or stays:
            continue
        if row.kind == "goto" and row.target is not None and row.target in table.states:
            gone.setdefault((state, row.target), []).append(name)
            done.setdefault(state, {})
            continue
        if row.kind == "goto":
            label = f"no such state: {row.target}"
        done.setdefault(state, {}).setdefault(label, []).append(name)
    return _Picture(
        table.initial_state,
        {
            state: [f"{', '.join(names)} / {label}" if label else ", ".join(names) for label, names in answers.items()]
            for state, answers in done.items()
        },
        [_Arrow(source, target, tuple(names)) for (source, target), names in gone.items()],
    )


def _mermaid_text(text: str) -> str:
    """Replace the characters that Mermaid takes for the end of a text, or for markup, by its entities."""
    return re.sub(r'[#:;"<>\n]', lambda found: f"#{ord(found[0])};", text)


# ------------------------------------------------------------------------------------------- the picture

# Lengths are in pixels. Texts are set in a monospaced font: their width is known without the font at hand.
FONT_SIZE = 13
#: The width of a character, of the font's size: 0.602 in DejaVu Sans Mono and Menlo, 0.6 in Courier.
CHAR_WIDTH = 0.602 * FONT_SIZE
LINE_HEIGHT = 18
TITLE_HEIGHT = 30
PADDING = 12
MARGIN = 24
#: Longer texts are broken into lines, in characters.
INSIDE_WIDTH, LABEL_WIDTH = 36, 26
#: Half the distance, in pixels, between an arrow and the arrow in the other direction.
LANE = 11
#: The least distance between boxes, in pixels: one above the other, and side by side (a label's width is added).
GAP_DOWN, GAP_BESIDE = 120, 70
#: How far from its arrow a label stands.
LABEL_DISTANCE = 5
#: With more states than this the declared order is kept: to try all (n - 1)! orders would take too long.
MAX_SORTED = 7
#: The colours of a state's title, its arrows and their labels. Dark enough to be read on white (contrast 4.5 or more).
COLOURS = ("#0b5c8a", "#1a7f37", "#9a5b00", "#a3262a", "#6639ba", "#57606a")

Point = tuple[float, float]


class _Rect(NamedTuple):
    """A rectangle, given by its centre."""

    x: float
    y: float
    width: float
    height: float

    def overlap(self, other: _Rect) -> float:
        """The area that both cover."""
        wide = (self.width + other.width) / 2 - abs(self.x - other.x)
        high = (self.height + other.height) / 2 - abs(self.y - other.y)
        return max(0.0, wide) * max(0.0, high)

    def crossed(self, start: Point, end: Point) -> bool:
        """Whether a line goes through it. Checked at 61 points of the line, which is fine enough for labels."""
        for step in range(61):
            x, y = _between(start, end, step / 60)
            if abs(x - self.x) < self.width / 2 and abs(y - self.y) < self.height / 2:
                return True
        return False


def _between(start: Point, end: Point, part: float) -> Point:
    return start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part


class _Drawing:
    """The states on an ellipse, straight arrows between them, each label where it covers least."""

    def __init__(self, picture: _Picture, title: str) -> None:
        self._picture = picture
        self._title = title
        self._lines = {
            state: [line for answer in answers for line in _wrapped(answer, INSIDE_WIDTH)]
            for state, answers in picture.inside.items()
        }
        self._labels = {arrow: _wrapped(", ".join(arrow.inputs), LABEL_WIDTH) for arrow in picture.arrows}
        self._boxes = self._placed(_ordered(picture))
        self._ends = {arrow: self._line(arrow) for arrow in picture.arrows}
        self._label_boxes = self._placed_labels()
        colours = itertools.cycle(COLOURS)
        self._colours = {state: next(colours) for state in picture.inside}

    # ------------------------------------------------------------------------------------- where things are

    def _placed(self, order: Sequence[str]) -> dict[str, _Rect]:
        """Put the states on an ellipse, clockwise from the upper left, as close together as is allowed."""
        sizes = {}
        for state in order:
            lines = self._lines[state]
            height = TITLE_HEIGHT + (len(lines) * LINE_HEIGHT + PADDING if lines else 0)
            sizes[state] = (max(_width(line) for line in (state, *lines)) + 2 * PADDING, height)
        beside = GAP_BESIDE + max((_width(line) for lines in self._labels.values() for line in lines), default=0)
        first = -math.pi / 2 - math.pi / len(order)
        turns = [first + 2 * math.pi * i / len(order) for i in range(len(order))]
        across, down = 10, 10
        while True:  # ends, since the radii grow until all boxes have a gap
            boxes = {
                state: _Rect(round(across * math.cos(turn)), round(down * math.sin(turn)), *sizes[state])
                for state, turn in zip(order, turns, strict=True)
            }
            tight = [
                (abs(one.x - other.x), abs(one.y - other.y))
                for one, other in itertools.combinations(boxes.values(), 2)
                if abs(one.x - other.x) < (one.width + other.width) / 2 + beside
                and abs(one.y - other.y) < (one.height + other.height) / 2 + GAP_DOWN
            ]
            if not tight:
                return boxes
            wide, high = max(tight, key=lambda distance: abs(distance[0] / across - distance[1] / down))
            if wide / across >= high / down:
                across += 10
            else:
                down += 10

    def _line(self, arrow: _Arrow) -> tuple[Point, Point]:
        """The line of an arrow, from border to border; beside the arrow in the other direction, if there is one."""
        source, target = self._boxes[arrow.source], self._boxes[arrow.target]
        start, end = (source.x, source.y), (target.x, target.y)
        if any((other.source, other.target) == (arrow.target, arrow.source) for other in self._picture.arrows):
            nx, ny = _normal(start, end)
            start = (start[0] + nx * LANE, start[1] + ny * LANE)
            end = (end[0] + nx * LANE, end[1] + ny * LANE)
        return _leaving(source, start, end), _leaving(target, end, start)

    def _placed_labels(self) -> dict[_Arrow, _Rect]:
        """Find a place for each label: near the middle of its arrow, away from boxes, other arrows and labels."""
        placed: dict[_Arrow, _Rect] = {}
        for arrow, lines in self._labels.items():
            start, end = self._ends[arrow]
            width, height = max(map(_width, lines)), len(lines) * LINE_HEIGHT
            nx, ny = _normal(start, end)
            away = abs(nx) * width / 2 + abs(ny) * height / 2 + LABEL_DISTANCE
            choices = []
            for part, side in itertools.product(range(14, 87, 4), (1, -1)):
                x, y = _between(start, end, part / 100)
                rect = _Rect(x + nx * away * side, y + ny * away * side, width, height)
                taken = [*self._boxes.values(), *placed.values()]
                crossings = sum(rect.crossed(*ends) for other, ends in self._ends.items() if other != arrow)
                cost = 10 * sum(map(rect.overlap, taken)) + 500 * crossings + abs(part - 50) + (0 if side > 0 else 5)
                choices.append((cost, rect))
            placed[arrow] = min(choices, key=lambda choice: choice[0])[1]
        return placed

    # ------------------------------------------------------------------------------------------- as a text

    def document(self) -> str:
        """The picture."""
        initial = self._boxes[self._picture.initial]
        dot = (initial.x - initial.width / 2 - 46, initial.y)
        rects = [*self._boxes.values(), *self._label_boxes.values(), _Rect(*dot, 16, 16)]
        left = min(rect.x - rect.width / 2 for rect in rects) - MARGIN
        top = min(rect.y - rect.height / 2 for rect in rects) - MARGIN
        width = max(rect.x + rect.width / 2 for rect in rects) + MARGIN - left
        height = max(rect.y + rect.height / 2 for rect in rects) + MARGIN - top
        title = escape(f"The state machine {self._title!r}", {'"': "&quot;"})
        opening = (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{title}" width="{width:.0f}" '
            f'height="{height:.0f}" viewBox="{left:.0f} {top:.0f} {width:.0f} {height:.0f}" '
            f'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{FONT_SIZE}">'
        )
        return "\n".join(
            [
                opening,
                f"<title>{title}</title>",
                f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{height:.0f}" rx="8" fill="#ffffff"/>',
                f'<circle cx="{dot[0]:.0f}" cy="{dot[1]:.0f}" r="7" fill="#24292f"/>',
                *self._drawn_line((dot[0] + 7, dot[1]), (initial.x - initial.width / 2, initial.y), "#24292f"),
                *itertools.chain.from_iterable(
                    self._drawn_line(*self._ends[arrow], self._colours[arrow.source]) for arrow in self._ends
                ),
                *itertools.chain.from_iterable(map(self._drawn_state, self._boxes)),
                *itertools.chain.from_iterable(map(self._drawn_label, self._label_boxes)),
                "</svg>\n",
            ]
        )

    def _drawn_line(self, start: Point, end: Point, colour: str) -> Iterator[str]:
        """An arrow; its head is 10 long and 8 wide."""
        length = math.dist(start, end)
        nx, ny = _normal(start, end)
        neck = _between(end, start, 10 / length)
        wings = [(neck[0] + nx * side, neck[1] + ny * side) for side in (4, -4)]
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in (end, *wings))
        yield (
            f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{neck[0]:.1f}" y2="{neck[1]:.1f}" '
            f'stroke="{colour}" stroke-width="1.5"/>'
        )
        yield f'<polygon points="{corners}" fill="{colour}"/>'

    def _drawn_state(self, state: str) -> Iterator[str]:
        """A box: the state's name on its colour, and below it the inputs that do not leave it."""
        box, colour = self._boxes[state], self._colours[state]
        left, top = box.x - box.width / 2, box.y - box.height / 2
        dashed = ' stroke-dasharray="5 3"' if state == ANY_STATE else ""
        yield (
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" rx="6" '
            f'fill="#f6f8fa" stroke="{colour}" stroke-width="1.5"{dashed}/>'
        )
        yield (
            f'<path d="M{left:.1f} {top + TITLE_HEIGHT:.1f}v-{TITLE_HEIGHT - 6}a6 6 0 0 1 6 -6h{box.width - 12:.1f}'
            f'a6 6 0 0 1 6 6v{TITLE_HEIGHT - 6}z" fill="{colour}"/>'
        )
        yield (
            f'<text x="{box.x:.1f}" y="{top + 20:.1f}" text-anchor="middle" font-weight="bold" '
            f'fill="#ffffff">{escape(state)}</text>'
        )
        for number, line in enumerate(self._lines[state]):
            y = top + TITLE_HEIGHT + LINE_HEIGHT * (number + 1)
            indent = len(line) - len(line.lstrip())
            x = left + PADDING + indent * CHAR_WIDTH
            yield f'<text x="{x:.1f}" y="{y:.1f}" fill="#24292f">{escape(line.strip())}</text>'

    def _drawn_label(self, arrow: _Arrow) -> Iterator[str]:
        """The inputs of an arrow; a white rim keeps them readable where another arrow passes below."""
        rect = self._label_boxes[arrow]
        for number, line in enumerate(self._labels[arrow]):
            y = rect.y - rect.height / 2 + LINE_HEIGHT * number + 13
            yield (
                f'<text x="{rect.x:.1f}" y="{y:.1f}" text-anchor="middle" fill="{self._colours[arrow.source]}" '
                f'stroke="#ffffff" stroke-width="4" paint-order="stroke">{escape(line)}</text>'
            )


def _width(text: str) -> float:
    return len(text) * CHAR_WIDTH


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _normal(start: Point, end: Point) -> Point:
    """The unit vector at right angles to a line."""
    length = math.dist(start, end)
    return (end[1] - start[1]) / length, (start[0] - end[0]) / length


def _leaving(box: _Rect, inside: Point, outside: Point) -> Point:
    """Where the line from a point in a box to one outside crosses the box's border."""
    parts = []
    for axis, middle, half in ((0, box.x, box.width / 2), (1, box.y, box.height / 2)):
        way = outside[axis] - inside[axis]
        if way:
            parts.append((middle + math.copysign(half, way) - inside[axis]) / way)
    return _between(inside, outside, min(parts))


def _ordered(picture: _Picture) -> list[str]:
    """The order around the ellipse: the initial state first, and as few crossing arrows as possible."""
    rest = [state for state in picture.inside if state != picture.initial]
    orders: Iterator[tuple[str, ...]] = iter([tuple(rest)])
    if len(rest) < MAX_SORTED:
        orders = itertools.permutations(rest)  # the declared order comes first, and so wins a draw
    best = min(orders, key=lambda order: _crossings([picture.initial, *order], picture.arrows))
    return [picture.initial, *best]


def _crossings(order: Sequence[str], arrows: Sequence[_Arrow]) -> int:
    """How many pairs of arrows cross when the states stand on an ellipse in this order."""
    place = {state: number for number, state in enumerate(order)}
    chords = [sorted((place[arrow.source], place[arrow.target])) for arrow in arrows]
    return sum(a < c < b < d or c < a < d < b for (a, b), (c, d) in itertools.combinations(chords, 2))
