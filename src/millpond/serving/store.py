"""The tables of serving and all their SQL."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    Row,
    String,
    Table,
    Text,
    delete,
    false,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from millpond.kernel.database import Json, UtcDateTime, metadata
from millpond.kernel.errors import AlreadyExists
from millpond.kernel.ids import new_id
from millpond.serving.capture import AutoCapture
from millpond.serving.domain import (
    Concurrency,
    Config,
    Deployment,
    Endpoint,
    EntityState,
    Event,
    ModelVersion,
    Notifications,
    Route,
    ServedEntity,
    Shadow,
    Update,
    WorkloadSize,
    WorkloadType,
)
from millpond.serving.limits import LimitKey, RateLimit
from millpond.serving.references import read_reference

MAX_ENDPOINTS = 10_000
KEPT_EVENTS = 1000

endpoints = Table(
    "serving_endpoints",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("creator", String(255), nullable=False),
    Column("description", Text, nullable=False),
    Column("tags", Json, nullable=False),
    Column("route_optimized", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("last_version", Integer, nullable=False),
    Column("active_version", Integer),
    Column("pending_version", Integer),
    Column("config_update", String(20), nullable=False),
    Column("rate_limits", Json, nullable=False, server_default="[]"),
    Column("notifications", Json, nullable=False, server_default="{}"),
    Column("shadows", Json, nullable=False, server_default="[]"),
)

configs = Table(
    "serving_configs",
    metadata,
    Column("endpoint_id", String(36), ForeignKey("serving_endpoints.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("routes", Json, nullable=False),
    Column("followed", Boolean, nullable=False, server_default=false()),
    Column("created_at", UtcDateTime, nullable=False),
    Column("auto_capture", Json),
)

events = Table(
    "serving_events",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("endpoint_id", String(36), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("entity", String(128), nullable=False),
    Column("kind", String(40), nullable=False),
    Column("message", Text, nullable=False),
    Index("ix_serving_events_endpoint_id", "endpoint_id"),
)

entities = Table(
    "serving_entities",
    metadata,
    Column("endpoint_id", String(36), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("name", String(128), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("model_name", String(800), nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("model_source", Text, nullable=False),
    Column("reference", String(300), nullable=False, server_default=""),
    Column("reference_note", Text, nullable=False, server_default=""),
    Column("workload_size", String(20), nullable=False),
    Column("workload_type", String(20), nullable=False, server_default="CPU"),
    Column("min_concurrency", Integer),
    Column("max_concurrency", Integer),
    Column("scale_to_zero", Boolean, nullable=False),
    Column("environment", Json, nullable=False),
    Column("creator", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("state", String(30), nullable=False),
    Column("state_message", Text, nullable=False),
    Column("build_log", Text, nullable=False),
    ForeignKeyConstraint(
        ["endpoint_id", "version"], ["serving_configs.endpoint_id", "serving_configs.version"], ondelete="CASCADE"
    ),
)


# Reading


def find_endpoint(connection: Connection, *, name: str) -> Endpoint | None:
    """The endpoint with a name."""
    return _find(connection, endpoints.c.name == name)


def find_endpoint_by_id(connection: Connection, endpoint_id: str) -> Endpoint | None:
    """The endpoint with an id."""
    return _find(connection, endpoints.c.id == endpoint_id)


def list_endpoints(connection: Connection) -> tuple[Endpoint, ...]:
    """All endpoints by name, at most MAX_ENDPOINTS."""
    rows = connection.execute(select(endpoints).order_by(endpoints.c.name).limit(MAX_ENDPOINTS)).all()
    ours = select(endpoints.c.id)
    found = _configs(connection, configs.c.endpoint_id.in_(ours), entities.c.endpoint_id.in_(ours))
    return tuple(_endpoint(row, found) for row in rows)


def list_ids(connection: Connection) -> tuple[str, ...]:
    """The ids of all endpoints, at most MAX_ENDPOINTS."""
    return tuple(connection.execute(select(endpoints.c.id).order_by(endpoints.c.id).limit(MAX_ENDPOINTS)).scalars())


def list_following(connection: Connection) -> tuple[Endpoint, ...]:
    """The endpoints of which an entity's version is named by an alias or a stage, at most MAX_ENDPOINTS."""
    ours = select(entities.c.endpoint_id).where(entities.c.reference != "")
    rows = connection.execute(select(endpoints).where(endpoints.c.id.in_(ours)).limit(MAX_ENDPOINTS)).all()
    if not rows:
        return ()
    found = _configs(connection, configs.c.endpoint_id.in_(ours), entities.c.endpoint_id.in_(ours))
    return tuple(_endpoint(row, found) for row in rows)


