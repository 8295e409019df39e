"""What one can do with single predictions: say what turned out to be true of them, and ask where they came from."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from millpond.catalog.domain import Table
from millpond.catalog.service import CatalogService
from millpond.engine.sql_client import SqlClient
from millpond.identity import acts
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.inference_tables import store
from millpond.inference_tables.bodies import as_text
from millpond.inference_tables.domain import LABELS_SUFFIX, InferenceTable
from millpond.inference_tables.payload_log import PayloadLog
from millpond.inference_tables.segments import Record
from millpond.kernel.clock import epoch_ms, utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, NotFound, StorageFull
from millpond.lineage import pins
from millpond.lineage.domain import Direction, NodeKind, SeenNode
from millpond.lineage.service import LineageService
from millpond.serving.service import ServingService
from millpond.tracking.lineage import ModelLineage

MOST_LABELS = 10_000
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHOWN = (
    "databricks_request_id", "client_request_id", "timestamp_ms", "status_code", "served_entity_name", "model_name",
    "model_version", "config_version", "route", "requester", "total_ms", "queue_ms", "features_ms", "model_ms",
    "router_ms", "request_bytes", "response_bytes", "inputs", "features", "predictions",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Label:
    """What turned out to be true of one row of a request."""

    request_id: str
    row: int
    value: Any
    """JSON."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Where a prediction came from, as far as somebody may see it."""

    table: str
    prediction: Mapping[str, Any]
    upstream: Sequence[SeenNode]
    """The version of the model, its run, the tables behind it, and what those were made of; nearest first."""
    data: Sequence[tuple[str, int]]
    """The tables that the run has read, with their versions."""


class PredictionService:
    """Predictions, for users. Blocks."""

    def __init__(
        self,
        database: Database,
        catalog: CatalogService,
        payload_log: PayloadLog,
        sql: SqlClient,
        *,
        serving: Callable[[], ServingService],
        lineage: Callable[[], LineageService],
        models: Callable[[], ModelLineage],
        limit_bytes: int,
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._log = payload_log
        self._sql = sql
        self._serving = serving
        self._lineage = lineage
        self._models = models
        self._limit_bytes = limit_bytes

    def label(self, principal: Principal, endpoint: str, labels: Sequence[Label]) -> int:
        """Keep labels: they will be in the table, each once; the last one of a row counts. How many they are.

        Raises NotFound, PermissionDenied without MODIFY on the table of labels, InvalidArgument, StorageFull.
        """
        kept = self._table_of(principal, endpoint)
        table = self._catalog.get_table_by_id(principal, kept.labels_id)
        require(principal, Act.WRITE, table.securable)
        rows, log_id = [_checked(label) for label in labels], kept.id + LABELS_SUFFIX
        if not 1 <= len(rows) <= MOST_LABELS:
            raise InvalidArgument(f"A request has 1 to {MOST_LABELS} labels; this one has {len(rows)}.")
        if self._log.waiting_bytes(log_id) >= self._limit_bytes:
            raise StorageFull(f"Labels cannot be written to '{table.name}', and too many wait; the log says why.")
        with self._database.write() as connection:
            acts.changed(connection, principal.name, "label", "endpoint", endpoint, labels=len(rows))
        about = {"at": epoch_ms(utc_now()), "who": principal.name}
        self._log.append(log_id, Record(about=about, request=orjson.dumps(rows)))
        return len(rows)

    def explain(self, principal: Principal, endpoint: str, request_id: str) -> Explanation:
        """Where a prediction came from. Raises NotFound, PermissionDenied without SELECT on the inference table."""
        table = self.readable_table(principal, endpoint)
        row = self._row(principal, table, _checked_id(request_id))
        name, version = row["model_name"], row["model_version"]
        upstream = self._upstream(principal, name, version) if version else []
        return Explanation(
            table=str(table.name),
            prediction=row,
            upstream=upstream,
            data=self._data(principal, name, version) if upstream else [],
        )

    def readable_table(self, principal: Principal, endpoint: str) -> Table:
        """The inference table of an endpoint. Raises NotFound, PermissionDenied without SELECT on it."""
        table = self._catalog.get_table_by_id(principal, self._table_of(principal, endpoint).payload_id)
        require(principal, Act.READ, table.securable)
        return table

    def recent(self, principal: Principal, endpoint: str, *, limit: int) -> Sequence[Mapping[str, Any]]:
        """The newest requests of the last week. Raises as `readable_table`."""
        table = self.readable_table(principal, endpoint)
        since = utc_now().date() - timedelta(days=7)
        query = (
            f"SELECT {', '.join(_SHOWN)} FROM {table.name.quoted} "  # noqa: S608 - names are quoted
            f"WHERE date >= DATE '{since}' ORDER BY timestamp_ms DESC"
        )
        found: Sequence[Mapping[str, Any]] = self._sql.rows(principal, query, limit, timeout_s=60).to_pylist()
        return found

    def _table_of(self, principal: Principal, name: str) -> InferenceTable:
        endpoint = self._serving().get_endpoint(principal, name)
        with self._database.read() as connection:
            found = store.of_endpoint(connection, endpoint.id)
        if found is None:
            raise NotFound(f"Endpoint '{name}' has no inference table; turn it on by auto_capture_config.")
        return found

    def _row(self, principal: Principal, table: Table, request_id: str) -> Mapping[str, Any]:
        """The row of a request; its id tells the day."""
        day = _day_of(request_id)
        if day is None:
            raise NotFound(f"'{table.name}' has no request '{request_id}'; its id tells a day that is not to come.")
        query = (
            f"SELECT {', '.join(_SHOWN)} FROM {table.name.quoted} "  # noqa: S608 - an id has digits and dashes alone
            f"WHERE databricks_request_id = '{request_id}' "
            f"AND date BETWEEN DATE '{day}' AND DATE '{day + timedelta(days=1)}'"
        )
        rows = self._sql.rows(principal, query, 1, timeout_s=60).to_pylist()
        if not rows:
            raise NotFound(f"'{table.name}' has no request '{request_id}'; the newest come into it within 10 s.")
        found: Mapping[str, Any] = rows[0]
        return found

    def _upstream(self, principal: Principal, model: str, version: str) -> Sequence[SeenNode]:
        node = self._models().version_node(model, version)
        seen = self._lineage().see_nodes(principal, [node]).get(node.id)
        if seen is None:
            return []
        graph = self._lineage().graph(principal, seen, directions=(Direction.UPSTREAM,), columns=False)
        return [each for each in graph.nodes.values() if each.kind is not NodeKind.ENDPOINT]

    def _data(self, principal: Principal, model: str, version: str) -> Sequence[tuple[str, int]]:
        found = pins.pins_of(self._database, model=(model, int(version)))
        tables = self._catalog.find_tables_by_id(principal, {each.table_id for each in found})
        return [(str(tables[each.table_id].name), each.table_version) for each in found if each.table_id in tables]


def _day_of(request_id: str) -> date | None:
    """The day that an id tells; None after the calendar's end."""
    try:
        day = datetime.fromtimestamp((UUID(request_id).int >> 80) / 1000, UTC).date()
        return day if day + timedelta(days=1) else None
    except (ValueError, OverflowError):
        return None


def _checked(label: Label) -> tuple[str, int, str]:
    """A label as it is kept."""
    return _checked_id(label.request_id), label.row, as_text(label.value)


def _checked_id(request_id: str) -> str:
    if not _ID.fullmatch(request_id):
        raise InvalidArgument(
            f"'{request_id[:80]}' is no id of a request; it is in the answer's header X-Request-Id, and in the column "
            "databricks_request_id."
        )
    return request_id
