"""A run of a job: how it stands and what to do about it, its tasks, their time, and what they printed."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nicegui import ui

from millpond.identity.domain import Principal
from millpond.jobs.domain import JOB_RUN_TAG, Kind, Result, Run, State, TaskRun
from millpond.jobs.viewing import MOST_HITS, Found, Hit, RunView
from millpond.kernel.clock import epoch_ms, utc_now
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    CheckField,
    Crumb,
    DataTable,
    Facts,
    Rows,
    Tab,
    TableColumn,
    TextField,
    Tone,
    card,
    code_block,
    el,
    empty_state,
    facts,
    filter_form,
    move_on,
    notice,
    page_header,
    pager,
    skeleton,
    tabs,
)
from millpond.ui.formats import duration_text
from millpond.ui.forms import ask_first, form, labelled, reloading, submit
from millpond.ui.job_forms import as_yaml
from millpond.ui.job_graph import JobGraph, Node, needs_of
from millpond.ui.job_lineage import draw_run_lineage
from millpond.ui.job_states import look, started_text, took
from millpond.ui.job_timeline import JobTimeline
from millpond.ui.pages.job import number_in
from millpond.ui.run_cost import draw_run_cost
from millpond.ui.tracking import Run as MlflowRun
from millpond.ui.visit import Outcome, Page, Visit, filling, later

_POLL_S = 2.0
_TIMELINE, _LOGS, _SETTINGS = "timeline", "logs", "settings"
_PAGE = 100
_MOST_CHOICES = 100
_START: Mapping[str, None] = {"from": None}
_BAD = frozenset({Result.FAILED, Result.TIMED_OUT})


def _load(visit: Visit) -> RunView:
    return visit.services.jobs.views.run(visit.principal, number_in(visit.path, "run_id", "Run"))


def _draw(visit: Visit, view: RunView) -> None:
    run = view.run
    crumbs = crumbs_of(view)
    actions = page_header(f"{run.name}, run {run.id}", symbol="play_circle", crumbs=crumbs)
    with actions:
        _draw_cancel(visit, view)
    live = el("div", cls="mp-stack")
    redraw = _live(visit, live)
    redraw(view)
    ended = run.state is State.ENDED and run.result is not Result.TOO_MANY
    if view.may_run and ended and run.pipeline_id is None:
        _draw_repair(visit, view)
    items = [
        Tab(key="", label="Tasks", href=visit.link(tab=None, q=None, **_START), count=len(view.current)),
        Tab(key=_TIMELINE, label="Timeline", href=visit.link(tab=_TIMELINE, q=None, **_START)),
        Tab(key=_LOGS, label="Search in logs", href=visit.link(tab=_LOGS, **_START)),
        Tab(key=_SETTINGS, label="Settings", href=visit.link(tab=_SETTINGS, q=None, **_START)),
    ]
    with el("div").style("margin-top: 20px"):
        tabs(items, visit.query.get("tab", ""), label="Run")
    place = el("div", cls="mp-stack")
    with place:
        _TABS.get(visit.query.get("tab", ""), _draw_tasks)(visit, view)
    if run.state is not State.ENDED:
        _follow(visit, view, [redraw] + ([_redrawing(visit, place)] if visit.query.get("tab", "") in _FOLLOWED else []))
    draw_run_cost(visit, run.id, going_on=run.state is not State.ENDED)
    draw_run_lineage(visit, run.id, going_on=run.state is not State.ENDED)
    draw_mlflow_runs(visit, JOB_RUN_TAG, str(run.id), going_on=run.state is not State.ENDED)


def crumbs_of(view: RunView) -> list[Crumb]:
    """The way to a run: by its job, or its pipeline."""
    run = view.run
    if run.pipeline_id is not None:
        update_id = next((each[Kind.UPDATE.value]["update_id"] for each in run.settings["tasks"]), None)
        href = urls.pipeline_url(run.pipeline_id, update_id)
        return [Crumb(label="Pipelines", href=urls.PIPELINES), Crumb(label=run.name, href=href)]
    crumbs = [Crumb(label="Jobs", href=urls.JOBS)]
    if view.job_exists and run.job_id:
        crumbs.append(Crumb(label=run.name, href=urls.job_url(run.job_id)))
    return crumbs


def _draw_cancel(visit: Visit, view: RunView) -> None:
    run, service = view.run, visit.services.jobs.service
    if view.may_run and run.state is not State.ENDED and not run.cancelled:
        act = reloading(visit, lambda who: service.cancel(who, run.id))
        ask_first("Cancel", "Cancel the run? What it has running is killed.", act, symbol="cancel")


# How it stands


def _live(visit: Visit, place: Any) -> Callable[[RunView], None]:
    def redraw(view: RunView) -> None:
        place.clear()
        with place:
            text, tone = advice(view)
            notice(text, tone, role="status").classes("mp-run-state")
            _draw_about(view)

    return redraw


def advice(view: RunView) -> tuple[str, Tone]:
    """How a run stands, why, and what to do about it."""
    run = view.run
    words = look(run)[0].capitalize()
    if run.state is State.QUEUED:
        return f"{words}. {run.message} It begins when another run ends.", "info"
    if run.state is not State.ENDED:
        return _progress(view), "warn" if run.cancelled else "info"
    match run.result:
        case Result.SUCCESS:
            return f"{words}.", "good"
        case Result.TOO_MANY:
            hint = "Let runs wait with `queue`, or allow more with `max_concurrent_runs`, then run the job again."
            return f"{words}. {run.message} {hint}", "warn"
        case Result.CANCELED:
            return f"{words}. Repair the run to do what was left of it.", "warn"
        case Result.TIMED_OUT:
            seconds = run.settings.get("timeout_seconds", 0)
            return f"{words}: it may take {duration_text(1000 * seconds)}. Repair it to do what was left.", "bad"
        case Result.SUCCESS_WITH_FAILURES:
            return f"{words}. {_failures(view)} What came after dealt with that.", "warn"
    hint = "Look at its log, mend what was wrong, and repair the run: what succeeded is not run again."
    return f"{words}. {_failures(view)} {hint}", "bad"


def _progress(view: RunView) -> str:
    ended = sum(task.ended for task in view.current.values())
    running = [task.key for task in view.current.values() if task.state is State.RUNNING]
    told = f"{ended:,} of {len(view.current):,} tasks have ended"
    if running:
        told += f"; {', '.join(running[:5])}{' and others' if len(running) > 5 else ''} running"
    waiting = [task for task in view.current.values() if task.state is State.WAITING]
    if waiting:
        told += f"; {waiting[0].key} is tried again after a failure"
    return f"Being cancelled. {told}." if view.run.cancelled else f"Running. {told}."


def _failures(view: RunView) -> str:
    failed = [task for task in view.current.values() if task.result in _BAD]
    if not failed:
        return view.run.message
    more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
    return f"Task {failed[0].key} failed{more}: {failed[0].message[:500]}"


def _draw_about(view: RunView) -> None:
    run = view.run
    repairs = f"{len(run.repairs)} times" if len(run.repairs) > 1 else "once" if run.repairs else None
    shown: Facts = [
        ("State", Cell(badges=(look(run),))),
        ("Asked for", Cell(time_ms=epoch_ms(run.created_at))),
        ("Took", took(run.started_at, run.ended_at)),
        ("Started by", started_text(run.creator, run.trigger)),
        ("Runs as", run.run_as),
        ("Repaired", repairs),
        ("Started from", Cell(text=f"run {run.parent_run_id}", href=urls.job_run_url(run.parent_run_id))
         if run.parent_run_id else None),
        *((f"Parameter {name}", Cell(text=value or "(empty)", code=True)) for name, value in run.parameters.items()),
    ]  # fmt: skip
    with card():
        facts(shown)


def _follow(visit: Visit, view: RunView, redraws: Sequence[Callable[[RunView], None]]) -> None:
    """Draw anew what changes while the run goes on; once it has ended, load the page again."""
    seen = _states(view)

    async def look_again() -> None:
        nonlocal seen
        outcome = await visit.act(lambda who: visit.services.jobs.views.run(who, view.run.id))
        now = outcome.value
        if now is None or (states := _states(now)) == seen:
            return
        seen = states
        if now.run.state is State.ENDED:
            timer.deactivate()
            move_on()
            return
        for redraw in redraws:
            redraw(now)

    timer = ui.timer(_POLL_S, look_again)


def _states(view: RunView) -> object:
    return view.run.state, view.run.cancelled, [(task.id, task.state, task.result) for task in view.tasks]


def _redrawing(visit: Visit, place: Any) -> Callable[[RunView], None]:
    def redraw(view: RunView) -> None:
        place.clear()
        with place:
            _TABS.get(visit.query.get("tab", ""), _draw_tasks)(visit, view)

    return redraw


# Repair


def _draw_repair(visit: Visit, view: RunView) -> None:
    again = [key for key, task in view.current.items() if task.result not in _DONE]
    others = [key for key in view.current if key not in again]
    boxes: dict[str, CheckField] = {}
    fields: dict[str, TextField] = {}

    def work(who: Principal) -> None:
        chosen = [key for key, box in boxes.items() if box.checked]
        given = {name: field.value for name, field in fields.items()}
        _repair(visit, who, view.run, chosen, given)

    with el("details", cls="mp-disclosure"):
        el("summary", "Repair: run tasks again", cls="mp-link")
        with card(), form(reloading(visit, work), label="Repair", cls="mp-stack"):
            told = f"Without a choice, the {len(again):,} tasks that did not succeed." if again else "All succeeded."
            with el("fieldset", cls="mp-checks"):
                el("legend", f"Tasks to run again, and what depends on them. {told}")
                for key in [*again, *others][:_MOST_CHOICES]:
                    boxes[key] = CheckField(f"{key} ({look(view.current[key])[0]})")
            if len(view.current) > _MOST_CHOICES:
                el("p", f"{_MOST_CHOICES} are listed; `w.jobs.repair_run` takes any.", cls="mp-note")
            for name, value in view.run.parameters.items():
                with labelled(name):
                    fields[name] = TextField(label=name, value=value)
            with el("div", cls="mp-row"):
                submit("Repair")


_DONE = frozenset({Result.SUCCESS, Result.EXCLUDED, Result.DISABLED})


def _repair(visit: Visit, who: Principal, run: Run, chosen: Sequence[str], given: Mapping[str, str]) -> None:
    visit.services.jobs.service.repair(
        who, run.id, tasks=chosen or None, all_failed=not chosen, dependents=True,
        latest_repair_id=run.repairs[-1]["id"] if run.repairs else None, parameters=given,
    )  # fmt: skip


# Tasks


def _draw_tasks(visit: Visit, view: RunView) -> None:
    run, now_of = view.run, view.current
    nodes = [
        Node(
            key=task["task_key"], needs=needs_of(task), words=look(now_of[task["task_key"]])[0],
            tone=look(now_of[task["task_key"]])[1], href=urls.task_url(run.id, task["task_key"]),
        )
        for task in run.settings.get("tasks", ())
        if task["task_key"] in now_of
    ]  # fmt: skip
    if not nodes:
        empty_state("No tasks", "This run had nothing to do.", symbol="rule")
        return
    JobGraph("Tasks by how they stand", nodes)
    attempts = Counter(task.key for task in view.tasks)
    shown = [*now_of.values()]
    if len(shown) > _PAGE:
        shown.sort(key=_urgency)
    start = _start(visit, len(shown))
    rows: Rows = [_task_row(run, task, attempts[task.key]) for task in shown[start : start + _PAGE]]
    columns = (
        TableColumn(label="Task"),
        TableColumn(label="State"),
        TableColumn(label="Says", grow=True, optional=True),
        TableColumn(label="Took", numeric=True),
        TableColumn(label="Attempts", numeric=True, optional=True),
    )
    DataTable(label="Tasks", columns=columns, rows=rows)
    _draw_pager(visit, start, len(shown), "tasks; those that failed or run come first")


def _urgency(task: TaskRun) -> int:
    """What asks for a look first."""
    if task.result in _BAD:
        return 0
    return 1 if task.state is State.RUNNING else 2 if not task.ended else 3


def _start(visit: Visit, count: int) -> int:
    """Where the page of a long list that the address names begins."""
    text = visit.query.get("from", "")
    return min(int(text), count - 1) // _PAGE * _PAGE if text.isascii() and text.isdecimal() and len(text) < 9 else 0


def _draw_pager(visit: Visit, start: int, count: int, what: str) -> None:
    more = start + _PAGE < count
    pager(
        next_href=visit.link(**{"from": str(start + _PAGE)}) if more else None,
        first_href=visit.link(**{"from": None}) if start else None,
        text=f"{start + 1:,} to {min(start + _PAGE, count):,} of {count:,} {what}.",
    )


def _task_row(run: Run, task: TaskRun, attempts: int) -> list[Cell | str]:
    outcome = ((task.outcome, "plain"),) if task.outcome else ()
    return [
        Cell(text=task.key, href=urls.task_url(run.id, task.key)),
        Cell(badges=(look(task), *outcome)),
        task.message[:240],
        took(task.started_at, task.ended_at),
        str(attempts),
    ]


def _draw_timeline(visit: Visit, view: RunView) -> None:
    start = _start(visit, len(view.tasks))
    JobTimeline(view.run, view.tasks, utc_now(), shown=slice(start, start + _PAGE))
    _draw_pager(visit, start, len(view.tasks), "attempts")
    with el("div", cls="mp-row mp-state-legend"):
        el("span", "queued", cls="mp-span-wait")
        el("span", "set up", cls="mp-span-setup")
        el("span", "ran, in the colour of how it ended")


# Logs


def _draw_search(visit: Visit, view: RunView) -> None:
    asked = visit.query.get("q", "").strip()[:400]
    filter_form(label="Words in the logs", value=asked, keep=[("tab", _LOGS)], wide=True)
    if not asked:
        el("p", "Finds lines that hold these words, in what all tasks of the run printed.", cls="mp-note")
        return
    place = el("div")
    with place:
        skeleton(3)
    views = visit.services.jobs.views
    later(
        visit,
        lambda who: views.search_logs(who, view.run.id, asked),
        filling(place, lambda outcome: _draw_hits(view, outcome)),
    )


def _draw_hits(view: RunView, outcome: Outcome[Found]) -> None:
    found = outcome.value
    if found is None:
        notice(outcome.error, "bad", role="alert")
        return
    if not found.hits:
        empty_state("No line holds this", "The case of letters does not matter.", symbol="search_off")
        return
    rows: Rows = [
        [
            Cell(text=_named(hit), href=urls.task_url(view.run.id, hit.key, hit.task.id)),
            str(hit.line.number),
            Cell(text=hit.line.text, code=True),
        ]
        for hit in found.hits
    ]
    columns = (
        TableColumn(label="Task", short=True),
        TableColumn(label="Line", numeric=True),
        TableColumn(label="Says", grow=True),
    )
    DataTable(label="Lines", columns=columns, rows=rows)
    if found.is_cut:
        notice(f"There may be more: at most {MOST_HITS} lines are shown. Search for more words.")


def _named(hit: Hit) -> str:
    task = hit.task
    told = hit.key if task.iteration is None else f"{hit.key}, input {task.iteration}"
    return told + (f", attempt {task.attempt + 1}" if task.attempt else "")


# Settings


def _draw_settings(_visit: Visit, view: RunView) -> None:
    el("p", "As they were when the run was asked for.", cls="mp-note")
    code_block(as_yaml(view.run.settings), title="YAML").classes("mp-trace")


_FOLLOWED = frozenset({"", _TIMELINE})
_TABS: Mapping[str, Callable[[Visit, RunView], None]] = {
    _TIMELINE: _draw_timeline,
    _LOGS: _draw_search,
    _SETTINGS: _draw_settings,
}


# What it made


def draw_mlflow_runs(visit: Visit, tag: str, value: str, *, going_on: bool) -> None:
    """MLflow runs that a run, or one of its tasks, made, as far as the reader may see them."""
    place = el("div").style("margin-top: 20px")
    later(
        visit,
        lambda who: visit.services.tracking.runs_tagged(who, tag, value),
        filling(place, lambda outcome: _draw_made(outcome.value or (), going_on=going_on)),
    )


def _draw_made(runs: Sequence[MlflowRun], *, going_on: bool) -> None:
    if not runs:
        return
    rows: Rows = [
        [
            Cell(text=run.name, href=urls.mlflow_run_url(run.experiment_id, run.id), symbol="science"),
            Cell(badges=((run.status.lower(), "bad" if run.status == "FAILED" else "plain"),)),
            Cell(time_ms=run.started_ms),
            ", ".join(name for name, _ in run.inputs),
        ]
        for run in runs
    ]
    columns = (
        TableColumn(label="Run"),
        TableColumn(label="State"),
        TableColumn(label="Started", optional=True),
        TableColumn(label="Read", grow=True, optional=True),
    )
    with card("MLflow runs made by it"):
        DataTable(label="MLflow runs", columns=columns, rows=rows)
        if going_on:
            el("p", "As of now; load the page again for those made since.", cls="mp-note")


PAGES = (
    Page(
        path="/jobs/runs/{run_id}",
        section="jobs",
        load=_load,
        draw=_draw,
        title=lambda _visit, view: f"{view.run.name}, run {view.run.id}",
    ),
)
