"""The tables of pipelines and all their SQL."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from millpond.kernel.database import Json, UtcDateTime, metadata
from millpond.pipelines.domain import Asked, Cause, Event, Level, Pipeline, Update, UpdateState
from millpond.pipelines.filters import WantedEvents

pipelines = Table(
    "pipelines",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("claimed_name", String(255)),
    Column("creator", String(255), nullable=False),
    Column("run_as", String(255), nullable=False),
    Column("settings", Json, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("active_update_id", String(36)),
    Column("next_start_at", UtcDateTime),
    Column("failed", Boolean, nullable=False),
    Column("events", BigInteger, nullable=False),
    UniqueConstraint("claimed_name", name="uq_pipelines_claimed_name"),
    Index("ix_pipelines_name", "name"),
    Index("ix_pipelines_next_start_at", "next_start_at"),
)
"""`claimed_name` is the name of a pipeline that shares it with none of its kind; none of those that may."""
updates = Table(
    "pipeline_updates",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("pipeline_id", String(36), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("run_id", BigInteger, nullable=False),
    Column("cause", String(30), nullable=False),
    Column("asked", Json, nullable=False),
    Column("asked_by", String(255), nullable=False),
    Column("run_as", String(255), nullable=False),
    Column("settings", Json, nullable=False),
    Column("state", String(30), nullable=False),
    Column("message", Text, nullable=False),
    Column("error", Json),
    Column("told_by", BigInteger, nullable=False),
    Column("told", BigInteger, nullable=False),
    Column("events", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index("ix_pipeline_updates_pipeline_id_number", "pipeline_id", "number"),
    Index("ix_pipeline_updates_run_id", "run_id"),
    Index("ix_pipeline_updates_created_at", "created_at"),
)
events = Table(
    "pipeline_events",
    metadata,
    Column("pipeline_id", String(36), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("id", String(36), nullable=False),
    Column("update_id", String(36)),
    Column("at", UtcDateTime, nullable=False),
    Column("level", String(10), nullable=False),
    Column("event_type", String(60), nullable=False),
    Column("message", Text, nullable=False),
    Column("body", Json, nullable=False),
    Index("ix_pipeline_events_pipeline_id_level_number", "pipeline_id", "level", "number"),
    Index("ix_pipeline_events_update_id_number", "update_id", "number"),
    Index("ix_pipeline_events_at", "at"),
)
_COLUMNS = tuple(column for column in pipelines.c if column.name != "claimed_name")


# -- pipelines ----------------------------------------------------------------------------------------------------


def add(connection: Connection, pipeline: Pipeline, *, shares_name: bool) -> bool:
    """Add a pipeline; False where another has its name, and it may share that with none."""
    if not shares_name and _is_named(connection, pipeline):
        return False
    values = {**vars(pipeline), "claimed_name": None if shares_name else pipeline.name}
    made: Any = (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(pipelines)
    done = connection.execute(made.values(values).on_conflict_do_nothing(index_elements=["claimed_name"]))
    return bool(done.rowcount)


def rename(connection: Connection, pipeline: Pipeline, *, shares_name: bool) -> bool:
    """Claim a pipeline's name as it is now; False as of `add`. The caller has the lock on it."""
    if not shares_name and _is_named(connection, pipeline):
        return False
    try:
        with connection.begin_nested():
            change(connection, pipeline.id, name=pipeline.name, claimed_name=None if shares_name else pipeline.name)
    except IntegrityError:  # somebody else has claimed it meanwhile
        return False
    return True


def _is_named(connection: Connection, pipeline: Pipeline) -> bool:
    query = select(pipelines.c.id).where(pipelines.c.name == pipeline.name, pipelines.c.id != pipeline.id)
    return connection.execute(query.limit(1)).first() is not None


def find(connection: Connection, pipeline_id: str, *, lock: bool = False) -> Pipeline | None:
    """The pipeline with an id; `lock` keeps others from changing it until the transaction ends."""
    query = select(*_COLUMNS).where(pipelines.c.id == _plain(pipeline_id))
    row = connection.execute(query.with_for_update() if lock else query).first()
    return Pipeline(**row._mapping) if row else None


def _plain(text: str) -> str:
    """An id that somebody sent, as PostgreSQL takes it."""
    return text.replace("\0", "\ufffd")


