"""The table of canaries, one for each endpoint, and its SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Column, Connection, Float, ForeignKey, Integer, Row, String, Table, Text, delete, insert, select
from sqlalchemy import update as update_table

from millpond.kernel.database import Json, UtcDateTime, metadata
from millpond.serving.canary.domain import UNDER_WAY, Canary, Counts, Guardrails, Seen, State
from millpond.serving.domain import Route
from millpond.serving.sketch import Sketch

_MOST = 10_000

canaries = Table(
    "serving_canaries",
    metadata,
    Column("endpoint_id", String(36), ForeignKey("serving_endpoints.id", ondelete="CASCADE"), primary_key=True),
    Column("entity", String(128), nullable=False),
    Column("baseline", String(128), nullable=False),
    Column("models", Json, nullable=False),
    Column("steps", Json, nullable=False),
    Column("step_minutes", Float, nullable=False),
    Column("guardrails", Json, nullable=False),
    Column("before", Json, nullable=False),
    Column("state", String(20), nullable=False, index=True),
    Column("step", Integer, nullable=False),
    Column("message", Text, nullable=False),
    Column("counts", Json, nullable=False),
    Column("creator", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("step_at", UtcDateTime, nullable=False),
    Column("ended_at", UtcDateTime),
)


def find(connection: Connection, endpoint_id: str) -> Canary | None:
    """The last canary of an endpoint."""
    row = connection.execute(select(canaries).where(canaries.c.endpoint_id == endpoint_id)).first()
    return None if row is None else _canary(row)


def list_under_way(connection: Connection) -> Sequence[str]:
    """The ids of the endpoints that have one under way."""
    query = select(canaries.c.endpoint_id).where(canaries.c.state.in_(UNDER_WAY)).limit(_MOST)
    return connection.execute(query).scalars().all()


def replace(connection: Connection, canary: Canary) -> None:
    """A new one, in place of one that has ended."""
    connection.execute(delete(canaries).where(canaries.c.endpoint_id == canary.endpoint_id))
    connection.execute(insert(canaries).values(_row(canary)))


def write(connection: Connection, canary: Canary) -> None:
    """How one goes on or ends; the caller holds the endpoint's lock."""
    values = {name: value for name, value in _row(canary).items() if name in _MOVING}
    connection.execute(update_table(canaries).where(canaries.c.endpoint_id == canary.endpoint_id).values(values))


_MOVING = ("state", "step", "message", "counts", "step_at", "ended_at")


def _row(canary: Canary) -> dict[str, Any]:
    return {
        **vars(canary),
        "models": list(canary.models),
        "steps": list(canary.steps),
        "guardrails": asdict(canary.guardrails),
        "before": [[route.entity, route.percent] for route in canary.before],
        "state": canary.state.value,
        "counts": _counts_json(canary.counts),
    }


def _canary(row: Row[Any]) -> Canary:
    return Canary(**{
        **row._mapping,
        "models": tuple(row.models),
        "steps": tuple(row.steps),
        "guardrails": Guardrails(**row.guardrails),
        "before": tuple(Route(entity=entity, percent=percent) for entity, percent in row.before),
        "state": State(row.state),
        "counts": _counts(row.counts),
    })  # fmt: skip


def _counts_json(counts: Counts) -> dict[str, Any]:
    return {
        **vars(counts),
        "canary": _seen_json(counts.canary),
        "baseline": _seen_json(counts.baseline),
    }


def _seen_json(seen: Seen) -> dict[str, Any]:
    return {**vars(seen), "latency_s": seen.latency_s.to_json()}


def _counts(told: Mapping[str, Any]) -> Counts:
    return Counts(**{**told, "canary": _seen(told["canary"]), "baseline": _seen(told["baseline"])})


def _seen(told: Mapping[str, Any]) -> Seen:
    return Seen(**{**told, "latency_s": Sketch.from_json(told["latency_s"])})
