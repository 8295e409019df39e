"""Jobs in words and colours: how a run stands, what starts it, how long it took."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from millpond.jobs.domain import STARTERS, Glance, Kind, Result, Run, State, TaskRun
from millpond.kernel.clock import epoch_ms
from millpond.ui import urls
from millpond.ui.elements import Cell, Tone
from millpond.ui.formats import duration_text

OPEN: Mapping[State, tuple[str, Tone]] = {
    State.BLOCKED: ("waiting", "plain"),
    State.QUEUED: ("queued", "info"),
    State.WAITING: ("waiting to try again", "warn"),
    State.RUNNING: ("running", "accent"),
}
ENDED: Mapping[Result, tuple[str, Tone]] = {
    Result.SUCCESS: ("succeeded", "good"),
    Result.SUCCESS_WITH_FAILURES: ("succeeded with failures", "warn"),
    Result.FAILED: ("failed", "bad"),
    Result.TIMED_OUT: ("timed out", "bad"),
    Result.CANCELED: ("cancelled", "warn"),
    Result.EXCLUDED: ("skipped", "plain"),
    Result.DISABLED: ("disabled", "plain"),
    Result.UPSTREAM_FAILED: ("not run: a task before it failed", "warn"),
    Result.UPSTREAM_CANCELED: ("not run: a task before it was cancelled", "warn"),
    Result.TOO_MANY: ("skipped: too many runs at once", "warn"),
}
_KINDS = {
    Kind.PYTHON.value: "script", Kind.CONDITION.value: "condition", Kind.FOR_EACH.value: "for each input",
    Kind.RUN_JOB.value: "another job", Kind.DBT.value: "dbt", Kind.MLFLOW.value: "MLflow project",
    Kind.PIPELINE.value: "pipeline", Kind.UPDATE.value: "update of a pipeline",
}  # fmt: skip


def look_of(state: State, result: Result) -> tuple[str, Tone]:
    """How a run or a task run stands, in words, and the colour of that."""
    if state is State.ENDED:
        return ENDED.get(result, (result.value.lower().replace("_", " ") or "ended", "plain"))
    return OPEN[state]


def look(of: Run | Glance | TaskRun) -> tuple[str, Tone]:
    """The same of one."""
    return look_of(of.state, of.result)


def kind_text(task: Mapping[str, Any]) -> str:
    """What a task of some settings does, in a word or two."""
    kind = next((name for name in task if name.endswith("_task")), "")
    return _KINDS.get(kind, kind.removesuffix("_task").replace("_", " "))


def trigger_text(settings: Mapping[str, Any]) -> str:
    """What starts a job's runs by itself."""
    told = []
    for field in STARTERS:
        if found := settings.get(field):
            told.append(_TELLERS[field](found) + (", paused" if found.get("pause_status") == "PAUSED" else ""))
    return "; ".join(told) or "By hand"


def _trigger(found: Mapping[str, Any]) -> str:
    if periodic := found.get("periodic"):
        count, unit = int(periodic["interval"]), periodic["unit"].lower()
        return f"Every {unit.removesuffix('s')}" if count == 1 else f"Every {count} {unit}"
    if arrival := found.get("file_arrival"):
        return f"When files arrive in {arrival.get('url', '')}"
    if update := found.get("table_update") or found.get("table"):
        return f"When {', '.join(update.get('table_names', ()))} changes"
    return ", ".join(name.replace("_", " ") for name in found if name != "pause_status") or "By hand"


def _schedule(found: Mapping[str, Any]) -> str:
    return f"At {found.get('quartz_cron_expression', '')} ({found.get('timezone_id', 'UTC')})"


_STARTED = {"PERIODIC": "its trigger", "RUN_JOB_TASK": "a task of another job"}
_TELLERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "trigger": _trigger,
    "schedule": _schedule,
    "continuous": lambda _found: "Always one run",
}


def started_text(creator: str, trigger: str) -> str:
    """Who or what started a run."""
    return creator if trigger == "ONE_TIME" else _STARTED.get(trigger, trigger.lower().replace("_", " "))


def starts_itself(settings: Mapping[str, Any]) -> bool:
    """Whether something besides people starts runs."""
    return any(settings.get(field) for field in STARTERS)


def is_paused(settings: Mapping[str, Any]) -> bool:
    """Whether all that starts runs by itself rests."""
    found = [settings[field] for field in STARTERS if settings.get(field)]
    return bool(found) and all(each.get("pause_status") == "PAUSED" for each in found)


def squares(runs: Sequence[Glance]) -> Cell:
    """A job's last runs, the newest to the right."""
    return Cell(
        squares=tuple(
            (look(run)[1], look(run)[0], urls.job_run_url(run.id), epoch_ms(run.created_at)) for run in runs[::-1]
        )
    )


def took(started: datetime | None, ended: datetime | None) -> str:
    """How long something took, if it has begun and ended."""
    return duration_text((ended - started).total_seconds() * 1000) if started and ended else ""


def moment(at: datetime | None) -> Cell | str:
    """A moment in a table."""
    return Cell(time_ms=epoch_ms(at)) if at else ""


def parameters_text(pairs: Iterable[tuple[str, Any]]) -> str:
    """Names and values on a line."""
    return ", ".join(f"{name} = {value}" for name, value in pairs)
