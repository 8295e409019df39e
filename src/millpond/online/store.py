"""This room's tables, and all its SQL.

A row of `online_tables` says what is wanted of it; whoever publishes leases it for a while, so that two servers are
never at work on one table. A lease ends by itself, and is renewed for as long as the work goes on.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    Row,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    case,
    delete,
    insert,
    or_,
    select,
    update,
)

from millpond.kernel.clock import utc_now
from millpond.kernel.database import UtcDateTime, metadata
from millpond.online.tables import Mode, OnlineStore, OnlineTable, State, StoreKind

LEASE = timedelta(seconds=15)
_LONGEST_PAUSE_S = 60
_MOST_AT_ONCE = 500

stores = Table(
    "online_stores",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("kind", String(20), nullable=False),
    Column("capacity", String(20), nullable=False),
    Column("read_replica_count", Integer, nullable=False),
    Column("usage_policy_id", String(255), nullable=False),
    Column("creator", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
tables = Table(
    "online_tables",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(800), nullable=False),
    Column("source_id", String(36), nullable=False),
    Column("store", String(63), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("mode", String(20), nullable=False),
    Column("creator", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("state", String(20), nullable=False),
    Column("error", Text, nullable=False),
    Column("version", BigInteger),
    Column("committed_at", UtcDateTime),
    Column("published_at", UtcDateTime),
    Column("asked", Integer, nullable=False),
    Column("answered", Integer, nullable=False),
    Column("anew", Boolean, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("removed", Boolean, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("lease", String(40), nullable=False),
    Column("leased_until", UtcDateTime),
    UniqueConstraint("name"),
    Index("ix_online_tables_source_id", "source_id"),
    Index("ix_online_tables_store", "store"),
)

# -- stores -----------------------------------------------------------------------------------------------------------


def find_store(connection: Connection, name: str, *, lock: bool = False) -> OnlineStore | None:
    """The store with a name, or None."""
    query = select(stores).where(stores.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return None if row is None else _store(row)


def list_stores(connection: Connection, after: str | None, limit: int) -> Sequence[OnlineStore]:
    """Stores by name."""
    query = select(stores).order_by(stores.c.name).limit(limit)
    return [_store(row) for row in connection.execute(query if after is None else query.where(stores.c.name > after))]


def insert_store(connection: Connection, store: OnlineStore) -> None:
    """A new store."""
    connection.execute(insert(stores).values({column.name: getattr(store, column.name) for column in stores.columns}))


def update_store(connection: Connection, name: str, **values: Any) -> None:
    """Change columns of a store."""
    connection.execute(update(stores).where(stores.c.name == name).values(values))


def delete_store(connection: Connection, name: str) -> None:
    """Remove a store."""
    connection.execute(delete(stores).where(stores.c.name == name))


# -- tables -----------------------------------------------------------------------------------------------------------


def find_table(connection: Connection, name: str, *, lock: bool = False) -> OnlineTable | None:
    """The online table with a name, or None."""
    query = select(tables).where(tables.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return None if row is None else _table(row)


def list_tables(
    connection: Connection, after: str | None, limit: int, *, source_id: str | None = None, store: str | None = None
) -> Sequence[OnlineTable]:
    """Online tables by name: all, those of a source, or those in a store."""
    conditions: list[ColumnElement[bool]] = [tables.c.removed.is_(False)]
    conditions += [tables.c.name > after] if after is not None else []
    conditions += [tables.c.source_id == source_id] if source_id is not None else []
    conditions += [tables.c.store == store] if store is not None else []
    query = select(tables).where(*conditions).order_by(tables.c.name).limit(limit)
    return [_table(row) for row in connection.execute(query)]


def tables_with_ids(connection: Connection, ids: Collection[str]) -> Sequence[OnlineTable]:
    """Some online tables."""
    query = select(tables).where(tables.c.id.in_(ids), tables.c.removed.is_(False))
    return [_table(row) for row in connection.execute(query)]


def tables_of_sources(connection: Connection, source_ids: Collection[str]) -> Sequence[OnlineTable]:
    """The online tables of some tables, by name."""
    query = (
        select(tables).where(tables.c.source_id.in_(source_ids), tables.c.removed.is_(False)).order_by(tables.c.name)
    )
    return [_table(row) for row in connection.execute(query)]


def insert_table(connection: Connection, table: OnlineTable) -> None:
    """A new online table, due at once."""
    values = {column.name: getattr(table, column.name, None) for column in tables.columns}
    connection.execute(insert(tables).values(values | {"due_at": table.created_at, "lease": ""}))


def ask_again(connection: Connection, table: OnlineTable, mode: Mode) -> None:
    """Have an online table follow its source once more, at once."""
    values = {"mode": mode, "asked": tables.c.asked + 1, "due_at": utc_now(), "failures": 0}
    if mode is Mode.SNAPSHOT:
        values["anew"] = True
    connection.execute(update(tables).where(tables.c.id == table.id).values(values))


def remove_table(connection: Connection, table: OnlineTable) -> None:
    """Free an online table's name, and have its rows taken away."""
    values = {"name": table.id, "removed": True, "due_at": utc_now(), "failures": 0}
    connection.execute(update(tables).where(tables.c.id == table.id).values(values))


