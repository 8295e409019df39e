"""What one can do with instance pools."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from millpond.compute.domain import Pool
from millpond.compute.machine import Machine
from millpond.compute.store import clusters
from millpond.compute.store import policies as rows
from millpond.compute.versions import resolved
from millpond.identity import acts, grants
from millpond.identity.access import Act, Securable, allows, require
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from millpond.kernel.ids import new_id

MOST_IDLE = 32
CREATE = "allow-instance-pool-create"
"""The entitlement of who may make pools."""


@dataclass(frozen=True, kw_only=True)
class PoolStats:
    """How many instances of a pool wait, and how many clusters use."""

    idle: int = 0
    starting: int = 0
    used: int = 0


@dataclass(frozen=True, kw_only=True)
class PoolDraft:
    """What a pool is asked to be."""

    name: str
    node_type_id: str
    min_idle: int = 0
    max_capacity: int | None = None
    idle_minutes: int = 60
    tags: Mapping[str, str] = field(default_factory=dict)
    versions: tuple[str, ...] = ()


class PoolService:
    """Instance pools, for users."""

    def __init__(
        self, database: Database, machine: Machine, may_create: Callable[[Principal], bool],
        idle: Callable[[str], tuple[int, int]], wake: Callable[[], None],
    ) -> None:  # fmt: skip
        """`idle` says how many drivers of a pool wait here, and how many are being started."""
        self._database = database
        self._machine = machine
        self._may_create = may_create
        self._idle = idle
        self._wake = wake

    def create(self, principal: Principal, draft: PoolDraft) -> Pool:
        """Make a pool. Raises PermissionDenied, InvalidArgument, AlreadyExists."""
        if not self._may_create(principal):
            raise PermissionDenied(f"{principal.name} may not make instance pools; ask an administrator for {CREATE}.")
        new = Pool(id=new_id(), name="", creator=principal.name, node_type_id="", created_at=utc_now())
        pool = self._filled(new, draft)
        with self._database.write() as connection:
            rows.put_pool(connection, pool, new=True)
            acts.changed(connection, principal.name, "create", "instance pool", pool.name, object_id=pool.id)
        self._wake()
        return pool

    def edit(self, principal: Principal, pool_id: str, draft: PoolDraft) -> Pool:
        """Change a pool, all but its node type. Raises NotFound, InvalidArgument, AlreadyExists."""
        pool = self.require(principal, pool_id, Act.MANAGE)
        if draft.node_type_id != pool.node_type_id:
            raise InvalidArgument(f"The node type of a pool stays: {pool.node_type_id}.")
        changed = self._filled(pool, draft)
        with self._database.write() as connection:
            rows.put_pool(connection, changed, new=False)
            acts.changed(connection, principal.name, "update", "instance pool", changed.name, object_id=pool.id)
        self._wake()
        return changed

    def delete(self, principal: Principal, pool_id: str) -> None:
        """Remove a pool that no cluster uses. Raises NotFound, FailedPrecondition."""
        pool = self.require(principal, pool_id, Act.MANAGE)
        with self._database.write() as connection:
            if used := used_by(connection, pool_id):
                raise FailedPrecondition(f"Instance pool '{pool.name}' is used by {used} instances; end them first.")
            rows.remove_pool(connection, pool_id)
            grants.forget(connection, pool.securable.ids)
            acts.changed(connection, principal.name, "delete", "instance pool", pool.name, object_id=pool.id)
        self._wake()

    def get(self, principal: Principal, pool_id: str) -> Pool:
        """A pool. Raises NotFound."""
        return self.require(principal, pool_id, Act.SEE)

    def list_all(self, principal: Principal) -> list[Pool]:
        """The pools that the principal may see, by name."""
        with self._database.read() as connection:
            found = rows.all_pools(connection)
        return [pool for pool in found if allows(principal, Act.SEE, pool.securable)]

    def stats(self, pool: Pool) -> PoolStats:
        """How it stands."""
        idle, starting = self._idle(pool.id)
        with self._database.read() as connection:
            used = used_by(connection, pool.id)
        return PoolStats(idle=idle, starting=starting, used=used)

    def node_type(self, principal: Principal, pool_id: str) -> str:
        """The node type of a pool that the principal may take from. Raises NotFound, PermissionDenied."""
        return self.require(principal, pool_id, Act.USE).node_type_id

    def require(self, principal: Principal, pool_id: str, act: Act) -> Pool:
        """A pool to which the principal may do this. Raises NotFound, PermissionDenied."""
        with self._database.read() as connection:
            pool = find(connection, pool_id)
        require(principal, act, pool.securable)
        return pool

    def _filled(self, pool: Pool, draft: PoolDraft) -> Pool:
        if not 1 <= len(draft.name) <= 100 or "\0" in draft.name:
            raise InvalidArgument("A pool's name has 1 to 100 characters.")
        self._machine.node_type(draft.node_type_id)
        if not 0 <= draft.min_idle <= MOST_IDLE:
            raise InvalidArgument(f"min_idle_instances is 0 to {MOST_IDLE}.")
        if draft.max_capacity is not None and draft.max_capacity < max(1, draft.min_idle):
            raise InvalidArgument("max_capacity is positive, and at least min_idle_instances.")
        if len(draft.versions) > 1:
            raise InvalidArgument("A pool has at most one of preloaded_spark_versions.")
        return replace(
            pool, name=draft.name, node_type_id=draft.node_type_id, min_idle=draft.min_idle,
            max_capacity=draft.max_capacity, idle_minutes=draft.idle_minutes, tags=dict(draft.tags),
            versions=tuple(resolved(each) for each in draft.versions),
        )  # fmt: skip


def used_by(connection: Connection, pool_id: str, *, but: str = "") -> int:
    """How many instances clusters have from a pool: drivers and workers."""
    found = [each for each in clusters.every(connection) if each.spec.get("instance_pool_id") == pool_id]
    return sum(1 + each.workers for each in found if each.state.takes_room and each.id != but)


def find(connection: Connection, pool_id: str) -> Pool:
    """A pool, without a check of rights. Raises NotFound."""
    pool = rows.find_pool(connection, pool_id)
    if pool is None:
        raise NotFound(f"Instance pool '{pool_id[:80]}' does not exist.")
    return pool


def securable_of(connection: Connection, pool_id: str) -> Securable:
    """For permissions. Raises NotFound."""
    return find(connection, pool_id).securable
