"""What the gateway asks of clusters."""

from datetime import timedelta
from pathlib import Path

from millpond.compute.clusters import find
from millpond.compute.domain import Cluster, State
from millpond.compute.machine import Machine
from millpond.compute.monitor import ENGINES
from millpond.compute.specs import check_single_user, of_sessions, shape_of
from millpond.compute.store import clusters as rows
from millpond.engine.slices import Slice
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition

_NOTED_EVERY = timedelta(seconds=20)


class ClusterSlices:
    """Slices of clusters that run on this machine."""

    def __init__(self, database: Database, machine: Machine, directory: Path, *, server: str) -> None:
        self._database = database
        self._server = server
        self._machine = machine
        self._directory = directory

    def attach(self, principal: Principal, cluster_id: str) -> Slice:
        """The slice of a cluster that runs, and to which somebody may attach; it is used. Blocks.

        Raises NotFound, PermissionDenied, FailedPrecondition.
        """
        with self._database.read() as connection:
            cluster = find(connection, cluster_id)
        require(principal, Act.USE, cluster.securable)
        check_single_user(cluster.spec, cluster.id, principal.name)
        if cluster.state not in (State.RUNNING, State.RESIZING):
            raise FailedPrecondition(f"Cluster '{cluster_id}' is {cluster.state}, not RUNNING; start it first.")
        if cluster.server != self._server:
            raise FailedPrecondition(f"Cluster '{cluster_id}' runs on another server; connect to that one.")
        self._note_use(cluster)
        size = shape_of(cluster.spec, self._machine).size(cluster.workers)
        return Slice(
            id=f"{cluster.id}:{cluster.starts}", memory_bytes=size.memory_mb << 20, settings=of_sessions(cluster.spec),
            engines=self._directory / cluster.id / ENGINES,
        )  # fmt: skip

    def _note_use(self, cluster: Cluster) -> None:
        now = utc_now()
        if now - cluster.used_at > _NOTED_EVERY:
            with self._database.write() as connection:
                rows.use(connection, cluster.id, now)