# -- the publisher's --------------------------------------------------------------------------------------------------

_IS_TOLD = or_(tables.c.removed, tables.c.asked > tables.c.answered)


def has_work(connection: Connection) -> bool:
    """Whether anything is to be published, taken away or followed."""
    query = select(tables.c.id).where(or_(_IS_TOLD, tables.c.mode == Mode.CONTINUOUS)).limit(1)
    return connection.execute(query).first() is not None


def due_tables(connection: Connection) -> Sequence[OnlineTable]:
    """Those on which something may be to do and nobody is at work, the longest due first."""
    conditions = (or_(_IS_TOLD, tables.c.mode == Mode.CONTINUOUS), _free(utc_now()))
    query = select(tables).where(*conditions).order_by(tables.c.due_at).limit(_MOST_AT_ONCE)
    return [_table(row) for row in connection.execute(query)]


def lease(connection: Connection, table: OnlineTable, owner: str) -> OnlineTable | None:
    """The row as it is now, leased; None when somebody else was faster.

    Should its owner not come back, it is due again after the lease, and after a pause that grows.
    """
    now = utc_now()
    until = now + LEASE
    pause = timedelta(seconds=min(2**table.failures, _LONGEST_PAUSE_S))
    values = {"lease": owner, "leased_until": until, "failures": tables.c.failures + 1, "due_at": now + pause}
    query = update(tables).where(tables.c.id == table.id, _free(now)).values(values).returning(tables)
    row = connection.execute(query).first()
    return None if row is None else _table(row)


def renew(connection: Connection, table: OnlineTable, owner: str) -> bool:
    """Keep a lease; false when it is lost, or the table was removed meanwhile."""
    held = (tables.c.id == table.id, tables.c.lease == owner, tables.c.removed.is_(table.removed))
    return connection.execute(update(tables).where(*held).values(leased_until=utc_now() + LEASE)).rowcount > 0


def release(connection: Connection, owner: str) -> None:
    """End the leases of somebody who is no more; what they were at is due after its pause."""
    ended = {"lease": "", "leased_until": None}
    connection.execute(update(tables).where(tables.c.lease.startswith(owner, autoescape=True)).values(ended))


def succeeded(connection: Connection, table: OnlineTable, owner: str, *, version: int, committed_at: datetime) -> None:
    """A round came to its end: it answers what was asked before it began, and ends the lease."""
    now = utc_now()
    values = {
        "state": State.ONLINE, "error": "", "failures": 0, "answered": table.asked, "version": version,
        "committed_at": committed_at, "published_at": now, "due_at": now, "lease": "", "leased_until": None,
        "anew": case((tables.c.asked == table.asked, False), else_=tables.c.anew),
    }  # fmt: skip
    connection.execute(update(tables).where(tables.c.id == table.id, tables.c.lease == owner).values(values))


def failed(connection: Connection, table: OnlineTable, owner: str, error: str) -> None:
    """A round failed; the next is due after the pause that `lease` noted."""
    values = {"state": State.FAILED, "error": error, "lease": "", "leased_until": None}
    connection.execute(update(tables).where(tables.c.id == table.id, tables.c.lease == owner).values(values))


def forget(connection: Connection, table: OnlineTable, owner: str) -> None:
    """A removed table has no rows any more."""
    connection.execute(delete(tables).where(tables.c.id == table.id, tables.c.lease == owner))


def _free(now: datetime) -> Any:
    return and_(tables.c.due_at <= now, or_(tables.c.leased_until.is_(None), tables.c.leased_until < now))


def _store(row: Row[Any]) -> OnlineStore:
    return OnlineStore(**{**row._mapping, "kind": StoreKind(row.kind)})


def _table(row: Row[Any]) -> OnlineTable:
    kept = {key: value for key, value in row._mapping.items() if key not in {"due_at", "lease", "leased_until"}}
    return OnlineTable(**{**kept, "kind": StoreKind(row.kind), "mode": Mode(row.mode), "state": State(row.state)})
