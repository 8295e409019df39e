"""Which versions of tables were read by whom, and which of them are kept because a model was trained on them.

A *reader* is a process that captures its runs, by the name that it tells, or a run, by its id. A *pin* says that a
registered model version was made by a run: while the version is there, VACUUM keeps what its run has read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    String,
    Table,
    Text,
    and_,
    delete,
    or_,
    select,
)
from sqlalchemy import update as sql_update
from sqlalchemy.dialects import postgresql, sqlite

from millpond.kernel import work
from millpond.kernel.clock import from_epoch_us
from millpond.kernel.database import Database, UtcDateTime, metadata

_MOST = 10_000
PINNED = "pinned"
"""The work that a new pin asks for; its `readers` are who has read for the model."""

reads = Table(
    "lineage_reads",
    metadata,
    Column("reader", String(64), primary_key=True),
    Column("table_id", String(36), primary_key=True),
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("first_at", UtcDateTime, nullable=False),
    Index(None, "table_id"),
)
pins = Table(
    "lineage_pins",
    metadata,
    Column("model", String(256), primary_key=True),
    Column("model_version", Integer, primary_key=True, autoincrement=False),
    Column("run_id", String(64), nullable=False),
    Column("process", String(64), nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class VersionRead:
    """A table at a version, as somebody read it."""

    reader: str
    table_id: str
    name: str
    """What the table was called then."""
    version: int
    first_at: datetime


@dataclass(frozen=True, kw_only=True)
class Pin:
    """A version of a table that is kept for a version of a model."""

    table_id: str
    table: str
    table_version: int
    model: str
    model_version: int
    run_id: str
    since: datetime


def read_of_note(note: Mapping[str, Any]) -> VersionRead:
    """What the gateway noted of a read. Raises KeyError and the like for a torn note."""
    told = note["read_at"]
    return VersionRead(
        reader=str(note["process"])[:64],
        table_id=told["id"],
        name=told["name"],
        version=int(told["version"]),
        first_at=from_epoch_us(note["time_us"]),
    )


def put_reads(connection: Connection, found: Sequence[VersionRead]) -> None:
    """Record reads, each once: the first counts."""
    if not found:
        return
    made: Any = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(reads)
    rows = [vars(each) for each in sorted(found, key=lambda each: (each.reader, each.table_id, each.version))]
    connection.execute(made.on_conflict_do_nothing(), rows)


def reads_of(database: Database, readers: Sequence[str], until: datetime | None = None) -> list[VersionRead]:
    """What some readers have read, in the order of the first time."""
    wanted: list[ColumnElement[bool]] = [reads.c.reader.in_(sorted(readers))]
    wanted += [reads.c.first_at <= until] if until is not None else []
    with database.read() as connection:
        rows = connection.execute(select(reads).where(*wanted).order_by(reads.c.first_at).limit(_MOST)).all()
    return [VersionRead(**row._mapping) for row in rows]


def pin(connection: Connection, *, model: str, version: int, run_id: str, process: str, made_at: datetime) -> None:
    """A version of a model was made by a run of a process. What it has read is to be kept from now on."""
    made: Any = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(pins)
    values = {"model": model, "model_version": version, "run_id": run_id, "process": process, "made_at": made_at}
    connection.execute(made.on_conflict_do_update(index_elements=["model", "model_version"], set_=values), [values])
    work.enqueue(connection, PINNED, {"readers": [reader for reader in (run_id, process) if reader]})


def release(connection: Connection, model: str, version: int | None = None) -> None:
    """A version of a model is gone; without a number the model with all of them."""
    one = [] if version is None else [pins.c.model_version == version]
    connection.execute(delete(pins).where(pins.c.model == model, *one))


def rename(connection: Connection, old: str, new: str) -> None:
    """A model is called otherwise."""
    connection.execute(sql_update(pins).where(pins.c.model == old).values(model=new))


def pins_of(
    database: Database, table_ids: Sequence[str] | None = None, *, model: tuple[str, int] | None = None
) -> list[Pin]:
    """The pins on some tables, or all; those of one version of a model. For the server: whoever calls has checked."""
    reader = or_(and_(reads.c.reader == pins.c.process, pins.c.process != ""), reads.c.reader == pins.c.run_id)
    query = select(reads.c.table_id, reads.c.name, reads.c.version, pins).join(
        pins, and_(reader, reads.c.first_at <= pins.c.made_at)
    )
    if table_ids is not None:
        query = query.where(reads.c.table_id.in_(sorted(table_ids)))
    if model is not None:
        query = query.where(pins.c.model == model[0], pins.c.model_version == model[1])
    with database.read() as connection:
        rows = connection.execute(query.order_by(reads.c.name, reads.c.version, pins.c.model).limit(_MOST)).all()
    found = {
        (row.table_id, row.version, row.model, row.model_version): Pin(
            table_id=row.table_id,
            table=row.name,
            table_version=row.version,
            model=row.model,
            model_version=row.model_version,
            run_id=row.run_id,
            since=row.made_at,
        )
        for row in rows
    }
    return list(found.values())
