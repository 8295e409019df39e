"""The SQL room, built: what `app.py` joins to the rest."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from millpond.engine.client import GatewayClient
from millpond.engine.sql_client import SqlClient
from millpond.kernel.database import Database
from millpond.kernel.settings import SqlSettings
from millpond.sql.queries import QueryService
from millpond.sql.results import ResultStore, Room
from millpond.sql.runtime import Runtime
from millpond.sql.sessions import Sessions
from millpond.sql.statements import StatementService
from millpond.sql.store.queries import rename_owner
from millpond.sql.warehouses import WarehouseService

__all__ = ["SqlRoom", "open_sql", "rename_owner"]


@dataclass(frozen=True, kw_only=True)
class SqlRoom:
    """The services for routes and pages, and the work to keep going while the server runs."""

    warehouses: WarehouseService
    statements: StatementService
    queries: QueryService
    runtime: Runtime

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Run statements while the block does."""
        with self.runtime.at_work(self.warehouses.stop_idle):
            yield


def open_sql(
    database: Database,
    gateway: GatewayClient,
    settings: SqlSettings,
    data_dir: Path,
    find_name: Callable[[str], str | None],
) -> SqlRoom:
    """SQL on a database and a data directory, run by the gateway."""
    sql = SqlClient(gateway)
    sessions = Sessions(sql)
    results = ResultStore(data_dir / "sql" / "results", Room(settings.results_limit_bytes))
    runtime = Runtime(database=database, sql=sql, sessions=sessions, results=results, settings=settings)
    warehouses = WarehouseService(database, runtime, sessions)
    statements = StatementService(
        database=database,
        runtime=runtime,
        sessions=sessions,
        results=results,
        warehouses=warehouses,
        result_ttl_s=settings.result_ttl_s,
    )
    queries = QueryService(database, find_name, runtime.find_statement)
    return SqlRoom(warehouses=warehouses, statements=statements, queries=queries, runtime=runtime)
