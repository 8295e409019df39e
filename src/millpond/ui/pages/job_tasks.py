"""A task of a run: one attempt at it, what that printed while it prints it, and the attempts beside it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from millpond.jobs.domain import TASK_RUN_TAG, Kind, TaskRun
from millpond.jobs.logs import Part
from millpond.jobs.viewing import TaskView
from millpond.kernel.clock import epoch_ms
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    Crumb,
    DataTable,
    Facts,
    Rows,
    TableColumn,
    card,
    code_block,
    el,
    facts,
    move_on,
    notice,
    page_header,
    pager,
)
from millpond.ui.job_forms import as_yaml
from millpond.ui.job_lineage import draw_run_lineage
from millpond.ui.job_states import kind_text, look, took
from millpond.ui.live_log import LiveLog
from millpond.ui.pages.job import number_in
from millpond.ui.pages.job_runs import crumbs_of, draw_mlflow_runs
from millpond.ui.visit import Page, Visit

_POLL_S = 1.0
_PAGE = 100
_SILENT = {
    Kind.CONDITION.value: "A condition prints nothing.",
    Kind.FOR_EACH.value: "What was done for each input has a log of its own, below.",
    Kind.RUN_JOB.value: "The run of the other job has the logs.",
    Kind.PIPELINE.value: "The update of the pipeline has the events, and its run the log.",
}


@dataclass(frozen=True, kw_only=True)
class _Data:
    view: TaskView
    log: Part

    @property
    def settings(self) -> Mapping[str, Any]:
        """The task as the run's job says it."""
        return next((each for each in self.view.view.run.settings["tasks"] if each["task_key"] == self.key), {})

    @property
    def key(self) -> str:
        """The task's key; of an iteration, that of its `for_each_task`."""
        return self.view.key


def _load(visit: Visit) -> _Data:
    run_id, asked = number_in(visit.path, "run_id", "Run"), visit.query.get("attempt", "")
    attempt = number_in({"attempt": asked}, "attempt", "Attempt") if asked else None
    views = visit.services.jobs.views
    view = views.task(visit.principal, run_id, visit.path["key"], attempt)
    log, _ = views.log(visit.principal, view.view.run.id, view.task.id)
    return _Data(view=view, log=log)


def _draw(visit: Visit, data: _Data) -> None:
    view, run, task = data.view, data.view.view.run, data.view.task
    crumbs = crumbs_of(view.view)
    crumbs.append(Crumb(label=f"Run {run.id}", href=urls.job_run_url(run.id)))
    if task.parent_id is not None:
        crumbs.append(Crumb(label=data.key, href=urls.task_url(run.id, data.key)))
    title = data.key if task.iteration is None else f"{data.key}, input {task.iteration}"
    page_header(title, symbol="task_alt", crumbs=crumbs, kind=kind_text(data.settings))
    with el("div", cls="mp-stack"):
        _draw_trouble(task)
        with el("div", cls="mp-grid-cards"):
            _draw_about(data)
            _draw_given(data)
        _draw_log(visit, data)
        if task.error and task.error.strip() not in data.log.text:
            code_block(task.error, title="Error").classes("mp-trace")
        _draw_values(task)
        _draw_attempts(data)
        _draw_iterations(visit, data)
    draw_run_lineage(visit, run.id, task.id, going_on=not task.ended)
    draw_mlflow_runs(visit, TASK_RUN_TAG, str(task.id), going_on=not task.ended)


def _draw_trouble(task: TaskRun) -> None:
    words, tone = look(task)
    if task.message or tone == "bad":
        tone = tone if task.ended else "info"
        notice(f"{words.capitalize()}. {task.message}", tone, role="status")


def _draw_about(data: _Data) -> None:
    task = data.view.task
    started = epoch_ms(task.started_at) if task.started_at else None
    shown: Facts = [
        ("State", Cell(badges=(look(task),))),
        ("Attempt", str(task.attempt + 1)),
        ("Task run id", Cell(text=str(task.id), code=True)),
        ("Started", Cell(time_ms=started) if started else None),
        ("Set up in", took(task.started_at, task.began_at)),
        ("Took", took(task.started_at, task.ended_at)),
        ("Ran on", f"{'worker' if task.worker else 'server'} {task.machine}" if task.machine else None),
        ("Cluster", Cell(text=task.cluster_id, href=urls.cluster_url(task.cluster_id)) if task.cluster_id else None),
        ("Outcome", task.outcome),
        (
            "Run that it started",
            Cell(text=str(task.child_run_id), href=urls.job_run_url(task.child_run_id)) if task.child_run_id else None,
        ),
        ("Update", _update_cell(task)),
    ]
    with card("This attempt"):
        facts(shown)


