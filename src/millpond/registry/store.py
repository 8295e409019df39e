"""This room's record: activities, requests, approvals and what was served; all SQL about them."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    Row,
    Select,
    String,
    Table,
    Text,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from millpond.kernel.clock import utc_now
from millpond.kernel.database import Json, UtcDateTime, metadata
from millpond.kernel.ids import new_id
from millpond.registry.domain import MOVES, Activity, ActivityType, Request, Served, puts
from millpond.tracking.watch import Target, TargetKind

OPEN = "open"

counters = Table(
    "registry_counters",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
activities = Table(
    "registry_activities",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("id", String(36), nullable=False, unique=True),
    Column("model_key", String(300), nullable=False),
    Column("model", String(256), nullable=False),
    Column("version", Integer),
    Column("type", String(30), nullable=False),
    Column("target_kind", String(10), nullable=False),
    Column("target", String(256), nullable=False),
    Column("previous", String(256), nullable=False),
    Column("actor", String(255), nullable=False),
    Column("client", String(255), nullable=False),
    Column("comment", Text, nullable=False),
    Column("system_comment", Text, nullable=False),
    Column("evidence", Json, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_registry_activities_model_key_sequence", "model_key", "sequence"),
)
requests = Table(
    "registry_requests",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("model_key", String(300), nullable=False),
    Column("version", Integer, nullable=False),
    Column("target_kind", String(10), nullable=False),
    Column("target", String(256), nullable=False),
    Column("creator", String(255), nullable=False),
    Column("comment", Text, nullable=False),
    Column("state", String(20), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index("ix_registry_requests_model_key_version", "model_key", "version"),
)
approvals = Table(
    "registry_approvals",
    metadata,
    Column("request_id", String(36), primary_key=True),
    Column("approver", String(255), primary_key=True),
    Column("comment", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)
served = Table(
    "registry_served",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("endpoint_id", String(36), nullable=False),
    Column("endpoint", String(255), nullable=False),
    Column("model_key", String(300), nullable=False),
    Column("version", Integer, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("until", UtcDateTime),
    Index("ix_registry_served_endpoint_id", "endpoint_id"),
    Index("ix_registry_served_model_key_version", "model_key", "version"),
)
KEYED = (activities, requests, served)
"""The tables with a model's key; those of gates and webhooks are in their own modules."""


# -- activities -------------------------------------------------------------------------------------------------------


def add_activity(
    connection: Connection,
    *,
    key: str,
    model: str,
    version: int | None,
    kind: ActivityType,
    actor: str,
    target: Target | None = None,
    previous: str = "",
    client: str = "",
    comment: str = "",
    system_comment: str = "",
    evidence: dict[str, Any] | None = None,
) -> Activity:
    """One more entry; the transaction holds the counter, so that sequences are committed in their order."""
    statement = update(counters).where(counters.c.name == "activities").values(value=counters.c.value + 1)
    sequence = connection.execute(statement.returning(counters.c.value)).scalar_one()
    now = utc_now()
    values = {
        "sequence": sequence, "id": new_id(), "model_key": key, "model": model, "version": version, "type": kind.value,
        "target_kind": target.kind.value if target else "", "target": target.name if target else "",
        "previous": previous, "actor": actor, "client": client[:255], "comment": comment,
        "system_comment": system_comment, "evidence": evidence or {}, "at": now, "updated_at": now,
    }  # fmt: skip
    connection.execute(insert(activities).values(values))
    return _activity(values)


def lock_order(connection: Connection) -> None:
    """No other activity is added until this transaction ends; what was added is seen.

    Whoever locks requests does this first, so that no two wait for each other.
    """
    connection.execute(select(counters).where(counters.c.name == "activities").with_for_update())


def list_activities(
    connection: Connection,
    key: str,
    *,
    version: int | None = None,
    kinds: Iterable[ActivityType] = (),
    before: int | None = None,
    limit: int,
) -> list[Activity]:
    """A model's entries, or a version's, newest first."""
    query = select(activities).where(activities.c.model_key == key)
    if version is not None:
        query = query.where(activities.c.version == version)
    if kinds:
        query = query.where(activities.c.type.in_([kind.value for kind in kinds]))
    if before is not None:
        query = query.where(activities.c.sequence < before)
    rows = connection.execute(query.order_by(activities.c.sequence.desc()).limit(limit))
    return [_activity(row._mapping) for row in rows]


