"""This room's table: which endpoints keep their requests where."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Index, Row, String, Table, Text, insert, select, update

from millpond.inference_tables.domain import InferenceTable
from millpond.kernel.database import UtcDateTime, metadata

_MOST = 10_000

tables = Table(
    "inference_tables",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("endpoint_id", String(36), nullable=False),
    Column("endpoint", String(63), nullable=False),
    Column("payload_id", String(36), nullable=False, unique=True),
    Column("labels_id", String(36), nullable=False),
    Column("name", Text, nullable=False),
    Column("writer", String(255), nullable=False),
    Column("error", Text, nullable=False),
    Column("views", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Index(None, "endpoint_id"),
)


def add(connection: Connection, table: InferenceTable) -> None:
    """A new one."""
    connection.execute(insert(tables).values(**vars(table)))


def with_ids(connection: Connection, ids: Collection[str]) -> Sequence[InferenceTable]:
    """Some of them."""
    return [_table(row) for row in connection.execute(select(tables).where(tables.c.id.in_(ids)))]


def of_payload(connection: Connection, payload_id: str) -> InferenceTable | None:
    """The one that is a table of the catalog."""
    row = connection.execute(select(tables).where(tables.c.payload_id == payload_id)).first()
    return None if row is None else _table(row)


def of_endpoint(connection: Connection, endpoint_id: str) -> InferenceTable | None:
    """The newest of an endpoint."""
    query = select(tables).where(tables.c.endpoint_id == endpoint_id).order_by(tables.c.created_at.desc()).limit(1)
    row = connection.execute(query).first()
    return None if row is None else _table(row)


def of_endpoints(connection: Connection) -> Sequence[InferenceTable]:
    """All whose endpoint is there."""
    query = select(tables).where(tables.c.endpoint_id != "").order_by(tables.c.id).limit(_MOST)
    return [_table(row) for row in connection.execute(query)]


def change(connection: Connection, table_id: str, **values: Any) -> None:
    """What is new about one."""
    connection.execute(update(tables).where(tables.c.id == table_id).values(values))


def claim(connection: Connection, table_id: str, endpoint: tuple[str, str]) -> bool:
    """Let an endpoint (id and name) write to one; false where another does."""
    is_free = tables.c.endpoint_id.in_(("", endpoint[0]))
    values = {"endpoint_id": endpoint[0], "endpoint": endpoint[1]}
    return connection.execute(update(tables).where(tables.c.id == table_id, is_free).values(values)).rowcount == 1


def detach(connection: Connection, endpoint_id: str) -> None:
    """An endpoint is gone; its tables stay."""
    connection.execute(update(tables).where(tables.c.endpoint_id == endpoint_id).values(endpoint_id=""))


def _table(row: Row[Any]) -> InferenceTable:
    return InferenceTable(**row._mapping)
