"""What a server takes for the requests of a client, which are kept and sent again by plain HTTP, without the client."""

import http.client
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter

from bench.peers import cpu_s

_ROUNDS = 12
"""Sides take turns, as other work on the machine comes and goes."""


@dataclass
class Kept:
    """Requests of one call of a client, and milliseconds that it waited for their answers."""

    requests: list[Any] = field(default_factory=list)
    waits_ms: list[float] = field(default_factory=list)


@contextmanager
def kept() -> Iterator[Kept]:
    """Keep what `requests` sends inside the block."""
    found = Kept()
    send = HTTPAdapter.send

    def timed(adapter: HTTPAdapter, request: Any, **options: Any) -> Any:
        began = time.perf_counter()
        answer = send(adapter, request, **options)
        assert answer.content is not None  # all of it is here
        found.requests.append(request)
        found.waits_ms.append((time.perf_counter() - began) * 1000)
        return answer

    HTTPAdapter.send = timed  # type: ignore[method-assign]
    try:
        yield found
    finally:
        HTTPAdapter.send = send  # type: ignore[method-assign]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a server took for a call."""

    least_ms: float
    cpu_ms: float
    """Of its processes and of those of its database, on average."""


def replayed(calls: Sequence[Sequence[Sequence[Any]]], pids: Sequence[Sequence[int]], enough_s: float) -> list[Taken]:
    """Send each side's calls again, the sides in turn, for no longer than that; what each took."""
    times: list[list[float]] = [[] for _ in calls]
    used_s = [0.0 for _ in calls]
    began = time.perf_counter()
    for _ in range(_ROUNDS):
        for side, its_calls in enumerate(calls):
            before_s = _cpu_s(pids[side])
            times[side] += _times(its_calls)
            used_s[side] += _cpu_s(pids[side]) - before_s
        if time.perf_counter() - began > enough_s:
            break
    return [Taken(least_ms=min(each), cpu_ms=1000 * cpu / len(each)) for each, cpu in zip(times, used_s, strict=True)]


def _cpu_s(pids: Sequence[int]) -> float:
    return sum(map(cpu_s, pids))


def _times(calls: Sequence[Sequence[Any]]) -> list[float]:
    connection = http.client.HTTPConnection(urlsplit(calls[0][0].url).netloc)
    times = []
    for requests in calls:
        began = time.perf_counter()
        for request in requests:
            connection.request(request.method, request.path_url, request.body, dict(request.headers))
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
        times.append((time.perf_counter() - began) * 1000)
    connection.close()
    return times
