"""The rates of a run, drawn as SVG by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.suite import Run
from benchmarks.workloads import ASYNCIO, BARE, NODE, PEERS, PYTHON, REDIS, THREADS, UVLOOP, WRK

#: Ours are dark; the bare loop, which is no library, is grey.
COLOURS = {
    THREADS: "#1f4e8c", ASYNCIO: "#3b82c4", UVLOOP: "#8ab8e6", BARE: "#9a9a9a", WRK: "#c9a227", PYTHON: "#c4623b",
    NODE: "#5b9a4b", REDIS: "#a83244",
}  # fmt: skip


def plotted() -> Any:
    """matplotlib's pyplot, set up to write SVG that is the same each time and has its text as text."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "consul_locker", "font.size": 9})
    return plt


def save(figure: Any, path: Path) -> None:
    """Write a figure, without the date."""
    figure.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None})


def draw(run: Run, path: Path) -> bool:
    """Draw the rates of all workloads that a peer has, too, on a logarithmic scale.

    Returns:
        False when there is nothing to draw.

    Raises:
        ImportError: matplotlib is not installed.
    """
    rows: list[tuple[str, str, float]] = []
    for workload in run.workloads:
        rates = [(one.name, run.median((workload.name, one.name), "rate")) for one in workload.contestants]
        if any(name in PEERS and rate is not None for name, rate in rates):
            rows += [(workload.title, name, rate) for name, rate in rates if rate is not None]
    if not rows:
        return False
    plt = plotted()
    places, labels, at = list[float](), dict[str, list[float]](), 0.0
    for number, (title, _, _) in enumerate(rows):
        at += 0.7 if number and rows[number - 1][0] != title else 0.0
        places.append(at)
        labels.setdefault(title, []).append(at)
        at += 1.0
    figure, axes = plt.subplots(figsize=(8, 0.2 * at + 1))
    axes.barh(places, [rate for *_, rate in rows], color=[COLOURS[name] for _, name, _ in rows], height=0.9)
    for place, (_, name, rate) in zip(places, rows, strict=True):
        axes.text(rate, place, f" {name} {rate:,.0f}", va="center", fontsize=7)
    axes.set_yticks([sum(each) / len(each) for each in labels.values()], list(labels))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(right=max(rate for *_, rate in rows) * 4)
    axes.set_xlabel(f"a second{', Consul with its log on disk' if run.disk else ''}")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(left=False)
    save(figure, path)
    plt.close(figure)
    return True
