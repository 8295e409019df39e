"""Keeps the views as the models' signatures are, as whoever turned the inference table on."""

from collections.abc import Callable, Sequence

from millpond.catalog.domain import ObjectName
from millpond.catalog.service import CatalogService
from millpond.engine.sql_client import Sql, SqlClient
from millpond.identity.domain import SYSTEM, Principal
from millpond.inference_tables import store
from millpond.inference_tables.domain import InferenceTable
from millpond.inference_tables.views import View, digest_of, views_of
from millpond.kernel.database import Database
from millpond.kernel.errors import MillpondError
from millpond.kernel.logs import get_logger
from millpond.serving.service import ServingService

log = get_logger(__name__)
_ROUNDS_TO_RETRY = 30
_MARK = "millpond.inference_table"
"""The property of views that are made here."""


class Viewing:
    """Looks at each endpoint with an inference table now and then."""

    def __init__(
        self,
        database: Database,
        catalog: CatalogService,
        sql: SqlClient,
        serving: Callable[[], ServingService],
        principal_named: Callable[[str], Principal],
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._sql = sql
        self._serving = serving
        self._principal_named = principal_named
        self._seen: dict[str, tuple[str, int]] = {}
        """The endpoint and the version of its configuration for which a table's views are as they should be."""
        self._resting: dict[str, int] = {}
        """After a failure, for how many rounds nothing is tried."""

    def run_once(self) -> None:
        """Make the views that are missing or not right any more."""
        with self._database.read() as connection:
            found = store.of_endpoints(connection)
        for table in found:
            if self._resting.get(table.id, 0):
                self._resting[table.id] -= 1
                continue
            try:
                self._look(table)
            except MillpondError as error:  # it may have gone meanwhile, or its owner may not make views there
                self._resting[table.id] = _ROUNDS_TO_RETRY
                log.warning("views were not made", table=table.name, error=error.message)
            except Exception as error:  # the boundary of a work item: one table's model keeps nobody else's waiting
                self._resting[table.id] = _ROUNDS_TO_RETRY
                log.error("views were not made", table=table.name, exc_info=error)

    def _look(self, table: InferenceTable) -> None:
        endpoint = self._serving().get_endpoint(SYSTEM, table.endpoint)
        config = endpoint.active
        if config is None or self._seen.get(table.id) == (endpoint.id, config.version):
            return
        models = self._serving().describe_inputs(SYSTEM, table.endpoint)
        payload = self._catalog.find_tables_by_id(SYSTEM, [table.payload_id]).get(table.payload_id)
        if payload is None or len(models) < len(config.entities):  # dropped, or the models are still being fetched
            return
        views = views_of(payload.name, list(models.values()))
        if digest_of(views) != table.views and all(self._is_free(view.name) for view in views):
            self._make(table, views)
        self._seen[table.id] = (endpoint.id, config.version)

    def _make(self, table: InferenceTable, views: Sequence[View]) -> None:
        who = self._principal_named(table.writer)
        session = self._sql.open_session(who)
        try:
            for view in views:
                list(self._sql.run(who, session, Sql(text=_statement(view, table))).batches())
        finally:
            self._sql.close_session(who, session)
        with self._database.write() as connection:
            store.change(connection, table.id, views=digest_of(views))

    def _is_free(self, name: ObjectName) -> bool:
        """Whether nothing has the name, or a view that was made here; what a user made is left as it is."""
        found = self._catalog.look_up_table(name)
        is_free = found is None or _MARK in found.properties
        if not is_free:
            log.warning("views were not made, as a name is taken", name=str(name))
        return is_free


def _statement(view: View, table: InferenceTable) -> str:
    about = f"Requests to the endpoint {table.endpoint}, row by row"  # its name has letters, digits and dashes alone
    marked = f"TBLPROPERTIES ('{_MARK}' = '{table.id}')"
    return f"CREATE OR REPLACE VIEW {view.name.quoted} COMMENT '{about}' {marked} AS {view.query}"