def _update_cell(task: TaskRun) -> Cell | None:
    update_id, pipeline_id = str(task.order.get("update_id", "")), str(task.order.get("pipeline_id", ""))
    href = urls.pipeline_url(pipeline_id, update_id)
    return Cell(text=update_id, href=href, code=True) if pipeline_id and update_id else None


def _draw_given(data: _Data) -> None:
    """What the attempt was given: its task with references resolved, once it was begun."""
    task = data.view.task
    given: dict[str, Any] = dict(task.order) or dict(data.settings)
    if task.iteration is not None:
        given = {"input": task.input, **task.order}
    given = {name: value for name, value in given.items() if value is not None}
    title = "As it was run" if task.order else "As it is to be run"
    with card():
        code_block(as_yaml(given), title=title).classes("mp-trace")


# The log


def _draw_log(visit: Visit, data: _Data) -> None:
    task = data.view.task
    kind = next((name for name in data.settings if name in _SILENT), None)
    if kind and task.iteration is None:
        el("p", _SILENT[kind], cls="mp-note")
        return
    with card("Log"):
        if data.log.cut:
            notice("This is the end of it; `w.jobs.get_run_output` gives more.")
        if task.ended and not data.log.text:
            el("p", "It printed nothing.", cls="mp-note")
            return
        shown = LiveLog(f"Log of {data.key}", data.log.text)
        if not task.ended:
            _follow(visit, data, shown)


def _follow(visit: Visit, data: _Data, shown: LiveLog) -> None:
    """Add what the task prints; when it has another state, load the page again."""
    run_id, task = data.view.view.run.id, data.view.task
    views, place = visit.services.jobs.views, data.log.next

    async def look_again() -> None:
        nonlocal place
        outcome = await visit.act(lambda who: views.log(who, run_id, task.id, place))
        if outcome.value is None:
            return
        part, now = outcome.value
        place = part.next
        if part.text:
            shown.append(part.text)
        if now.state is not task.state:
            timer.deactivate()
            move_on()

    timer = ui.timer(_POLL_S, look_again)


# What it left


def _draw_values(task: TaskRun) -> None:
    if task.task_values:
        with card("Task values"):
            shown = [(name, Cell(text=json.dumps(value)[:2000], code=True)) for name, value in task.task_values.items()]
            facts(shown)


def _draw_attempts(data: _Data) -> None:
    if len(data.view.attempts) > 1:
        with card("Attempts"):
            _draw_list("Attempts", data, data.view.attempts[::-1])


def _draw_iterations(visit: Visit, data: _Data) -> None:
    every = data.view.iterations
    if not every:
        return
    start = min(_number(visit.query.get("page", "")), len(every) - 1) // _PAGE * _PAGE
    with card(f"For each of {len(every):,} inputs"):
        _draw_list("Inputs", data, every[start : start + _PAGE])
        more = start + _PAGE < len(every)
        pager(
            next_href=visit.link(page=str(start + _PAGE)) if more else None,
            first_href=visit.link(page=None) if start else None,
        )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0


def _draw_list(label: str, data: _Data, tasks: Sequence[TaskRun]) -> None:
    run_id, here = data.view.view.run.id, data.view.task.id
    rows: Rows = [
        [
            Cell(
                text=f"Attempt {task.attempt + 1}" if label == "Attempts" else f"Input {task.iteration}",
                href=urls.task_url(run_id, data.key, task.id),
                badges=(("shown here", "accent"),) if task.id == here else (),
            ),
            Cell(text=json.dumps(task.input)[:200], code=True) if label == "Inputs" else "",
            Cell(badges=(look(task),)),
            task.message[:240],
            took(task.started_at, task.ended_at),
        ]
        for task in tasks
    ]
    columns = (
        TableColumn(label="Which"),
        TableColumn(label="Input" if label == "Inputs" else "", optional=True),
        TableColumn(label="State"),
        TableColumn(label="Says", grow=True, optional=True),
        TableColumn(label="Took", numeric=True),
    )
    DataTable(label=label, columns=columns, rows=rows)


PAGES = (
    Page(
        path="/jobs/runs/{run_id}/tasks/{key}",
        section="jobs",
        load=_load,
        draw=_draw,
        title=lambda _visit, data: f"{data.key}, run {data.view.view.run.id}",
    ),
)
