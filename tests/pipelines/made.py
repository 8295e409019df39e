"""Events for tests."""

from datetime import UTC, datetime
from typing import Any

from millpond.pipelines.domain import Event, Level


def event_of(event_type: str, details: Any, *, dataset: str = "") -> Event:
    """An event as the database has it."""
    origin = {"dataset_name": dataset, "flow_name": dataset} if dataset else {}
    return Event(
        pipeline_id="p", number=1, id="e", update_id="u", at=datetime(2026, 1, 1, tzinfo=UTC), level=Level.INFO,
        event_type=event_type, message="", body={"origin": origin, "details": {event_type: details}},
    )  # fmt: skip
