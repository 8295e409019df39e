"""Experiments and their runs; a run itself is shown by MLflow's own pages."""

from collections import Counter
from dataclasses import dataclass

from millpond.kernel.errors import InvalidArgument
from millpond.kernel.paging import Page as Listing
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    Crumb,
    DataTable,
    Rows,
    Tab,
    TableColumn,
    Tone,
    button_link,
    el,
    empty_state,
    filter_form,
    notice,
    page_header,
    pager,
    tabs,
)
from millpond.ui.formats import duration_text, metric_text
from millpond.ui.permissions import Permissions, draw_permissions, load_permissions, permissions_tab
from millpond.ui.tracking import Experiment, Run
from millpond.ui.visit import Page, Visit

_METRIC_COLUMNS = 5
_STATUS: dict[str, tuple[str, Tone]] = {
    "FINISHED": ("finished", "good"),
    "FAILED": ("failed", "bad"),
    "KILLED": ("killed", "warn"),
    "RUNNING": ("running", "info"),
    "SCHEDULED": ("scheduled", "plain"),
}
_ORDERS = {
    "": ("Newest first", "attributes.start_time DESC"),
    "oldest": ("Oldest first", "attributes.start_time ASC"),
}


def first_run_code(base_url: str) -> str:
    """Code that logs a run here."""
    return f'''import mlflow

mlflow.set_tracking_uri("{base_url}")   # and MLFLOW_TRACKING_TOKEN in the environment
mlflow.set_experiment("/Users/you/churn-prediction")
with mlflow.start_run():
    mlflow.log_param("depth", 6)
    mlflow.log_metric("auc", 0.84)'''


# The list


def _load_list(visit: Visit) -> Listing[Experiment]:
    tracking = visit.services.tracking
    return tracking.list_experiments(visit.principal, text=visit.query.get("q", ""), page_token=visit.query.get("page"))


def _draw_list(visit: Visit, data: Listing[Experiment]) -> None:
    actions = page_header(
        "Experiments", symbol="science", subtitle="Runs with their parameters, metrics and artifacts."
    )
    with actions:
        button_link("Open in MLflow", "/ml/", symbol="open_in_new")
    asked = visit.query.get("q", "")
    with el("div", cls="mp-toolbar"):
        filter_form(label="Filter by name", value=asked)
    if not data.items:
        if asked:
            empty_state(
                "No such experiment", f"No experiment that you may see has “{asked}” in its name.", symbol="search_off"
            )
        else:
            code = first_run_code(visit.addresses.base_url)
            empty_state("No experiments yet", "Log a first run:", symbol="science", code=code)
        return
    rows: Rows = [
        [
            Cell(text=item.name, href=urls.experiment_url(item.id), symbol="science", note=item.note[:200]),
            item.owner,
            Cell(time_ms=item.updated_ms),
            Cell(time_ms=item.created_ms),
        ]
        for item in data.items
    ]
    columns = (
        TableColumn(label="Experiment", grow=True),
        TableColumn(label="Owner", short=True, optional=True),
        TableColumn(label="Changed"),
        TableColumn(label="Created", optional=True),
    )
    DataTable(label="Experiments", columns=columns, rows=rows)
    pager(
        next_href=data.next_page_token and visit.link(page=data.next_page_token),
        first_href=visit.query.get("page") and visit.link(page=None),
    )
    if not asked and all(item.id == "0" for item in data.items):
        code = first_run_code(visit.addresses.base_url)
        empty_state(
            "Log a run", "An experiment of your own appears with its first run:", symbol="science", code=code
        ).style("margin-top: 20px")


# One experiment


@dataclass(frozen=True, kw_only=True)
class _Data:
    experiment: Experiment
    runs: Listing[Run]
    mistake: str
    metrics: tuple[str, ...]
    permissions: Permissions | None


def _load(visit: Visit) -> _Data:
    tracking = visit.services.tracking
    experiment = tracking.get_experiment(visit.principal, visit.path["experiment_id"])
    mistake = ""
    runs = Listing[Run](items=())
    try:
        runs = tracking.search_runs(
            visit.principal,
            [experiment.id],
            filter_text=visit.query.get("q", ""),
            order=_order(visit.query.get("order", "")),
            page_token=visit.query.get("page"),
        )
    except InvalidArgument as error:
        mistake = error.message
    permissions = load_permissions(visit, "experiments", experiment.id)
    metrics = _columns(runs.items)
    return _Data(experiment=experiment, runs=runs, mistake=mistake, metrics=metrics, permissions=permissions)


