"""Pipelines as the Pipelines API shows them.

Source: databricks-sdk 0.156, `databricks/sdk/service/pipelines.py`, whose waiter ends at IDLE and FAILED.
"""

from collections.abc import Mapping
from typing import Any

from millpond.kernel.clock import epoch_ms, rfc3339
from millpond.notifications.domain import Delivery
from millpond.pipelines.domain import Event, Pipeline, Shown, Update


def spec_json(pipeline: Pipeline, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, as `spec` and `config` have them."""
    return {name: value for name, value in settings.items() if name != "run_as"} | {"id": pipeline.id}


def status_json(shown: Shown) -> dict[str, Any]:
    """A pipeline in a list."""
    pipeline, active = shown.pipeline, shown.active
    told = {
        "pipeline_id": pipeline.id,
        "name": pipeline.name,
        "state": shown.state,
        "creator_user_name": pipeline.creator,
        "run_as_user_name": pipeline.run_as,
        "health": "HEALTHY" if shown.is_healthy else "UNHEALTHY",
        "latest_updates": [
            {"update_id": each.id, "state": each.state.value, "creation_time": rfc3339(each.created_at)}
            for each in shown.latest
        ],
    }
    if active is None and shown.latest and shown.latest[0].message:
        told["cause"] = shown.latest[0].message
    return told


def pipeline_json(shown: Shown) -> dict[str, Any]:
    """A pipeline with its settings."""
    pipeline = shown.pipeline
    told = status_json(shown) | {
        "spec": spec_json(pipeline, pipeline.settings),
        "last_modified": epoch_ms(pipeline.changed_at),
        "effective_publishing_mode": "DEFAULT_PUBLISHING_MODE",
    }
    for name in ("run_as", "parameters"):
        if pipeline.settings.get(name):
            told[name] = pipeline.settings[name]
    return told


def update_json(update: Update, pipeline: Pipeline | None = None) -> dict[str, Any]:
    """An update; in a list without the settings that it had."""
    asked = update.asked
    told: dict[str, Any] = {
        "pipeline_id": update.pipeline_id,
        "update_id": update.id,
        "state": update.state.value,
        "cause": update.cause.value,
        "creation_time": epoch_ms(update.created_at),
        "full_refresh": asked.full_refresh,
        "validate_only": asked.validate_only,
        "mode": "CONTINUOUS" if update.settings.get("continuous") else "DEFAULT",
        "job_run_id": update.run_id,
    }
    if asked.refresh_selection:
        told["refresh_selection"] = list(asked.refresh_selection)
    if asked.full_refresh_selection:
        told["full_refresh_selection"] = list(asked.full_refresh_selection)
    if asked.parameters:
        told["parameters"] = dict(asked.parameters)
    if pipeline is not None:
        told["config"] = spec_json(pipeline, update.settings)
    return told


def event_json(event: Event) -> dict[str, Any]:
    """An event; `details` are those of Databricks' event log, which its API leaves out of its reference."""
    body = event.body
    told = {
        "id": event.id,
        "sequence": {"control_plane_seq_no": event.number},
        "origin": body.get("origin") or {},
        "timestamp": rfc3339(event.at),
        "message": event.message,
        "level": event.level.value,
        "maturity_level": body.get("maturity_level"),
        "event_type": event.event_type,
    }
    told |= {name: body[name] for name in ("details", "error") if body.get(name)}
    if body.get("truncated"):
        told["truncation"] = {"truncated_fields": [{"field_name": name} for name in body["truncated"]]}
    return told


def delivery_json(delivery: Delivery) -> dict[str, Any]:
    """What became of one notification."""
    return {
        "id": delivery.id, "target": delivery.target, "event": delivery.event, "state": delivery.state,
        "attempts": delivery.attempts, "status_code": delivery.status_code, "error": delivery.error,
        "created_at": epoch_ms(delivery.created_at), "updated_at": epoch_ms(delivery.updated_at),
    }  # fmt: skip