def change(connection: Connection, pipeline_id: str, **values: Any) -> None:
    """Set columns of a pipeline."""
    connection.execute(update(pipelines).where(pipelines.c.id == pipeline_id).values(**values))


def remove(connection: Connection, pipeline_id: str) -> None:
    """Remove a pipeline with its updates and events."""
    connection.execute(delete(events).where(events.c.pipeline_id == pipeline_id))
    connection.execute(delete(updates).where(updates.c.pipeline_id == pipeline_id))
    connection.execute(delete(pipelines).where(pipelines.c.id == pipeline_id))


def list_pipelines(
    connection: Connection, *, like: str | None, by_name: bool, upward: bool, after: Sequence[str], limit: int
) -> list[Pipeline]:
    """Pipelines by their ids, or by their names, behind one of them (`after` has the name and the id of that)."""
    order = [pipelines.c.name, pipelines.c.id] if by_name else [pipelines.c.id]
    query = select(*_COLUMNS).order_by(*(each.asc() if upward else each.desc() for each in order)).limit(limit)
    if like is not None:
        query = query.where(func.lower(pipelines.c.name).like(like.lower(), escape="\\"))
    if after:
        name, id_ = after
        query = query.where(_behind(name, id_, upward=upward) if by_name else _beyond(pipelines.c.id, id_, upward))
    return [Pipeline(**row._mapping) for row in connection.execute(query)]


def _behind(name: str, id_: str, *, upward: bool) -> ColumnElement[bool]:
    same = and_(pipelines.c.name == name, _beyond(pipelines.c.id, id_, upward))
    return or_(_beyond(pipelines.c.name, name, upward), same)


def _beyond(column: Any, value: Any, upward: bool) -> ColumnElement[bool]:
    found: ColumnElement[bool] = column > value if upward else column < value
    return found


def due(connection: Connection, now: datetime, *, lock: bool = False) -> list[Pipeline]:
    """Continuous pipelines that are to have an update and have none; on PostgreSQL not those another server is at."""
    wanted = (pipelines.c.next_start_at <= now, pipelines.c.active_update_id.is_(None))
    query = select(*_COLUMNS).where(*wanted).order_by(pipelines.c.next_start_at).limit(100)
    rows = connection.execute(query.with_for_update(skip_locked=True) if lock else query)
    return [Pipeline(**row._mapping) for row in rows]


def is_due(connection: Connection, now: datetime) -> bool:
    """Whether there is one; takes no lock."""
    wanted = (pipelines.c.next_start_at <= now, pipelines.c.active_update_id.is_(None))
    return connection.execute(select(pipelines.c.id).where(*wanted).limit(1)).first() is not None


# -- updates ------------------------------------------------------------------------------------------------------


def add_update(connection: Connection, made: Update) -> None:
    """Add an update."""
    values = {**vars(made), "asked": {**asdict(made.asked), "parameters": dict(made.asked.parameters)}}
    connection.execute(insert(updates).values(**values))


def find_update(connection: Connection, update_id: str, *, lock: bool = False) -> Update | None:
    """The update with an id."""
    query = select(updates).where(updates.c.id == _plain(update_id))
    row = connection.execute(query.with_for_update() if lock else query).first()
    return _update(row) if row else None


def update_of_run(connection: Connection, run_id: int) -> Update | None:
    """The update that a run is."""
    row = connection.execute(select(updates).where(updates.c.run_id == run_id)).first()
    return _update(row) if row else None


def change_update(connection: Connection, update_id: str, **values: Any) -> None:
    """Set columns of an update."""
    connection.execute(update(updates).where(updates.c.id == update_id).values(**values))


def begin_waiting(connection: Connection, update_id: str) -> bool:
    """Note that an update is about to have a process, perhaps another one, unless it is to end."""
    going = (updates.c.id == update_id, updates.c.ended_at.is_(None), updates.c.state != UpdateState.STOPPING.value)
    waiting = update(updates).where(*going).values(state=UpdateState.WAITING_FOR_RESOURCES.value, error=None)
    return bool(connection.execute(waiting).rowcount)


