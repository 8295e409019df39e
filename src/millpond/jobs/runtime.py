"""What goes on while a server runs: tasks get processes, runs move on, schedules fire, and what was lost is found."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import Connection

from millpond.billing.metering import record
from millpond.jobs import notices, store
from millpond.jobs.advancing import Advancer
from millpond.jobs.costs import TaskCosts
from millpond.jobs.domain import Job, Result, Run, State, TaskRun
from millpond.jobs.launching import Ended, Launcher
from millpond.jobs.planning import current, spec_of
from millpond.jobs.record import attempt_ended, fire
from millpond.jobs.schedule import MOST_FAILURES, next_fire, pause_after
from millpond.jobs.settings import specs_of
from millpond.jobs.triggers import RUN_TRIGGERS, When
from millpond.kernel.clock import epoch_ms, utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import MillpondError
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
_PAUSE = timedelta(minutes=1)
"""So long what went wrong is left alone, and all else goes on."""

log = get_logger(__name__)


class Runtime:
    """Carries jobs on. Several servers on one PostgreSQL may do so at once."""

    def __init__(
        self, database: Database, advancer: Advancer, launcher: Launcher, costs: TaskCosts, *, at_once: int,
        server: str, kept: timedelta,
    ) -> None:  # fmt: skip
        self._database = database
        self._advancer = advancer
        self._launcher = launcher
        self._costs = costs
        self._at_once = at_once
        self._server = server
        self._kept = kept
        self._stopped = threading.Event()
        self._work = threading.Condition()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Carry jobs on while the block runs."""
        self._stopped.clear()
        with self._database.write() as connection:
            store.release_all(connection, utc_now(), self._server)  # of this directory there is one server
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
                self._launcher.close()

    def round(self) -> None:
        """Fire what is due, find what was lost, and move all runs on."""
        now = utc_now()
        self._fire(now)
        with self._database.read() as connection:
            lost = store.lost(connection, now, self._server, now - _OTHERS_GRACE)
        for task in lost:
            try:
                self._recover(task)
            except Exception as error:  # the boundary of a work item
                log.error("a lost task was not settled", run=task.run_id, task=task.key, exc_info=error)
                with self._database.write() as connection:
                    store.write_held(connection, task.id, task.lease, leased_until=now + _PAUSE)
        with self._database.read() as connection:
            due = store.due_runs(connection, now, _MOST_DUE)
            waiting = store.any_queued(connection)
        for run_id in due:
            self._advance(run_id)
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
                gone = [task.id for task in store.tasks_of(connection, *found)]
                for run_id in found:
                    store.delete_run(connection, run_id)
            for task_id in gone:
                self._launcher.forget_log(task_id)
        self._sweep()

    def _sweep(self) -> None:
        """Remove files of tasks that have ended, where a server was killed before it did so."""
        left = self._launcher.directories()[:_MOST_LEFT]
        with self._database.read() as connection:
            still = store.not_ended(connection, left)
        for task_id in set(left) - still:
            self._launcher.forget(task_id)

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
        with self._database.read() as connection:
            if not store.any_queued(connection):
                return False
        now = utc_now()
        with self._database.write() as connection:
            task = store.claim(connection, now, new_id(), now + _LEASE, self._server)
        if task is None:
            return False
        with self._database.read() as connection:
            run = store.find_run(connection, task.run_id)
            others = store.tasks_of(connection, task.run_id)
        if run is not None:
            if (slow_at := notices.task_slow_at(run, task)) is not None:
                with self._database.write() as connection:
                    store.look_by(connection, run.id, slow_at)
            self._carry_out(run, task, others)
        return True

    def _carry_out(self, run: Run, task: TaskRun, others: list[TaskRun]) -> None:
        def renew() -> None:
            with self._database.write() as connection:
                store.write_held(connection, task.id, task.lease, leased_until=utc_now() + _LEASE)

        def stop() -> Result | None:
            with self._database.read() as connection:
                held = store.find_task(connection, task.id)
                why = store.wants_end(connection, run.id, utc_now())
            ours = held is not None and held.lease == task.lease and held.state is State.RUNNING
            return why if ours and not self._stopped.is_set() else None

        def placed(cluster_id: str) -> None:
            with self._database.write() as connection:
                store.write_held(connection, task.id, task.lease, cluster_id=cluster_id)

        values = {key: dict(each.task_values) for key, each in current(others).items() if each.task_values}
        renewing = rounds(renew, name="task-lease", interval_s=_RENEW_S, log=log, failure="a lease was not renewed")
        with renewing:
            try:
                self._costs.check(run.run_as, run.settings, more=0)
                spec = spec_of(task, specs_of(run.settings), others)
                ended = self._launcher.run(run, spec, task, values, stop=stop, placed=placed)
            except MillpondError as error:
                ended = Ended(result=Result.FAILED, message=error.message)
            except OSError as error:
                ended = Ended(result=Result.FAILED, message=f"The task could not be started: {error.strerror}.")
            except Exception as error:  # the boundary of a work item
                log.error("a task could not be started", run=run.id, task=task.key, exc_info=error)
                ended = Ended(result=Result.FAILED, message="The task could not be started; the server's log says why.")
        if ended is not None:
            self._settle(task, ended)

    def _settle(self, task: TaskRun, ended: Ended) -> None:
        """Write how a task ended, unless somebody else has it by now."""
        self._launcher.keep(task)
        with self._database.write() as connection:
            store.change_run(
                connection, task.run_id, due_at=utc_now()
            )  # before the task, as its run's lock comes first
            held = store.write_held(
                connection, task.id, task.lease, state=State.ENDED, result=ended.result, message=ended.message,
                error=ended.error, task_values=dict(ended.values), began_at=self._launcher.began_at(task),
                ended_at=utc_now(), leased_until=None,
            )  # fmt: skip
            run = store.find_run(connection, task.run_id) if held else None
            if run is not None:
                record(connection, utc_now(), ended.used)
                attempt_ended(connection, run, task, ended.result, ended.message)
        self._launcher.forget(task.id)
        self._advance(task.run_id)

    def _recover(self, task: TaskRun) -> None:
        """A task whose server was killed: its process is dead too. What never began is done by somebody else.

        Whether it began is written in that server's directory, so of another server's task nobody can know."""
        if task.server not in ("", self._server):
            gone = Ended(result=Result.FAILED, message="The server that ran the task is gone.")
            self._settle(task, gone)
            return
        told = self._launcher.told(task)
        if told is None and not self._launcher.began(task):
            with self._database.write() as connection:
                again = {"state": State.QUEUED, "lease": "", "leased_until": None, "started_at": None}
                store.write_held(connection, task.id, task.lease, **again)
            self._wake()
            return
        lost = Ended(result=Result.FAILED, message="The server ended while the task ran.")
        self._settle(task, told or lost)


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
