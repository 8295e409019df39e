"""What a run of a job, or a task of it, read and wrote."""

from millpond.identity.domain import Principal
from millpond.jobs.viewing import TaskUse
from millpond.kernel.clock import epoch_ms
from millpond.lineage.job_uses import MOST_OF_RUN
from millpond.ui import urls
from millpond.ui.elements import Cell, DataTable, Rows, TableColumn, card, el, notice
from millpond.ui.lineage import did_cell, node_cell
from millpond.ui.visit import Outcome, Visit, filling, later


def draw_run_lineage(visit: Visit, run_id: int, task_id: int | None = None, *, going_on: bool) -> None:
    """What a run, or one attempt at a task of it, read and wrote, looked up once the page is shown."""
    place = el("div", cls="mp-stack").style("margin-top: 20px")
    views = visit.services.jobs.views

    def load(who: Principal) -> tuple[list[TaskUse], bool]:
        found, is_cut = views.lineage(who, run_id)
        return [each for each in found if task_id is None or each.touched.done.work.task_run_id == task_id], is_cut

    def draw(outcome: Outcome[tuple[list[TaskUse], bool]]) -> None:
        _draw(run_id, outcome, with_tasks=task_id is None, going_on=going_on)

    later(visit, load, filling(place, draw))


def _draw(run_id: int, outcome: Outcome[tuple[list[TaskUse], bool]], *, with_tasks: bool, going_on: bool) -> None:
    if outcome.value is None:
        notice(outcome.error, "bad", role="alert")
        return
    found, is_cut = outcome.value
    if not (found or is_cut):
        return
    rows: Rows = [
        [
            node_cell(each.touched.node),
            did_cell(each.touched.done),
            *([_task(run_id, each)] if with_tasks else []),
            Cell(time_ms=epoch_ms(each.touched.done.last_seen)),
        ]
        for each in found
    ]
    columns = (
        TableColumn(label="What", grow=True),
        TableColumn(label="How"),
        *([TableColumn(label="Task")] if with_tasks else []),
        TableColumn(label="Last", optional=True),
    )
    with card("Read and written by it"):
        DataTable(label="Lineage", columns=columns, rows=rows)
        if is_cut:
            el("p", f"Of the run's last {MOST_OF_RUN:,} reads and writes; there are more.", cls="mp-note")
        if going_on:
            el("p", "As of now; load the page again for what came since.", cls="mp-note")


def _task(run_id: int, use: TaskUse) -> Cell:
    return Cell(text=use.key, href=urls.task_url(run_id, use.key, use.touched.done.work.task_run_id))