def _order(key: str) -> str:
    if key in _ORDERS:
        return _ORDERS[key][1]
    direction, _, metric = key.partition(":")
    if direction not in {"best", "least"} or "`" in metric:
        return _ORDERS[""][1]
    return f"metrics.`{metric}` {'DESC' if direction == 'best' else 'ASC'}"


def _columns(runs: tuple[Run, ...]) -> tuple[str, ...]:
    """The metrics that most runs have; system metrics are MLflow's own pages' business."""
    counts = Counter(name for run in runs for name in run.metrics if not name.startswith("system/"))
    return tuple(sorted(counts, key=lambda name: (-counts[name], len(name), name))[:_METRIC_COLUMNS])


def _draw(visit: Visit, data: _Data) -> None:
    experiment = data.experiment
    actions = page_header(
        experiment.name,
        symbol="science",
        crumbs=[Crumb(label="Experiments", href=urls.EXPERIMENTS)],
        subtitle=experiment.note or None,
    )
    with actions:
        button_link("Compare in MLflow", urls.mlflow_experiment_url(experiment.id), symbol="open_in_new")
    items = [Tab(key="runs", label="Runs", href=visit.link(tab=None)), permissions_tab(visit)]
    tabs(items, visit.query.get("tab", "runs"), label="Experiment")
    if data.permissions is None:
        _draw_found(visit, data)
    else:
        draw_permissions(visit, data.permissions)


def _draw_found(visit: Visit, data: _Data) -> None:
    with el("div", cls="mp-toolbar"):
        keep = [("order", visit.query["order"])] if visit.query.get("order") else []
        filter_form(
            label="Filter runs",
            value=visit.query.get("q", ""),
            keep=keep,
            placeholder="metrics.auc > 0.8 and params.depth = '6'",
            wide=True,
        )
        _draw_orders(visit, data.metrics)
    if data.mistake:
        notice(data.mistake, "bad", role="alert")
    elif not data.runs.items:
        _draw_no_runs(visit)
    else:
        _draw_runs(data)
        token = data.runs.next_page_token
        pager(next_href=token and visit.link(page=token), first_href=visit.query.get("page") and visit.link(page=None))


def _draw_orders(visit: Visit, metrics: tuple[str, ...]) -> None:
    choices = [(key, label) for key, (label, _) in _ORDERS.items()]
    if metrics:
        choices.append((f"best:{metrics[0]}", f"Highest {metrics[0]}"))
    with el("nav", cls="mp-segments", aria_label="Order"):
        for key, label in choices:
            current = visit.query.get("order", "") == key
            el("a", label, href=visit.link(order=key or None, page=None), aria_current="true" if current else None)


def _draw_no_runs(visit: Visit) -> None:
    if visit.query.get("q"):
        empty_state("No run passes this filter", "Change it, or remove it.", symbol="filter_alt_off")
    else:
        code = first_run_code(visit.addresses.base_url)
        empty_state("No runs yet", "Log one:", symbol="science", code=code)


def run_cell(run: Run) -> Cell:
    """A run's name, leading to MLflow's page of it."""
    return Cell(text=run.name, href=urls.mlflow_run_url(run.experiment_id, run.id), title=run.id)


def status_cell(run: Run) -> Cell:
    """A run's status as a badge."""
    return Cell(badges=(_STATUS.get(run.status, (run.status.lower(), "plain")),))


def _draw_runs(data: _Data) -> None:
    rows: Rows = [
        [
            run_cell(run),
            status_cell(run),
            Cell(time_ms=run.started_ms),
            duration_text(run.ended_ms - run.started_ms) if run.ended_ms and run.started_ms else "",
            run.user,
            *[metric_text(run.metrics[name]) if name in run.metrics else "" for name in data.metrics],
            Cell(text="\n".join(name for name, _ in run.inputs[:3])),
            Cell(text="Details", href=urls.run_url(run.id), title="How it was made, and whether it comes out again"),
        ]
        for run in data.runs.items
    ]
    columns = (
        TableColumn(label="Run"),
        TableColumn(label="Status"),
        TableColumn(label="Started"),
        TableColumn(label="Took", numeric=True, optional=True),
        TableColumn(label="Who", short=True, optional=True),
        *[TableColumn(label=name, numeric=True) for name in data.metrics],
        TableColumn(label="Data", optional=True),
        TableColumn(label="Made", optional=True),
    )
    DataTable(label="Runs", columns=columns, rows=rows)


PAGES = (
    Page(
        path="/experiments",
        section="experiments",
        load=_load_list,
        draw=_draw_list,
        title=lambda _visit, _data: "Experiments",
    ),
    Page(
        path="/experiments/{experiment_id}",
        section="experiments",
        load=_load,
        draw=_draw,
        title=lambda _visit, data: data.experiment.name,
    ),
)
