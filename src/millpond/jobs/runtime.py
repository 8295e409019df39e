"""What goes on while a server runs: tasks get processes, runs move on, schedules fire, and what was lost is found."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from socket import gethostname
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from millpond.billing.metering import record
from millpond.compute.job_clusters import WasEnded
from millpond.jobs import leases, notices, store
from millpond.jobs.advancing import Advancer
from millpond.jobs.carrying import Stop
from millpond.jobs.costs import TaskCosts, subject_of
from millpond.jobs.domain import Job, Place, Result, Run, State, TaskRun, TaskSpec
from millpond.jobs.launching import Launcher
from millpond.jobs.outputs import Outputs
from millpond.jobs.planning import current, spec_of
from millpond.jobs.record import attempt_ended, fire
from millpond.jobs.removing import remove_runs
from millpond.jobs.schedule import MOST_FAILURES, next_fire, pause_after
from millpond.jobs.settings import specs_of
from millpond.jobs.task_files import Ended
from millpond.jobs.triggers import RUN_TRIGGERS, When
from millpond.kernel.clock import epoch_ms, utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import MillpondError, NotFound
from millpond.kernel.ids import new_id
from millpond.kernel.logs import get_logger
from millpond.kernel.rounds import rounds

_LEASE = timedelta(seconds=20)
_RENEW_S = 4.0
_OTHERS_GRACE = timedelta(seconds=40)
"""So long after its lease another server on the database is waited for, as it knows best what became of its tasks."""
_ROUND_S = 0.5
_END_S = 10.0
_MOST_DUE = 500
"""Runs that one round looks at."""
_MOST_OLD = 100
_MOST_LEFT = 1000
_TIDY_S = 600.0
_OWN = (Place.SERVER, Place.CLUSTER)
_LEAST_AT_ONCE = 4
"""So many tasks that only a server can do are done at once where it does no others."""
_PAUSE = timedelta(minutes=1)
"""So long what went wrong is left alone, and all else goes on."""

T = TypeVar("T")

log = get_logger(__name__)


class Runtime:
    """Carries jobs on. Several servers on one PostgreSQL may do so at once."""

    def __init__(
        self, database: Database, advancer: Advancer, launcher: Launcher, outputs: Outputs, costs: TaskCosts, *,
        at_once: int, kept: timedelta,
    ) -> None:  # fmt: skip
        """Of what workers can do as well, it does nothing itself where `at_once` is 0."""
        self._database = database
        self._advancer = advancer
        self._launcher = launcher
        self._outputs = outputs
        self._costs = costs
        self.turn = costs.turn
        self._at_once = at_once or _LEAST_AT_ONCE
        self._places = (Place.ANYWHERE, *_OWN) if at_once else _OWN
        self._ready: list[int] = []
        """Tasks that wait for nothing any more but for us, as their clusters run here."""
        self._server = launcher.server
        self._kept = kept
        self.changes = 0
        """Grows when there may be something to do."""
        self._stopped = threading.Event()
        self._work = threading.Condition()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Carry jobs on while the block runs."""
        self._stopped.clear()
        self._launcher.files.clear_asides()
        with self._database.write() as connection:
            leases.release_all(connection, utc_now(), self._server)  # of this directory there is one server
            store.all_due(connection, utc_now())
        threads = [
            threading.Thread(target=self._take_tasks, name=f"task-{number}", daemon=True)
            for number in range(self._at_once)
        ]
        for thread in threads:
            thread.start()
        moving = rounds(self.round, name="jobs", interval_s=_ROUND_S, log=log, failure="jobs were not moved on")
        with moving, rounds(self.tidy, name="old-jobs", interval_s=_TIDY_S, log=log, failure="old runs were kept"):
            try:
                yield
            finally:
                self._stopped.set()
                self._wake()
                for thread in threads:
                    thread.join(_END_S)
                self._launcher.carrier.close()

    def round(self) -> None:
        """Fire what is due, find what was lost, and move all runs on."""
        now = utc_now()
        self._fire(now)
        with self._database.read() as connection:
            lost = leases.lost(connection, now, self._server, now - _OTHERS_GRACE)
        for task in lost:
            try:
                self._recover(task, now)
            except Exception as error:  # the boundary of a work item, which is held so long that it is left alone
                log.error("a lost task was not settled", run=task.run_id, task=task.key, exc_info=error)
        with self._database.read() as connection:
            due = store.due_runs(connection, now, _MOST_DUE)
            assigned = leases.assigned(connection, _MOST_DUE)
        for run_id in due:
            self._advance(run_id)
        settled: Collection[str] = ()
        if assigned:
            self._launcher.clusters.keep(assigned.values())
            settled = self._launcher.clusters.settled(assigned.values())
        self._ready = [task_id for task_id, cluster_id in assigned.items() if cluster_id in settled]
        with self._database.read() as connection:
            waiting = leases.any_waits(connection, (Place.ANYWHERE, *_OWN), self._ready)
        if waiting:  # perhaps for a process, since another server died
            self._wake()

    def _fire(self, now: datetime) -> None:
        """Start a run of each job whose time has come: once, also for times that passed while no server ran."""
        with self._database.read() as connection:
            if not store.due_jobs(connection, now, watching=False):
                return
        with self._database.write() as connection:
            for job in store.due_jobs(connection, now, watching=False, lock=True):
                try:
                    with connection.begin_nested():
                        (_go_on if job.trigger_kind == When.CONTINUOUS else _fire_once)(connection, job, now)
                except Exception as error:  # the boundary of a work item
                    log.error("a job was not started", job=job.id, exc_info=error)
                    store.change_job(connection, job.id, next_fire_at=now + _PAUSE)

    def tidy(self) -> None:
        """Remove runs of long ago with what they printed, so many at once that nobody waits for it."""
        before, found = utc_now() - self._kept, [0]
        while found and not self._stopped.is_set():
            with self._database.write() as connection:
                found = store.old_runs(connection, before, _MOST_OLD)
                gone = remove_runs(connection, found) if found else []
            self._outputs.forget(gone)
        self._sweep()

    def _sweep(self) -> None:
        """Remove files of tasks that have ended, where a server was killed before it did so."""
        left = self._launcher.files.directories()[:_MOST_LEFT]
        with self._database.read() as connection:
            still = store.not_ended(connection, left)
        for task_id in set(left) - still:
            self._launcher.files.forget(task_id)

    def moved(self, *run_ids: int) -> None:
        """Move runs on, now that something became of them, and others with them."""
        for run_id in run_ids:
            self._advance(run_id)

    def _advance(self, run_id: int) -> None:
        waiting = [run_id]
        while waiting:
            waiting += self._advance_one(waiting.pop())
        self._wake()

    def _advance_one(self, run_id: int) -> tuple[int, ...]:
        """Move a run on; where that fails, it is tried again after a pause, and the others do not wait for it."""
        try:
            return self._advancer.advance(run_id, utc_now())
        except Exception as error:  # the boundary of a work item
            log.error("a run was not moved on", run=run_id, exc_info=error)
        with self._database.write() as connection:
            store.change_run(connection, run_id, due_at=utc_now() + _PAUSE)
        return ()

    def _wake(self) -> None:
        with self._work:
            self.changes += 1
            self._work.notify_all()

    # -- tasks --------------------------------------------------------------------------------------------------------

    def _take_tasks(self) -> None:
        while not self._stopped.is_set():
            try:
                if self._take_one():
                    continue
            except Exception as error:  # the boundary of a work item
                log.error("a task could not be carried out", exc_info=error)
            with self._work:
                if not self._stopped.is_set():
                    self._work.wait()  # each round wakes who waits, while a task waits

    def _take_one(self) -> bool:
        """Carry out the task that has waited longest; whether there was one."""
        ready = self._ready
        with self._database.read() as connection:
            if not leases.any_waits(connection, self._places, ready):
                return False
        with self.turn() as full, self._database.write() as connection:
            now = utc_now()  # after the others' turns
            task = leases.claim(
                connection, now, new_id(), now + _LEASE, places=self._places, ready=ready, server=self._server,
                machine=gethostname(), but=full,
            )  # fmt: skip
        if task is None:
            return False
        self._carry_out(task)
        return True

    def _carry_out(self, task: TaskRun) -> None:
        def renew() -> None:
            with self._database.write() as connection:
                leases.write_held(connection, task.id, task.lease, leased_until=utc_now() + _LEASE)

        def stop() -> Result | None:
            with self._database.read() as connection:
                held = store.find_task(connection, task.id)
                why = store.wants_end(connection, task.run_id, utc_now())
            ours = held is not None and held.lease == task.lease and held.state is State.RUNNING
            return why if ours and not self._stopped.is_set() else None

        renewing = rounds(renew, name="task-lease", interval_s=_RENEW_S, log=log, failure="a lease was not renewed")
        telling = rounds(
            lambda: self._outputs.tell(task), name="task-output", interval_s=_RENEW_S, log=log,
            failure="other servers were not told what a task has printed",
        )  # fmt: skip
        with renewing:  # also while all is told that it left
            with telling:
                ended = self.outcome(task, lambda given: self._run(given, stop))
            if ended is not None:
                self.settle(task, ended)

    def _run(self, given: "Given", stop: Stop) -> Ended | None:
        task, spec = given.task, given.spec
        if spec.cluster is None:
            return self._launcher.run(given.run, spec, task, given.values, stop=stop)
        if not task.place.has_cluster:
            cluster_id, started = self._launcher.assign(given.run, spec, task)
            self._put_off(task, Place.STARTED if started else Place.ASSIGNED, cluster_id)
            return None
        if task.cluster_id not in self._launcher.clusters.settled([task.cluster_id]):
            self._put_off(task, task.place, task.cluster_id)
            return None
        try:
            return self._launcher.run(given.run, spec, task, given.values, stop=stop)
        except WasEnded:  # meanwhile, or was about to when it was assigned
            if task.place is Place.STARTED:
                raise
            self._put_off(task, Place.CLUSTER, task.cluster_id)
            return None

    def _put_off(self, task: TaskRun, place: Place, cluster_id: str) -> None:
        """Keep nobody busy with a task whose cluster does not run yet."""
        told = f"Waits for cluster {cluster_id}."
        with self._database.write() as connection:
            leases.give_back(connection, task, place=place, cluster_id=cluster_id, message=told)

    def outcome(self, task: TaskRun, act: Callable[["Given"], T]) -> T | Ended:
        """What comes of an act for a task that one holds; how the task has ended, where it cannot be done."""
        try:
            given = self._given(task)
            self._costs.check(given.run.run_as, given.run.settings)
            return act(given)
        except MillpondError as error:
            return Ended(result=Result.FAILED, message=error.message)
        except OSError as error:
            return Ended(result=Result.FAILED, message=f"The task could not be started: {error.strerror}.")
        except Exception as error:  # the boundary of a work item
            log.error("a task could not be started", run=task.run_id, task=task.key, exc_info=error)
            return Ended(result=Result.FAILED, message="The task could not be started; the server's log says why.")

    def _given(self, task: TaskRun) -> "Given":
        with self._database.read() as connection:
            run = store.find_run(connection, task.run_id)
            others = store.tasks_of(connection, task.run_id)
        if run is None:
            raise NotFound(f"Run {task.run_id} is gone.")
        if (slow_at := notices.task_slow_at(run, task)) is not None:
            with self._database.write() as connection:
                store.look_by(connection, run.id, slow_at)
        values = {key: dict(each.task_values) for key, each in current(others).items() if each.task_values}
        return Given(run=run, task=task, spec=spec_of(task, specs_of(run.settings), others), values=values)

    def settle(self, task: TaskRun, ended: Ended) -> bool:
        """Write how a task ended; False where somebody else has it by now, and nothing is written."""
        files = self._launcher.files
        if not task.worker:
            files.keep(task.id)
            self._tell_all(task)
        began_at = task.began_at if task.worker else files.began_at(task.id, task.started_at)
        with self._database.write() as connection:
            store.change_run(
                connection, task.run_id, due_at=utc_now()
            )  # before the task, as its run's lock comes first
            held = leases.end(
                connection, task, state=State.ENDED, result=ended.result, message=ended.message,
                error=ended.error, task_values=dict(ended.values), began_at=began_at,
                ended_at=utc_now(), leased_until=None,
            )  # fmt: skip
            run = store.find_run(connection, task.run_id) if held else None
            if run is not None:
                record(connection, utc_now(), [(subject_of(run, task), ended.used)])
                attempt_ended(connection, run, task, ended.result, ended.message)
        if held:  # else whoever has it by now needs them
            files.forget(task.id)
        self._advance(task.run_id)
        return held

    def _tell_all(self, task: TaskRun) -> None:
        try:
            self._outputs.tell(task, last=True)
        except SQLAlchemyError as error:  # it stays in this server's files
            log.warning("other servers were not told all that a task has left", task=task.id, exc_info=error)

    def give_back(self, task: TaskRun) -> bool:
        """Let others do a task whose code has not begun; False where somebody else has it by now."""
        with self._database.write() as connection:
            anew = {"place": Place.CLUSTER} if task.place.has_cluster else {}
            held = leases.give_back(connection, task, **anew)
        self._wake()
        return held

    def _recover(self, lost: TaskRun, now: datetime) -> None:
        """A task whose server or worker was killed: its process is dead too. What never began is done by somebody else.

        Whether it began a worker has said before; a server has written it in its directory, so of another server's task
        nobody can know."""
        with self._database.write() as connection:
            task = leases.take_over(connection, lost, now + _PAUSE, lapsed=now)
        if task is None:
            return
        if task.worker:
            self.end_of_worker([task], "The worker that ran the task is gone.")
            return
        if task.server not in ("", self._server):
            gone = Ended(result=Result.FAILED, message="The server that ran the task is gone.")
            self.settle(task, gone)
            return
        told = self._launcher.files.told(task.id)
        if told is None and not self._launcher.files.began(task.id):
            self.give_back(task)
            return
        self.settle(task, told or Ended(result=Result.FAILED, message="The server ended while the task ran."))

    def end_of_worker(self, taken: Iterable[TaskRun], message: str) -> None:
        """Tasks that were taken over from a worker: one that has begun has failed, another is done by somebody else."""
        for task in taken:
            if task.began_at is None:
                self.give_back(task)
            else:
                self.settle(task, Ended(result=Result.FAILED, message=message))


