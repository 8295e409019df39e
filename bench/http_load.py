"""Clients that ask an HTTP server the same thing over and over, each on one connection, at little cost of their own.

    http_load.py HOST PORT PATH CLIENTS SECONDS [HEADER: VALUE]... < BODY

A process of its own, so that its CPU time is nobody else's. Prints JSON: `answers`, `errors` (by status), `seconds`,
`p50_ms`, `p99_ms`, `cpu_s`.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from typing import cast

import uvloop


class Client(asyncio.Protocol):
    """Sends the request, and again when its answer is there."""

    def __init__(self, request: bytes, until: float) -> None:
        self.latencies: list[float] = []
        self.errors: Counter[str] = Counter()
        self.done = asyncio.get_running_loop().create_future()
        self._request = request
        self._until = until
        self._received = bytearray()
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        status = status_of(self._received)
        if status:
            self._answered(status)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.errors["closed"] += 1
            self.done.set_result(None)

    def _send(self) -> None:
        self._received.clear()
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def _answered(self, status: str) -> None:
        now = time.perf_counter()
        if status == "200":
            self.latencies.append(now - self._sent_at)
        else:
            self.errors[status] += 1
        if now < self._until:
            self._send()
        else:
            self.done.set_result(None)
            self._transport.close()


def status_of(received: bytearray) -> str:
    """The status of an answer that has come whole; empty for a part of one."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return ""
    head = bytes(received[:end]).lower()
    if b"content-length:" in head:
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        complete = len(received) >= end + 4 + length
    else:  # in chunks
        complete = received.endswith(b"0\r\n\r\n")
    return head[9:12].decode() if complete else ""


def quantile(ordered: list[float], share: float) -> float | None:
    """Of seconds, in milliseconds."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else None


async def run(host: str, port: int, request: bytes, clients: int, seconds: float) -> dict[str, object]:
    """What so many clients see in so many seconds."""
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    until = began + seconds
    made = [await loop.create_connection(lambda: Client(request, until), host, port) for _ in range(clients)]
    asked = [client for _, client in made]
    async with asyncio.timeout(seconds + 120):
        await asyncio.gather(*(client.done for client in asked))
    took = time.perf_counter() - began
    latencies = sorted(each for client in asked for each in client.latencies)
    errors = sum((client.errors for client in asked), Counter())
    return {
        "answers": len(latencies),
        "errors": dict(errors),
        "seconds": took,
        "p50_ms": quantile(latencies, 0.5),
        "p99_ms": quantile(latencies, 0.99),
        "cpu_s": time.process_time(),
    }


def main() -> None:
    """Ask as the command line says."""
    host, port, path, clients, seconds, *headers = sys.argv[1:]
    body = sys.stdin.buffer.read()
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}:{port}", f"Content-Length: {len(body)}", *headers]
    request = "\r\n".join([*lines, "", ""]).encode() + body
    print(json.dumps(uvloop.run(run(host, int(port), request, int(clients), float(seconds)))))


if __name__ == "__main__":
    main()
