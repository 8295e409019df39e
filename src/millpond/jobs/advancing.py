"""Does what `planning` says can be done, under a lock on the run, until nothing is left to do."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from millpond.identity.access import Act, allows
from millpond.identity.domain import Principal
from millpond.jobs import notices, store
from millpond.jobs.domain import MOST_DEPTH, Kind, Result, Run, State, TaskRun, TaskSpec
from millpond.jobs.notices import slow_at
from millpond.jobs.planning import Begin, End, Finish, Retry, Step, Watch, current, plan, spec_of
from millpond.jobs.ports import Updates
from millpond.jobs.record import attempt_began, attempt_ended
from millpond.jobs.references import Look, holds, looking, resolved
from millpond.jobs.settings import specs_of
from millpond.jobs.starting import attempt, start
from millpond.kernel.clock import epoch_ms
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, MillpondError, NotFound
from millpond.kernel.storable import storable

_LONGEST_UNSEEN = timedelta(minutes=1)
"""Whatever becomes of a run says so; this is for who was killed before."""
_CHILDREN_UNSEEN = timedelta(seconds=5)
_BREATH = timedelta(seconds=5)
"""Before what could not begin is tried again, which else may be for ever, within one transaction."""
MOST_ITERATIONS = 5000
"""Source: Databricks' limit of a For each task."""


class Advancer:
    """Moves runs on. Several processes may do so at once."""

    def __init__(
        self, database: Database, principal_named: Callable[[str], Principal], updates: Callable[[], Updates]
    ) -> None:
        self._database = database
        self._principal_named = principal_named
        self._updates = updates

    def advance(self, run_id: int, now: datetime) -> tuple[int, ...]:
        """Move a run on as far as it goes now; the ids of other runs that may go on by that."""
        with self._database.read() as connection:
            seen = store.find_run(connection, run_id)
        if seen is None:
            return ()
        with self._database.write() as connection:
            if seen.state is State.ENDED:
                store.rest(connection, run_id)
                return ()
            if seen.state is State.QUEUED and not _admit(connection, seen, now):
                store.change_run(connection, run_id, due_at=now + _LONGEST_UNSEEN)
                return ()
            run = store.find_run(connection, run_id, lock=True)
            if run is None or run.state is not State.RUNNING:
                return ()
            go = _Going(connection, run, self._principal_named, self._updates, now)
            while go.step():
                pass
            go.warn()
            store.change_run(connection, run_id, due_at=go.due_at())
            return tuple(go.others)


def _admit(connection: Connection, seen: Run, now: datetime) -> bool:
    """Let a run that waits begin, where its job has room. The job's lock comes first, as where runs are started."""
    job = store.find_job(connection, seen.job_id or 0, lock=True)
    run = store.find_run(connection, seen.id, lock=True)
    if run is None or run.state is not State.QUEUED:
        return run is not None
    if not run.cancelled and job is not None:
        full = store.count_running(connection, job.id) >= job.most_runs
        if full or store.first_queued(connection, job.id) != run.id:
            return False
    gone = {"cancelled": True} if job is None else {}
    store.change_run(connection, run.id, state=State.RUNNING, started_at=now, message="", **gone)
    if job is not None and not run.cancelled:
        notices.run_began(connection, run)
    return True


