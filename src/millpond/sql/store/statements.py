"""Statements: those that wait and run, and the history of those that ended."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    String,
    Table,
    Text,
    delete,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from millpond.kernel.database import Json, UtcDateTime, metadata
from millpond.sql.domain import (
    Chunk,
    Disposition,
    Failure,
    Format,
    HistoryFilter,
    Manifest,
    ResultColumn,
    Statement,
    StatementState,
)

_UNENDED = [StatementState.PENDING.value, StatementState.RUNNING.value]

statements = Table(
    "sql_statements",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("principal_id", String(36), nullable=False),
    Column("principal_name", String(255), nullable=False),
    Column("warehouse_id", String(36), nullable=False),
    Column("session_id", String(36)),
    Column("text", Text, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("client", String(255), nullable=False),
    Column("tags", Json, nullable=False),
    Column("disposition", String(30), nullable=False),
    Column("format", String(20), nullable=False),
    Column("state", String(20), nullable=False),
    Column("submitted_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("error_code", String(40)),
    Column("error_message", Text),
    Column("sql_state", String(10)),
    Column("manifest", Json),
    Column("spent_ms", BigInteger),
    Index("ix_sql_statements_principal_id_id", "principal_id", "id"),
    Index("ix_sql_statements_state_ended_at", "state", "ended_at"),
)


def find(connection: Connection, statement_id: str) -> Statement | None:
    """The statement with an id."""
    if "\0" in statement_id:  # which PostgreSQL refuses, and no id has
        return None
    row = connection.execute(select(statements).where(statements.c.id == statement_id)).first()
    return _statement(row) if row else None


def add(connection: Connection, statement: Statement) -> None:
    """Add a statement that has just been sent."""
    connection.execute(insert(statements).values(**_sent(statement)))


def _sent(statement: Statement) -> dict[str, Any]:
    return {
        "id": statement.id,
        "principal_id": statement.principal_id,
        "principal_name": statement.principal_name,
        "warehouse_id": statement.warehouse_id,
        "session_id": statement.session_id,
        "text": statement.text,
        "kind": statement.kind,
        "client": statement.client,
        "tags": dict(statement.tags),
        "disposition": statement.disposition.value,
        "format": statement.format.value,
        "state": statement.state.value,
        "submitted_at": statement.submitted_at,
    }


def _ended(statement: Statement) -> dict[str, Any]:
    failure = statement.failure
    return {
        "state": statement.state.value,
        "started_at": statement.started_at,
        "ended_at": statement.ended_at,
        "error_code": failure.code if failure else None,
        "error_message": failure.message if failure else None,
        "sql_state": failure.sql_state if failure else None,
        "manifest": asdict(statement.manifest) if statement.manifest else None,
        "spent_ms": statement.spent_ms,
    }


def add_ended(connection: Connection, found: Sequence[Statement]) -> list[Statement]:
    """Add statements that ran elsewhere and have ended; those that were not there yet."""
    insert_ = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    if not found:
        return []
    values = [_sent(statement) | _ended(statement) for statement in found]
    added = connection.execute(insert_(statements).on_conflict_do_nothing().returning(statements.c.id), values)
    ids = set(added.scalars())
    return [statement for statement in found if statement.id in ids]


def remove(connection: Connection, statement_id: str) -> None:
    """Remove a statement that was refused."""
    connection.execute(delete(statements).where(statements.c.id == statement_id))


def end(connection: Connection, statement: Statement) -> bool:
    """Write how a statement ended; nothing changes for one that has ended: then False."""
    held = (statements.c.id == statement.id, statements.c.state.in_(_UNENDED))
    return bool(connection.execute(update(statements).where(*held).values(**_ended(statement))).rowcount)


def fail_unended(connection: Connection, failure: Failure, now: datetime) -> int:
    """Fail all that a server which is no more was running; how many."""
    failed = (
        update(statements)
        .where(statements.c.state.in_(_UNENDED))
        .values(state=StatementState.FAILED.value, ended_at=now, error_code=failure.code, error_message=failure.message)
    )
    return connection.execute(failed).rowcount


def close(connection: Connection, statement_ids: Iterable[str]) -> None:
    """Note that the results of succeeded statements are gone."""
    for statement_id in statement_ids:
        connection.execute(
            update(statements)
            .where(statements.c.id == statement_id, statements.c.state == StatementState.SUCCEEDED.value)
            .values(state=StatementState.CLOSED.value)
        )


def list_succeeded(connection: Connection) -> list[Statement]:
    """Statements whose results are kept, oldest first."""
    query = (
        select(statements).where(statements.c.state == StatementState.SUCCEEDED.value).order_by(statements.c.ended_at)
    )
    return [_statement(row) for row in connection.execute(query)]


def list_page(connection: Connection, wanted: HistoryFilter, *, before: str | None, limit: int) -> Sequence[Statement]:
    """Statements of the history, newest first, from below an id on."""
    query = select(statements).where(*_conditions(wanted)).order_by(statements.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(statements.c.id < before)
    return [_statement(row) for row in connection.execute(query)]


def purge(connection: Connection, before: datetime) -> int:
    """Forget statements that ended before a time; how many."""
    old = delete(statements).where(statements.c.ended_at < before, statements.c.state.not_in(_UNENDED))
    return connection.execute(old).rowcount


def _conditions(wanted: HistoryFilter) -> list[ColumnElement[bool]]:
    columns = statements.c
    lists = (
        (columns.id, wanted.statement_ids),
        (columns.state, [state.value for state in wanted.states]),
        (columns.warehouse_id, wanted.warehouse_ids),
        (columns.principal_id, wanted.principal_ids),
    )
    found: list[ColumnElement[bool]] = [column.in_(values) for column, values in lists if values]
    if wanted.seen_by is not None:
        found.append(or_(columns.principal_id == wanted.seen_by, columns.warehouse_id.in_(wanted.seen_in)))
    if wanted.submitted_from is not None:
        found.append(columns.submitted_at >= wanted.submitted_from)
    if wanted.submitted_until is not None:
        found.append(columns.submitted_at <= wanted.submitted_until)
    return found


def _statement(row: Any) -> Statement:
    failure = None
    if row.error_code is not None:
        failure = Failure(code=row.error_code, message=row.error_message or "", sql_state=row.sql_state)
    return Statement(
        id=row.id,
        principal_id=row.principal_id,
        principal_name=row.principal_name,
        warehouse_id=row.warehouse_id,
        session_id=row.session_id,
        text=row.text,
        kind=row.kind,
        client=row.client,
        tags=row.tags,
        disposition=Disposition(row.disposition),
        format=Format(row.format),
        state=StatementState(row.state),
        submitted_at=row.submitted_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        failure=failure,
        manifest=_manifest(row.manifest) if row.manifest else None,
        spent_ms=row.spent_ms,
    )


def _manifest(value: dict[str, Any]) -> Manifest:
    return Manifest(
        columns=tuple(ResultColumn(**column) for column in value["columns"]),
        chunks=tuple(Chunk(**chunk) for chunk in value["chunks"]),
        truncated=value["truncated"],
    )
