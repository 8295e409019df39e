"""One job: its runs by tasks, what its tasks are, its settings, and who may do what with it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millpond.jobs.viewing import JobView, Matrix
from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import NotFound
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    Crumb,
    DataTable,
    Facts,
    Rows,
    Tab,
    TableColumn,
    TextField,
    badge,
    button,
    button_link,
    card,
    code_block,
    el,
    empty_state,
    facts,
    page_header,
    pager,
    tabs,
    when,
)
from millpond.ui.formats import duration_text
from millpond.ui.forms import ask_first, form, labelled, reloading, submit
from millpond.ui.job_forms import as_yaml
from millpond.ui.job_graph import JobGraph, Node, needs_of
from millpond.ui.job_matrix import JobMatrix
from millpond.ui.job_states import is_paused, kind_text, look_of, parameters_text, starts_itself, trigger_text
from millpond.ui.pages.jobs import draw_runs, run_now
from millpond.ui.permissions import Permissions, draw_permissions, load_permissions, permissions_tab
from millpond.ui.visit import Page, Visit

_LISTED = 20
"""Runs listed below the matrix, which leads to all."""
_TASKS, _SETTINGS = "tasks", "settings"


@dataclass(frozen=True, kw_only=True)
class _Data:
    view: JobView
    matrix: Matrix | None
    older: str | None
    """The token of the runs before those of the matrix."""
    permissions: Permissions | None


def number_in(path: Mapping[str, str], name: str, what: str) -> int:
    """A number of the address. Raises NotFound."""
    text = path[name]
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise NotFound(f"{what} '{text[:40]}' does not exist.")
    return int(text)


def _load(visit: Visit) -> _Data:
    job_id = number_in(visit.path, "job_id", "Job")
    view = visit.services.jobs.views.job(visit.principal, job_id)
    matrix, older = None, None
    if not visit.query.get("tab"):
        matrix, older = visit.services.jobs.views.matrix(visit.principal, job_id, page_token=visit.query.get("page"))
    return _Data(view=view, matrix=matrix, older=older, permissions=load_permissions(visit, "jobs", str(job_id)))


def _draw(visit: Visit, data: _Data) -> None:
    job = data.view.job
    crumbs = [Crumb(label="Jobs", href=urls.JOBS)]
    actions = page_header(job.name, symbol="schema", crumbs=crumbs, subtitle=job.settings.get("description") or None)
    with actions:
        _draw_actions(visit, data.view)
    _draw_line(data.view)
    if data.view.may_run and job.settings.get("parameters"):
        _draw_run_with(visit, data.view)
    items = [
        Tab(key="", label="Runs", href=visit.link(tab=None, page=None)),
        Tab(key=_TASKS, label="Tasks", href=visit.link(tab=_TASKS, page=None), count=len(_tasks(job.settings))),
        Tab(key=_SETTINGS, label="Settings", href=visit.link(tab=_SETTINGS, page=None)),
        permissions_tab(visit),
    ]
    tabs(items, visit.query.get("tab", ""), label="Job")
    if data.permissions is not None:
        draw_permissions(visit, data.permissions)
    elif visit.query.get("tab") == _SETTINGS:
        _draw_settings(data.view)
    elif visit.query.get("tab") == _TASKS:
        draw_tasks(visit, job.settings)
    elif data.matrix is not None:
        _draw_matrix(visit, data.matrix, data.older)


def _tasks(settings: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return settings.get("tasks") or ()


def _draw_actions(visit: Visit, view: JobView) -> None:
    job, service = view.job, visit.services.jobs.service
    if view.may_run:
        button("Run now", _starting(visit, job.id), kind="mp-primary", symbol="play_arrow")
    if view.may_manage and starts_itself(job.settings):
        paused = is_paused(job.settings)
        act = reloading(visit, lambda who: service.pause(who, job.id, paused=not paused))
        button("Resume" if paused else "Pause", act, symbol="play_circle" if paused else "pause_circle")
    if view.may_manage:
        button_link("Edit", f"{urls.job_url(job.id)}/edit", symbol="edit")
        act = reloading(visit, lambda who: service.delete(who, job.id), then=urls.JOBS)
        ask_first("Delete", "Delete the job? Its runs stay.", act)


def _starting(visit: Visit, job_id: int, fields: Mapping[str, TextField] | None = None) -> Any:
    async def act() -> None:
        await run_now(visit, job_id, {name: field.value for name, field in (fields or {}).items()})

    return act


def _draw_line(view: JobView) -> None:
    job = view.job
    with el("div", cls="mp-row mp-tags").style("margin-top: -8px"):
        badge(trigger_text(job.settings), "warn" if is_paused(job.settings) else "info")
        if job.next_fire_at is not None:
            el("span", "next", cls="mp-note")
            when(epoch_ms(job.next_fire_at))
        for key, value in (job.settings.get("tags") or {}).items():
            badge(f"{key}: {value}" if value else key)


def _draw_run_with(visit: Visit, view: JobView) -> None:
    fields: dict[str, TextField] = {}
    with el("details", cls="mp-disclosure").style("margin-bottom: 14px"):
        el("summary", "Run with other parameters", cls="mp-link")
        with card(), form(_starting(visit, view.job.id, fields), label="Run with other parameters"):
            for parameter in view.job.settings["parameters"]:
                with labelled(parameter["name"]):
                    fields[parameter["name"]] = TextField(label=parameter["name"], value=parameter["default"])
            submit("Run with these")


# Runs


def _draw_matrix(visit: Visit, matrix: Matrix, older: str | None) -> None:
    if not matrix.runs:
        empty_state(
            "This job has not run yet", "Run it now, or give it a trigger; each run appears here.", symbol="play_circle"
        )
        return
    with el("div", cls="mp-stack"):
        with card("Runs by tasks"):
            if matrix.keys:
                JobMatrix(matrix)
            _draw_legend(matrix)
        draw_runs("Last runs", matrix.runs[:_LISTED], named=False)
        pager(
            next_href=older and visit.link(page=older),
            first_href=visit.query.get("page") and visit.link(page=None),
            text=f"{len(matrix.runs)} runs on this page.",
        )


def _draw_legend(matrix: Matrix) -> None:
    shown = dict.fromkeys(look_of(*cell) for cell in matrix.cells.values())
    with el("div", cls="mp-row mp-state-legend"):
        for words, tone in shown:
            el("span", words, cls=f"mp-state-{tone}")


# Tasks


def draw_tasks(visit: Visit, settings: Mapping[str, Any]) -> None:
    """What a job's tasks are, as a picture and as a list, and one of them as it was written."""
    tasks = _tasks(settings)
    if not tasks:
        empty_state("No tasks", "A job without tasks ends at once; edit it, and add some.", symbol="rule")
        return
    with el("div", cls="mp-stack"):
        hrefs = {task["task_key"]: visit.link(task=task["task_key"]) for task in tasks}
        JobGraph("Tasks and what each depends on", [_node(task, hrefs) for task in tasks])
        for task in tasks:
            if task["task_key"] == visit.query.get("task"):
                code_block(as_yaml(task), title=f"Task {task['task_key']}").classes("mp-trace")
        rows: Rows = [_task_row(task, hrefs) for task in tasks]
        columns = (
            TableColumn(label="Task"),
            TableColumn(label="Does", grow=True),
            TableColumn(label="After", optional=True),
            TableColumn(label="If it fails", optional=True),
        )
        DataTable(label="Tasks", columns=columns, rows=rows)


