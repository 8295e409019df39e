"""Clients that come at a rate, whether or not those before them have been answered, as those of the world do.

    http_rate.py HOST PORT PATH PER_SECOND WARM_S SECONDS [HEADER: VALUE]... < BODY

A process of its own. Each request takes a connection that is free, or a new one. Prints JSON: `answers`, `refused`
(429), `errors` (by status; `unsent` where no connection was to be had), `seconds`, `p50_ms` and `p99_ms` of the answers
from when each request was due; without those that were due in the first WARM_S.
"""

import asyncio
import json
import sys
import time
from collections import Counter

_MOST_CONNECTIONS = 1500


class Connection(asyncio.Protocol):
    """Has one request at a time."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._received = bytearray()
        self._due = 0.0
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, due: float) -> None:
        """Send the request that is due then."""
        self._received.clear()
        self._due, self._busy = due, True
        self._transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end]).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self._received) >= end + 4 + length:
            self._busy = False
            self._load.done(self, head[9:12].decode(), self._due)

    def connection_lost(self, error: Exception | None) -> None:
        self._load.lost(self, "closed" if self._busy else "", self._due)


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

    async def send(self, due: float) -> None:
        """The request that is due now."""
        if self._idle:
            self._idle.pop().send(due)
        elif self._open < _MOST_CONNECTIONS:
            self._open += 1
            try:
                _, made = await asyncio.get_running_loop().create_connection(lambda: Connection(self), *self._address)
            except OSError:
                self._open -= 1
                self._count("unsent", due)
            else:
                made.send(due)
        else:
            self._count("unsent", due)

    def done(self, connection: Connection, status: str, due: float) -> None:
        """It is answered."""
        self._idle.append(connection)
        if status == "200" and due >= self._warm_until:
            self.latencies.append(time.perf_counter() - due)
        elif status != "200":
            self._count(status, due)

    def lost(self, connection: Connection, what: str, due: float) -> None:
        """The server closed it."""
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)
        if what:
            self._count(what, due)

    def _count(self, what: str, due: float) -> None:
        if due >= self._warm_until:
            self.others[what] += 1


async def run(
    address: tuple[str, int], request: bytes, rate: float, warm_s: float, seconds: float
) -> dict[str, object]:
    """What clients see that come at a rate."""
    began = time.perf_counter()
    load = Load(address, request, began + warm_s)
    going: set[asyncio.Task[None]] = set()
    for number in range(int(rate * (warm_s + seconds))):
        due = began + number / rate
        if (left := due - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        elif not number % 50:
            await asyncio.sleep(0)
        task = asyncio.create_task(load.send(due))
        going.add(task)
        task.add_done_callback(going.discard)
    took = time.perf_counter() - began - warm_s
    await asyncio.sleep(5)  # what is late counts as an answer, late
    latencies = sorted(load.latencies)
    return {
        "answers": len(latencies),
        "refused": load.others.pop("429", 0),
        "errors": dict(load.others),
        "seconds": took,
        "p50_ms": _quantile(latencies, 0.5),
        "p99_ms": _quantile(latencies, 0.99),
    }


def _quantile(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else None


def main() -> None:
    """Ask as the command line says."""
    host, port, path, rate, warm_s, seconds, *headers = sys.argv[1:]
    body = sys.stdin.buffer.read()
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}:{port}", f"Content-Length: {len(body)}", *headers]
    request = "\r\n".join([*lines, "", ""]).encode() + body
    print(json.dumps(asyncio.run(run((host, int(port)), request, float(rate), float(warm_s), float(seconds)))))


if __name__ == "__main__":
    main()
