"""The last half hour of what is measured, kept in this server's memory for the pages: a moment every five seconds.

Counters only grow, so a moment is the difference of two looks at them; nothing is counted on a request's way.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from millpond.serving.metrics import REQUESTS, SECONDS, PoolCollector, Pools

LOOK_S = 5
_KEPT = 360
_MOST_ENTITIES = 500
_FIRST_ERROR = 400

Key = tuple[str, str, str]
"""The names of an endpoint and a served entity, and the version of its model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """What a served entity did in a few seconds, on this server."""

    at_ms: int
    requests_per_s: float
    errors_per_s: float
    p50_ms: float | None
    """None without a request."""
    p99_ms: float | None
    waiting: int
    replicas: int
    cpu: float
    """Cores that its processes used."""
    memory_bytes: int


@dataclass(kw_only=True)
class _Totals:
    requests: float = 0
    errors: float = 0
    buckets: dict[float, float] | None = None
    """How many requests took at most so long, by seconds."""
    cpu_s: float = 0
    waiting: int = 0
    replicas: int = 0
    memory_bytes: int = 0


class History:
    """Moments of served entities, by endpoint. `look` is called by one thread."""

    def __init__(self, pools: Pools) -> None:
        self._sources: tuple[Collector, ...] = (REQUESTS, SECONDS, PoolCollector(pools))
        self._pools = pools
        self._before: dict[Key, _Totals] = {}
        self._looked_s: float | None = None
        self._moments: dict[Key, deque[Moment]] = {}

    def look(self, now_s: float) -> None:
        """Take a moment of each entity that answers now; others are forgotten."""
        served = [names for names, _ in self._pools.pools()][:_MOST_ENTITIES]
        totals = _totals(family for source in self._sources for family in source.collect())
        if self._looked_s is not None:
            passed_s = now_s - self._looked_s
            for key in served:
                now, before = totals.get(key, _Totals()), self._before.get(key)
                if before is not None and passed_s > 0:
                    kept = self._moments.setdefault(key, deque(maxlen=_KEPT))
                    kept.append(moment(before, now, passed_s, at_ms=int(now_s * 1000)))
        self._moments = {key: moments for key, moments in self._moments.items() if key in served}
        self._before = {key: totals.get(key, _Totals()) for key in served}
        self._looked_s = now_s

    def of(self, endpoint: str) -> Mapping[Key, Sequence[Moment]]:
        """The moments of an endpoint's entities, oldest first."""
        return {key: list(moments) for key, moments in list(self._moments.items()) if key[0] == endpoint}


def _totals(families: Iterable[Metric]) -> dict[Key, _Totals]:
    found: dict[Key, _Totals] = {}
    for family in families:
        for sample in family.samples:
            labels = sample.labels
            key = (labels.get("endpoint", ""), labels.get("served_model", ""), labels.get("version", ""))
            _count(found.setdefault(key, _Totals()), sample.name, labels, sample.value)
    return found


def _count(totals: _Totals, name: str, labels: Mapping[str, str], value: float) -> None:
    match name.removeprefix("millpond_serving_"):
        case "requests_total":
            totals.requests += value
            totals.errors += value if int(labels["status"]) >= _FIRST_ERROR else 0
        case "request_seconds_bucket":
            totals.buckets = {**(totals.buckets or {}), float(labels["le"]): value}
        case "replicas":
            totals.replicas += int(value)
        case "waiting_requests":
            totals.waiting += int(value)
        case "replica_cpu_seconds_total" | "replica_cpu_seconds":
            totals.cpu_s += value
        case "replica_memory_bytes":
            totals.memory_bytes += int(value)


def moment(before: _Totals, now: _Totals, passed_s: float, *, at_ms: int) -> Moment:
    """What happened between two looks."""
    known = before.buckets or {}
    buckets = {limit: count - known.get(limit, 0) for limit, count in (now.buckets or {}).items()}
    return Moment(
        at_ms=at_ms,
        requests_per_s=max(0.0, now.requests - before.requests) / passed_s,
        errors_per_s=max(0.0, now.errors - before.errors) / passed_s,
        p50_ms=quantile_ms(buckets, 0.5),
        p99_ms=quantile_ms(buckets, 0.99),
        waiting=now.waiting,
        replicas=now.replicas,
        cpu=max(0.0, now.cpu_s - before.cpu_s) / passed_s,  # a process that has ended takes its time along
        memory_bytes=now.memory_bytes,
    )


def quantile_ms(buckets: Mapping[float, float], share: float) -> float | None:
    """A quantile by the upper limits of buckets and how many are at or below them, evenly spread within each.

    Source: Prometheus, `histogram_quantile`: of what is above the last limit, that limit.
    """
    limits = sorted(buckets)
    total = buckets[limits[-1]] if limits else 0
    if total <= 0:
        return None
    wanted, lower, below = share * total, 0.0, 0.0
    for limit in limits:
        if buckets[limit] >= wanted and buckets[limit] > below:
            if limit == float("inf"):
                break
            return 1000 * (lower + (limit - lower) * (wanted - below) / (buckets[limit] - below))
        lower, below = limit, buckets[limit]
    return 1000 * max((limit for limit in limits if limit != float("inf")), default=0.0)
