"""What webhooks are told, and how it is signed, as MLflow and Databricks have it.

Sources: MLflow 3.18, `webhooks/types.py` and `webhooks/delivery.py`; the Databricks SDK, `service/ml.py`
(`RegistryWebhookEvent`, `HttpUrlSpec`), and "MLflow Model Registry Webhooks" of the Databricks documentation.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from millpond.kernel.clock import epoch_ms, utc_now
from millpond.kernel.errors import InvalidArgument
from millpond.notifications.mail import Letter
from millpond.registry.domain import Activity
from millpond.tracking.watch import Happening, RegistryEvent

MLFLOW, DATABRICKS = "mlflow", "databricks"
_SHOWN = 2000
"""Characters of the data in a letter."""

MLFLOW_EVENTS = tuple(
    f"{entity}.{action}"
    for entity, actions in (
        ("registered_model", ("created",)),
        ("model_version", ("created",)),
        ("model_version_tag", ("set", "deleted")),
        ("model_version_alias", ("created", "deleted")),
        ("prompt", ("created",)),
        ("prompt_version", ("created",)),
        ("prompt_tag", ("set", "deleted")),
        ("prompt_version_tag", ("set", "deleted")),
        ("prompt_alias", ("created", "deleted")),
    )
    for action in actions
)
_STAGES = ("STAGING", "PRODUCTION", "ARCHIVED")
DATABRICKS_EVENTS = (
    "MODEL_VERSION_CREATED", "MODEL_VERSION_TRANSITIONED_STAGE", "TRANSITION_REQUEST_CREATED", "COMMENT_CREATED",
    "REGISTERED_MODEL_CREATED", "MODEL_VERSION_TAG_SET",
    *(f"MODEL_VERSION_TRANSITIONED_TO_{stage}" for stage in _STAGES),
    *(f"TRANSITION_REQUEST_TO_{stage}_CREATED" for stage in _STAGES),
)  # fmt: skip

Message = tuple[str, dict[str, Any]]
"""The name of an event, and what is told of it."""

_PROMPT_TAG = "mlflow.prompt.is_prompt"
_OF_PROMPTS = {
    "registered_model": "prompt",
    "model_version": "prompt_version",
    "model_version_tag": "prompt_version_tag",
    "model_version_alias": "prompt_alias",
    "registered_model_tag": "prompt_tag",
}
_MLFLOW_NAMES = {
    Happening.MODEL_CREATED: ("registered_model", "created"),
    Happening.VERSION_CREATED: ("model_version", "created"),
    Happening.VERSION_TAG_SET: ("model_version_tag", "set"),
    Happening.VERSION_TAG_DELETED: ("model_version_tag", "deleted"),
    Happening.MODEL_TAG_SET: ("registered_model_tag", "set"),
    Happening.MODEL_TAG_DELETED: ("registered_model_tag", "deleted"),
    Happening.ALIAS_SET: ("model_version_alias", "created"),
    Happening.ALIAS_REMOVED: ("model_version_alias", "deleted"),
}


def mlflow_message(event: RegistryEvent, *, is_prompt: bool) -> Message | None:
    """What MLflow's webhooks are told of an event; None where it is none of theirs."""
    if event.what not in _MLFLOW_NAMES or event.name == _PROMPT_TAG:
        return None
    entity, action = _MLFLOW_NAMES[event.what]
    name = f"{_OF_PROMPTS[entity] if is_prompt else entity}.{action}"
    return (name, _mlflow_data(event, is_prompt=is_prompt)) if name in MLFLOW_EVENTS else None


def _mlflow_data(event: RegistryEvent, *, is_prompt: bool) -> dict[str, Any]:
    details = dict(event.details)
    data: dict[str, Any] = {"name": event.model}
    if event.version is not None:
        data["version"] = str(event.version)
    match event.what:
        case Happening.MODEL_CREATED:
            return data | {"tags": _shown(details["tags"]), "description": details["description"]}
        case Happening.VERSION_CREATED if is_prompt:
            text = details["tags"].get("mlflow.prompt.text", "")
            return data | {"template": text, "tags": _shown(details["tags"]), "description": details["description"]}
        case Happening.VERSION_CREATED:
            return data | details
        case Happening.ALIAS_SET | Happening.ALIAS_REMOVED:
            return data | {"alias": event.name}
        case Happening.VERSION_TAG_SET | Happening.MODEL_TAG_SET:
            return data | {"key": event.name, "value": details["value"]}
        case _:
            return data | {"key": event.name}


def _shown(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in tags.items() if not key.startswith("mlflow.prompt.")}