def latest_moves(connection: Connection, key: str, at: datetime | None) -> list[Activity]:
    """The last move until a moment of each alias, and of each version between stages."""
    moved = and_(activities.c.model_key == key, activities.c.type.in_([kind.value for kind in MOVES]))
    if at is not None:
        moved = and_(moved, activities.c.at <= at)
    last = func.max(activities.c.sequence)
    aliases = (
        select(last).where(moved, activities.c.target_kind == TargetKind.ALIAS.value).group_by(activities.c.target)
    )
    stages = (
        select(last).where(moved, activities.c.target_kind == TargetKind.STAGE.value).group_by(activities.c.version)
    )
    query = select(activities).where(or_(activities.c.sequence.in_(aliases), activities.c.sequence.in_(stages)))
    return [_activity(row._mapping) for row in connection.execute(query.order_by(activities.c.sequence.desc()))]


def moves_after(connection: Connection, position: int, limit: int) -> list[tuple[str, Activity]]:
    """Moves of all models behind a place in the order of activities, each with its model's key."""
    query = select(activities).where(
        activities.c.sequence > position, activities.c.type.in_([kind.value for kind in MOVES])
    )
    rows = connection.execute(query.order_by(activities.c.sequence).limit(limit))
    return [(row.model_key, _activity(row._mapping)) for row in rows]


def lock_comment(connection: Connection, comment_id: str) -> tuple[Activity, str] | None:
    """A comment that is about to change, and the key of its model."""
    query = select(activities).where(activities.c.id == comment_id, activities.c.type == ActivityType.NEW_COMMENT.value)
    row = connection.execute(query.with_for_update()).first()
    return None if row is None else (_activity(row._mapping), row.model_key)


def write_comment(connection: Connection, comment_id: str, comment: str) -> None:
    """Change the text of a comment."""
    connection.execute(
        update(activities).where(activities.c.id == comment_id).values(comment=comment, updated_at=utc_now())
    )


def delete_comment(connection: Connection, comment_id: str) -> None:
    """Remove a comment."""
    connection.execute(delete(activities).where(activities.c.id == comment_id))


def _activity(row: Any) -> Activity:
    values = {name: row[name] for name in Activity.__dataclass_fields__ if name != "type"}
    return Activity(**values, type=ActivityType(row["type"]))


# -- requests ---------------------------------------------------------------------------------------------------------


def add_request(connection: Connection, key: str, version: int, target: Target, creator: str, comment: str) -> Request:
    """One more open request."""
    made = Request(id=new_id(), version=version, target=target, creator=creator, comment=comment, created_at=utc_now())
    values = {
        "id": made.id, "model_key": key, "version": version, "target_kind": target.kind.value, "target": target.name,
        "creator": creator, "comment": comment, "state": OPEN, "created_at": made.created_at,
    }  # fmt: skip
    connection.execute(insert(requests).values(values))
    return made


def open_requests(
    connection: Connection, key: str, *, version: int | None = None, target: Target | None = None, lock: bool = False
) -> list[Request]:
    """Open requests for a model, oldest first, with who has approved them."""
    query: Select[Any] = select(requests).where(requests.c.model_key == key, requests.c.state == OPEN)
    if version is not None:
        query = query.where(requests.c.version == version)
    if target is not None:
        query = query.where(_at(target))
    query = query.order_by(requests.c.id)
    rows = connection.execute(query.with_for_update() if lock else query).all()
    said = _approvers(connection, [row.id for row in rows])
    return [_request(row, said.get(row.id, ())) for row in rows]


def end_requests(connection: Connection, ids: Sequence[str], state: str) -> int:
    """Close requests that are open; how many were."""
    if not ids:
        return 0
    statement = update(requests).where(requests.c.id.in_(ids), requests.c.state == OPEN)
    return connection.execute(statement.values(state=state, ended_at=utc_now())).rowcount


def approve(connection: Connection, request_ids: Sequence[str], approver: str, comment: str) -> None:
    """Note that somebody approves; who repeats it says the last word."""
    for request_id in request_ids:
        mine = and_(approvals.c.request_id == request_id, approvals.c.approver == approver)
        connection.execute(delete(approvals).where(mine))
        values = {"request_id": request_id, "approver": approver, "comment": comment, "at": utc_now()}
        connection.execute(insert(approvals).values(values))


