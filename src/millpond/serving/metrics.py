"""What is counted about served models, and the part of it that belongs to one endpoint."""

import os
from collections.abc import Iterator

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

REQUESTS = Counter("millpond_serving_requests_total", "Predictions by outcome", ["endpoint", "served_model", "status"])
SECONDS = Histogram(
    "millpond_serving_request_seconds",
    "Time from the request's arrival at the queue to the model's answer",
    ["endpoint", "served_model"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
RESTARTS = Counter("millpond_serving_restarts_total", "Workers started in place of one that ended", ["endpoint"])


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


def render_endpoint(endpoint: str) -> bytes:
    """One endpoint's metrics in Prometheus's text format."""
    registry = CollectorRegistry()
    several_processes = "PROMETHEUS_MULTIPROC_DIR" in os.environ
    source: Collector = MultiProcessCollector(None) if several_processes else REGISTRY  # type: ignore[no-untyped-call]
    registry.register(_OfEndpoint(source, endpoint))
    return generate_latest(registry)