def _find(connection: Connection, condition: Any) -> Endpoint | None:
    row = connection.execute(select(endpoints).where(condition)).first()
    if row is None:
        return None
    return _endpoint(row, _configs(connection, configs.c.endpoint_id == row.id, entities.c.endpoint_id == row.id))


def _configs(connection: Connection, of_config: Any, of_entity: Any) -> dict[tuple[str, int], Config]:
    held: dict[tuple[str, int], list[ServedEntity]] = {}
    for row in connection.execute(select(entities).where(of_entity).order_by(entities.c.position)):
        held.setdefault((row.endpoint_id, row.version), []).append(_entity(row))
    return {
        (row.endpoint_id, row.version): Config(
            version=row.version,
            entities=tuple(held.get((row.endpoint_id, row.version), ())),
            routes=tuple(Route(entity=name, percent=percent) for name, percent in row.routes),
            created_at=row.created_at,
            followed=row.followed,
            capture=None if row.auto_capture is None else AutoCapture(**row.auto_capture),
        )
        for row in connection.execute(select(configs).where(of_config))
    }


def _endpoint(row: Row[Any], found: Mapping[tuple[str, int], Config]) -> Endpoint:
    return Endpoint(
        id=row.id,
        name=row.name,
        creator=row.creator,
        description=row.description,
        created_at=row.created_at,
        updated_at=row.updated_at,
        tags=row.tags,
        route_optimized=row.route_optimized,
        rate_limits=tuple(
            RateLimit(key=LimitKey(key), calls=calls, principal=principal) for key, calls, principal in row.rate_limits
        ),
        shadows=tuple(Shadow(entity=name, percent=percent) for name, percent in row.shadows),
        notifications=Notifications(**{key: tuple(told) for key, told in row.notifications.items()}),
        active=found.get((row.id, row.active_version)),
        pending=found.get((row.id, row.pending_version)),
        update=Update(row.config_update),
    )


def _entity(row: Row[Any]) -> ServedEntity:
    return ServedEntity(
        name=row.name,
        model=_model(row),
        reference=read_reference(row.reference),
        reference_note=row.reference_note,
        workload_size=WorkloadSize(row.workload_size),
        workload_type=WorkloadType(row.workload_type),
        provisioned=_provisioned(row),
        scale_to_zero=row.scale_to_zero,
        environment=row.environment,
        creator=row.creator,
        created_at=row.created_at,
        state=EntityState(deployment=Deployment(row.state), message=row.state_message, build_log=row.build_log),
    )


def _provisioned(row: Any) -> Concurrency | None:
    if row.max_concurrency is None:
        return None
    return Concurrency(minimum=row.min_concurrency, maximum=row.max_concurrency)


def _model(row: Any) -> ModelVersion:
    return ModelVersion(name=row.model_name, version=row.model_version, source=row.model_source)


# Writing


def insert_endpoint(connection: Connection, endpoint: Endpoint) -> None:
    """Add an endpoint with its pending configuration. Raises AlreadyExists when the name is taken."""
    values = {
        "id": endpoint.id,
        "name": endpoint.name,
        "creator": endpoint.creator,
        "description": endpoint.description,
        "tags": dict(endpoint.tags),
        "route_optimized": endpoint.route_optimized,
        "created_at": endpoint.created_at,
        "updated_at": endpoint.updated_at,
        "last_version": endpoint.pending.version if endpoint.pending else 0,
        "pending_version": endpoint.pending.version if endpoint.pending else None,
        "config_update": endpoint.update.value,
        "rate_limits": _limits(endpoint.rate_limits),
        "notifications": asdict(endpoint.notifications),
        "shadows": [[shadow.entity, shadow.percent] for shadow in endpoint.shadows],
    }
    try:
        connection.execute(insert(endpoints).values(values))
    except IntegrityError as error:
        raise AlreadyExists(f"Endpoint '{endpoint.name}' already exists.") from error
    if endpoint.pending:
        _insert_config(connection, endpoint.id, endpoint.pending)