def _approvers(connection: Connection, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    if ids:
        query = select(approvals.c.request_id, approvals.c.approver).where(approvals.c.request_id.in_(ids))
        for request_id, approver in connection.execute(query.order_by(approvals.c.at)):
            found[request_id] = (*found.get(request_id, ()), approver)
    return found


def _at(target: Target) -> Any:
    return and_(requests.c.target_kind == target.kind.value, requests.c.target == target.name)


def _request(row: Row[Any], approvers: tuple[str, ...]) -> Request:
    return Request(
        id=row.id,
        version=row.version,
        target=Target(TargetKind(row.target_kind), row.target),
        creator=row.creator,
        comment=row.comment,
        created_at=row.created_at,
        approvers=approvers,
    )


# -- what was served --------------------------------------------------------------------------------------------------


def write_served(
    connection: Connection, endpoint_id: str, endpoint: str, now_serving: Iterable[tuple[str, int]]
) -> None:
    """From now on the endpoint serves exactly these: key and version of each model."""
    wanted, now = set(now_serving), utc_now()
    query = select(served).where(served.c.endpoint_id == endpoint_id, served.c.until.is_(None))
    present = {(row.model_key, row.version): row.id for row in connection.execute(query)}
    ended = [row_id for pair, row_id in present.items() if pair not in wanted]
    if ended:
        connection.execute(update(served).where(served.c.id.in_(ended)).values(until=now))
    for key, version in sorted(wanted - set(present)):
        values = {"id": new_id(), "endpoint_id": endpoint_id, "endpoint": endpoint, "model_key": key,
                  "version": version, "since": now}  # fmt: skip
        connection.execute(insert(served).values(values))


def list_served(connection: Connection, key: str, at: datetime) -> list[Served]:
    """Which endpoints served versions of a model at a moment."""
    query = select(served).where(
        served.c.model_key == key, served.c.since <= at, or_(served.c.until.is_(None), served.c.until > at)
    )
    rows = connection.execute(query.order_by(served.c.endpoint))
    return [Served(endpoint=row.endpoint, version=row.version, since=row.since, until=row.until) for row in rows]


# -- MLflow's rows, read as they are ----------------------------------------------------------------------------------

_VERSION = text(
    "SELECT version, current_stage, description, user_id, run_id, status, source, storage_location FROM model_versions "
    "WHERE name = :name AND version = :version AND current_stage <> 'Deleted_Internal'"
)
_NUMBERS = text("SELECT version FROM model_versions WHERE name = :name AND current_stage <> 'Deleted_Internal'")
_VERSION_TAGS = text("SELECT key, value FROM model_version_tags WHERE name = :name AND version = :version")
_ALIAS = text("SELECT version FROM registered_model_aliases WHERE name = :name AND alias = :target")
_IN_STAGE = text("SELECT MAX(version) FROM model_versions WHERE name = :name AND current_stage = :target")


def find_version(connection: Connection, model: str, version: int) -> Row[Any] | None:
    """MLflow's row of a version, without its files."""
    return connection.execute(_VERSION, {"name": model, "version": version}).first()


def version_tags(connection: Connection, model: str, version: int) -> dict[str, str]:
    """A version's tags."""
    return {row.key: row.value for row in connection.execute(_VERSION_TAGS, {"name": model, "version": version})}


def version_numbers(connection: Connection, model: str) -> frozenset[int]:
    """The versions that there are."""
    return frozenset(row.version for row in connection.execute(_NUMBERS, {"name": model}))


def holder(connection: Connection, model: str, target: Target) -> int | None:
    """The version that has an alias, or the newest in a stage."""
    query = _ALIAS if target.kind is TargetKind.ALIAS else _IN_STAGE
    found = connection.execute(query, {"name": model, "target": target.name}).scalar()
    return None if found is None else int(found)


def mover(connection: Connection, key: str, target: Target, version: int) -> str | None:
    """Who let an alias or stage name a version last; None where its last move did something else."""
    moved = activities.c.target if target.kind is TargetKind.ALIAS else activities.c.version
    query = select(activities).where(
        activities.c.model_key == key,
        activities.c.type.in_([kind.value for kind in MOVES]),
        activities.c.target_kind == target.kind.value,
        moved == (target.name if target.kind is TargetKind.ALIAS else version),
    )
    last = connection.execute(query.order_by(activities.c.sequence.desc()).limit(1)).first()
    if last is None or not puts(_activity(last._mapping), target) or last.version != version:
        return None
    return str(last.actor)
