"""The tables of alerts and all their SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)

from millpond.kernel.database import Json, UtcDateTime, folded, metadata
from millpond.notifications.domain import Target
from millpond.sql.alerts.domain import (
    Aggregation,
    Alert,
    AlertDraft,
    AlertState,
    Condition,
    Evaluation,
    Operand,
    Operator,
    Schedule,
)
from millpond.sql.domain import Parameter
from millpond.sql.store.queries import Reach

alerts = Table(
    "sql_alerts",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("owner", String(255), nullable=False),
    Column("run_as", String(255), nullable=False),
    Column("modified_by", String(255), nullable=False),
    Column("trashed", Boolean, nullable=False),
    Column("query_id", String(36)),
    Column("draft", Json, nullable=False),
    Column("state", String(20), nullable=False),
    Column("settled", String(20), nullable=False),
    Column("error_told", Boolean, nullable=False),
    Column("evaluated_at", UtcDateTime),
    Column("triggered_at", UtcDateTime),
    Column("told_at", UtcDateTime),
    Column("due_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_sql_alerts_owner_id", "owner", "id"),
    Index("ix_sql_alerts_due_at", "due_at"),
)
evaluations = Table(
    "sql_alert_evaluations",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("alert_id", String(36), nullable=False),
    Column("cause", String(20), nullable=False),
    Column("run_as", String(255), nullable=False),
    Column("state", String(20)),
    Column("value", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("told", Integer, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
    Index("ix_sql_alert_evaluations_alert_id_id", "alert_id", "id"),
    Index("ix_sql_alert_evaluations_started_at", "started_at"),
)
_under_way = evaluations.c.ended_at.is_(None)
Index(
    "ix_sql_alert_evaluations_under_way", evaluations.c.alert_id, sqlite_where=_under_way, postgresql_where=_under_way
)


# -- alerts -----------------------------------------------------------------------------------------------------------


def find(connection: Connection, alert_id: str, *, lock: bool = False) -> Alert | None:
    """The alert with an id, also one in the trash; `lock` keeps others from changing it."""
    if "\0" in alert_id:  # which PostgreSQL refuses, and no id has
        return None
    query = select(alerts).where(alerts.c.id == alert_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return _alert(row) if row else None


def list_page(
    connection: Connection, reach: Reach | None, *, saved: bool | None, text: str, after: str | None, limit: int
) -> list[Alert]:
    """Alerts outside the trash in the order in which they were made: of `reach` (None for everybody's), on a saved
    query or on a text (None for both), with a text in their names."""
    query = select(alerts).where(alerts.c.trashed.is_(False)).order_by(alerts.c.id).limit(limit)
    if reach is not None:
        query = query.where(reach.of(alerts))
    if saved is not None:
        query = query.where(alerts.c.query_id.is_not(None) if saved else alerts.c.query_id.is_(None))
    if text:
        query = query.where(folded(alerts.c.name).contains(text.casefold(), autoescape=True))
    if after is not None:
        query = query.where(alerts.c.id > after)
    return [_alert(row) for row in connection.execute(query)]


def is_any_due(connection: Connection, now: datetime) -> bool:
    """Whether the schedule of any asks now."""
    return connection.execute(select(alerts.c.id).where(alerts.c.due_at <= now).limit(1)).first() is not None


def list_due(connection: Connection, now: datetime, *, limit: int) -> list[Alert]:
    """Those whose schedules ask now and that nobody else looks at, the longest due first, under lock."""
    query = select(alerts).where(alerts.c.due_at <= now).order_by(alerts.c.due_at).limit(limit)
    return [_alert(row) for row in connection.execute(query.with_for_update(skip_locked=True))]


def add(connection: Connection, alert: Alert) -> None:
    """Add one."""
    connection.execute(insert(alerts).values(_row(alert)))


def write(connection: Connection, alert: Alert) -> None:
    """Write one as it is now."""
    connection.execute(update(alerts).where(alerts.c.id == alert.id).values(_row(alert)))


def remove(connection: Connection, alert_ids: Sequence[str]) -> None:
    """Remove some, with what is known of them."""
    connection.execute(delete(evaluations).where(evaluations.c.alert_id.in_(alert_ids)))
    connection.execute(delete(alerts).where(alerts.c.id.in_(alert_ids)))


def list_trashed(connection: Connection, before: datetime, *, limit: int) -> Sequence[str]:
    """The ids of those that were put into the trash before a time."""
    query = select(alerts.c.id).where(alerts.c.trashed.is_(True), alerts.c.updated_at < before).limit(limit)
    return connection.execute(query).scalars().all()


def rename_owner(connection: Connection, old: str, new: str) -> None:
    """Let what one name owns be owned by another, as when a group is renamed."""
    connection.execute(update(alerts).where(alerts.c.owner == old).values(owner=new))


# -- evaluations ------------------------------------------------------------------------------------------------------


def add_evaluation(connection: Connection, evaluation: Evaluation) -> None:
    """Add one."""
    connection.execute(insert(evaluations).values(_evaluation_row(evaluation)))


def write_evaluation(connection: Connection, evaluation: Evaluation) -> None:
    """Write one as it is now."""
    connection.execute(update(evaluations).where(evaluations.c.id == evaluation.id).values(_evaluation_row(evaluation)))


def find_evaluation(connection: Connection, evaluation_id: str) -> Evaluation | None:
    """One; who changes it has its alert under lock."""
    row = connection.execute(select(evaluations).where(evaluations.c.id == evaluation_id)).first()
    return _evaluation(row) if row else None


def find_under_way(connection: Connection, alert_id: str) -> Evaluation | None:
    """The evaluation of an alert that has not ended."""
    query = select(evaluations).where(evaluations.c.alert_id == alert_id, _under_way)
    row = connection.execute(query.limit(1)).first()
    return _evaluation(row) if row else None


def list_evaluations(connection: Connection, alert_id: str, *, before: str | None, limit: int) -> list[Evaluation]:
    """Those of an alert, the newest first, below an id."""
    query = select(evaluations).where(evaluations.c.alert_id == alert_id).order_by(evaluations.c.id.desc())
    if before is not None:
        query = query.where(evaluations.c.id < before)
    return [_evaluation(row) for row in connection.execute(query.limit(limit))]


def give_up(connection: Connection, before: datetime, now: datetime, message: str) -> None:
    """End evaluations that were begun before a time, as nobody does them any more."""
    lost = (_under_way, evaluations.c.started_at < before)
    ended = {"state": AlertState.ERROR.value, "message": message, "ended_at": now}
    connection.execute(update(evaluations).where(*lost).values(ended))


def forget_evaluations(connection: Connection, before: datetime) -> None:
    """Remove those of long ago."""
    connection.execute(delete(evaluations).where(evaluations.c.started_at < before))


# -- rows -------------------------------------------------------------------------------------------------------------


def _row(alert: Alert) -> dict[str, Any]:
    draft = asdict(alert.draft)
    return {
        **{name: value for name, value in vars(alert).items() if name != "draft"},
        "state": alert.state.value, "settled": alert.settled.value,
        "name": alert.draft.name, "query_id": alert.draft.query_id, "draft": draft,
    }  # fmt: skip


def _alert(row: Any) -> Alert:
    values = {name: value for name, value in row._mapping.items() if name not in ("name", "query_id")}
    states = {name: AlertState(values[name]) for name in ("state", "settled")}
    return Alert(**{**values, **states, "draft": _draft(row.draft)})


def _draft(kept: Mapping[str, Any]) -> AlertDraft:
    return AlertDraft(**{
        **kept,
        "condition": _condition(kept["condition"]),
        "schedule": Schedule(**kept["schedule"]) if kept["schedule"] else None,
        "parameters": tuple(Parameter(**each) for each in kept["parameters"]),
        "subscriptions": tuple(Target(**each) for each in kept["subscriptions"]),
    })  # fmt: skip


def _condition(kept: Mapping[str, Any]) -> Condition:
    threshold = kept["threshold"]
    if isinstance(threshold, int) and not isinstance(threshold, bool):  # as JSONB gives back 1e20
        threshold = float(threshold)
    return Condition(
        source=_operand(kept["source"]),
        operator=Operator(kept["operator"]),
        threshold=_operand(threshold) if isinstance(threshold, dict) else threshold,
        empty_state=AlertState(kept["empty_state"]),
    )


def _operand(kept: Mapping[str, Any]) -> Operand:
    aggregation = kept["aggregation"]
    return Operand(**{**kept, "aggregation": Aggregation(aggregation) if aggregation else None})


def _evaluation_row(evaluation: Evaluation) -> dict[str, Any]:
    return {**vars(evaluation), "state": evaluation.state.value if evaluation.state else None}


def _evaluation(row: Any) -> Evaluation:
    return Evaluation(**{**row._mapping, "state": AlertState(row.state) if row.state else None})