def list_updates(
    connection: Connection, pipeline_id: str, *, before: int | None, until: int | None, limit: int
) -> list[Update]:
    """A pipeline's updates, the newest first, below a number, and none above `until`."""
    query = select(updates).where(updates.c.pipeline_id == pipeline_id).order_by(updates.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(updates.c.number < before)
    if until is not None:
        query = query.where(updates.c.number <= until)
    return [_update(row) for row in connection.execute(query)]


def latest(connection: Connection, pipeline_ids: Sequence[str], each: int) -> dict[str, list[Update]]:
    """The last updates of each of some pipelines, the newest first."""
    place = func.row_number().over(partition_by=updates.c.pipeline_id, order_by=updates.c.number.desc()).label("place")
    placed = select(updates.c.id, place).where(updates.c.pipeline_id.in_(pipeline_ids)).subquery()
    query = select(updates).join(placed, placed.c.id == updates.c.id).where(placed.c.place <= each)
    found: dict[str, list[Update]] = {}
    for row in connection.execute(query.order_by(updates.c.number.desc())):
        found.setdefault(row.pipeline_id, []).append(_update(row))
    return found


def states_of(connection: Connection, pipeline_id: str, limit: int) -> list[UpdateState]:
    """How a pipeline's last updates stand, the newest first."""
    query = select(updates.c.state).where(updates.c.pipeline_id == pipeline_id).order_by(updates.c.number.desc())
    return [UpdateState(state) for state in connection.execute(query.limit(limit)).scalars()]


def old_updates(connection: Connection, before: datetime, limit: int) -> list[str]:
    """The ids of updates that ended before a moment."""
    query = select(updates.c.id).where(updates.c.created_at < before, updates.c.ended_at < before)
    return list(connection.execute(query.order_by(updates.c.created_at).limit(limit)).scalars())


def remove_updates(connection: Connection, update_ids: Collection[str]) -> None:
    """Remove updates with their events."""
    connection.execute(delete(events).where(events.c.update_id.in_(update_ids)))
    connection.execute(delete(updates).where(updates.c.id.in_(update_ids)))


def remove_old_acts(connection: Connection, before: datetime) -> None:
    """Remove events of no update, from before a moment."""
    connection.execute(delete(events).where(events.c.at < before, events.c.update_id.is_(None)))


def _update(row: Any) -> Update:
    known = {"cause": Cause(row.cause), "state": UpdateState(row.state), "asked": Asked.of(row.asked)}
    return Update(**{**row._mapping, **known})


# -- events -------------------------------------------------------------------------------------------------------


def add_events(connection: Connection, pipeline_id: str, made: Sequence[Mapping[str, Any]]) -> None:
    """Number events, and add them; harmless for a pipeline that is gone."""
    if not made:
        return
    counting = update(pipelines).where(pipelines.c.id == pipeline_id)
    counting = counting.values(events=pipelines.c.events + len(made))
    last = connection.execute(counting.returning(pipelines.c.events)).scalar()
    if last is None:
        return
    first = last - len(made) + 1
    rows = [{**each, "pipeline_id": pipeline_id, "number": first + place} for place, each in enumerate(made)]
    connection.execute(insert(events), rows)


_COMPARED = {
    "<": events.c.at.__lt__, "<=": events.c.at.__le__, ">": events.c.at.__gt__, ">=": events.c.at.__ge__,
    "=": events.c.at.__eq__,
}  # fmt: skip


def list_events(
    connection: Connection, pipeline_id: str, wanted: WantedEvents, *, upward: bool, beyond: int | None, limit: int
) -> list[Event]:
    """Events of a pipeline in their order, behind a number."""
    query = select(events).where(events.c.pipeline_id == pipeline_id).limit(limit)
    query = query.order_by(events.c.number.asc() if upward else events.c.number.desc())
    if wanted.levels:
        query = query.where(events.c.level.in_(sorted(wanted.levels)))
    if wanted.id is not None:
        query = query.where(events.c.id == wanted.id)
    if wanted.update_id is not None:
        query = query.where(events.c.update_id == wanted.update_id)
    for operator, moment in wanted.times:
        query = query.where(_COMPARED[operator](moment))
    if beyond is not None:
        query = query.where(_beyond(events.c.number, beyond, upward))
    return [_event(row) for row in connection.execute(query)]


def events_of(connection: Connection, update_id: str, types: Sequence[str], limit: int) -> list[Event]:
    """Events of some types of an update, the last of them, the oldest first."""
    query = select(events).where(events.c.update_id == update_id, events.c.event_type.in_(types))
    rows = connection.execute(query.order_by(events.c.number.desc()).limit(limit)).all()
    return [_event(row) for row in reversed(rows)]


def _event(row: Any) -> Event:
    return Event(**{**row._mapping, "level": Level(row.level)})
