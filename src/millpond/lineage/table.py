"""`system.access.table_lineage` and `column_lineage`: the events as rows.

Source: Databricks documentation, "Lineage system tables reference". `how_known` is ours.
"""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from millpond.kernel.database import Database
from millpond.lineage import store
from millpond.lineage.domain import COLUMNS_NAME, TABLES_NAME, NodeKind

_WHO = (
    ("account_id", "string", "Id of the account; this installation is one."),
    ("metastore_id", "string", "Id of the metastore."),
    ("workspace_id", "string", "Id of the workspace."),
    ("entity_type", "string", "What ran: JOB, DBSQL_QUERY, RUN, NOTEBOOK; null where it is not known."),
    ("entity_id", "string", "Which one; null for a run without a job."),
    ("entity_run_id", "string", "Which run of it; the same where it has none."),
)
_PLACES = tuple(
    (f"{side}_{part}", "string", f"{words} of the {side}; null for a path.")
    for side in ("source", "target")
    for part, words in (
        ("table_full_name", "Full name"), ("table_catalog", "Catalog"), ("table_schema", "Schema"),
        ("table_name", "Name"), ("path", "Location, where it is no table,"), ("type", "Type: TABLE, PATH, ...,"),
    )
)  # fmt: skip
_WHEN = (
    ("created_by", "string", "Who did it."),
    ("event_time", "timestamp", "When it happened."),
    ("event_date", "date", "Its day, in UTC."),
    ("record_id", "string", "Id of this row."),
    ("event_id", "string", "Id of the act, shared by all rows that tell of it."),
    ("statement_id", "string", "Id of the statement."),
    ("session_id", "string", "Id of the session."),
    ("operation", "string", "What it was: INSERT, MERGE, CREATE VIEW, READ, ..."),
    ("how_known", "string", "observed, parsed or declared."),
)
TABLE_COLUMNS = (*_WHO, *_PLACES, *_WHEN)
COLUMN_COLUMNS = (
    *_WHO,
    *_PLACES,
    ("source_column_name", "string", "The column that it came from."),
    ("target_column_name", "string", "The column that it is in."),
    *_WHEN,
)


class LineageTable:
    """One of the two as a system table."""

    day_column = "event_date"

    def __init__(
        self, database: Database, catch_up: Callable[[], object], *, workspace_id: int, metastore_id: str, columns: bool
    ) -> None:
        self._database = database
        self._catch_up = catch_up
        self._workspace_id = str(workspace_id)
        self._metastore_id = metastore_id
        self._of_columns = columns
        self.name = COLUMNS_NAME if columns else TABLES_NAME
        self.comment = f"Which {'columns' if columns else 'tables and files'} were made of which, when and by whom."
        self.columns: Sequence[tuple[str, str, str]] = COLUMN_COLUMNS if columns else TABLE_COLUMNS

    @property
    def origin(self) -> str:
        """The events are this workspace's."""
        return self._workspace_id

    def catch_up(self) -> None:
        """Take in what this machine's processes have noted."""
        self._catch_up()

    def rows_after(self, position: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Rows behind a place."""
        with self._database.read() as connection:
            find = store.column_events_after if self._of_columns else store.events_after
            rows = find(connection, position, limit)
            ids = {each for row in rows for each in (row.source_id, row.target_id) if each}
            kinds = {node_id: row.kind for node_id, row in store.find_nodes(connection, ids).items()}
        return [self._row(row, kinds) for row in rows], rows[-1].sequence if rows else position

    def first_day(self) -> date | None:
        """Nothing goes."""
        return None

    def _row(self, row: Any, kinds: dict[str, str]) -> dict[str, Any]:
        made = {
            "account_id": self._workspace_id,
            "metastore_id": self._metastore_id,
            "workspace_id": self._workspace_id,
            **_entity(row),
            **_place("source", row.source_name, kinds.get(row.source_id or "")),
            **_place("target", row.target_name, kinds.get(row.target_id or "")),
            "created_by": row.actor,
            "event_time": row.time,
            "event_date": row.time.date(),
            "record_id": f"{self.name.rpartition('.')[2]}-{row.sequence}",
            "event_id": row.observation,
            "statement_id": row.statement or None,
            "session_id": row.session or None,
            "operation": row.operation,
            "how_known": row.known,
        }
        if self._of_columns:
            made |= {"source_column_name": row.source_column, "target_column_name": row.target_column}
        return made


def _entity(row: Any) -> dict[str, str | None]:
    """The job where a credential says that it was one, else what the client says."""
    kind, key, run = row.entity_type or None, row.entity_id or None, row.entity_id or None
    if row.job_run_id is not None:
        kind, key, run = "JOB", str(row.job_id) if row.job_id else None, str(row.job_run_id)
    return {"entity_type": kind, "entity_id": key, "entity_run_id": run}


def _place(side: str, name: str | None, kind: str | None) -> dict[str, str | None]:
    names = ("table_full_name", "table_catalog", "table_schema", "table_name", "path", "type")
    empty: dict[str, str | None] = {f"{side}_{part}": None for part in names}
    if name is None or kind is None:
        return empty
    empty[f"{side}_type"] = kind.upper()
    if kind != NodeKind.TABLE:
        return empty | {f"{side}_path": name}
    catalog, schema, table = name.split(".", 2)
    return empty | dict(zip((f"{side}_{part}" for part in names[:4]), (name, catalog, schema, table), strict=True))
