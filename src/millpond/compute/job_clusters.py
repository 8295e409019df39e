"""Clusters for tasks of jobs: made for a run or a task, or there already; where a task's process begins."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from millpond.compute.clusters import ClusterService
from millpond.compute.domain import Cluster, Source, State, Wanted
from millpond.compute.drivers import Placement
from millpond.compute.libraries import WAITING, LibraryService
from millpond.compute.store import clusters as rows
from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, NotFound

_LOOK_S = 0.2


class JobClusters:
    """What jobs ask of clusters."""

    def __init__(
        self, database: Database, clusters: ClusterService, libraries: LibraryService,
        place: Callable[[str], AbstractContextManager[Placement]],
    ) -> None:  # fmt: skip
        self._database = database
        self._clusters = clusters
        self._libraries = libraries
        self._place = place

    def check(self, principal: Principal, wanted: Wanted) -> None:
        """Pass where somebody may have such a cluster. Raises MillpondError."""
        if wanted.spec is not None:
            self._clusters.checked(principal, wanted.spec, cluster_type="job")
        else:
            self._clusters.require_use(principal, wanted.existing_id)

    @contextmanager
    def place(
        self, principal: Principal, wanted: Wanted, *, run_id: int, task_id: int, told: Callable[[str], None],
        goes_on: Callable[[], bool],
    ) -> Iterator[Placement | None]:  # fmt: skip
        """A place on a cluster that runs, while the block does; None where nobody wants it any more. Blocks.

        `told` hears which cluster it is. Raises MillpondError.
        """
        cluster = self._cluster(principal, wanted, run_id, task_id)
        told(cluster.id)
        try:
            if not self._wait(principal, cluster.id, goes_on):
                yield None
                return
            with self._place(cluster.id) as place:
                yield place
        finally:
            if wanted.spec is not None and not wanted.key:
                with suppress(NotFound):  # somebody has deleted it
                    self._clusters.finish(self._clusters.get(principal, cluster.id))

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

    def _wait(self, principal: Principal, cluster_id: str, goes_on: Callable[[], bool]) -> bool:
        """Until it runs with its libraries; False where nobody wants it any more. One that has ended is started once.

        Raises FailedPrecondition where it ends.
        """
        started = False
        while goes_on():
            cluster = self._clusters.require_use(principal, cluster_id)
            if cluster.state.ended and not started:
                self._clusters.start(principal, cluster_id)
                started = True
            elif cluster.state.ended:
                raise FailedPrecondition(f"Cluster '{cluster_id}' did not start: {cluster.message}")
            elif cluster.state is State.RUNNING and self._has_libraries(cluster_id):
                return True
            started = started or cluster.state is State.PENDING
            time.sleep(_LOOK_S)
        return False

    def _has_libraries(self, cluster_id: str) -> bool:
        with self._database.read() as connection:
            return not any(each.status in WAITING for each in rows.libraries_of(connection, cluster_id))
