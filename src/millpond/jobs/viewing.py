"""What pages show of jobs and runs: read for whoever may see them, in few queries, each with a bound."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from millpond.identity.access import Act, admits, allows
from millpond.identity.domain import Principal, Work
from millpond.jobs import store
from millpond.jobs.domain import Glance, Job, Result, Run, State, TaskRun
from millpond.jobs.logs import Line, Part, lines_with, part
from millpond.jobs.outputs import Outputs
from millpond.jobs.planning import current
from millpond.jobs.service import JobService
from millpond.jobs.visible import visible
from millpond.kernel.database import Database
from millpond.kernel.errors import NotFound
from millpond.kernel.paging import Page
from millpond.lineage.job_uses import Touched
from millpond.lineage.service import LineageService

RUNS_GLANCED = 8
MATRIX_RUNS = 100
_LEAST_RUNS, _MOST_CELLS = 10, 20_000
"""A job of many tasks has fewer runs in its matrix."""
MOST_HITS = 200
_PART_BYTES = 256 << 10
_SEARCHED_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A job in a list."""

    job: Job
    runs: tuple[Glance, ...]
    """The last, the newest first."""
    may_run: bool


@dataclass(frozen=True, kw_only=True)
class JobView:
    """A job, and what its reader may do with it."""

    job: Job
    may_run: bool
    may_manage: bool


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """How each task stood in each of a job's last runs."""

    runs: tuple[Glance, ...]
    """The newest first."""
    keys: tuple[str, ...]
    """The job's tasks, then those that only earlier runs had."""
    cells: Mapping[tuple[int, str], tuple[State, Result]]
    """The last attempt, by run and task."""


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run with all attempts at its tasks, without iterations."""

    run: Run
    tasks: tuple[TaskRun, ...]
    job_exists: bool
    may_run: bool

    @property
    def current(self) -> Mapping[str, TaskRun]:
        """The last attempt at each task."""
        return current(self.tasks)


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """An attempt at a task, those before and after it, and what was done for each of its inputs."""

    view: RunView
    key: str
    """Of an iteration, that of its `for_each_task`."""
    task: TaskRun
    attempts: tuple[TaskRun, ...]
    iterations: tuple[TaskRun, ...]
    """The last attempt at each, in order."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A line of a task's log."""

    key: str
    """Of an iteration, that of its `for_each_task`."""
    task: TaskRun
    line: Line


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search in the logs of a run found."""

    hits: tuple[Hit, ...]
    is_cut: bool
    """Whether there may be more."""


@dataclass(frozen=True, kw_only=True)
class TaskUse:
    """What a task of a run read or wrote."""

    key: str
    """Of an iteration, that of its `for_each_task`."""
    touched: Touched


class JobViews:
    """The read side of the room."""

    def __init__(self, database: Database, service: JobService, outputs: Outputs, lineage: LineageService) -> None:
        self._database = database
        self._service = service
        self._outputs = outputs
        self._lineage = lineage

    def jobs(
        self,
        principal: Principal,
        *,
        text: str = "",
        owner: str = "",
        tag: str = "",
        page_token: str | None = None,
        limit: int,
    ) -> Page[Listed]:
        """Jobs that one may see, the newest first; `tag` is a key, or `key=value`."""
        with self._database.read() as connection:

            def more(before: int | None) -> Sequence[Job]:
                return store.find_jobs(connection, text=text, owner=owner, before=before, limit=limit + 1)

            def wanted(job: Job) -> bool:
                return allows(principal, Act.SEE, job.securable) and _tagged(job, tag)

            page = visible(more, wanted, page_token, limit)
            found = store.latest_glances(connection, [job.id for job in page.items], RUNS_GLANCED)
        runs: dict[int | None, list[Glance]] = {}
        for each in found:
            runs.setdefault(each.job_id, []).append(each)
        return page.map(
            lambda job: Listed(
                job=job, runs=tuple(runs.get(job.id, ())), may_run=allows(principal, Act.USE, job.securable)
            )
        )

    def runs(
        self, principal: Principal, *, job_id: int | None = None, active: bool | None = None, page_token: str | None,
        limit: int,
    ) -> Page[Glance]:  # fmt: skip
        """Runs that one may see, the newest first."""
        with self._database.read() as connection:

            def more(before: int | None) -> Sequence[Glance]:
                return store.glances(connection, job_id=job_id, active=active, before=before, limit=limit + 1)

            return visible(more, lambda run: allows(principal, Act.SEE, run.securable), page_token, limit)

    def job(self, principal: Principal, job_id: int) -> JobView:
        """A job. Raises NotFound."""
        job = self._service.get(principal, job_id)
        return JobView(
            job=job,
            may_run=allows(principal, Act.USE, job.securable),
            may_manage=allows(principal, Act.MANAGE, job.securable),
        )

    def matrix(self, principal: Principal, job_id: int, *, page_token: str | None = None) -> tuple[Matrix, str | None]:
        """A job's last runs by tasks, and the token of those before. Raises NotFound."""
        job = self._service.get(principal, job_id)
        limit = min(MATRIX_RUNS, max(_LEAST_RUNS, _MOST_CELLS // max(1, len(job.settings.get("tasks", ())))))
        page = self.runs(principal, job_id=job_id, page_token=page_token, limit=limit)
        with self._database.read() as connection:
            states = store.states_of(connection, [run.id for run in page.items])
        keys = dict.fromkeys(task["task_key"] for task in job.settings.get("tasks", ()))
        keys |= dict.fromkeys(key for _, key, _, _ in states)
        cells = {(run_id, key): (state, result) for run_id, key, state, result in states}
        return Matrix(runs=page.items, keys=tuple(keys), cells=cells), page.next_page_token

    def run(self, principal: Principal, run_id: int) -> RunView:
        """A run, also by the id of one of its task runs. Raises NotFound."""
        with self._database.read() as connection:
            task = store.find_task(connection, run_id)
            run = store.find_run(connection, task.run_id if task else run_id)
            job = store.find_job(connection, run.job_id) if run and run.job_id else None
            tasks = store.top_tasks_of(connection, run.id) if run else ()
        securable = run.securable(job.creator if job else None) if run else None
        if run is None or securable is None or not admits(principal, Act.SEE, securable):
            raise NotFound(f"Run {run_id} does not exist.")
        may_run = allows(principal, Act.USE, securable)
        return RunView(run=run, tasks=tuple(tasks), job_exists=job is not None, may_run=may_run)

    def task(self, principal: Principal, run_id: int, key: str, attempt_id: int | None) -> TaskView:
        """The last attempt at a task, or the one with an id, which an iteration's may be. Raises NotFound."""
        view = self.run(principal, run_id)
        attempts = tuple(task for task in view.tasks if task.key == key)
        if not attempts:
            raise NotFound(f"Run {view.run.id} has no task '{key[:100]}'.")
        with self._database.read() as connection:
            task = view.current[key] if attempt_id is None else store.find_task(connection, attempt_id)
            own = {each.id for each in attempts}
            if task is None or not {task.id, task.parent_id} & own:
                raise NotFound(f"Task '{key}' of run {view.run.id} has no attempt {attempt_id}.")
            inputs = store.iterations_of(connection, task.parent_id or task.id)
        if task.parent_id is not None:
            attempts = tuple(each for each in inputs if each.iteration == task.iteration)
            return TaskView(view=view, key=key, task=task, attempts=attempts, iterations=())
        latest = {each.iteration or 0: each for each in sorted(inputs, key=lambda each: each.attempt)}
        iterations = tuple(latest[number] for number in sorted(latest))
        return TaskView(view=view, key=key, task=task, attempts=attempts, iterations=iterations)

    def log(self, principal: Principal, run_id: int, task_id: int, start: int = 0) -> tuple[Part, TaskRun]:
        """What a task run printed from a byte on, at most its last 256 KiB, and how it stands. Raises NotFound."""
        view = self.run(principal, run_id)
        with self._database.read() as connection:
            task = store.find_task(connection, task_id)
        if task is None or task.run_id != view.run.id:
            raise NotFound(f"Run {run_id} has no task run {task_id}.")
        return part(self._outputs.log(task), start, _PART_BYTES, whole=task.ended), task

    def search_logs(self, principal: Principal, run_id: int, text: str) -> Found:
        """At most 200 lines that a run's tasks printed and that hold a text, in at most 64 MiB. Raises NotFound."""
        run = self.run(principal, run_id).run
        with self._database.read() as connection:
            tasks = store.tasks_of(connection, run.id)
        keys = {task.id: task.key for task in tasks}
        hits: list[Hit] = []
        left = _SEARCHED_BYTES
        for task in tasks:
            log = self._outputs.log(task)
            for line in lines_with(log, text, left):
                if len(hits) == MOST_HITS:
                    return Found(hits=tuple(hits), is_cut=True)
                hits.append(Hit(key=keys[task.parent_id or task.id], task=task, line=line))
            left -= log.size()
            if left <= 0:
                return Found(hits=tuple(hits), is_cut=True)
        return Found(hits=tuple(hits), is_cut=False)

    def lineage(self, principal: Principal, run_id: int) -> tuple[list[TaskUse], bool]:
        """What a run's tasks read and wrote, as far as one may see it, the newest first, and whether there is more.
        Raises NotFound."""
        run = self.run(principal, run_id).run
        touched, is_cut = self._lineage.of_job_run(principal, run.id)
        with self._database.read() as connection:
            keys = store.keys_of(connection, run.id) if touched else {}
        return [TaskUse(key=keys.get(each.done.work.task_run_id, ""), touched=each) for each in touched], is_cut

    def names_of(self, principal: Principal, works: Collection[Work]) -> Mapping[Work, str]:
        """Of some works those whose jobs one may see, with the jobs' names; without a job, their runs'."""
        with self._database.read() as connection:
            jobs = store.jobs_with_ids(connection, {each.job_id for each in works if each.job_id})
            runs = store.glances_with_ids(connection, {each.run_id for each in works if not each.job_id})
        found: list[Job | Glance] = [*jobs, *runs]
        seen = {each.id: each.name for each in found if allows(principal, Act.SEE, each.securable)}
        return {each: name for each in works if (name := seen.get(each.job_id or each.run_id)) is not None}


def _tagged(job: Job, tag: str) -> bool:
    """Whether a job has a tag: a key, or a key with a value."""
    key, mark, value = tag.partition("=")
    tags = job.settings.get("tags") or {}
    return not tag or (key.strip() in tags and (not mark or tags[key.strip()] == value.strip()))
