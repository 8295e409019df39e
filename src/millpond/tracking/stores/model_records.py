"""Models and versions as they are read: rows, and MLflow's JSON of them."""

from collections import namedtuple
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mlflow.store.model_registry.dbmodels.models import SqlModelVersion, SqlRegisteredModel

VERSION_COLUMNS = tuple(
    getattr(SqlModelVersion, name)
    for name in (
        "name", "version", "creation_time", "last_updated_time", "user_id", "current_stage", "description", "source",
        "run_id", "status", "status_message", "run_link",
    )
)  # fmt: skip
VersionRow = namedtuple("VersionRow", [column.key for column in VERSION_COLUMNS])  # type: ignore[misc]
"""The values of `VERSION_COLUMNS` where they do not come as a row of their own."""
MODEL_COLUMNS = tuple(
    getattr(SqlRegisteredModel, name) for name in ("name", "creation_time", "last_updated_time", "description")
)


@dataclass(kw_only=True)
class VersionRecord:
    """One version: its row of `VERSION_COLUMNS`, its tags and, where MLflow tells them, its aliases."""

    row: Any
    tags: list[tuple[str, str | None]] = field(default_factory=list)
    aliases: Sequence[str] = ()


@dataclass(kw_only=True)
class ModelRecord:
    """One model: its row of `MODEL_COLUMNS`, tags, aliases with their versions, and each stage's newest version."""

    row: Any
    tags: list[tuple[str, str | None]] = field(default_factory=list)
    aliases: list[tuple[str, int]] = field(default_factory=list)
    latest: list[VersionRecord] = field(default_factory=list)


def version_json(record: VersionRecord) -> dict[str, Any]:
    """The version as MLflow's REST API writes it."""
    row = record.row
    found = {
        "name": row.name,
        "version": str(row.version),
        "creation_timestamp": row.creation_time,
        "last_updated_timestamp": row.last_updated_time,
        "user_id": row.user_id,
        "current_stage": row.current_stage,
        "description": row.description,
        "source": row.source,
        "run_id": row.run_id,
        "status": row.status,
        "status_message": row.status_message or None,
        "run_link": row.run_link,
        "tags": _tags_json(record.tags),
        "aliases": list(record.aliases) or None,
    }
    return _without_none(found)


def model_json(record: ModelRecord) -> dict[str, Any]:
    """The model as MLflow's REST API writes it."""
    row = record.row
    found = {
        "name": row.name,
        "creation_timestamp": row.creation_time,
        "last_updated_timestamp": row.last_updated_time or None,
        "description": row.description or None,
        "latest_versions": [version_json(version) for version in record.latest] or None,
        "tags": _tags_json(record.tags),
        "aliases": [{"alias": alias, "version": str(version)} for alias, version in record.aliases] or None,
    }
    return _without_none(found)


def _tags_json(tags: Sequence[tuple[str, str | None]]) -> list[dict[str, Any]] | None:
    return [_without_none({"key": key, "value": value}) for key, value in tags] or None


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