def lock_endpoint(connection: Connection, *, name: str) -> Endpoint | None:
    """The endpoint with a name, locked until the transaction ends."""
    connection.execute(select(endpoints.c.id).where(endpoints.c.name == name).with_for_update())
    return find_endpoint(connection, name=name)


def lock_endpoint_by_id(connection: Connection, endpoint_id: str) -> Endpoint | None:
    """The endpoint with an id, locked until the transaction ends."""
    connection.execute(select(endpoints.c.id).where(endpoints.c.id == endpoint_id).with_for_update())
    return find_endpoint_by_id(connection, endpoint_id)


def next_version(connection: Connection, endpoint_id: str) -> int:
    """Count the endpoint's configuration versions up; the caller holds the lock."""
    statement = update(endpoints).where(endpoints.c.id == endpoint_id)
    statement = statement.values(last_version=endpoints.c.last_version + 1)
    return int(connection.execute(statement.returning(endpoints.c.last_version)).scalar_one())


def replace_pending(connection: Connection, endpoint_id: str, config: Config, *, now: datetime) -> None:
    """Begin an update: the configuration becomes the pending one, in place of one that failed."""
    _insert_config(connection, endpoint_id, config)
    _move(
        connection,
        endpoint_id,
        pending_version=config.version,
        config_update=Update.IN_PROGRESS.value,
        updated_at=now,
    )


def promote(connection: Connection, endpoint_id: str, version: int) -> bool:
    """End an update well: the pending configuration becomes the active one. False when it is not pending any more."""
    done = connection.execute(
        update(endpoints)
        .where(endpoints.c.id == endpoint_id, endpoints.c.pending_version == version)
        .values(active_version=version, pending_version=None, config_update=Update.NOT_UPDATING.value)
    ).rowcount
    _delete_unused_configs(connection, endpoint_id)
    return done == 1


def fail(connection: Connection, endpoint_id: str, version: int) -> bool:
    """End an update badly: the pending configuration stays to be looked at. False when it is not pending any more."""
    return (
        connection.execute(
            update(endpoints)
            .where(endpoints.c.id == endpoint_id, endpoints.c.pending_version == version)
            .values(config_update=Update.FAILED.value)
        ).rowcount
        == 1
    )


def write_states(connection: Connection, endpoint_id: str, states: Mapping[tuple[int, str], EntityState]) -> None:
    """Record how served entities are doing; entities that are gone are passed over."""
    for (version, name), state in states.items():
        connection.execute(
            update(entities)
            .where(entities.c.endpoint_id == endpoint_id, entities.c.version == version, entities.c.name == name)
            .values(state=state.deployment.value, state_message=state.message, build_log=state.build_log)
        )


def write_reference_notes(connection: Connection, endpoint_id: str, version: int, notes: Mapping[str, str]) -> None:
    """Record what keeps entities from where their references point."""
    for name, note in notes.items():
        connection.execute(
            update(entities)
            .where(entities.c.endpoint_id == endpoint_id, entities.c.version == version, entities.c.name == name)
            .values(reference_note=note)
        )


def write_tags(connection: Connection, endpoint_id: str, tags: Mapping[str, str], *, now: datetime) -> None:
    """Replace an endpoint's tags."""
    connection.execute(update(endpoints).where(endpoints.c.id == endpoint_id).values(tags=dict(tags), updated_at=now))


def write_rate_limits(connection: Connection, endpoint_id: str, limits: Sequence[RateLimit], *, now: datetime) -> None:
    """Replace an endpoint's rate limits."""
    values = {"rate_limits": _limits(limits), "updated_at": now}
    connection.execute(update(endpoints).where(endpoints.c.id == endpoint_id).values(values))


def write_notifications(
    connection: Connection, endpoint_id: str, notifications: Notifications, *, now: datetime
) -> None:
    """Replace who gets mail."""
    values = {"notifications": asdict(notifications), "updated_at": now}
    connection.execute(update(endpoints).where(endpoints.c.id == endpoint_id).values(values))


def write_shadows(connection: Connection, endpoint_id: str, shadows: Sequence[Shadow], *, now: datetime) -> None:
    """Replace which entities get copies."""
    values = {"shadows": [[shadow.entity, shadow.percent] for shadow in shadows], "updated_at": now}
    connection.execute(update(endpoints).where(endpoints.c.id == endpoint_id).values(values))


