"""What one can do with jobs and their runs: each method one unit of work, with its check of rights and its record."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from millpond.compute.domain import Wanted
from millpond.identity import acts, grants
from millpond.identity.access import Act, Securable, admits, allows, chosen_runner, require
from millpond.identity.domain import Principal
from millpond.identity.permissions import ObjectType
from millpond.identity.privileges import Privilege, levels
from millpond.jobs import notices, store, watch_store
from millpond.jobs.costs import TaskCosts
from millpond.jobs.domain import STARTERS, Job, Kind, Result, Run, State, TaskRun
from millpond.jobs.outputs import Output, Outputs, Shown
from millpond.jobs.planning import current, repaired
from millpond.jobs.removing import remove_runs
from millpond.jobs.schedule import scheduled
from millpond.jobs.settings import checked, clusters_of, specs_of
from millpond.jobs.starting import as_tasks, asked_parameters, asked_settings, attempt, start, submit
from millpond.jobs.triggers import trigger_of
from millpond.jobs.visible import visible
from millpond.jobs.watcher import Watcher
from millpond.jobs.watching import Watch
from millpond.kernel.clock import epoch_ms, utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound
from millpond.kernel.paging import Page
from millpond.notifications.domain import Delivery, Target
from millpond.notifications.outbox import told_about


class JobService:
    """Jobs for whoever may."""

    def __init__(
        self, database: Database, outputs: Outputs, *, watcher: Watcher, costs: TaskCosts,
        check_target: Callable[[Principal, Target], None], check_cluster: Callable[[Principal, Wanted], None],
        moved: Callable[..., None], principal_named: Callable[[str], Principal],
    ) -> None:  # fmt: skip
        self._database = database
        self._outputs = outputs
        self._watcher = watcher
        self._costs = costs
        self._check_target = check_target
        self._check_cluster = check_cluster
        self._moved = moved
        self._principal_named = principal_named

    def permission_types(self) -> tuple[ObjectType, ...]:
        """Jobs, by their ids."""
        return (ObjectType(path="jobs", name="job", kind="job", find=_find_securable, give=_give),)

    # -- jobs -------------------------------------------------------------------------------------------------------

    def create(self, principal: Principal, settings: Mapping[str, Any], access: Sequence[grants.Change] = ()) -> Job:
        """A new job, with levels of others. Raises InvalidArgument, NotImplementedHere, PermissionDenied for another's
        `run_as`, and what keeps whoever it runs as from what its trigger watches."""
        kept = checked(settings)
        run_as, now = self._run_as(principal, kept, principal.name), utc_now()
        self._check_named(principal, run_as, kept, {})
        job = Job(
            id=store.new_number(), name=kept.get("name", "Untitled"), creator=principal.name,
            run_as=run_as, settings=kept, created_at=now,
            **scheduled(kept, now),
        )  # fmt: skip
        watch = self._watcher.begun(job.id, job.run_as, trigger_of(kept))
        with self._database.write() as connection:
            store.add_job(connection, job)
            watch_store.put_watch(connection, watch, job.id)
            grants.give(connection, principal, job.securable, _levels(access, job))
            acts.changed(connection, principal.name, "create", "job", str(job.id), object_id=str(job.id))
        return job

    def get(self, principal: Principal, job_id: int) -> Job:
        """A job that one may see. Raises NotFound."""
        with self._database.read() as connection:
            return _checked(principal, Act.SEE, job_id, store.find_job(connection, job_id))

    def check_runnable(self, principal: Principal, job_id: int) -> Job:
        """A job that one may run. Raises NotFound, PermissionDenied."""
        with self._database.read() as connection:
            return _checked(principal, Act.USE, job_id, store.find_job(connection, job_id))

    def watch_of(self, job: Job) -> Watch | None:
        """What is known of what the trigger of a job that one was shown watches."""
        with self._database.read() as connection:
            return watch_store.find_watch(connection, job.id)

    def list(
        self, principal: Principal, *, name: str | None = None, page_token: str | None = None, limit: int = 20
    ) -> Page[Job]:
        """Jobs that one may see, the newest first."""
        with self._database.read() as connection:

            def more(before: int | None) -> Sequence[Job]:
                return store.list_jobs(connection, name=name, before=before, limit=limit + 1)

            return visible(more, lambda job: allows(principal, Act.SEE, job.securable), page_token, limit)

    def reset(
        self, principal: Principal, job_id: int, settings: Mapping[str, Any], access: Sequence[grants.Change] = ()
    ) -> None:
        """Give a job other settings, all of them, and others these levels in place of theirs."""
        self._change(principal, job_id, lambda _: dict(settings), access)

    def update(
        self, principal: Principal, job_id: int, settings: Mapping[str, Any], remove: Sequence[str] = ()
    ) -> None:
        """Change the settings that are given: those at the top are replaced, of tasks and environments those of the
        same key."""

        def changed(before: Mapping[str, Any]) -> dict[str, Any]:
            after = {**before, **settings}
            for field, key in (("tasks", "task_key"), ("environments", "environment_key")):
                if settings.get(field):
                    kept = {each.get(key): each for each in (*before.get(field, ()), *settings[field])}
                    after[field] = [*kept.values()]
            for path in remove:
                after = _without(after, path.split("/"))
            return after

        self._change(principal, job_id, changed)

    def pause(self, principal: Principal, job_id: int, *, paused: bool) -> None:
        """Let what starts a job's runs by itself rest, or go on. Raises FailedPrecondition where nothing does."""

        def changed(before: Mapping[str, Any]) -> dict[str, Any]:
            status = {"pause_status": "PAUSED" if paused else "UNPAUSED"}
            after = {field: {**before[field], **status} for field in STARTERS if before.get(field)}
            if not after:
                raise FailedPrecondition(f"Nothing starts job '{job_id}' by itself; give it a trigger.")
            return {**before, **after}

        self._change(principal, job_id, changed)

    def _change(
        self,
        principal: Principal,
        job_id: int,
        change: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        access: Sequence[grants.Change] = (),
    ) -> None:
        """What the new trigger watches is looked at outside of the transaction, so it may find another job there."""
        with self._database.read() as connection:
            before = _checked(principal, Act.MANAGE, job_id, store.find_job(connection, job_id))
        kept = checked(change(before.settings))
        run_as, trigger = self._run_as(principal, kept, before.run_as), trigger_of(kept)
        self._check_named(principal, run_as, kept, before.settings)
        same = (trigger, run_as) == (trigger_of(before.settings), before.run_as)
        watch = None if same else self._watcher.begun(job_id, run_as, trigger)
        with self._database.write() as connection:
            job = _checked(principal, Act.MANAGE, job_id, store.find_job(connection, job_id, lock=True))
            if (job.settings, job.run_as) != (before.settings, before.run_as):
                raise Conflict(
                    f"Job '{job_id}' was changed by somebody else at the same time; look at it and try again."
                )
            store.change_job(connection, job.id, name=kept.get("name", "Untitled"), settings=kept, run_as=run_as)
            if not same:
                store.change_job(connection, job.id, **scheduled(kept, utc_now()))
                watch_store.put_watch(connection, watch, job.id)
            grants.give(connection, principal, job.securable, _levels(access, job))
            acts.changed(connection, principal.name, "update", "job", str(job.id), object_id=str(job.id))

    def delete(self, principal: Principal, job_id: int) -> None:
        """Delete a job; runs that have begun go on, and what it did can be looked up."""
        with self._database.write() as connection:
            job = _checked(principal, Act.MANAGE, job_id, store.find_job(connection, job_id, lock=True))
            store.delete_job(connection, job.id)
            watch_store.put_watch(connection, None, job.id)
            grants.forget(connection, job.securable.ids)
            acts.changed(connection, principal.name, "delete", "job", str(job.id), object_id=str(job.id))

    def _check_named(
        self, principal: Principal, run_as: str, settings: Mapping[str, Any], before: Mapping[str, Any]
    ) -> None:
        """Who lets others be told (but of before) and whom tasks run as have the rights to targets and clusters."""
        for target in dict.fromkeys(notices.all_targets(settings)):
            if target not in set(notices.all_targets(before)):
                self._check_target(principal, target)
        for wanted in clusters_of(settings):
            self._check_cluster(self._principal_named(run_as), wanted)

    def _run_as(self, principal: Principal, settings: Mapping[str, Any], unless: str) -> str:
        """As whom tasks run."""
        return chosen_runner(principal, settings.get("run_as"), unless, what="job", named=self._principal_named)

    # -- runs -------------------------------------------------------------------------------------------------------

    def run_now(
        self,
        principal: Principal,
        job_id: int,
        *,
        parameters: Mapping[str, str] | None = None,
        python_params: Sequence[str] | None = None,
        notebook_params: Mapping[str, str] | None = None,
        python_named_params: Mapping[str, str] | None = None,
        sql_params: Mapping[str, str] | None = None,
        pipeline_params: Mapping[str, Any] | None = None,
        dbt_commands: Sequence[str] | None = None,
        only: Sequence[str] | None = None,
        queue: bool | None = None,
        token: str | None = None,
    ) -> int:
        """Start a run; returns its id, and that of the earlier one for a token that was used before."""
        given = {Kind.NOTEBOOK: notebook_params, Kind.WHEEL: python_named_params, Kind.SQL: sql_params,
                 Kind.PIPELINE: pipeline_params}  # fmt: skip
        listed = {Kind.PYTHON: python_params, Kind.WHEEL: python_params, Kind.DBT: dbt_commands}
        token = token and f"job:{job_id}:{token}"
        job = self.check_runnable(principal, job_id)
        self._check_quotas(job.run_as, job.settings, token)
        with self._database.write() as connection:
            job = _checked(principal, Act.USE, job_id, store.find_job(connection, job_id, lock=True))
            _check_given(principal, job.run_as, job.securable, dbt_commands, pipeline_params)
            if queue is not None:
                job = replace(job, settings={**job.settings, "queue": {"enabled": queue}})
            run_id = start(
                connection, job, creator=principal.name, trigger="ONE_TIME", now=utc_now(),
                settings=asked_settings(job.settings, listed, given, only),
                parameters=parameters, token=token,
            )  # fmt: skip
            acts.changed(connection, principal.name, "run", "job", str(job.id), object_id=str(job.id), run_id=run_id)
        self._moved(run_id)
        return run_id

    def submit(self, principal: Principal, settings: Mapping[str, Any], token: str | None = None) -> int:
        """Run tasks once, without a job."""
        kept = checked(as_tasks({**settings, "name": settings.get("name", settings.get("run_name")), "run_name": None}))
        run_as = self._run_as(principal, kept, principal.name)
        self._check_named(principal, run_as, kept, {})
        token = token and f"user:{principal.id}:{token}"
        self._check_quotas(run_as, kept, token)
        with self._database.write() as connection:
            run_id = submit(
                connection, kept, creator=principal.name, run_as=run_as, now=utc_now(), token=token,
            )  # fmt: skip
            acts.changed(connection, principal.name, "submit", "job run", str(run_id), object_id=str(run_id))
        self._moved(run_id)
        return run_id

    def _check_quotas(self, run_as: str, settings: Mapping[str, Any], token: str | None) -> None:
        """Pass where a run may begin, or has: that of its token is told to whoever asks again. Raises LimitExceeded."""
        with self._database.read() as connection:
            known = store.is_token_used(connection, token)
        if not known:
            self._costs.check(run_as, settings, more=1)

    def get_run(self, principal: Principal, run_id: int) -> Shown:
        """A run by its id, or the run of which a task run's id is given, with that task run alone. Raises NotFound."""
        with self._database.read() as connection:
            task = store.find_task(connection, run_id)
            run = self._run(connection, principal, Act.SEE, task.run_id if task else run_id)
            tasks = store.tasks_of(connection, run.id)
        if task is not None:
            return Shown(run=run, tasks=(task, *(each for each in tasks if each.parent_id == task.id)))
        return Shown(run=run, tasks=tuple(tasks))

    def list_runs(
        self,
        principal: Principal,
        *,
        job_id: int | None = None,
        active: bool | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        submitted: bool | None = None,
        page_token: str | None = None,
        limit: int = 20,
    ) -> Page[Run]:
        """Runs that one may see, the newest first; their tasks are those of `tasks_of`."""
        with self._database.read() as connection:

            def more(before: int | None) -> Sequence[Run]:
                return store.list_runs(
                    connection, job_id=job_id, active=active, since=since, until=until, submitted=submitted,
                    before=before, limit=limit + 1,
                )  # fmt: skip

            owners: dict[int, str | None] = {}

            def allowed(run: Run) -> bool:
                if run.job_id is not None and run.job_id not in owners:
                    owners[run.job_id] = _owner(connection, run)
                return allows(principal, Act.SEE, run.securable(owners.get(run.job_id or 0)))

            return visible(more, allowed, page_token, limit)

    def tasks_of(self, runs: Sequence[Run]) -> dict[int, tuple[TaskRun, ...]]:
        """The task runs of runs that one was shown."""
        with self._database.read() as connection:
            tasks = store.tasks_of(connection, *(run.id for run in runs))
        return {run.id: tuple(task for task in tasks if task.run_id == run.id) for run in runs}

    def told_about(self, principal: Principal, run_id: int) -> Sequence[Delivery]:
        """What became of the notifications of a run, the newest first. Raises NotFound."""
        with self._database.read() as connection:
            run = self._run(connection, principal, Act.SEE, run_id)
            return told_about(connection, notices.about(run.id))

    def output(self, principal: Principal, task_run_id: int) -> Output:
        """What a task run printed; the id of a run of one task will do. Raises NotFound, InvalidArgument."""
        shown = self.get_run(principal, task_run_id)
        if shown.run.id == task_run_id:
            latest = [*current(shown.tasks).values()]
            if len(latest) != 1:
                raise InvalidArgument(f"Run {task_run_id} has {len(latest)} tasks; give the run_id of one of them.")
            task = latest[0]
        else:
            task = shown.tasks[0]
        return self._outputs.of(shown, task)

    def notebook(self, principal: Principal, task_run_id: int) -> dict[str, Any]:
        """The notebook that a task ran, with the outputs that it has by now, as nbformat has it.

        Raises NotFound, InvalidArgument for a task that is none.
        """
        output = self.output(principal, task_run_id)
        found = self._outputs.kept(output.task, "notebook.ipynb")
        if found is None:
            raise InvalidArgument(
                f"Task run {task_run_id} has no notebook, or it has not begun; it is exported as one."
            )
        return found

    def artifacts(self, principal: Principal, task_run_id: int) -> bytes:
        """What dbt left in a task, as a tar with gzip. Raises NotFound."""
        task = self.output(principal, task_run_id).task
        found = self._outputs.artifacts(task)
        if found is None:
            raise NotFound(f"Task run {task_run_id} has no artifacts of dbt, or has not ended.")
        return found

    def cancel(self, principal: Principal, run_id: int) -> None:
        """Ask a run to end; what it has running is killed. Harmless for one that has ended. Raises NotFound."""
        with self._database.write() as connection:
            task = store.find_task(connection, run_id)
            run = self._run(connection, principal, Act.USE, task.run_id if task else run_id)
            self._cancel(connection, principal, run)
        self._moved(run.id)

    def cancel_all(self, principal: Principal, job_id: int, *, queued_only: bool = False) -> None:
        """Ask all runs of a job to end, or those that wait for their turn."""
        with self._database.write() as connection:
            _checked(principal, Act.USE, job_id, store.find_job(connection, job_id))
            runs = store.open_runs(connection, job_id=job_id)
            runs = [run for run in runs if run.state is State.QUEUED or not queued_only]
            for run in runs:
                self._cancel(connection, principal, run)
        self._moved(*(run.id for run in runs))

    def _cancel(self, connection: Connection, principal: Principal, run: Run) -> None:
        if run.state is not State.ENDED:
            store.change_run(connection, run.id, cancelled=True, due_at=utc_now())
            acts.changed(connection, principal.name, "cancel", "job run", str(run.id), object_id=str(run.id))

    def delete_run(self, principal: Principal, run_id: int) -> None:
        """Delete a run that has ended. Raises FailedPrecondition."""
        with self._database.write() as connection:
            run = self._run(connection, principal, Act.MANAGE, run_id, lock=True)
            if run.state is not State.ENDED:
                raise FailedPrecondition(f"Run {run_id} has not ended; cancel it first.")
            gone = remove_runs(connection, [run.id])
            acts.changed(connection, principal.name, "delete", "job run", str(run.id), object_id=str(run.id))
        self._outputs.forget(gone)

    def repair(
        self,
        principal: Principal,
        run_id: int,
        *,
        tasks: Sequence[str] | None,
        all_failed: bool,
        dependents: bool,
        latest_repair_id: int | None = None,
        parameters: Mapping[str, str] | None = None,
        python_params: Sequence[str] | None = None,
        notebook_params: Mapping[str, str] | None = None,
        python_named_params: Mapping[str, str] | None = None,
        sql_params: Mapping[str, str] | None = None,
        pipeline_params: Mapping[str, Any] | None = None,
        dbt_commands: Sequence[str] | None = None,
    ) -> int:
        """Run tasks of a run that has ended again, and what depends on them; returns the repair's id.

        Raises FailedPrecondition for a run that goes on, InvalidArgument for tasks and parameters that are none.
        """
        now = utc_now()
        given = {Kind.NOTEBOOK: notebook_params, Kind.WHEEL: python_named_params, Kind.SQL: sql_params,
                 Kind.PIPELINE: pipeline_params}  # fmt: skip
        listed = {Kind.PYTHON: python_params, Kind.WHEEL: python_params, Kind.DBT: dbt_commands}
        with self._database.write() as connection:
            run = self._run(connection, principal, Act.USE, run_id, lock=True)
            securable = run.securable(_owner(connection, run))
            _check_given(principal, run.run_as, securable, dbt_commands, pipeline_params)
            if run.pipeline_id is not None:
                raise FailedPrecondition(f"Run {run_id} is an update of a pipeline; start another update instead.")
            if run.state is not State.ENDED or run.result is Result.TOO_MANY:
                raise FailedPrecondition(f"Run {run_id} cannot be repaired: it goes on, or was never begun.")
            if run.repairs and latest_repair_id != run.repairs[-1]["id"]:
                raise InvalidArgument(f"latest_repair_id of run {run_id} is {run.repairs[-1]['id']}.")
            specs, now_of = specs_of(run.settings), current(store.tasks_of(connection, run.id, lock=True))
            if unknown := sorted(set(tasks or ()) - set(now_of)):
                raise InvalidArgument(f"Run {run_id} has no task '{unknown[0][:60]}'.")
            asked_parameters(run.settings, parameters or {})
            again = repaired(specs, now_of, None if all_failed else tasks, dependents=dependents or all_failed)
            if not again:
                raise InvalidArgument(f"No task of run {run_id} is to be run again.")
            made = [attempt(run.id, spec, attempt=now_of[spec.key].attempt + 1) for spec in specs if spec.key in again]
            store.add_tasks(connection, made)
            repair_id = store.new_number()
            told = {"id": repair_id, "start_ms": epoch_ms(now), "tasks": [task.id for task in made]}
            store.change_run(
                connection, run.id, state=State.RUNNING, result=Result.NONE, message="", cancelled=False,
                started_at=now, ended_at=None, due_at=now, repairs=[*run.repairs, told], slow_told=False,
                parameters={**run.parameters, **(parameters or {})},
                settings=asked_settings(run.settings, listed, given, None, of=again),
            )  # fmt: skip
            acts.changed(connection, principal.name, "repair", "job run", str(run.id), object_id=str(run.id))
        self._moved(run.id)
        return repair_id

    # -- parts ------------------------------------------------------------------------------------------------------

    def _run(self, connection: Connection, principal: Principal, act: Act, run_id: int, *, lock: bool = False) -> Run:
        run = store.find_run(connection, run_id, lock=lock)
        if run is None or not allows(principal, Act.SEE, securable := run.securable(_owner(connection, run))):
            if run is not None:
                admits(principal, act, securable)
            raise NotFound(f"Run {run_id} does not exist.")
        require(principal, act, securable)
        return run


