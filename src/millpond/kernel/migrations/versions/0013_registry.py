"""The registry as a system of record: activities, requests, policies, gate runs, webhooks; and work that waits."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from millpond.kernel.clock import utc_now
from millpond.kernel.database import Json, UtcDateTime
from millpond.kernel.ids import new_id

revision = "0013"
down_revision = "0012"

_KEY = sa.String(300)
_NAME = sa.String(256)


def upgrade() -> None:
    """Create the tables, and begin the history with what is where now."""
    _work()
    activities, counters, served = _activities()
    _requests()
    _gates()
    _webhooks()
    _begin_history(activities, counters)
    op.bulk_insert(served, list(_serving(op.get_bind())))


def _work() -> None:
    op.create_table(
        "work_items",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(60), nullable=False),
        sa.Column("payload", Json, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", UtcDateTime(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_work_items_state_kind_due_at", "work_items", ["state", "kind", "due_at"])


def _activities() -> tuple[sa.Table, sa.Table, sa.Table]:
    counters = op.create_table(
        "registry_counters",
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    activities = op.create_table(
        "registry_activities",
        sa.Column("sequence", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("model_key", _KEY, nullable=False),
        sa.Column("model", _NAME, nullable=False),
        sa.Column("version", sa.Integer()),
        sa.Column("type", sa.String(30), nullable=False),
        sa.Column("target_kind", sa.String(10), nullable=False),
        sa.Column("target", _NAME, nullable=False),
        sa.Column("previous", _NAME, nullable=False),
        sa.Column("actor", sa.String(255), nullable=False),
        sa.Column("client", sa.String(255), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("system_comment", sa.Text(), nullable=False),
        sa.Column("evidence", Json, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("ix_registry_activities_model_key_sequence", "registry_activities", ["model_key", "sequence"])
    served = op.create_table(
        "registry_served",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("endpoint_id", sa.String(36), nullable=False),
        sa.Column("endpoint", sa.String(255), nullable=False),
        sa.Column("model_key", _KEY, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("until", UtcDateTime()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_registry_served_endpoint_id", "registry_served", ["endpoint_id"])
    op.create_index("ix_registry_served_model_key_version", "registry_served", ["model_key", "version"])
    return activities, counters, served


def _requests() -> None:
    op.create_table(
        "registry_requests",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("model_key", _KEY, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("target_kind", sa.String(10), nullable=False),
        sa.Column("target", _NAME, nullable=False),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_registry_requests_model_key_version", "registry_requests", ["model_key", "version"])
    op.create_table(
        "registry_approvals",
        sa.Column("request_id", sa.String(36), nullable=False),
        sa.Column("approver", sa.String(255), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("request_id", "approver"),
    )


def _gates() -> None:
    op.create_table(
        "registry_policies",
        sa.Column("scope_key", _KEY, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("scope", _NAME, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("author", sa.String(255), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("scope_key", "version"),
    )
    op.create_table(
        "registry_gate_runs",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("model_key", _KEY, nullable=False),
        sa.Column("model", _NAME, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("target_kind", sa.String(10), nullable=False),
        sa.Column("target", _NAME, nullable=False),
        sa.Column("champion", sa.Integer()),
        sa.Column("scope_key", _KEY, nullable=False),
        sa.Column("policy_version", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("findings", Json, nullable=False),
        sa.Column("requested_by", sa.String(255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_registry_gate_runs_model_key_version", "registry_gate_runs", ["model_key", "version"])


def _webhooks() -> None:
    op.create_table(
        "registry_webhooks",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("dialect", sa.String(20), nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("model_key", _KEY, nullable=False),
        sa.Column("model", _NAME, nullable=False),
        sa.Column("url", sa.String(2000), nullable=False),
        sa.Column("events", Json, nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("verify_tls", sa.Boolean(), nullable=False),
        sa.Column("sealed", Json, nullable=False),
        sa.Column("creator", sa.String(255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "registry_deliveries",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("webhook_id", sa.String(36), nullable=False),
        sa.Column("event", sa.String(60), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("status_code", sa.Integer()),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_registry_deliveries_webhook_id_id", "registry_deliveries", ["webhook_id", "id"])


# -- what is where now ------------------------------------------------------------------------------------------------

_STAGES = sa.text(
    "SELECT name, version, current_stage AS target FROM model_versions "
    "WHERE current_stage IN ('Staging', 'Production', 'Archived') ORDER BY name, version"
)
_ALIASES = sa.text("SELECT name, version, alias AS target FROM registered_model_aliases ORDER BY name, alias")
_CATALOG_MODELS = sa.text(
    "SELECT c.name AS catalog, s.name AS schema_name, m.name AS model, m.id AS id FROM catalog_models m "
    "JOIN catalog_schemas s ON s.id = m.schema_id JOIN catalog_catalogs c ON c.id = s.catalog_id"
)


def _begin_history(activities: sa.Table, counters: sa.Table) -> None:
    connection = op.get_bind()
    rows = list(_present(connection)) if sa.inspect(connection).has_table("registered_models") else []
    op.bulk_insert(activities, rows)
    op.bulk_insert(counters, [{"name": "activities", "value": len(rows)}])


_SERVED = sa.text(
    "SELECT DISTINCT e.id, e.name, n.model_name, n.model_version FROM serving_endpoints e "
    "JOIN serving_entities n ON n.endpoint_id = e.id AND n.version = e.active_version"
)


def _serving(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    ids = _ids(connection)
    for endpoint_id, endpoint, model, version in connection.execute(_SERVED):
        yield {
            "id": new_id(), "endpoint_id": endpoint_id, "endpoint": endpoint, "version": int(version),
            "model_key": ids.get(model, f"registered model/{model}"), "since": utc_now(),
        }  # fmt: skip


def _ids(connection: sa.Connection) -> dict[str, str]:
    return {f"{row.catalog}.{row.schema_name}.{row.model}": row.id for row in connection.execute(_CATALOG_MODELS)}


def _present(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    ids = _ids(connection)
    found = [("stage", "APPLIED_TRANSITION", row) for row in connection.execute(_STAGES)]
    found += [("alias", "ALIAS_SET", row) for row in connection.execute(_ALIASES)]
    now = utc_now()
    for sequence, (kind, what, row) in enumerate(found, 1):
        yield {
            "sequence": sequence, "id": new_id(), "model_key": ids.get(row.name, f"registered model/{row.name}"),
            "model": row.name, "version": row.version, "type": what, "target_kind": kind, "target": row.target,
            "previous": "", "actor": "system", "client": "", "comment": "", "system_comment": "History begins here.",
            "evidence": {}, "at": now, "updated_at": now,
        }  # fmt: skip
