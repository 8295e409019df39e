"""When a job's schedule fires next."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

_UNITS = {"MINUTES": timedelta(minutes=1), "HOURS": timedelta(hours=1), "DAYS": timedelta(days=1),
          "WEEKS": timedelta(weeks=1)}  # fmt: skip


def next_fire(settings: Mapping[str, Any], after: datetime) -> datetime | None:
    """The first moment after one at which the job's trigger starts a run; None without one, or while it is paused."""
    trigger = settings.get("trigger") or {}
    periodic = trigger.get("periodic")
    if not periodic or trigger.get("pause_status") == "PAUSED":
        return None
    return after + int(periodic["interval"]) * _UNITS[periodic["unit"]]
