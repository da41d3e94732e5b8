"""What many clients cost one Consul, by a small model that measured costs feed: ``python -m benchmarks.scale``.

Measured is the processor time that a Consul of its own spends on each kind of request; docs/scale.rst says how to read
it. A busy machine makes requests slower, but not much dearer, so the figures hold on one.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks import bare
from benchmarks.picture import plotted, save
from benchmarks.servers import agent, cpu_of

#: How often a session is renewed, in seconds: a third of the TTL of 15 s (rule 1 of docs/safety.rst).
PERIOD = 5.0

#: As often each of so many held keys is checked (rule 2); of twice as many each is half as often, but once a minute.
FEW, MINUTE = 512, 60.0

#: How long Consul may hold a watch, in seconds.
WATCH = 300.0

#: Connections of a client that is idle, and one more where a caller waits: for renewals, for its watch, for calls.
CONNECTIONS = 3

#: How long Consul is watched while it has nothing to do, in seconds.
REST = 2.0

#: How many clients the table and the picture have.
CLIENTS = (10, 100, 1_000, 10_000, 100_000)


class Costs(NamedTuple):
    """What Consul's processor time is for each, in µs.

    Attributes:
        renewal: of a session.
        write: a transaction that locks or releases one key.
        of_many: a lock in a transaction with 64.
        poll: a watch, from its beginning to an answer that nothing has changed.
        check: a held key in a transaction of reads with 64.
    """

    renewal: float
    write: float
    of_many: float
    poll: float
    check: float

    def in_batch(self, batch: float) -> float:
        """A lock in a transaction with so many: what a transaction costs by itself, shared, and what each adds."""
        each = max(0.0, (64 * self.of_many - self.write) / 63)
        return each + (self.write - each) / batch


class Use(NamedTuple):
    """What each client, a process with one Locker, does.

    Attributes:
        title: for the table.
        held: how many locks it holds all the time.
        pairs: how many locks it takes and gives back, a second.
        batch: how many locks go together into a transaction.
        waiting: for how many locks it waits.
    """

    title: str
    held: float = 0.0
    pairs: float = 0.0
    batch: float = 1.0
    waiting: float = 0.0


USES = (
    Use("holds one lock", held=1),
    Use("holds 100 locks", held=100),
    Use("holds 10,000 locks", held=10_000),
    Use("takes one each 10 s", pairs=0.1),
    Use("takes one a second", pairs=1),
    Use("takes 100 a second, 20 together", pairs=100, batch=20),
    Use("waits for one", waiting=1),
)


class Load(NamedTuple):
    """What clients are for one Consul: a second, but for what is open all the time, and cores of processors."""

    renewals: float
    polls: float
    writes: float
    checks: float
    connections: float
    cores: float


def load(use: Use, clients: int, costs: Costs) -> Load:
    """What so many clients of a kind cost."""
    renewals = clients / PERIOD
    checks = clients * use.held / min(PERIOD * max(1, math.ceil(use.held / FEW)), MINUTE)
    polls = clients * (1 + use.waiting)  # one on the session
    locks = clients * use.pairs * 2  # the release is a write, too
    spent = renewals * costs.renewal + polls / WATCH * costs.poll + checks * costs.check
    spent += locks * costs.in_batch(use.batch)
    connections = clients * (CONNECTIONS + use.waiting)
    return Load(renewals, polls, locks / use.batch, checks, connections, spent / 1e6)


def measured(url: str, process: int, times: int) -> Costs:
    """What each costs this Consul."""
    host, port = bare.place_of(url)
    connection = http.client.HTTPConnection(host, port, timeout=60)

    def ask(method: str, path: str, body: bytes | None = None) -> tuple[bytes, int]:
        connection.request(method, path, body)
        answer = connection.getresponse()
        found = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {found!r:.200}")
        return found, int(answer.headers.get("X-Consul-Index", "0"))

    def each(request: Callable[[int], object], count: int) -> float:
        before, begun = cpu_of(process), time.monotonic()
        for number in range(count):
            request(number)
        spent = cpu_of(process) - before - resting * (time.monotonic() - begun)
        return max(0.0, spent / count * 1e6)

    before = cpu_of(process)
    time.sleep(REST)
    resting = (cpu_of(process) - before) / REST

    with bare.session_at(url) as (name, session):

        def lock(keys: Sequence[str]) -> None:
            # What goes over the wire is what the bare loop sends; its head is http.client's here.
            ask("PUT", "/v1/txn", bare.encoded(list(keys), session).partition(b"\r\n\r\n")[2])

        def key(number: int) -> str:
            return f"{name}/{number}/lock"

        def poll(_: int) -> None:
            ask("GET", f"/v1/kv/{key(0)}?index={index}&wait=5ms")

        held = [key(number) for number in range(64)]
        lock(held)
        index = ask("GET", f"/v1/kv/{key(0)}")[1]
        operations = [{"Verb": "check-index", "Key": one, "Index": index} for one in held]
        check = json.dumps([{"KV": one} for one in operations]).encode()
        return Costs(
            renewal=each(lambda _: ask("PUT", f"/v1/session/renew/{session}"), times),
            write=each(lambda number: lock([key(1_000 + number)]), times),
            of_many=each(lambda number: lock([key(10**6 + 64 * number + one) for one in range(64)]), times // 16) / 64,
            poll=each(poll, times // 4),
            check=each(lambda _: ask("PUT", "/v1/txn", check), times // 8) / len(held),
        )


def table(costs: Costs) -> Table:
    """What each kind of client costs, by their number."""
    found = Table(title="What clients cost one Consul", title_justify="left", box=SIMPLE)
    found.add_column("each client", no_wrap=True)
    for name in ("clients", "renewals/s", "watches", "writes/s", "checks/s", "connections", "cores"):
        found.add_column(name, justify="right")
    for use in USES:
        for clients in CLIENTS:
            one = load(use, clients, costs)
            counts = (one.renewals, one.polls, one.writes, one.checks, one.connections)
            found.add_row(use.title, f"{clients:,}", *(f"{count:,.0f}" for count in counts), f"{one.cores:,.3g}")
    return found


def draw(costs: Costs, path: Path) -> None:
    """Draw the cores, by the number of clients.

    Raises:
        ImportError: matplotlib is not installed.
    """
    plt = plotted()
    figure, axes = plt.subplots(figsize=(7, 4))
    for use in USES:
        axes.plot(CLIENTS, [load(use, clients, costs).cores for clients in CLIENTS], marker="o", label=use.title)
    axes.axhline(1, color="#9a9a9a", linestyle=":", label="one core")
    axes.set(xscale="log", yscale="log", xlabel="clients", ylabel="cores of Consul")
    axes.legend(fontsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    save(figure, path)
    plt.close(figure)


def main(given: list[str] | None = None) -> int:
    """Measure, and show what follows; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--disk", action="store_true", help="Consul has its Raft log on disk")
    parser.add_argument("--times", type=int, default=4_000, help="how often the cheap ones are asked (%(default)s)")
    given_costs = f"in µs, instead of measuring: {', '.join(Costs._fields)}"
    parser.add_argument("--costs", type=float, nargs=5, metavar="US", help=given_costs)
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw it there (needs matplotlib)")
    options = parser.parse_args(given)
    console = Console(width=None if sys.stdout.isatty() else 120)
    if options.costs:
        costs = Costs(*options.costs)
    else:
        with agent(None, disk=options.disk) as found:
            assert found.process is not None
            costs = measured(found.url, found.process, options.times)
    said = ", ".join(f"{name} {value:.1f}" for name, value in costs._asdict().items())
    console.print(f"Consul's processor time, in µs: {said}", highlight=False)
    console.print(table(costs))
    if options.svg is not None:
        draw(costs, options.svg)
    return 0


if __name__ == "__main__":
    sys.exit(main())
