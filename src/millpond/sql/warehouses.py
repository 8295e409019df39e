"""What one can do with warehouses."""

import time
from collections.abc import Callable
from dataclasses import replace

from millpond.identity import acts, grants
from millpond.identity.access import WORKSPACE, Act, allows, require
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import NotFound
from millpond.kernel.ids import new_id
from millpond.sql.domain import Failure, Warehouse, WarehouseSpec, WarehouseState, checked_spec
from millpond.sql.runtime import Runtime
from millpond.sql.sessions import Sessions
from millpond.sql.store import warehouses as rows

_STOPPED = Failure(code="ABORTED", message="The warehouse was stopped while the statement ran; run it again.")
_ONE_MINUTE_S = 60


class WarehouseService:
    """Warehouses, for users. Every method blocks."""

    def __init__(self, database: Database, runtime: Runtime, sessions: Sessions) -> None:
        self._database = database
        self._runtime = runtime
        self._sessions = sessions
        self._since = time.monotonic()

    def get(self, principal: Principal, warehouse_id: str) -> Warehouse:
        """A warehouse. Raises NotFound."""
        return self.require(principal, warehouse_id, Act.SEE)

    def list_all(self, principal: Principal) -> tuple[Warehouse, ...]:
        """The warehouses that the principal may see, by name."""
        with self._database.read() as connection:
            found = rows.list_all(connection)
        return tuple(warehouse for warehouse in found if allows(principal, Act.SEE, warehouse.securable))

    def count_sessions(self, warehouse: Warehouse) -> int:
        """Sessions that clients hold open in a warehouse."""
        return self._sessions.count(warehouse.id)

    def create(self, principal: Principal, spec: WarehouseSpec) -> Warehouse:
        """Make a warehouse, which runs at once. Raises InvalidArgument, AlreadyExists."""
        require(principal, Act.CREATE_IN, WORKSPACE)
        warehouse = Warehouse(
            id=new_id(),
            creator=principal.name,
            state=WarehouseState.RUNNING,
            spec=checked_spec(spec),
            created_at=utc_now(),
        )
        with self._database.write() as connection:
            rows.add(connection, warehouse)
            acts.changed(connection, principal.name, "create", "warehouse", spec.name)
        return warehouse

    def edit(
        self, principal: Principal, warehouse_id: str, change: Callable[[WarehouseSpec], WarehouseSpec]
    ) -> Warehouse:
        """Change a warehouse's specification. Raises NotFound, InvalidArgument, AlreadyExists."""
        warehouse = self.require(principal, warehouse_id, Act.MANAGE)
        changed = replace(warehouse, spec=checked_spec(change(warehouse.spec)))
        with self._database.write() as connection:
            if not rows.change(connection, warehouse_id, changed.spec):
                raise _missing(warehouse_id)
            acts.changed(connection, principal.name, "update", "warehouse", changed.spec.name)
        return changed

    def start(self, principal: Principal, warehouse_id: str) -> None:
        """Start a warehouse; harmless when it runs. Raises NotFound."""
        warehouse = self.require(principal, warehouse_id, Act.USE)
        self._set_state(principal.name, warehouse, WarehouseState.RUNNING)

    def stop(self, principal: Principal, warehouse_id: str) -> None:
        """Stop a warehouse, with all that runs in it; the next statement starts it again. Raises NotFound."""
        warehouse = self.require(principal, warehouse_id, Act.MANAGE)
        self._stop(principal.name, warehouse)

    def delete(self, principal: Principal, warehouse_id: str) -> None:
        """Remove a warehouse, with all that runs in it. Raises NotFound."""
        warehouse = self.require(principal, warehouse_id, Act.MANAGE)
        with self._database.write() as connection:
            rows.remove(connection, warehouse_id)
            grants.forget(connection, warehouse.securable.ids)
            acts.changed(connection, principal.name, "delete", "warehouse", warehouse.spec.name)
        self._end_all(warehouse)

    def require(self, principal: Principal, warehouse_id: str, act: Act) -> Warehouse:
        """A warehouse to which the principal may do this. Raises NotFound, PermissionDenied."""
        with self._database.read() as connection:
            warehouse = rows.find(connection, warehouse_id)
        if warehouse is None:
            raise _missing(warehouse_id)
        require(principal, act, warehouse.securable)
        return warehouse

    def wake(self, principal: Principal, warehouse: Warehouse) -> None:
        """Start a stopped warehouse for a statement that the principal sends."""
        if warehouse.state is not WarehouseState.RUNNING:
            self._set_state(principal.name, warehouse, WarehouseState.RUNNING)

    def stop_idle(self) -> None:
        """Stop what has had no statement for as long as its auto_stop_mins say."""
        with self._database.read() as connection:
            found = rows.list_all(connection)
        for warehouse in found:
            limit_s = warehouse.spec.auto_stop_mins * _ONE_MINUTE_S
            idle = limit_s and self._runtime.idle_s(warehouse.id, since=self._since) > limit_s
            if warehouse.state is WarehouseState.RUNNING and idle and not self._sessions.count(warehouse.id):
                self._stop("system", warehouse)

    def _stop(self, actor: str, warehouse: Warehouse) -> None:
        self._set_state(actor, warehouse, WarehouseState.STOPPED)
        self._end_all(warehouse)

    def _end_all(self, warehouse: Warehouse) -> None:
        self._runtime.stop_all_of(warehouse.id, _STOPPED)
        self._sessions.close_all_of(warehouse.id)

    def _set_state(self, actor: str, warehouse: Warehouse, state: WarehouseState) -> None:
        with self._database.write() as connection:
            if rows.set_state(connection, warehouse.id, state):
                act = "start" if state is WarehouseState.RUNNING else "stop"
                acts.changed(connection, actor, act, "warehouse", warehouse.spec.name)


def _missing(warehouse_id: str) -> NotFound:
    return NotFound(f"Warehouse '{warehouse_id[:80]}' does not exist.")
