"""What is counted about served models, and the part of it that belongs to one endpoint."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Protocol

import psutil
from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

REQUESTS = Counter(
    "millpond_serving_requests_total", "Predictions by outcome", ["endpoint", "served_model", "version", "status"]
)
SECONDS = Histogram(
    "millpond_serving_request_seconds",
    "Time from the request's arrival at the queue to the model's answer",
    ["endpoint", "served_model", "version"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
FIRST_PART_SECONDS = Histogram(
    "millpond_serving_first_part_seconds",
    "Time from the arrival of a request to the first part of its streamed answer",
    ["endpoint", "served_model", "version"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
RESTARTS = Counter("millpond_serving_restarts_total", "Workers started in place of one that ended", ["endpoint"])
LIMITED = Counter("millpond_serving_rate_limited_total", "Requests over a rate limit", ["endpoint"])
COLD_STARTS = Histogram(
    "millpond_serving_cold_start_seconds",
    "Time from the request that found no process to the first process that answers",
    ["endpoint", "served_model"],
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120),
)
SHADOWS = Counter(
    "millpond_serving_shadow_total", "Copies of requests by how their answers compare",
    ["endpoint", "served_model", "outcome"],
)  # fmt: skip
_OF_POOL = ("endpoint", "served_model", "version")
_OF_REPLICA = (*_OF_POOL, "replica")


# to find them by their labels costs the library more than to count
_requests = lru_cache(maxsize=4096)(REQUESTS.labels)
_seconds = lru_cache(maxsize=4096)(SECONDS.labels)


def counted(endpoint: str, served_model: str, version: str, status: str, seconds: float) -> None:
    """A request for a prediction has an outcome."""
    _requests(endpoint, served_model, version, status).inc()
    _seconds(endpoint, served_model, version).observe(seconds)


def refused(endpoint: str, served_model: str, version: str) -> None:
    """There was no time for a request."""
    _requests(endpoint, served_model, version, "429").inc()


class PoolView(Protocol):
    """A served entity's processes, as they are told of."""

    @property
    def waiting(self) -> int:
        """Requests for which no process is free."""

    @property
    def pids(self) -> dict[int, int | None]:
        """The process of each replica, by its number; None of one that is being started."""


class Pools(Protocol):
    """Who knows all pools."""

    def pools(self) -> Iterable[tuple[tuple[str, str, str], PoolView]]:
        """Each with the names of its endpoint and served entity, and the version."""


class _OfEndpoint(Collector):
    """The samples that carry one endpoint's name."""

    def __init__(self, source: Collector, endpoint: str) -> None:
        self._source = source
        self._endpoint = endpoint

    def collect(self) -> Iterator[Metric]:
        """The families with only that endpoint's samples."""
        for family in self._source.collect():
            samples = [sample for sample in family.samples if sample.labels.get("endpoint") == self._endpoint]
            if samples:
                part = Metric(family.name, family.documentation, family.type)
                part.samples = samples
                yield part


class PoolCollector(Collector):
    """The pools as they are now."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    def collect(self) -> Iterator[Metric]:
        """Replicas, the queue, and what each process has used."""
        replicas = GaugeMetricFamily("millpond_serving_replicas", "Processes that answer", labels=_OF_POOL)
        starting = GaugeMetricFamily("millpond_serving_replicas_starting", "Processes not ready yet", labels=_OF_POOL)
        waiting = GaugeMetricFamily("millpond_serving_waiting_requests", "Requests in the queue", labels=_OF_POOL)
        cpu = CounterMetricFamily("millpond_serving_replica_cpu_seconds", "CPU time of a process", labels=_OF_REPLICA)
        memory = GaugeMetricFamily(
            "millpond_serving_replica_memory_bytes", "Resident memory of a process", labels=_OF_REPLICA
        )
        for names, pool in self._pools.pools():
            running = {number: pid for number, pid in pool.pids.items() if pid is not None}
            replicas.add_metric(names, len(running))
            starting.add_metric(names, len(pool.pids) - len(running))
            waiting.add_metric(names, pool.waiting)
            for number, pid in running.items():
                with suppress(psutil.Error):  # it has just ended
                    process = psutil.Process(pid)
                    times, resident = process.cpu_times(), process.memory_info().rss
                    cpu.add_metric((*names, str(number)), times.user + times.system)
                    memory.add_metric((*names, str(number)), resident)
        yield from (replicas, starting, waiting, cpu, memory)


def render_endpoint(endpoint: str, pools: Pools) -> bytes:
    """One endpoint's metrics in Prometheus's text format."""
    registry = CollectorRegistry()
    several_processes = "PROMETHEUS_MULTIPROC_DIR" in os.environ
    source: Collector = MultiProcessCollector(None) if several_processes else REGISTRY  # type: ignore[no-untyped-call]
    registry.register(_OfEndpoint(source, endpoint))
    registry.register(_OfEndpoint(PoolCollector(pools), endpoint))
    return generate_latest(registry)


def render_pools(pools: Pools) -> bytes:
    """What the pools of all endpoints do, beside what is counted."""
    registry = CollectorRegistry()
    registry.register(PoolCollector(pools))
    return generate_latest(registry)