def _limits(limits: Sequence[RateLimit]) -> list[list[Any]]:
    return [[limit.key.value, limit.calls, limit.principal] for limit in limits]


def delete_endpoint(connection: Connection, endpoint_id: str) -> None:
    """Remove an endpoint with its configurations and events."""
    connection.execute(delete(endpoints).where(endpoints.c.id == endpoint_id))
    connection.execute(delete(events).where(events.c.endpoint_id == endpoint_id))


# Events


def add_events(connection: Connection, happened: Iterable[tuple[str, Event]]) -> None:
    """Add what happened, by the ids of endpoints."""
    rows = [
        {"id": new_id(), "endpoint_id": endpoint_id, "at": each.at, "entity": each.entity, "kind": each.kind,
         "message": each.message}
        for endpoint_id, each in happened
    ]  # fmt: skip
    connection.execute(insert(events), rows)


def list_events(connection: Connection, endpoint_id: str, *, limit: int) -> tuple[Event, ...]:
    """What happened to an endpoint, newest first."""
    query = select(events).where(events.c.endpoint_id == endpoint_id)
    query = query.order_by(events.c.at.desc(), events.c.id.desc()).limit(limit)
    return tuple(
        Event(at=row.at, entity=row.entity, kind=row.kind, message=row.message) for row in connection.execute(query)
    )


def prune_events(connection: Connection) -> None:
    """Keep the newest of each endpoint; what deleted endpoints left goes."""
    connection.execute(delete(events).where(events.c.endpoint_id.not_in(select(endpoints.c.id))))
    counted = select(events.c.endpoint_id).group_by(events.c.endpoint_id).having(func.count() > KEPT_EVENTS)
    for endpoint_id in connection.execute(counted).scalars().all():
        kept = select(events.c.id).where(events.c.endpoint_id == endpoint_id).order_by(events.c.id.desc())
        oldest = connection.execute(kept.offset(KEPT_EVENTS - 1).limit(1)).scalar_one()
        connection.execute(delete(events).where(events.c.endpoint_id == endpoint_id, events.c.id < oldest))


def _move(connection: Connection, endpoint_id: str, **values: Any) -> None:
    connection.execute(update(endpoints).where(endpoints.c.id == endpoint_id).values(**values))
    _delete_unused_configs(connection, endpoint_id)


def _delete_unused_configs(connection: Connection, endpoint_id: str) -> None:
    of_endpoint = select(endpoints).where(endpoints.c.id == endpoint_id)
    row = connection.execute(of_endpoint).first()
    used: Iterable[int] = [v for v in (row.active_version, row.pending_version) if v is not None] if row else []
    connection.execute(
        delete(configs).where(configs.c.endpoint_id == endpoint_id, configs.c.version.not_in(list(used)))
    )


def _insert_config(connection: Connection, endpoint_id: str, config: Config) -> None:
    connection.execute(
        insert(configs).values(
            endpoint_id=endpoint_id,
            version=config.version,
            routes=[[route.entity, route.percent] for route in config.routes],
            created_at=config.created_at,
            followed=config.followed,
            auto_capture=None if config.capture is None else vars(config.capture),
        )
    )
    rows = [_row(endpoint_id, config.version, position, entity) for position, entity in enumerate(config.entities)]
    connection.execute(insert(entities), rows)


def _row(endpoint_id: str, version: int, position: int, entity: ServedEntity) -> dict[str, Any]:
    return {
        "endpoint_id": endpoint_id,
        "version": version,
        "name": entity.name,
        "position": position,
        "model_name": entity.model.name,
        "model_version": entity.model.version,
        "model_source": entity.model.source,
        "reference": str(entity.reference) if entity.reference else "",
        "reference_note": entity.reference_note,
        "workload_size": entity.workload_size.value,
        "workload_type": entity.workload_type.value,
        "min_concurrency": entity.provisioned.minimum if entity.provisioned else None,
        "max_concurrency": entity.provisioned.maximum if entity.provisioned else None,
        "scale_to_zero": entity.scale_to_zero,
        "environment": dict(entity.environment),
        "creator": entity.creator,
        "created_at": entity.created_at,
        "state": entity.state.deployment.value,
        "state_message": entity.state.message,
        "build_log": entity.state.build_log,
    }
