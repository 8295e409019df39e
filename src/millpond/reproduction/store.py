"""SQL of captures and reproductions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Index, String, Table, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from millpond.kernel.clock import utc_now
from millpond.kernel.database import Json, UtcDateTime, metadata

_MOST = 50

captures = Table(
    "captures",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner_id", String(36), nullable=False),
    Column("owner", String(255), nullable=False),
    Column("parts", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)
"""`parts` are the names of those that came."""
reproductions = Table(
    "reproductions",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("run_id", String(64), nullable=False),
    Column("new_run_id", String(64), nullable=False),
    Column("requester", String(255), nullable=False),
    Column("place", String(20), nullable=False),
    Column("state", String(20), nullable=False),
    Column("outcome", String(40), nullable=False),
    Column("verdict", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index(None, "run_id"),
)


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """One attempt to make a run again."""

    id: str
    run_id: str
    new_run_id: str
    requester: str
    place: str
    """server, or client: the machine of whoever asked."""
    state: str
    outcome: str
    verdict: Mapping[str, Any]
    created_at: datetime
    ended_at: datetime | None


def find_capture(connection: Connection, capture_id: str, *, lock: bool = False) -> Any:
    """The row of a capture, or None."""
    query = select(captures).where(captures.c.id == capture_id)
    return connection.execute(query.with_for_update() if lock else query).first()


def put_capture(connection: Connection, capture_id: str, owner_id: str, owner: str, part: str) -> None:
    """Note that a part of a capture has come. The caller has looked whose it is, in the same transaction."""
    values = {"id": capture_id, "owner_id": owner_id, "owner": owner, "parts": [], "created_at": utc_now()}
    made: Any = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(captures)
    connection.execute(made.on_conflict_do_nothing(), [values])
    row = find_capture(connection, capture_id, lock=True)
    if part not in row.parts:
        changed = update(captures).where(captures.c.id == capture_id).values(parts=[*row.parts, part])
        connection.execute(changed)


def add(connection: Connection, reproduction: Reproduction) -> None:
    """A new one."""
    connection.execute(insert(reproductions).values(**vars(reproduction)))


def find(connection: Connection, reproduction_id: str) -> Reproduction | None:
    """The one with an id."""
    row = connection.execute(select(reproductions).where(reproductions.c.id == reproduction_id)).first()
    return None if row is None else Reproduction(**row._mapping)


def of_run(connection: Connection, run_id: str) -> Sequence[Reproduction]:
    """Those of a run, newest first."""
    query = select(reproductions).where(reproductions.c.run_id == run_id)
    rows = connection.execute(query.order_by(reproductions.c.created_at.desc()).limit(_MOST))
    return [Reproduction(**row._mapping) for row in rows]


def change(connection: Connection, reproduction_id: str, **values: Any) -> None:
    """Set columns of one that is not done."""
    open_one = (reproductions.c.id == reproduction_id, reproductions.c.state != "done")
    connection.execute(update(reproductions).where(*open_one).values(**values))