def databricks_messages(event: RegistryEvent, actor: str) -> list[Message]:
    """What Databricks' webhooks are told of an event: a move between stages has a name for itself and for its goal."""
    version = {"version": str(event.version)} if event.version is not None else {}
    base = {"model_name": event.model, **version}
    what = event.what
    if what is Happening.MODEL_CREATED:
        return [("REGISTERED_MODEL_CREATED", base | {"text": f"{actor} created registered model {event.model}"})]
    if what is Happening.VERSION_CREATED:
        text = f"{actor} created version {event.version} of registered model {event.model}"
        return [("MODEL_VERSION_CREATED", base | {"run_id": event.details.get("run_id"), "text": text})]
    if what is Happening.VERSION_TAG_SET:
        text = f"{actor} set a tag on version {event.version} of registered model {event.model}"
        tag = {"key": event.name, "value": event.details["value"]}
        return [("MODEL_VERSION_TAG_SET", base | {"tags": [tag], "text": text})]
    if what is Happening.STAGE_CHANGED and event.name:
        text = f"{actor} moved version {event.version} of {event.model} from {event.previous} to {event.name}"
        stages = {"from_stage": event.previous, "to_stage": event.name, "text": text}
        return _with_goal("MODEL_VERSION_TRANSITIONED_STAGE", "MODEL_VERSION_TRANSITIONED_TO_{}", event.name,
                          base | stages)  # fmt: skip
    return []


def commented(activity: Activity) -> Message:
    """What Databricks' webhooks are told of a comment."""
    text = f"{activity.actor} commented on version {activity.version} of registered model {activity.model}"
    return "COMMENT_CREATED", {
        "model_name": activity.model, "version": str(activity.version), "comment": activity.comment, "text": text,
    }  # fmt: skip


def requested(activity: Activity) -> list[Message]:
    """What Databricks' webhooks are told of a request for another stage."""
    if activity.target_kind != "stage":
        return []
    text = f"{activity.actor} asks to move version {activity.version} of {activity.model} to {activity.target}"
    data = {
        "model_name": activity.model, "version": str(activity.version), "from_stage": activity.previous,
        "to_stage": activity.target, "comment": activity.comment, "text": text,
    }  # fmt: skip
    return _with_goal("TRANSITION_REQUEST_CREATED", "TRANSITION_REQUEST_TO_{}_CREATED", activity.target, data)


def _with_goal(name: str, to_goal: str, stage: str, data: dict[str, Any]) -> list[Message]:
    goal = stage.upper()
    return [(name, data)] + ([(to_goal.format(goal), data)] if goal in _STAGES else [])


def body_for(dialect: str, webhook_id: str, event: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a message."""
    if dialect == MLFLOW:
        entity, _, action = event.partition(".")
        return {"entity": entity, "action": action, "timestamp": utc_now().isoformat(), "data": data}
    return {"event": event, "webhook_id": webhook_id, "event_timestamp": epoch_ms(utc_now()), **data}


def letter_of(said: Mapping[str, Any], base_url: str) -> Letter:
    """A message as a letter: what happened, the data as it is sent to webhooks, and where to look."""
    data = said.get("data", said)
    event = said.get("event") or f"{said.get('entity')}.{said.get('action')}"
    model = str(data.get("model_name") or data.get("name") or "")
    text = str(data.get("text") or f"{event}: {model} {data.get('version', '')}".strip())
    link = f"{base_url}/models/{quote(model)}"
    told = json.dumps(said, indent=2, ensure_ascii=False, default=str)[:_SHOWN]
    return Letter(subject=text, text=f"{text}\n\n{data.get('comment') or ''}\n\n{link}\n\n{told}\n")


def example_of(event: str) -> dict[str, Any]:
    """What a test tells, in place of what happened."""
    return {"name": "example_model", "model_name": "example_model", "version": "1",
            "text": f"This is a test of {event}.", "is_test": True}  # fmt: skip


def headers_for(
    dialect: str, body: bytes, *, delivery_id: str, timestamp_s: int, secret: str, authorization: str
) -> dict[str, str]:
    """The headers of a message, signed where there is a secret."""
    headers = {"Content-Type": "application/json", "User-Agent": "millpond-webhooks"}
    if authorization:
        headers["Authorization"] = authorization
    if dialect == DATABRICKS:
        if secret:
            headers["X-Databricks-Signature"] = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return headers
    headers |= {"X-MLflow-Delivery-Id": delivery_id, "X-MLflow-Timestamp": str(timestamp_s)}
    if secret:
        signed = f"{delivery_id}.{timestamp_s}.".encode() + body
        digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
        headers["X-MLflow-Signature"] = "v1," + base64.b64encode(digest).decode()
    return headers


def check_events(dialect: str, events: Sequence[str]) -> tuple[str, ...]:
    """The events, in their order. Raises InvalidArgument for none, or one that there is not."""
    known = MLFLOW_EVENTS if dialect == MLFLOW else DATABRICKS_EVENTS
    if not events:
        raise InvalidArgument("A webhook needs at least one event.")
    for event in events:
        if event not in known:
            raise InvalidArgument(f"There is no event '{event[:80]}'; there are {', '.join(known)}.")
    return tuple(dict.fromkeys(events))