def _owner(connection: Connection, run: Run) -> str | None:
    job = None if run.job_id is None else store.find_job(connection, run.job_id)
    return job.creator if job else None


def _checked(principal: Principal, act: Act, job_id: int, job: Job | None) -> Job:
    """The job, if it exists and the principal may; the same NotFound for what is not there and not theirs."""
    if job is None:
        raise NotFound(f"Job '{job_id}' does not exist.")
    require(principal, act, job.securable)
    return job


def _check_given(
    principal: Principal, run_as: str, securable: Securable, commands: Sequence[str] | None,
    pipeline_params: Mapping[str, Any] | None,
) -> None:  # fmt: skip
    """Other commands of dbt are other code, with the rights of whom the job runs as, and parameters of a pipeline may
    be. Raises PermissionDenied."""
    is_code = commands or (pipeline_params or {}).get("parameters")
    require(principal, Act.MANAGE if is_code and principal.name != run_as else Act.USE, securable)


def _levels(access: Sequence[grants.Change], job: Job) -> list[grants.Change]:
    """Changes that give one level in place of those before; that its owner owns it needs none."""
    every = frozenset(levels("job"))
    said = (Privilege.IS_OWNER, job.creator)
    return [replace(each, remove=every) for each in access if said != (*each.add, each.grantee)]


def _find_securable(connection: Connection, job_id: str) -> Securable:
    job = store.find_job(connection, int(job_id)) if job_id.isdecimal() and len(job_id) < 19 else None
    if job is None:
        raise NotFound(f"Job '{job_id[:40]}' does not exist.")
    return job.securable


def _give(connection: Connection, job_id: str, name: str) -> None:
    store.change_job(connection, int(job_id), creator=name)


def _without(settings: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """Settings without a field, or without the task, environment or cluster with a key (`tasks/KEY`)."""
    field, *rest = path
    if not rest:
        return {name: value for name, value in settings.items() if name != field}
    keys = ("task_key", "environment_key", "job_cluster_key")
    return {**settings, field: [each for each in settings.get(field, ()) if rest[0] not in map(each.get, keys)]}
