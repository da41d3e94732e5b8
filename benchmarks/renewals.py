"""How many Lockers one factory keeps alive, when Consul answers renewals slowly, not at all, or refuses connections.

    python -m benchmarks.renewals                        # all cases, seven minutes
    python -m benchmarks.renewals --cases slow hanging   # some
    python -m benchmarks.renewals --lockers 1500 --answer 0.06 --seconds 60    # one of your own

A server of its own stands before the agent, in another process. It passes everything on, but answers renewals later,
or never. Each Locker holds one lock; counted is how many are lost.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from benchmarks.servers import agent
from consul_locker import Lease, LockerFactory, signals

#: How long all locks of a case may take to be granted, in seconds: a thousand sessions are made before.
GRANTED = 120.0

#: Connections from one address that the agent of the case "refused" accepts.
ACCEPTED = 20


class Case(NamedTuple):
    """What is measured.

    Attributes:
        lockers: how many, of one factory.
        answer: how long a renewal takes at least, in seconds.
        hangs: each so-many-th renewal is never answered; 0: none.
        seconds: how long it is watched.
        accepted: connections that the agent accepts from one address; 0: as many as it does by itself.
    """

    lockers: int
    answer: float = 0.0
    hangs: int = 0
    seconds: float = 30.0
    accepted: int = 0


CASES = {
    "slow": Case(120, answer=0.06),
    "hanging": Case(20, hangs=10, seconds=40.0),
    "many-slow": Case(1_000, answer=0.06, seconds=120.0),
    "many-hanging": Case(100, hangs=10, seconds=120.0),
    "refused": Case(60, seconds=90.0, accepted=ACCEPTED),
}


# ------------------------------------------------------------------------------- the server before the agent


async def message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """A request or an answer: its first line, and all of it."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        elif name.lower() == b"transfer-encoding":  # Consul's long answers
            return head.partition(b"\r\n")[0], head + await chunks(reader)
    return head.partition(b"\r\n")[0], head + await reader.readexactly(length)


async def chunks(reader: asyncio.StreamReader) -> bytes:
    """A body in chunks, as it came."""
    body = b""
    while True:
        size = await reader.readuntil(b"\r\n")
        body += size + await reader.readexactly(int(size, 16) + 2)
        if int(size, 16) == 0:
            return body


async def serve(host: str, port: int, answer: float, hangs: int) -> None:
    """Pass on what comes, each connection over one of its own; print the port."""
    renewals = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal renewals
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            onward, out = await asyncio.open_connection(host, port)
            with contextlib.closing(out):
                while True:
                    first, request = await message(reader)
                    if b"/session/renew/" in first:
                        renewals += 1
                        if hangs and renewals % hangs == 0:
                            await reader.read(1)  # until it is given up
                            break
                        await asyncio.sleep(answer)
                    out.write(request)
                    pending = asyncio.ensure_future(message(onward))
                    gone = asyncio.ensure_future(reader.read(1))  # a watch that is given up must not stay in the agent
                    await asyncio.wait({pending, gone}, return_when=asyncio.FIRST_COMPLETED)
                    if not pending.done():
                        pending.cancel()
                        break
                    gone.cancel()
                    await asyncio.wait({gone})
                    writer.write((await pending)[1])
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1_024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@contextlib.contextmanager
def before(url: str, case: Case) -> Iterator[str]:
    """The address of such a server, or that of the agent where there is nothing to delay."""
    if not case.answer and not case.hangs:
        yield url
        return
    arguments = ["--serve", url, "--answer", str(case.answer), "--hangs", str(case.hangs)]
    with subprocess.Popen([sys.executable, "-m", "benchmarks.renewals", *arguments], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


# ------------------------------------------------------------------------------------------------ measuring


def measured(url: str, case: Case) -> None:
    """Hold a lock with each Locker for the time of the case, and print what became of them."""
    reasons: list[str] = []

    def lost(sender: object, reason: str, **facts: Any) -> None:
        reasons.append(reason)

    signals.lock_lost.connect(lost)
    with before(url, case) as address, LockerFactory(address) as factory:
        begun = time.monotonic()
        lockers = [factory.create(f"renewals-{number}") for number in range(case.lockers)]
        calls: list[Future[Lease]] = [locker.submit_lock("1") for locker in lockers]
        leases = []
        for call in calls:
            with contextlib.suppress(Exception):  # it was lost before the others were there, or never granted
                leases.append(call.result(max(0.0, begun + GRANTED - time.monotonic())))
        took = time.monotonic() - begun
        processor, begun = time.process_time(), time.monotonic()
        threading.Event().wait(case.seconds)
        processor = (time.process_time() - processor) / (time.monotonic() - begun)
        valid = sum(lease.valid for lease in leases)
        ended = list(reasons)  # before they are stopped
        stats = [locker.stats() for locker in lockers]
        renewals, failed = (sum(one.get(what, 0) for one in stats) for what in ("renewals", "renewals_failed"))
    print(
        f"{case.lockers:>7}  {case.answer * 1000:>5.0f} ms  {case.hangs or '-':>5}  {case.accepted or '-':>8}  "
        f"{case.seconds:>4.0f} s  {took:>5.1f} s  {valid:>5}  {len(ended):>5}  {renewals:>8}  {failed:>6}  "
        f"{processor:>5.0%}",
        flush=True,
    )
    for reason in sorted(set(ended)):
        print(f"         lost: {reason}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Measure; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", help="an agent's address (default: a Consul binary is looked for, and started)")
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES), help="which (all)")
    parser.add_argument("--lockers", type=int, help="a case of your own, of so many Lockers")
    parser.add_argument("--answer", type=float, default=0.0, help="how long a renewal takes then, in seconds")
    parser.add_argument("--hangs", type=int, default=0, help="each so-many-th is never answered then (0: none)")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long it is watched (%(default)s)")
    parser.add_argument("--serve", help=argparse.SUPPRESS)  # this program as the server before an agent
    options = parser.parse_args(arguments)
    if options.serve:
        place = urlsplit(options.serve)
        assert place.hostname is not None
        assert place.port is not None
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(place.hostname, place.port, options.answer, options.hangs))
        return 0
    logging.getLogger("consul_locker").setLevel(logging.CRITICAL)  # a line for each that is lost
    cases = [CASES[name] for name in options.cases]
    if options.lockers:
        cases = [Case(options.lockers, options.answer, options.hangs, options.seconds)]
    print("lockers   renewal  hangs  accepted  watched    ready  valid   lost  renewals  failed    CPU")
    for case in cases:
        limits = f"limits {{ http_max_conns_per_client = {case.accepted} }}"
        if case.accepted and options.url:
            print("          (left out: it needs an agent of its own)")
            continue
        with agent(options.url, *(("-hcl", limits) if case.accepted else ())) as found:
            measured(found.url, case)
    return 0


if __name__ == "__main__":
    sys.exit(main())
