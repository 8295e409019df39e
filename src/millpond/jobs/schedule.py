"""When the clock has a job's trigger start a run."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from millpond.jobs.domain import Result
from millpond.jobs.triggers import WATCHING, When, trigger_of
from millpond.kernel.quartz import parsed, zone_of

_UNITS = {"MINUTES": timedelta(minutes=1), "HOURS": timedelta(hours=1), "DAYS": timedelta(days=1),
          "WEEKS": timedelta(weeks=1)}  # fmt: skip
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=5), timedelta(minutes=10)
_FAILURES = frozenset({Result.FAILED, Result.TIMED_OUT})
MOST_FAILURES = 10
"""After so many the pause of a continuous job grows no more."""


def scheduled(settings: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The columns of a job that say what starts it by itself, and when that is first looked at."""
    trigger = trigger_of(settings)
    if trigger is None or trigger.paused:
        return {"trigger_kind": "", "next_fire_at": None}
    at_once = trigger.kind is When.CONTINUOUS or trigger.kind in WATCHING - {When.MODELS}
    return {"trigger_kind": trigger.kind.value, "next_fire_at": now if at_once else next_fire(settings, now)}


def pause_after(results: Sequence[Result]) -> timedelta:
    """How long a continuous job waits after its last run: not at all, or twice as long after each that failed.

    `results` are those of its runs, the newest first.
    """
    failures = next((number for number, each in enumerate(results) if each not in _FAILURES), len(results))
    return min(_FIRST_PAUSE * 2 ** (failures - 1), _LONGEST_PAUSE) if failures else timedelta()


def next_fire(settings: Mapping[str, Any], after: datetime) -> datetime | None:
    """The first moment after one at which the clock starts a run; None without such a trigger or while it is paused."""
    trigger = trigger_of(settings)
    if trigger is None or trigger.paused:
        return None
    if trigger.kind is When.PERIODIC:
        return after + int(trigger.body["interval"]) * _UNITS[trigger.body["unit"]]
    if trigger.kind is When.CRON:
        expression = parsed(trigger.body["quartz_cron_expression"])
        return expression.next_after(after, zone_of(trigger.body["timezone_id"]))
    return None