def _node(task: Mapping[str, Any], hrefs: Mapping[str, str]) -> Node:
    key = task["task_key"]
    return Node(key=key, needs=needs_of(task), words=kind_text(task), tone="info", href=hrefs[key])


def _task_row(task: Mapping[str, Any], hrefs: Mapping[str, str]) -> list[Cell | str]:
    needs = [need.key + (f" = {need.outcome}" if need.outcome else "") for need in needs_of(task)]
    run_if = task.get("run_if")
    return [
        Cell(
            text=task["task_key"],
            href=hrefs[task["task_key"]],
            note=task.get("description"),
            badges=(("disabled", "warn"),) * bool(task.get("disabled")),
        ),
        Cell(text=body_text(task), code=True, note=kind_text(task)),
        Cell(
            text=", ".join(needs),
            note=run_if.replace("_", " ").lower() if run_if not in (None, "ALL_SUCCESS") else None,
        ),
        _failure_text(task),
    ]


def body_text(task: Mapping[str, Any]) -> str:
    """What a task does, in a line."""
    name = next((name for name in task if name.endswith("_task")), "")
    body = task.get(name) or {}
    match name:
        case "spark_python_task":
            return " ".join([body["python_file"], *(body.get("parameters") or ())])
        case "condition_task":
            return f"{body['left']} {body['op'].replace('_', ' ').lower()} {body['right']}"
        case "for_each_task":
            return f"{body_text(body['task'])} for each of {body['inputs']}"
        case "pipeline_task":
            return f"pipeline {body['pipeline_id']}"
        case "run_job_task":
            given = parameters_text((body.get("job_parameters") or {}).items())
            return f"job {body['job_id']}" + (f" with {given}" if given else "")
    return json.dumps(body, ensure_ascii=False)


def _failure_text(task: Mapping[str, Any]) -> str:
    retries = int(task.get("max_retries") or 0)
    told = (
        ["retried until it succeeds"]
        if retries < 0
        else [f"{retries} retries" if retries > 1 else "1 retry"]
        if retries
        else []
    )
    if seconds := task.get("timeout_seconds"):
        told.append(f"ended after {duration_text(1000 * seconds)}")
    return ", ".join(told)


# Settings


def _draw_settings(view: JobView) -> None:
    job, settings = view.job, view.job.settings
    shown: Facts = [
        ("Job id", Cell(text=str(job.id), code=True)),
        ("Owner", job.creator),
        ("Runs as", job.run_as),
        ("Created", Cell(time_ms=epoch_ms(job.created_at))),
        ("Starts", trigger_text(settings)),
        ("Runs at once", str(job.most_runs)),
        ("Over that", "runs wait for their turn" if job.queues else "runs are skipped"),
        ("Ended after", duration_text(1000 * settings["timeout_seconds"]) if settings.get("timeout_seconds") else None),
    ]
    with el("div", cls="mp-stack"):
        with el("div", cls="mp-grid-cards"):
            with card("About"):
                facts(shown)
            if settings.get("parameters"):
                with card("Parameters"):
                    facts([(each["name"], Cell(text=each["default"], code=True)) for each in settings["parameters"]])
            if settings.get("environments"):
                with card("Environments"):
                    facts([(each["environment_key"], _packages(each)) for each in settings["environments"]])
        told = {"name": job.name, **settings}
        code_block(as_yaml(told), title="YAML").classes("mp-trace")
        code_block(json.dumps(told, indent=2, ensure_ascii=False), title="JSON").classes("mp-trace")


def _packages(environment: Mapping[str, Any]) -> str:
    return ", ".join((environment.get("spec") or {}).get("dependencies") or ()) or "Python alone"


PAGES = (
    Page(path="/jobs/{job_id}", section="jobs", load=_load, draw=_draw, title=lambda _visit, data: data.view.job.name),
)