@dataclass
class _Going:
    """One run, locked, and what it is made of."""

    connection: Connection
    run: Run
    principal_named: Callable[[str], Principal]
    updates: Callable[[], Updates]
    now: datetime

    def __post_init__(self) -> None:
        self.specs = specs_of(self.run.settings)
        self.tasks = store.tasks_of(self.connection, self.run.id, lock=True)
        self.others: set[int] = set()
        self.holds_pipeline = False
        """Then it takes no further locks, as others take theirs in another order, and another transaction goes on."""

    def step(self) -> bool:
        """Do all that can be done at once; whether there was something."""
        done = False
        for step in plan(self.run, self.specs, self.tasks, self.now):
            done |= self._do(step)
            if self.holds_pipeline:
                self.others.add(self.run.id)
                return False
        return done

    def warn(self) -> None:
        """Tell whoever wants to know that the run or a task of it takes longer than expected, once."""
        run = self.run
        if run.state is State.RUNNING and not run.slow_told and _past(slow_at(run.settings, run.started_at), self.now):
            notices.slow_run(self.connection, run)
            store.change_run(self.connection, run.id, slow_told=True)
            self.run = replace(run, slow_told=True)
        for task in self._unwarned():
            if _past(notices.task_slow_at(run, task), self.now):
                notices.slow_task(self.connection, run, task)
                store.told_slow(self.connection, task.id)
                self.tasks = [replace(each, slow_told=True) if each.id == task.id else each for each in self.tasks]

    def _unwarned(self) -> list[TaskRun]:
        return [task for task in self.tasks if task.state is State.RUNNING and not task.slow_told]

    def _slow_at(self) -> list[datetime | None]:
        run = [] if self.run.slow_told else [slow_at(self.run.settings, self.run.started_at)]
        return [*run, *(notices.task_slow_at(self.run, task) for task in self._unwarned())]

    def due_at(self) -> datetime | None:
        """When to look again, if nothing becomes of the run before: a retry's time, a deadline, and now and then."""
        if self.run.state is State.ENDED:
            return None
        if self.holds_pipeline:
            return self.now
        known = [
            self.run.deadline,
            *self._slow_at(),
            *(task.due_at for task in self.tasks if task.state is State.WAITING),
        ]
        if any(task.child_run_id is not None and not task.ended for task in self.tasks):
            known.append(self.now + _CHILDREN_UNSEEN)
        return min([self.now + _LONGEST_UNSEEN, *(each for each in known if each is not None and each > self.now)])

    def _do(self, step: Step) -> bool:
        match step:
            case Begin(task=task):
                self._begin(task)
            case End(task=task, result=result, message=message):
                self._end(task, result, message)
            case Retry(task=task, due_at=due_at):
                self._again(task, due_at)
            case Watch(task=task):
                return self._watch(task)
            case Finish(result=result, message=message):
                self._finish(result, message)
        return True

    def _put(self, task: TaskRun, **changes: Any) -> None:
        changed = replace(task, **changes)
        store.put_task(self.connection, changed)
        self.tasks = [changed if each.id == task.id else each for each in self.tasks]

    def _add(self, made: Sequence[TaskRun]) -> None:
        store.add_tasks(self.connection, made)
        self.tasks += made

    def _end(self, task: TaskRun, result: Result, message: str = "", **more: Any) -> None:
        ended = {"state": State.ENDED, "result": result, "message": message, "ended_at": self.now}
        attempt_ended(self.connection, self.run, task, result, message)
        self._put(task, **{**ended, "started_at": task.started_at or self.now, **more})

    def _again(self, task: TaskRun, due_at: datetime) -> None:
        if task.started_at == task.ended_at:  # it could not begin
            due_at = max(due_at, self.now + _BREATH)
        again = attempt(
            self.run.id, self._spec(task), attempt=task.attempt + 1, retry=task.retry + 1, state=State.WAITING,
            due_at=due_at, parent_id=task.parent_id, iteration=task.iteration, input=task.input,
        )  # fmt: skip
        self._add([again])

    def _finish(self, result: Result, message: str) -> None:
        ended = {"state": State.ENDED, "result": result, "message": message, "ended_at": self.now}
        store.change_run(self.connection, self.run.id, **ended)
        notices.run_ended(self.connection, self.run, result, message)
        if self.run.pipeline_id is not None:
            self.updates().ended(self.connection, self.run, result, message or self._failure())
        self.run = replace(self.run, state=State.ENDED)
        if self.run.parent_run_id is not None:
            self.others.add(self.run.parent_run_id)
        if self.run.job_id is not None:
            waiting = store.first_queued(self.connection, self.run.job_id)
            self.others |= set() if waiting is None else {waiting}

    def _failure(self) -> str:
        """What the last attempt at a task that failed says."""
        failed = (task for task in current(self.tasks).values() if task.result in (Result.FAILED, Result.TIMED_OUT))
        return next((task.message for task in failed), "")

    def _spec(self, task: TaskRun) -> TaskSpec:
        return spec_of(task, self.specs, self.tasks)

    # -- a task's turn ----------------------------------------------------------------------------------------------

    def _begin(self, task: TaskRun) -> None:
        spec = self._spec(task)
        attempt_began(self.connection, self.run, task)
        try:
            order = resolved(spec.body, self._look(task))
            match spec.kind:
                case kind if kind.has_process:
                    self._put(task, state=State.QUEUED, order=order, place=spec.place)
                case Kind.CONDITION:
                    met = holds(order["op"], order["left"], order["right"])
                    self._end(task, Result.SUCCESS, order=order, outcome="true" if met else "false")
                case Kind.FOR_EACH:
                    self._spread(task, spec, order)
                case Kind.RUN_JOB | Kind.PIPELINE:
                    child, told = self._start_child(spec.kind, order)
                    order |= told
                    self._put(task, state=State.RUNNING, order=order, child_run_id=child, started_at=self.now)
                    self.others.add(child)
        except MillpondError as error:
            self._end(task, Result.FAILED, error.message)

    def _spread(self, task: TaskRun, spec: TaskSpec, order: dict[str, Any]) -> None:
        try:
            inputs = storable(json.loads(order["inputs"]))
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"inputs of '{task.key}' are not JSON: {order['inputs'][:80]}") from error
        if not isinstance(inputs, list) or len(inputs) > MOST_ITERATIONS:
            raise InvalidArgument(f"inputs of '{task.key}' are not a JSON array of at most {MOST_ITERATIONS} items.")
        assert spec.nested is not None
        self._put(task, state=State.RUNNING, order=order, started_at=self.now)
        self._add([
            attempt(self.run.id, spec.nested, parent_id=task.id, iteration=number, input=item)
            for number, item in enumerate(inputs)
        ])  # fmt: skip

    def _start_child(self, kind: Kind, order: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """A run of another job, or an update of a pipeline, that whoever this run runs as may start; and what is to be
        known of it besides."""
        if self.run.depth >= MOST_DEPTH:
            raise InvalidArgument(f"Runs start runs at most {MOST_DEPTH} deep.")
        if kind is Kind.PIPELINE:
            self.holds_pipeline = True
            run_id, update_id = self.updates().begin(self.connection, self.run, order)
            return run_id, {"update_id": update_id}
        job = store.find_job(self.connection, order["job_id"], lock=True)
        if job is None or not allows(self.principal_named(self.run.run_as), Act.USE, job.securable):
            raise NotFound(f"Job '{order['job_id']}' does not exist, or {self.run.run_as} may not run it.")
        parameters = {name: str(value) for name, value in order["job_parameters"].items()}
        run_id = start(
            self.connection, job, creator=self.run.run_as, trigger="RUN_JOB_TASK", now=self.now,
            parameters=parameters, parent=self.run,
        )  # fmt: skip
        return run_id, {}

    def _watch(self, task: TaskRun) -> bool:
        child = store.find_run(self.connection, task.child_run_id or 0)
        if child is None:
            self._end(task, Result.FAILED, f"Run {task.child_run_id} was deleted.")
            return True
        stop = self.run.stopping(self.now) or self._overdue(task)
        if child.state is State.ENDED:
            good = child.result in (Result.SUCCESS, Result.SUCCESS_WITH_FAILURES)
            result = stop or (Result.SUCCESS if good else Result.FAILED)
            self._end(task, result, "" if good else f"Run {child.id} ended with {child.result}.")
            return True
        if stop and not child.cancelled:
            store.change_run(self.connection, child.id, cancelled=True, due_at=self.now)
            self.others.add(child.id)
        return False

    def _overdue(self, task: TaskRun) -> Result:
        timeout_s = self._spec(task).timeout_s
        late = timeout_s and task.started_at and (self.now - task.started_at).total_seconds() > timeout_s
        return Result.TIMED_OUT if late else Result.NONE

    def _look(self, task: TaskRun) -> Look:
        now_of, names = current(self.tasks), _names(self.run, task)
        return looking(
            names,
            resolved(self.run.parameters, names.get),
            {key: each.task_values for key, each in now_of.items()},
            {key: each.result.value for key, each in now_of.items() if each.ended},
            task.input,
        )


def _past(moment: datetime | None, now: datetime) -> bool:
    return moment is not None and moment <= now


def _names(run: Run, task: TaskRun) -> dict[str, str]:
    began = run.started_at or run.created_at
    job_id = str(run.job_id or 0)
    return {
        "job.id": job_id,
        "job.name": run.name,
        "job.run_id": str(run.id),
        "job.repair_count": str(len(run.repairs)),
        "job.start_time.iso_date": f"{began:%Y-%m-%d}",
        "job.start_time.iso_datetime": f"{began:%Y-%m-%dT%H:%M:%S}",
        "job.start_time.timestamp_ms": str(epoch_ms(began)),
        "job.start_time.year": f"{began:%Y}",
        "job.start_time.month": f"{began:%m}",
        "job.start_time.day": f"{began:%d}",
        "job.trigger.type": run.trigger.lower(),
        **{f"job.trigger.{name}": text for name, text in run.told.items()},
        "task.name": task.key,
        "task.run_id": str(task.id),
        "task.execution_count": str(task.attempt + 1),
        "job_id": job_id,
        "run_id": str(run.id),
        "task_key": task.key,
        "start_date": f"{began:%Y-%m-%d}",
    }
