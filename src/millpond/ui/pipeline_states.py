"""Pipelines in words and colours: how a pipeline, an update, a dataset and an event stand."""

from collections.abc import Mapping

from millpond.pipelines.domain import Level, Shown, Update, UpdateState
from millpond.pipelines.graph import Dataset
from millpond.ui.elements import Tone

_PIPELINES: Mapping[str, tuple[str, Tone]] = {
    "IDLE": ("idle", "plain"),
    "FAILED": ("failed", "bad"),
    "RECOVERING": ("failed, is started again", "warn"),
    "STOPPING": ("stopping", "warn"),
    "DEPLOYING": ("waiting to start", "info"),
    "STARTING": ("starting", "info"),
    "RESETTING": ("resetting", "accent"),
    "RUNNING": ("running", "accent"),
}
_UPDATES: Mapping[UpdateState, tuple[str, Tone]] = {
    UpdateState.QUEUED: ("queued", "info"),
    UpdateState.CREATED: ("queued", "info"),
    UpdateState.WAITING_FOR_RESOURCES: ("waiting for room", "info"),
    UpdateState.INITIALIZING: ("starting", "info"),
    UpdateState.RESETTING: ("resetting", "accent"),
    UpdateState.SETTING_UP_TABLES: ("setting up tables", "accent"),
    UpdateState.RUNNING: ("running", "accent"),
    UpdateState.STOPPING: ("stopping", "warn"),
    UpdateState.COMPLETED: ("completed", "good"),
    UpdateState.FAILED: ("failed", "bad"),
    UpdateState.CANCELED: ("stopped", "warn"),
}
_DATASETS: Mapping[str, Tone] = {
    "COMPLETED": "good", "FAILED": "bad", "SKIPPED": "warn", "STOPPED": "warn", "EXCLUDED": "plain",
    "RUNNING": "accent", "STARTING": "accent", "PLANNING": "accent", "QUEUED": "info", "IDLE": "good",
}  # fmt: skip
_LEVELS: Mapping[Level, Tone] = {
    Level.INFO: "plain", Level.WARN: "warn", Level.ERROR: "bad", Level.METRICS: "info",
}  # fmt: skip
_CAUSES = {
    "API_CALL": "the API", "JOB_TASK": "a job", "USER_ACTION": "hand", "RETRY_ON_FAILURE": "itself, after a failure",
}  # fmt: skip


def look_of_pipeline(shown: Shown) -> tuple[str, Tone]:
    """How a pipeline stands, in words, and the colour of that."""
    return _PIPELINES[shown.state]


def look_of_update(update: Update) -> tuple[str, Tone]:
    """The same of an update."""
    return _UPDATES[update.state]


def look_of_dataset(dataset: Dataset) -> tuple[str, Tone]:
    """The same of a dataset; one outside the pipeline has none."""
    if not dataset.defined:
        return "outside", "plain"
    return dataset.status.lower() or "not begun", _DATASETS.get(dataset.status, "plain")


def tone_of(level: Level) -> Tone:
    """The colour of an event."""
    return _LEVELS[level]


def kind_text(dataset: Dataset) -> str:
    """What a dataset is, in words."""
    return dataset.kind.replace("_", " ").lower() if dataset.defined else "table outside"


def asked_text(update: Update) -> str:
    """What an update was to do."""
    asked = update.asked
    told = ["validates only"] if asked.validate_only else []
    if asked.full_refresh:
        told.append("everything anew")
    if asked.full_refresh_selection:
        told.append(f"anew: {', '.join(asked.full_refresh_selection)}")
    if asked.refresh_selection:
        told.append(f"only {', '.join(asked.refresh_selection)}")
    return "; ".join(told) or "what is new"


def cause_text(update: Update) -> str:
    """What started an update."""
    return _CAUSES.get(update.cause.value, update.cause.value.replace("_", " ").lower())
