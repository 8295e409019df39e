"""What clusters are charged for, which is their slice for as long as they have it, and the quotas on that."""

import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from millpond.billing.domain import Measure, Product, Resource, Subject, Used
from millpond.billing.metering import Meter
from millpond.billing.quotas import QuotaService
from millpond.compute.domain import Cluster, Source
from millpond.compute.machine import Machine, Size
from millpond.compute.specs import shape_of
from millpond.compute.store import clusters as rows
from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument, NotFound

Take = Callable[[Connection], None]
"""Takes what is asked for, in the caller's transaction. Raises LimitExceeded."""


@dataclass(frozen=True, kw_only=True)
class _Held:
    subject: Subject
    size: Size
    since_s: float


class SliceMeter:
    """Meters the slices that clusters have. Thread-safe."""

    def __init__(self, meter: Meter, job_of: Callable[[int], int | None]) -> None:
        """`job_of` finds the job of a run."""
        self._meter = meter
        self._job_of = job_of
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        meter.count(self.since_last)

    def has(self, cluster: Cluster, size: Size) -> None:
        """From now on a cluster has a slice of this size."""
        held = _Held(subject=self._subject(cluster), size=size, since_s=time.monotonic())
        with self._lock:
            before, self._held[cluster.id] = self._held.get(cluster.id), held
        if before is not None:
            self._meter.note(before.subject, _used(before, held.since_s))

    def ended(self, cluster_id: str) -> None:
        """It has none any more."""
        with self._lock:
            before = self._held.pop(cluster_id, None)
        if before is not None:
            self._meter.note(before.subject, _used(before, time.monotonic()))

    def since_last(self) -> Iterator[tuple[Subject, Used]]:
        """What was had since the last time."""
        now_s = time.monotonic()
        with self._lock:
            before = self._held
            self._held = {key: replace(each, since_s=now_s) for key, each in before.items()}
        for each in before.values():
            yield each.subject, _used(each, now_s)

    def _subject(self, cluster: Cluster) -> Subject:
        job = self._job_of(cluster.run_id) if cluster.run_id is not None else None
        is_jobs = cluster.source is Source.JOB
        return Subject(
            product=Product.JOBS if is_jobs else Product.ALL_PURPOSE, run_as=cluster.creator,
            kind="job" if is_jobs else "cluster", object_id=str(job or "") if is_jobs else cluster.id,
            object_name="" if is_jobs else cluster.name, run_id=cluster.run_id, cluster_id=cluster.id,
            tags=Subject.tagged(cluster.spec.get("custom_tags")),
        )  # fmt: skip


def _used(held: _Held, now_s: float) -> Used:
    elapsed_s = now_s - held.since_s
    return {Resource.CPU: held.size.cores * elapsed_s, Resource.MEMORY: held.size.memory_mb / 1024 * elapsed_s}


class ClusterQuotas:
    """Asks quotas before a cluster gets a slice."""

    def __init__(self, quotas: QuotaService, machine: Machine, principal_named: Callable[[str], Principal]) -> None:
        self._quotas = quotas
        self._machine = machine
        self._principal_named = principal_named

    def admit(self, cluster: Cluster, *, instead_of: Cluster | None = None) -> Take | None:
        """Pass where the owner of a cluster may use more, and give what takes, in the transaction that has the cluster
        run, as many cores as it may get; None where it takes none. Both raise LimitExceeded.

        `instead_of` is what it is now, and counts already: what makes it no larger passes.
        """
        more = self._most_cores(cluster) - (self._most_cores(instead_of) if instead_of else 0)
        if instead_of is not None and more <= 0:
            return None
        try:
            owner = self._principal_named(cluster.creator)
        except NotFound:  # who is gone has no quota
            return None
        self._quotas.check(owner, tags=cluster.spec.get("custom_tags"))
        bounds = self._quotas.bounds(owner, Measure.CORES)
        return lambda connection: bounds.take(connection, self._cores, float(more))

    def _cores(self, connection: Connection, names: Collection[str]) -> float:
        found = [each for each in rows.every(connection) if not each.state.ended and each.creator in names]
        return float(sum(map(self._most_cores, found)))

    def _most_cores(self, cluster: Cluster) -> int:
        try:
            return shape_of(cluster.spec, self._machine).size(cluster.bounds[1]).cores
        except InvalidArgument:  # of a node type that is gone
            return 0