@dataclass(frozen=True, kw_only=True)
class Given:
    """A task that somebody holds, and what it is part of."""

    run: Run
    task: TaskRun
    spec: TaskSpec
    values: Mapping[str, Mapping[str, Any]]
    """Of tasks before it."""


def _fire_once(connection: Connection, job: Job, now: datetime) -> None:
    """A run by the clock; the time is in its token, so that nobody starts another one for it."""
    assert job.next_fire_at is not None
    token = f"fire:{job.id}:{epoch_ms(job.next_fire_at)}"
    trigger = RUN_TRIGGERS[When(job.trigger_kind)]
    fire(connection, job, trigger, now, token)
    after = next_fire(job.settings, job.next_fire_at)
    late = after is not None and after <= now
    store.change_job(connection, job.id, next_fire_at=next_fire(job.settings, now) if late else after)


def _go_on(connection: Connection, job: Job, now: datetime) -> None:
    """The next run of a continuous job that has none, unless those before it failed just now."""
    runs = store.last_runs(connection, job.id, MOST_FAILURES)
    last_id, _, ended_at = runs[0] if runs else (0, Result.NONE, None)
    due = now if ended_at is None else ended_at + pause_after([result for _, result, _ in runs])
    if due > now:
        store.change_job(connection, job.id, next_fire_at=due)
        return
    trigger = RUN_TRIGGERS[When.CONTINUOUS]
    fire(connection, job, trigger, now, f"after:{job.id}:{last_id}")
