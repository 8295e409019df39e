"""SQL of the chain."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    Select,
    String,
    Table,
    Text,
    UniqueConstraint,
    delete,
    func,
    insert,
    select,
    update,
)

from millpond.audit.domain import FIRST_FAILURE, Entry, Filter, Head, Link
from millpond.journal.outbox import outbox
from millpond.kernel.database import BigId, UtcDateTime, metadata

_LONGEST_KEY = 255
"""An index of PostgreSQL takes 2,704 bytes, and a character may be four."""

entries = Table(
    "audit_entries",
    metadata,
    Column("sequence", BigId, primary_key=True, autoincrement=False),
    Column("event_id", String(36), nullable=False),
    Column("event_time", UtcDateTime, nullable=False, index=True),
    Column("actor", String(255), nullable=False),
    Column("service", String(60), nullable=False),
    Column("action", String(120), nullable=False),
    Column("kind", String(60), nullable=False),
    Column("name", String(_LONGEST_KEY), nullable=False),
    Column("address", String(100), nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    UniqueConstraint("event_id"),
    Index(None, "actor", "sequence"),
    Index(None, "name", "sequence"),
)
"""All but the last three are copies out of `body`, to search by."""

ends = Table(
    "audit_ends",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("anchor_sequence", BigInteger, nullable=False),
    Column("anchor_hash", String(64), nullable=False),
    Column("cut_before", UtcDateTime),
)
"""One row, which is locked by whoever makes the chain longer or shorter."""


def head(connection: Connection, *, lock: bool = False) -> Head:
    """Both ends of the chain; with `lock`, nobody else moves them until the transaction ends."""
    query = select(ends)
    row = connection.execute(query.with_for_update() if lock else query).one()
    return Head(
        sequence=row.sequence,
        hash=row.hash,
        anchor_sequence=row.anchor_sequence,
        anchor_hash=row.anchor_hash,
        cut_before=row.cut_before,
    )


def append(connection: Connection, links: Sequence[tuple[Link, Entry]]) -> None:
    """Make the chain longer by links with what is in them. The caller holds its head."""
    connection.execute(insert(entries), [_row(link, entry) for link, entry in links])
    last = links[-1][0]
    connection.execute(update(ends).values(sequence=last.sequence, hash=last.hash))


def _row(link: Link, entry: Entry) -> dict[str, Any]:
    return copies(entry) | {
        "sequence": link.sequence,
        "body": link.body,
        "previous": link.previous,
        "hash": link.hash,
    }


def copies(entry: Entry) -> dict[str, Any]:
    """The columns that repeat what the body says."""
    texts = {"event_id": entry.id} | {key: getattr(entry, key) for key in _TEXT_COPIES}
    cut = {key: value[: _LONGEST[key]].replace("\0", "\ufffd") for key, value in texts.items()}
    return cut | {"event_time": entry.time, "status": entry.status}


_TEXT_COPIES = ("actor", "service", "action", "kind", "name", "address")
_LONGEST: Mapping[str, int] = {key: entries.c[key].type.length for key in ("event_id", *_TEXT_COPIES)}  # type: ignore[attr-defined]


def known_ids(connection: Connection, ids: Collection[str]) -> set[str]:
    """Which of these events are in the chain."""
    return set(connection.execute(select(entries.c.event_id).where(entries.c.event_id.in_(ids))).scalars())


def waiting(connection: Connection, limit: int) -> Sequence[Any]:
    """Events in the outbox, oldest first."""
    return connection.execute(select(outbox.c.id, outbox.c.event).order_by(outbox.c.id).limit(limit)).all()


def remove_waiting(connection: Connection, ids: Collection[int]) -> None:
    """Take events that are chained out of the outbox."""
    connection.execute(delete(outbox).where(outbox.c.id.in_(ids)))


def link_of(row: Any) -> Link:
    """The link in a row."""
    return Link(sequence=row.sequence, previous=row.previous, body=row.body, hash=row.hash)


def rows_after(connection: Connection, sequence: int, limit: int, *, through: int | None = None) -> Sequence[Any]:
    """Whole rows in the order of the chain."""
    query = select(entries).where(entries.c.sequence > sequence).order_by(entries.c.sequence).limit(limit)
    return connection.execute(query if through is None else query.where(entries.c.sequence <= through)).all()


def search(connection: Connection, wanted: Filter, before: int | None, limit: int) -> list[Link]:
    """Links that a filter lets through, newest first."""
    query = _filtered(select(entries), wanted).order_by(entries.c.sequence.desc()).limit(limit)
    if before is not None:
        query = query.where(entries.c.sequence < before)
    return [link_of(row) for row in connection.execute(query)]


def search_after(connection: Connection, wanted: Filter, after: int, limit: int) -> list[Link]:
    """Links that a filter lets through, oldest first."""
    query = _filtered(select(entries), wanted).where(entries.c.sequence > after)
    return [link_of(row) for row in connection.execute(query.order_by(entries.c.sequence).limit(limit))]


def _filtered(query: Select[Any], wanted: Filter) -> Select[Any]:
    for column in _TEXT_COPIES:
        value = getattr(wanted, column)
        if value is not None:
            query = query.where(entries.c[column] == value)
    if wanted.since is not None:
        query = query.where(entries.c.event_time >= wanted.since)
    if wanted.until is not None:
        query = query.where(entries.c.event_time < wanted.until)
    if wanted.failed is not None:
        failed = entries.c.status >= FIRST_FAILURE
        query = query.where(failed if wanted.failed else ~failed)
    return query


def last_older(connection: Connection, moment: datetime, ends_at: Head) -> Link | None:
    """The last link before which, and with which, everything is older than a moment."""
    younger = connection.execute(select(func.min(entries.c.sequence)).where(entries.c.event_time >= moment)).scalar()
    last = ends_at.sequence if younger is None else younger - 1
    row = connection.execute(select(entries).where(entries.c.sequence == last)).first()
    return None if row is None else link_of(row)


def cut(connection: Connection, through: Link, before: datetime) -> int:
    """Remove links up to and with one, which becomes the anchor; how many went. The caller holds the head."""
    gone = connection.execute(delete(entries).where(entries.c.sequence <= through.sequence)).rowcount
    connection.execute(
        update(ends).values(anchor_sequence=through.sequence, anchor_hash=through.hash, cut_before=before)
    )
    return gone


def oldest(connection: Connection) -> datetime | None:
    """When the oldest entry happened."""
    return connection.execute(select(entries.c.event_time).order_by(entries.c.event_time).limit(1)).scalar()
