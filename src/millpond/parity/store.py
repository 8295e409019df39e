"""This room's table: reports of replays, the newest of each subject."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Index, Integer, Row, String, Table, Text, delete, insert, select, update

from millpond.kernel.database import Json, UtcDateTime, metadata
from millpond.parity.domain import State

MOST = 100
"""Reports that are kept of one subject."""

reports = Table(
    "parity_reports",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("subject_key", String(300), nullable=False),
    Column("subject", String(800), nullable=False),
    Column("version", Integer),
    Column("state", String(20), nullable=False),
    Column("requester", String(255), nullable=False),
    Column("asked", Json, nullable=False),
    Column("report", Json, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index("ix_parity_reports_subject_key_version", "subject_key", "version"),
)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check, and what it found once it has ended."""

    id: str
    subject_key: str
    """Of the model or the function under permission, whatever it is called now."""
    subject: str
    """Its name then."""
    version: int | None
    """Of a model; None for a feature spec."""
    state: State
    requester: str
    asked: Mapping[str, Any]
    report: Mapping[str, Any]
    """`domain.Report` as JSON; empty until it is there."""
    message: str
    created_at: datetime
    ended_at: datetime | None


def add(connection: Connection, check: Check) -> None:
    """A new one; of its subject the oldest beyond the limit go."""
    connection.execute(insert(reports).values(**vars(check)))
    old = select(reports.c.id).where(*_of(check.subject_key, check.version)).order_by(reports.c.id.desc())
    gone = connection.execute(old.offset(MOST).limit(MOST)).scalars().all()
    connection.execute(delete(reports).where(reports.c.id.in_(gone)))


def find(connection: Connection, check_id: str) -> Check | None:
    """The one with an id."""
    row = connection.execute(select(reports).where(reports.c.id == check_id)).first()
    return None if row is None else _check(row)


def list_of(connection: Connection, subject_key: str, version: int | None) -> Sequence[Check]:
    """Those of a model's version, or of all its versions, or of a spec; newest first, without their reports."""
    conditions = _of(subject_key, version) if version is not None else [reports.c.subject_key == subject_key]
    columns = [column for column in reports.c if column is not reports.c.report]
    query = select(*columns).where(*conditions).order_by(reports.c.id.desc()).limit(MOST)
    return [_check(row, report={}) for row in connection.execute(query)]


def change(connection: Connection, check_id: str, **values: Any) -> None:
    """How one goes on or ends."""
    connection.execute(update(reports).where(reports.c.id == check_id).values(values))


def _of(subject_key: str, version: int | None) -> list[Any]:
    is_version = reports.c.version.is_(None) if version is None else reports.c.version == version
    return [reports.c.subject_key == subject_key, is_version]


def _check(row: Row[Any], **more: Any) -> Check:
    return Check(**{**row._mapping, "state": State(row.state), **more})
