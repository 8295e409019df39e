"""The query history: statements of Spark Connect beside those of warehouses, and both as `system.query.history`.

The gateway writes a line for each execution into a spool of its own and goes on; a thread moves the lines into the
table of statements every other second. A line outlives the process that wrote it.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from millpond.billing.metering import record
from millpond.catalog.domain import Column
from millpond.engine.history import Executed
from millpond.identity.domain import Principal
from millpond.journal.spool import Spool
from millpond.journal.spools import SpoolReader
from millpond.kernel.clock import from_epoch_us, utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import StorageFull
from millpond.kernel.ids import new_id
from millpond.kernel.logs import get_logger, mask_secrets
from millpond.kernel.rounds import rounds
from millpond.sql.costs import request_of
from millpond.sql.domain import (
    Chunk,
    Disposition,
    Failure,
    Format,
    HistoryFilter,
    Manifest,
    Statement,
    StatementState,
    statement_kind,
)
from millpond.sql.store import statements as rows
from millpond.sql.visibility import seen_by

TABLE_NAME = ("system", "query", "history")
MAX_ROWS = 20_000
"""Of one reading of the relation; the API has pages."""
_PIECE_BYTES = 512 << 10
_EVERY_S = 2.0
log = get_logger(__name__)


class SparkHistory:
    """What the gateway tells, on its way into the database. Thread-safe."""

    def __init__(self, database: Database, directory: Path) -> None:
        self._database = database
        self._spool = Spool(directory)
        self._reader = SpoolReader(directory)
        self._lock = threading.Lock()

    def note(self, executed: Executed) -> None:
        """Write down an execution; one that cannot be is told in the log, and stands in no one's way."""
        line = {name: getattr(executed, name) for name in Executed.__slots__} | {"id": new_id()}
        try:
            text = orjson.dumps(line)
        except orjson.JSONEncodeError:  # half a character pair from some client
            text = orjson.dumps({key: _clean(value) for key, value in line.items()})
        try:
            self._spool.append(mask_secrets(text.decode()).encode() + b"\n")
        except StorageFull as error:
            log.warning("the query history cannot be written", error=error.message)

    def drain(self) -> None:
        """Move what waits into the database; harmless when repeated."""
        with self._lock:
            for piece in self._reader.pieces(_PIECE_BYTES):
                found = [statement for line in piece.lines for statement in _read(line)]
                with self._database.write() as connection:
                    added = rows.add_ended(connection, found)
                    record(connection, utc_now(), [request_of(statement) for statement in added])
                self._reader.done(piece)

    def at_work(self) -> AbstractContextManager[None]:
        """Drain in a thread while the block runs, and once after it."""
        failure = "the query history cannot be moved yet"
        return rounds(self.drain, name="query-history", interval_s=_EVERY_S, log=log, failure=failure, last=True)


def _read(line: bytes) -> Iterator[Statement]:
    try:
        told = orjson.loads(line)
        yield _statement(told)
    except (ValueError, KeyError, TypeError) as error:
        log.warning("a line of the query history cannot be read", error=str(error))


def _statement(told: dict[str, Any]) -> Statement:
    failed = bool(told["error"])
    state = StatementState.FAILED if failed else StatementState.CLOSED
    began = from_epoch_us(told["began_us"])
    return Statement(
        id=told["id"],
        principal_id=told["principal_id"],
        principal_name=told["principal_name"],
        warehouse_id="",
        session_id=told["session"][:36],
        text=told["text"],
        kind=statement_kind(told["text"]),
        client=told["client"][:255],
        tags={},
        disposition=Disposition.INLINE,
        format=Format.ARROW_STREAM,
        state=StatementState.CANCELED if told["cancelled"] else state,
        submitted_at=began,
        started_at=began,
        ended_at=from_epoch_us(told["ended_us"]),
        failure=_failure(told["error"], told["sql_state"]) if failed else None,
        manifest=Manifest(chunks=(Chunk(rows=told["rows"], size_bytes=told["size_bytes"]),)),
        spent_ms=told.get("spent_ms"),
    )


def _failure(error: str, sql_state: str) -> Failure:
    return Failure(code="BAD_REQUEST", message=error, sql_state=sql_state[:10] or None)


def _clean(value: Any) -> Any:
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


# The relation

_STRING, _LONG, _TIME = ("string", '"string"'), ("bigint", '"long"'), ("timestamp", '"timestamp"')
_COLUMNS = (
    ("statement_id", _STRING, "as the statement execution API names it"),
    ("session_id", _STRING, "of Spark Connect, or of a warehouse's client"),
    ("execution_status", _STRING, "FINISHED, FAILED, CANCELED, QUEUED or RUNNING"),
    ("warehouse_id", _STRING, "NULL for Spark Connect"),
    ("executed_by_user_id", _STRING, ""),
    ("executed_by", _STRING, ""),
    ("statement_text", _STRING, "SQL, or what a DataFrame's plan reached"),
    ("statement_type", _STRING, "SELECT, INSERT, ..."),
    ("error_message", _STRING, ""),
    ("client_application", _STRING, ""),
    ("total_duration_ms", _LONG, "from its arrival to its end"),
    ("waiting_at_capacity_duration_ms", _LONG, "until its warehouse had room"),
    ("execution_duration_ms", _LONG, ""),
    ("total_task_duration_ms", _LONG, "processor time of its engine, where it was alone on that"),
    ("start_time", _TIME, "when it arrived"),
    ("end_time", _TIME, ""),
    ("produced_rows", _LONG, ""),
    ("produced_bytes", _LONG, "of the answer, as Arrow"),
)
"""Names as Databricks has them, where it has them. Source: "Query history system table reference"."""


class HistoryTable:
    """`system.query.history`: one's own statements, those of warehouses that one monitors, an administrator's all."""

    comment = f"Statements of warehouses and of Spark Connect that you may see, the newest {MAX_ROWS:,}."
    columns: Sequence[Column] = tuple(
        Column(name=name, type_text=text, type_json=json, comment=comment or None, position=position)
        for position, (name, (text, json), comment) in enumerate(_COLUMNS)
    )

    def __init__(self, database: Database, history: SparkHistory) -> None:
        self._database = database
        self._history = history

    def rows(self, principal: Principal) -> list[tuple[Any, ...]]:
        """The newest that the principal may see, what has just ended among them."""
        self._history.drain()
        with self._database.read() as connection:
            wanted = replace(HistoryFilter(), **seen_by(connection, principal))
            return [_row(one) for one in rows.list_page(connection, wanted, before=None, limit=MAX_ROWS)]


def _row(one: Statement) -> tuple[Any, ...]:
    manifest = one.manifest
    began, started, ended = one.submitted_at, one.started_at, one.ended_at
    return (
        one.id,
        one.session_id,
        one.status,
        one.warehouse_id or None,
        one.principal_id,
        one.principal_name,
        one.text,
        one.kind,
        one.failure.message if one.failure else None,
        one.client,
        _ms(began, ended),
        _ms(began, started),
        _ms(started, ended),
        one.spent_ms,
        began,
        ended,
        manifest.rows if manifest else None,
        manifest.size_bytes if manifest else None,
    )


def _ms(since: Any, until: Any) -> int | None:
    return None if since is None or until is None else int((until - since).total_seconds() * 1000)
