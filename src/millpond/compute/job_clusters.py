"""Clusters for tasks of jobs: made for a run or a task, or there already; where a task's process begins."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta

from millpond.compute.clusters import ClusterService
from millpond.compute.domain import SUCCESS, Cluster, Source, State, Wanted
from millpond.compute.drivers import Placement
from millpond.compute.libraries import WAITING, LibraryService
from millpond.compute.store import clusters as rows
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, NotFound

_USED_EVERY = timedelta(seconds=30)


class WasEnded(FailedPrecondition):
    """A cluster that is there already was ended by somebody, or as nobody used it; it can be started again."""


class JobClusters:
    """What jobs ask of clusters."""

    def __init__(
        self, database: Database, clusters: ClusterService, libraries: LibraryService,
        place: Callable[[str], AbstractContextManager[Placement]], server: str,
    ) -> None:  # fmt: skip
        self._database = database
        self._clusters = clusters
        self._libraries = libraries
        self._place = place
        self._server = server

    def check(self, principal: Principal, wanted: Wanted) -> None:
        """Pass where somebody may have such a cluster. Raises MillpondError."""
        if wanted.spec is not None:
            self._clusters.checked(principal, wanted.spec, cluster_type="job")
        else:
            self._clusters.require_use(principal, wanted.existing_id)

    def assign(self, principal: Principal, wanted: Wanted, *, run_id: int, task_id: int) -> tuple[str, bool]:
        """The cluster for a task, and whether it was started for it, as one is that has ended. Waits for nothing.
        Raises MillpondError."""
        cluster = self._cluster(principal, wanted, run_id, task_id)
        if cluster.state.ended:
            with suppress(FailedPrecondition):  # somebody else has started it
                self._clusters.start(principal, cluster.id)
                return cluster.id, True
        return cluster.id, False

    def settled(self, cluster_ids: Iterable[str]) -> set[str]:
        """Those of some clusters for which nobody need wait: they run on this server with their libraries, or have
        ended, or are gone."""
        with self._database.read() as connection:
            found = {each: rows.find(connection, each) for each in set(cluster_ids)}
            return {
                key
                for key, cluster in found.items()
                if cluster is None
                or cluster.removed
                or cluster.state.ended
                or (
                    cluster.state is State.RUNNING
                    and cluster.server == self._server
                    and not any(each.status in WAITING for each in rows.libraries_of(connection, key))
                )
            }

    def keep(self, cluster_ids: Iterable[str]) -> None:
        """Tasks wait for some clusters, which so are in use."""
        now = utc_now()
        with self._database.read() as connection:
            found = [rows.find(connection, each) for each in set(cluster_ids)]
        idle = [each for each in found if each and each.state is State.RUNNING and now - each.used_at > _USED_EVERY]
        if idle:
            with self._database.write() as connection:
                for cluster in idle:
                    rows.use(connection, cluster.id, now)

    @contextmanager
    def place(self, principal: Principal, wanted: Wanted, cluster_id: str) -> Iterator[Placement]:
        """A place on the cluster that was assigned, while the block runs. Raises MillpondError where it has ended."""
        try:
            cluster = self._clusters.require_use(principal, cluster_id)
            ends = cluster.state.ended or cluster.state is State.TERMINATING
            if ends and wanted.spec is None and cluster.termination.get("type") == SUCCESS:
                raise WasEnded(f"Cluster '{cluster_id}' was ended before the task began: {cluster.message}")
            if cluster.state.ended:
                raise FailedPrecondition(f"Cluster '{cluster_id}' did not start: {cluster.message}")
            with self._place(cluster_id) as place:
                yield place
        finally:
            if wanted.spec is not None and not wanted.key:
                with suppress(NotFound):  # somebody has deleted it
                    self._clusters.finish(self._clusters.get(principal, cluster_id))

    def _cluster(self, principal: Principal, wanted: Wanted, run_id: int, task_id: int) -> Cluster:
        if wanted.spec is None:
            return self._clusters.require_use(principal, wanted.existing_id)
        token = f"run:{run_id}:{wanted.key}" if wanted.key else f"task:{task_id}"
        name = f"job-run-{run_id}-{wanted.key or task_id}"
        cluster = self._clusters.create(
            principal, {"cluster_name": name, **wanted.spec}, source=Source.JOB, run_id=run_id, token=token
        )
        self._libraries.install_of_policy(cluster)
        return cluster
