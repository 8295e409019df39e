"""Clients that come at a rate, whether or not those before them have been answered, as those of the world do.

    http_rate.py HOST PORT PATH PER_SECOND WARM_S SECONDS [HEADER: VALUE]... < BODY

A process of its own. Each request takes a connection that is free, or a new one. What comes within SECONDS after the
first WARM_S counts. Prints JSON: `asked`, `answers`, `refused` (429), `errors` (by status; `unsent` where no connection
was to be had), `waiting` (without an answer at the end), `seconds`, `p50_ms` and `p99_ms` of the answers from when each
request was due.
"""

import asyncio
import json
import math
import sys
import time
from collections import Counter
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).parents[1]))

import uvloop

from bench.http_load import quantile, status_of

_MOST_CONNECTIONS = 1500


class Connection(asyncio.Protocol):
    """Has one request at a time."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._received = bytearray()
        self._due = 0.0
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class

    def send(self, due: float) -> None:
        """Send the request that is due then."""
        self._received.clear()
        self._due, self._busy = due, True
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        status = status_of(self._received)
        if status:
            self._busy = False
            self._load.done(self, status, self._due)

    def connection_lost(self, error: Exception | None) -> None:
        self._load.lost(self, "closed" if self._busy else "")


class Load:
    """All requests."""

    def __init__(self, address: tuple[str, int], request: bytes, warm_until: float) -> None:
        self.request = request
        self.latencies: list[float] = []
        self.others: Counter[str] = Counter()
        self._address = address
        self._warm_until = warm_until
        self._idle: list[Connection] = []
        self._open = 0
        self._opening: set[asyncio.Future[None]] = set()

    @property
    def waiting(self) -> int:
        """How many requests have no answer yet."""
        return self._open - len(self._idle)

    def send(self, due: float) -> None:
        """The request that is due now."""
        if self._idle:
            self._idle.pop().send(due)
        elif self._open < _MOST_CONNECTIONS:
            self._open += 1
            opening = asyncio.ensure_future(self._open_for(due))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)
        else:
            self._count("unsent")

    async def _open_for(self, due: float) -> None:
        try:
            _, made = await asyncio.get_running_loop().create_connection(lambda: Connection(self), *self._address)
        except OSError:
            self._open -= 1
            self._count("unsent")
        else:
            made.send(due)

    def done(self, connection: Connection, status: str, due: float) -> None:
        """It is answered."""
        self._idle.append(connection)
        now = time.perf_counter()
        if status != "200":
            self._count(status)
        elif now >= self._warm_until:
            self.latencies.append(now - due)

    def lost(self, connection: Connection, what: str) -> None:
        """The server closed it."""
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if what:
            self._count(what)

    def _count(self, what: str) -> None:
        if time.perf_counter() >= self._warm_until:
            self.others[what] += 1


async def run(
    address: tuple[str, int], request: bytes, rate: float, warm_s: float, seconds: float
) -> dict[str, object]:
    """What clients see that come at a rate."""
    began = time.perf_counter()
    load = Load(address, request, began + warm_s)
    sent, all_of_them = 0, int(rate * (warm_s + seconds))
    while sent < all_of_them:
        due_by_now = min(all_of_them, int((time.perf_counter() - began) * rate) + 1)
        for number in range(sent, due_by_now):
            load.send(began + number / rate)
        sent = due_by_now
        await asyncio.sleep(max(0.0, began + sent / rate - time.perf_counter()))
    took = time.perf_counter() - began - warm_s
    latencies = sorted(load.latencies)
    return {
        "asked": all_of_them - math.ceil(rate * warm_s),
        "answers": len(latencies),
        "waiting": load.waiting,
        "refused": load.others.pop("429", 0),
        "errors": dict(load.others),
        "seconds": took,
        "p50_ms": quantile(latencies, 0.5),
        "p99_ms": quantile(latencies, 0.99),
    }


def main() -> None:
    """Ask as the command line says."""
    host, port, path, rate, warm_s, seconds, *headers = sys.argv[1:]
    body = sys.stdin.buffer.read()
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}:{port}", f"Content-Length: {len(body)}", *headers]
    request = "\r\n".join([*lines, "", ""]).encode() + body
    print(json.dumps(uvloop.run(run((host, int(port)), request, float(rate), float(warm_s), float(seconds)))))


if __name__ == "__main__":
    main()
