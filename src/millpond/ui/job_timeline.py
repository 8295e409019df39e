"""A run over time: for each attempt how long it waited for its turn, was set up, and ran."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from nicegui.element import Element

from millpond.jobs.domain import Run, TaskRun
from millpond.kernel.clock import from_epoch_us
from millpond.ui import urls
from millpond.ui.formats import duration_text
from millpond.ui.job_graph import needs_of
from millpond.ui.job_states import look

_TICKS = 5
_LEAST_PERCENT = 0.2
Span = tuple[str, str, datetime, datetime]
"""Colour, what it is, from, to."""


def spans_of(task: TaskRun, ready_at: datetime, now: datetime) -> list[Span]:
    """What an attempt's time was spent on, from when it could have begun."""
    if task.started_at is None:
        return [("wait", "waits", ready_at, now)] if not task.ended and task.state != "BLOCKED" else []
    end, began = task.ended_at or now, task.began_at
    found: list[Span] = [("wait", "queued", min(ready_at, task.started_at), task.started_at)]
    if began is not None:
        found.append(("setup", "set up", task.started_at, began))
    found.append((look(task)[1], "ran" if task.ended else "runs", began or task.started_at, end))
    return [span for span in found if span[3] > span[2]]


def ready_moments(run: Run, tasks: Sequence[TaskRun]) -> dict[int, datetime]:
    """When each attempt could have begun: all that it depends on had ended, and the pause before a retry was over."""
    needs = {task["task_key"]: [need.key for need in needs_of(task)] for task in run.settings["tasks"]}
    return {task.id: _ready(run, task, needs.get(task.key, ()), tasks) for task in tasks}


def _ready(run: Run, task: TaskRun, needs: Sequence[str], tasks: Sequence[TaskRun]) -> datetime:
    made = from_epoch_us(task.id)  # ids are when they were made
    latest = started = run.started_at or run.created_at
    if made > started or task.attempt:
        latest = made
    if task.due_at is not None:
        return max(latest, task.due_at)
    ends = [
        each.ended_at
        for each in tasks
        if each.key in needs and each.ended_at and (task.started_at is None or each.ended_at <= task.started_at)
    ]
    return max([latest, *ends])


class JobTimeline(Element, component="components/job_timeline.js"):
    """Attempts of a run on its scale of time."""

    def __init__(self, run: Run, tasks: Sequence[TaskRun], now: datetime, *, shown: slice) -> None:
        """`tasks` are all attempts; the drawn ones are those that `shown` cuts out."""
        super().__init__()
        ready = ready_moments(run, tasks)
        rows = [(task, spans_of(task, ready[task.id], now)) for task in tasks]
        begin = min((span[2] for _, spans in rows for span in spans), default=run.created_at)
        end = max((span[3] for _, spans in rows for span in spans), default=now)
        length_s = max((end - begin).total_seconds(), 0.001)
        self.props["label"] = "Attempts over time"
        self.props["ticks"] = [duration_text(1000 * length_s * tick / (_TICKS - 1)) for tick in range(_TICKS)]
        self.props["rows"] = [_row(run, task, spans, begin, length_s) for task, spans in rows[shown] if spans]


def _row(run: Run, task: TaskRun, spans: Sequence[Span], begin: datetime, length_s: float) -> Mapping[str, Any]:
    told = [
        [
            tone,
            round(100 * (start - begin).total_seconds() / length_s, 2),
            max(round(100 * (end - start).total_seconds() / length_s, 2), _LEAST_PERCENT),
            f"{words} {duration_text(1000 * (end - start).total_seconds())}",
        ]
        for tone, words, start, end in spans
    ]
    label = task.key + (f", attempt {task.attempt + 1}" if task.attempt else "")
    return {"l": label, "h": urls.task_url(run.id, task.key, task.id), "s": told}
