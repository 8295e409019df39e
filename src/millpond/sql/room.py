"""The SQL room, built: what `app.py` joins to the rest."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection

from millpond.billing.quotas import QuotaService
from millpond.engine.client import GatewayClient
from millpond.engine.sql_client import SqlClient
from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.kernel.settings import Settings
from millpond.notifications.domain import Target
from millpond.sql.alerts import store as alerts_store
from millpond.sql.alerts.evaluating import Evaluator
from millpond.sql.alerts.service import AlertService
from millpond.sql.queries import QueryService
from millpond.sql.results import ResultStore, Room
from millpond.sql.runtime import Runtime
from millpond.sql.sessions import Sessions
from millpond.sql.statements import StatementService
from millpond.sql.store import queries as queries_store
from millpond.sql.warehouses import WarehouseService


@dataclass(frozen=True, kw_only=True)
class SqlRoom:
    """The services for routes and pages, and the work to keep going while the server runs."""

    warehouses: WarehouseService
    statements: StatementService
    queries: QueryService
    alerts: AlertService
    runtime: Runtime

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Run statements and evaluate alerts while the block does."""
        with self.runtime.at_work(self.warehouses.stop_idle), self.alerts.evaluator.at_work():
            try:
                yield
            finally:
                self.runtime.stop()  # what alerts wait for, before they are waited for


def open_sql(
    database: Database,
    gateway: GatewayClient,
    settings: Settings,
    *,
    find_name: Callable[[str], str | None],
    principal_named: Callable[[str], Principal],
    check_target: Callable[[Principal, Target], None],
    quotas: QuotaService,
) -> SqlRoom:
    """SQL on a database and a data directory, run by the gateway."""
    sql = SqlClient(gateway)
    sessions = Sessions(sql)
    results = ResultStore(settings.data_dir / "sql" / "results", Room(settings.sql.results_limit_bytes))
    runtime = Runtime(database=database, sql=sql, sessions=sessions, results=results, settings=settings.sql)
    warehouses = WarehouseService(database, runtime, sessions)
    statements = StatementService(
        database=database,
        runtime=runtime,
        sessions=sessions,
        results=results,
        warehouses=warehouses,
        quotas=quotas,
        result_ttl_s=settings.sql.result_ttl_s,
    )
    queries = QueryService(database, find_name, runtime.find_statement)
    evaluator = Evaluator(
        database=database,
        statements=statements,
        queries=queries,
        principal_named=principal_named,
        base_url=settings.base_url,
    )
    alerts = AlertService(
        database=database,
        evaluator=evaluator,
        warehouses=warehouses,
        find_name=find_name,
        check_target=check_target,
    )
    return SqlRoom(warehouses=warehouses, statements=statements, queries=queries, alerts=alerts, runtime=runtime)


def rename_owner(connection: Connection, old: str, new: str) -> None:
    """Let the queries and alerts of one name be owned by another, as when a group is renamed."""
    queries_store.rename_owner(connection, old, new)
    alerts_store.rename_owner(connection, old, new)
