"""Jobs: what there is, what starts them and how their last runs ended; and all runs, also those without a job."""

from dataclasses import dataclass

from nicegui import ui

from millpond.jobs.domain import Glance
from millpond.jobs.viewing import Listed
from millpond.kernel.clock import epoch_ms
from millpond.kernel.paging import Page as Listing
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    DataTable,
    Rows,
    SelectField,
    Tab,
    TableColumn,
    button_link,
    el,
    empty_state,
    page_header,
    pager,
    query_field,
    tabs,
)
from millpond.ui.formats import duration_text
from millpond.ui.forms import labelled, submit
from millpond.ui.job_states import look, moment, squares, started_text, took, trigger_text
from millpond.ui.visit import Page, Visit

_PAGE = 50
_RUNS = "runs"
_STATES = (("", "Any"), ("open", "Going on"), ("ended", "Ended"))
_CREATE = """from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import SparkPythonTask, Task

w = WorkspaceClient()
job = w.jobs.create(
    name="retrain",
    tasks=[Task("train", spark_python_task=SparkPythonTask("/Volumes/main/ml/scripts/train.py"))],
)
w.jobs.run_now(job.job_id)"""


@dataclass(frozen=True, kw_only=True)
class _Data:
    jobs: Listing[Listed] | None
    runs: Listing[Glance] | None


def _load(visit: Visit) -> _Data:
    query, views = visit.query, visit.services.jobs.views
    if query.get("tab") == _RUNS:
        active = {"open": True, "ended": False}.get(query.get("state", ""))
        runs = views.runs(visit.principal, active=active, page_token=query.get("page"), limit=_PAGE)
        return _Data(jobs=None, runs=runs)
    jobs = views.jobs(
        visit.principal,
        text=query.get("q", "").strip()[:400],
        owner=query.get("owner", "").strip(),
        tag=query.get("tag", "").strip(),
        page_token=query.get("page"),
        limit=_PAGE,
    )
    return _Data(jobs=jobs, runs=None)


def _draw(visit: Visit, data: _Data) -> None:
    with page_header(
        "Jobs", symbol="schema", subtitle="Tasks that depend on each other, run by hand or by themselves."
    ):
        button_link("New job", urls.NEW_JOB, symbol="add", kind="mp-primary")
    items = [
        Tab(key="", label="Jobs", href=urls.JOBS),
        Tab(key=_RUNS, label="Runs", href=urls.RUNS_OF_JOBS),
    ]
    tabs(items, _RUNS if data.runs is not None else "", label="Jobs and runs")
    with el("div", cls="mp-stack"):
        if data.runs is not None:
            _draw_runs(visit, data.runs)
        elif data.jobs is not None:
            _draw_jobs(visit, data.jobs)


# Jobs


def _draw_jobs(visit: Visit, jobs: Listing[Listed]) -> None:
    asked = any(visit.query.get(name) for name in ("q", "owner", "tag"))
    if jobs.items or asked or visit.query.get("page"):
        _draw_filters(visit, asked=asked)
    if jobs.items:
        _draw_list(visit, jobs)
    elif asked:
        empty_state("No such job", "No job that you may see is like this; change a filter.", symbol="search_off")
    else:
        empty_state("No jobs yet", "Make one here, or from any notebook:", symbol="schema", code=_CREATE)
    _draw_pager(visit, jobs.next_page_token)


def _draw_filters(visit: Visit, *, asked: bool) -> None:
    query = visit.query
    with el("form", cls="mp-row mp-form mp-filters", method="get", role="search", aria_label="Find jobs"):
        with labelled("Name"):
            query_field("q", "Name", query.get("q", ""), "a part of it")
        with labelled("Owner"):
            query_field("owner", "Owner", query.get("owner", ""), "ann@example.com")
        with labelled("Tag"):
            query_field("tag", "Tag", query.get("tag", ""), "key or key=value")
        submit("Find")
        if asked:
            button_link("Clear", urls.JOBS)


def _draw_list(visit: Visit, jobs: Listing[Listed]) -> None:
    columns = (
        TableColumn(label="Job", grow=True),
        TableColumn(label="Last runs"),
        TableColumn(label="Starts"),
        TableColumn(label="Next", optional=True),
        TableColumn(label="Owner", short=True, optional=True),
        TableColumn(label=""),
    )

    async def run(row: int) -> None:
        await run_now(visit, jobs.items[row].job.id)

    rows: Rows = [_row(each) for each in jobs.items]
    DataTable(label="Jobs", columns=columns, rows=rows, on_act=run)


async def run_now(visit: Visit, job_id: int, parameters: dict[str, str] | None = None) -> None:
    """Start a run of a job and go to its page, or say why not."""
    service = visit.services.jobs.service
    outcome = await visit.act(lambda who: service.run_now(who, job_id, parameters=parameters))
    run_id = outcome.notify_error().value
    if run_id is not None:
        ui.navigate.to(urls.job_run_url(run_id))


def _row(listed: Listed) -> list[Cell | str]:
    job = listed.job
    tags = job.settings.get("tags") or {}
    return [
        Cell(
            text=job.name,
            href=urls.job_url(job.id),
            note=str(job.settings.get("description") or "")[:160],
            badges=tuple((f"{key}: {value}" if value else key, "plain") for key, value in tags.items()),
        ),
        squares(listed.runs),
        trigger_text(job.settings),
        moment(job.next_fire_at),
        job.creator,
        Cell(act="Run now", act_label=f"Run {job.name} now") if listed.may_run else "",
    ]


def _draw_pager(visit: Visit, token: str | None) -> None:
    pager(next_href=token and visit.link(page=token), first_href=visit.query.get("page") and visit.link(page=None))


# Runs


def _draw_runs(visit: Visit, runs: Listing[Glance]) -> None:
    with el("form", cls="mp-row mp-form", method="get", role="search", aria_label="Find runs"):
        el("input", type="hidden", name="tab", value=_RUNS)
        with labelled("State"):
            SelectField(label="State", choices=_STATES, value=visit.query.get("state", ""), name="state")
        submit("Find")
    if runs.items:
        draw_runs("Runs", runs.items)
    else:
        empty_state("No such runs", "Nothing that you may see has run, or nothing like this.", symbol="search_off")
    _draw_pager(visit, runs.next_page_token)


def draw_runs(label: str, runs: tuple[Glance, ...], *, named: bool = True) -> None:
    """A table of runs; of one job, without its name."""
    rows: Rows = [_run_row(run, named=named) for run in runs]
    columns = (
        TableColumn(label="Run", grow=named, short=not named),
        TableColumn(label="State"),
        TableColumn(label="Started"),
        TableColumn(label="Took", numeric=True, optional=True),
        TableColumn(label="By", short=True, optional=True),
    )
    DataTable(label=label, columns=columns, rows=rows)


def _run_row(run: Glance, *, named: bool) -> list[Cell | str]:
    return [
        Cell(
            text=run.name if named else str(run.id),
            href=urls.job_run_url(run.id),
            note="" if not named else "without a job" if run.job_id is None else str(run.id),
        ),
        Cell(badges=(look(run),)),
        Cell(time_ms=epoch_ms(run.created_at)),
        took(run.started_at, run.ended_at) if run.started_at != run.ended_at else duration_text(0),
        started_text(run.creator, run.trigger),
    ]


PAGES = (Page(path="/jobs", section="jobs", load=_load, draw=_draw, title=lambda _visit, _data: "Jobs"),)
