"""This room's table: replays, the newest of each version."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, Index, Integer, Row, String, Table, Text, delete, insert, select, update

from millpond.kernel.database import Json, UtcDateTime, metadata
from millpond.replay.domain import UNDER_WAY, Replay, State

MOST = 100
"""Replays that are kept of one version."""

replays = Table(
    "replay_runs",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("subject_key", String(300), nullable=False),
    Column("model", String(800), nullable=False),
    Column("version", Integer, nullable=False),
    Column("endpoint_id", String(36), nullable=False),
    Column("endpoint", String(63), nullable=False),
    Column("table_id", String(36), nullable=False),
    Column("state", String(20), nullable=False),
    Column("requester", String(255), nullable=False),
    Column("asked", Json, nullable=False),
    Column("done", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("report", Json, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index("ix_replay_runs_subject_key_version", "subject_key", "version"),
    Index("ix_replay_runs_endpoint_id", "endpoint_id"),
)


def add(connection: Connection, replay: Replay) -> None:
    """A new one; of its version the oldest beyond the limit go."""
    connection.execute(insert(replays).values(**vars(replay)))
    old = select(replays.c.id).where(*_of_version(replay.subject_key, replay.version)).order_by(replays.c.id.desc())
    gone = connection.execute(old.offset(MOST).limit(MOST)).scalars().all()
    connection.execute(delete(replays).where(replays.c.id.in_(gone)))


def find(connection: Connection, replay_id: str) -> Replay | None:
    """The one with an id."""
    row = connection.execute(select(replays).where(replays.c.id == replay_id)).first()
    return None if row is None else _replay(row)


def list_of_endpoint(connection: Connection, endpoint_id: str) -> Sequence[Replay]:
    """Those of an endpoint, newest first."""
    return _list(connection, replays.c.endpoint_id == endpoint_id)


def list_of_version(connection: Connection, subject_key: str, version: int) -> Sequence[Replay]:
    """Those for a version of a model, newest first."""
    return _list(connection, *_of_version(subject_key, version))


def go_on(connection: Connection, replay_id: str, **values: Any) -> bool:
    """How one goes on or ends; False when it has ended already, by whoever cancelled it."""
    under_way = (replays.c.id == replay_id, replays.c.state.in_(UNDER_WAY))
    return connection.execute(update(replays).where(*under_way).values(values)).rowcount == 1


def _list(connection: Connection, *conditions: Any) -> Sequence[Replay]:
    query = select(replays).where(*conditions).order_by(replays.c.id.desc()).limit(MOST)
    return [_replay(row) for row in connection.execute(query)]


def _of_version(subject_key: str, version: int) -> list[Any]:
    return [replays.c.subject_key == subject_key, replays.c.version == version]


def _replay(row: Row[Any]) -> Replay:
    return Replay(**{**row._mapping, "state": State(row.state)})
