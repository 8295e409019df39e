"""Prometheus metrics of the whole process tree.

Every process writes its values to files below `<data>/run/metrics` (prometheus_client's multiprocess mode), and the
server's `/metrics` adds them up. `PROMETHEUS_MULTIPROC_DIR` must be in a process's environment before the library is
imported, so whoever starts the process sets it (`kernel.process`).
"""

from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

REQUESTS = Counter("millpond_http_requests_total", "HTTP requests by route and status", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "millpond_http_request_seconds",
    "Time to the end of the response",
    ["method", "route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
SPARK_CALLS = Counter("millpond_spark_calls_total", "Spark Connect calls by method and outcome", ["method", "outcome"])
ENGINES = Gauge("millpond_engine_processes", "Running engine processes", multiprocess_mode="livesum")
SERVING_WORKERS = Gauge("millpond_serving_workers", "Running model processes", multiprocess_mode="livesum")


def counted(method: str, route: str, status: int, seconds: float) -> None:
    """An HTTP request has been answered."""
    _requests(method, route, str(status)).inc()
    _request_seconds(method, route).observe(seconds)


def refused(method: str, route: str, status: int, times: int) -> None:
    """So many HTTP requests were refused in no time."""
    _requests(method, route, str(status)).inc(times)


# to find them by their labels costs the library more than to count
_requests = lru_cache(maxsize=4096)(REQUESTS.labels)
_request_seconds = lru_cache(maxsize=4096)(REQUEST_SECONDS.labels)


def render() -> bytes:
    """The metrics of all processes in Prometheus's text format."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
