"""Contexts, and the commands that they run."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Index, String, Table, Text, delete, insert, select, update

from millpond.compute.domain import Command, CommandState, Context, ContextState
from millpond.kernel.database import Json, UtcDateTime, metadata

contexts = Table(
    "compute_contexts",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("cluster_id", String(40), nullable=False),
    Column("owner", String(255), nullable=False),
    Column("language", String(20), nullable=False),
    Column("state", String(20), nullable=False),
    Column("message", Text, nullable=False),
    Column("ending", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime, nullable=False),
    Index("ix_compute_contexts_cluster_id", "cluster_id"),
)
commands = Table(
    "compute_commands",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("context_id", String(36), nullable=False),
    Column("cluster_id", String(40), nullable=False),
    Column("language", String(20), nullable=False),
    Column("text", Text, nullable=False),
    Column("state", String(20), nullable=False),
    Column("results", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index("ix_compute_commands_context_id", "context_id"),
    Index("ix_compute_commands_cluster_id_state", "cluster_id", "state"),
)

_ENDED = [state.value for state in CommandState if state.ended]


def add(connection: Connection, context: Context) -> None:
    """Add a context."""
    connection.execute(insert(contexts).values(**vars(context)))


def find(connection: Connection, context_id: str) -> Context | None:
    """The context with an id."""
    if "\0" in context_id:
        return None
    row = connection.execute(select(contexts).where(contexts.c.id == context_id)).first()
    return _context(row) if row else None


def of_clusters(connection: Connection, cluster_ids: Iterable[str]) -> list[Context]:
    """The contexts of clusters, the oldest first."""
    query = select(contexts).where(contexts.c.cluster_id.in_(list(cluster_ids))).order_by(contexts.c.id)
    return [_context(row) for row in connection.execute(query)]


def change(connection: Connection, context_id: str, **values: Any) -> None:
    """Give a context other values."""
    connection.execute(update(contexts).where(contexts.c.id == context_id).values(**values))


def begun(connection: Connection, context_id: str) -> bool:
    """Its process has begun; False where nobody waits for that any more."""
    waits = (contexts.c.id == context_id) & (contexts.c.state == ContextState.PENDING) & contexts.c.ending.is_(False)
    return bool(connection.execute(update(contexts).where(waits).values(state=ContextState.RUNNING)).rowcount)


def remove(connection: Connection, context_id: str) -> None:
    """Remove a context, and what it ran."""
    connection.execute(delete(commands).where(commands.c.context_id == context_id))
    connection.execute(delete(contexts).where(contexts.c.id == context_id))


def remove_old(connection: Connection, before: datetime) -> None:
    """Remove contexts that ended, and were not used since then."""
    query = select(contexts.c.id).where(contexts.c.state == ContextState.ERROR, contexts.c.used_at < before)
    for row in connection.execute(query.limit(500)).all():
        remove(connection, row.id)


def end_all_of(connection: Connection, cluster_id: str, message: str) -> None:
    """All contexts of a cluster are gone, with what they ran."""
    connection.execute(
        update(contexts).where(contexts.c.cluster_id == cluster_id).values(state=ContextState.ERROR, message=message)
    )
    open_ = (commands.c.cluster_id == cluster_id) & commands.c.state.not_in(_ENDED)
    connection.execute(update(commands).where(open_).values(state=CommandState.ERROR, results=failed(message)))


def end(connection: Connection, context_id: str, message: str) -> None:
    """A context is gone, with what it ran."""
    lives = (contexts.c.id == context_id) & (contexts.c.state != ContextState.ERROR)
    connection.execute(update(contexts).where(lives).values(state=ContextState.ERROR, message=message))
    cancelled = (commands.c.context_id == context_id) & (commands.c.state == CommandState.CANCELLING)
    connection.execute(update(commands).where(cancelled).values(state=CommandState.CANCELLED))
    open_ = (commands.c.context_id == context_id) & commands.c.state.not_in(_ENDED)
    connection.execute(update(commands).where(open_).values(state=CommandState.ERROR, results=failed(message)))


def failed(message: str) -> dict[str, Any]:
    """The results of a command that came to no end."""
    return {"resultType": "error", "summary": message, "cause": message}


def add_command(connection: Connection, command: Command) -> None:
    """Add a command."""
    connection.execute(insert(commands).values(**vars(command)))


def find_command(connection: Connection, command_id: str) -> Command | None:
    """The command with an id."""
    if "\0" in command_id:
        return None
    row = connection.execute(select(commands).where(commands.c.id == command_id)).first()
    return _command(row) if row else None


def open_commands(connection: Connection, cluster_ids: Iterable[str]) -> list[Command]:
    """Commands of clusters that have not ended, in the order in which they were sent."""
    wanted = commands.c.cluster_id.in_(list(cluster_ids)) & commands.c.state.not_in(_ENDED)
    return [_command(row) for row in connection.execute(select(commands).where(wanted).order_by(commands.c.id))]


def move_command(connection: Connection, command_id: str, *before: CommandState, **values: Any) -> bool:
    """Give a command other values, where it is in one of some states."""
    this = (commands.c.id == command_id) & commands.c.state.in_([state.value for state in before])
    return bool(connection.execute(update(commands).where(this).values(**values)).rowcount)


def _context(row: Any) -> Context:
    return Context(**{**row._mapping, "state": ContextState(row.state)})


def _command(row: Any) -> Command:
    return Command(**{**row._mapping, "state": CommandState(row.state)})
