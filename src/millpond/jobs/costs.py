"""What tasks use, and the quotas that bind whom they run as."""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from millpond.billing.domain import Measure, Product, Subject, Used
from millpond.billing.metering import Looks, Meter, Tracked
from millpond.billing.quotas import QuotaService
from millpond.identity.domain import Principal
from millpond.jobs import store
from millpond.jobs.domain import Run, TaskRun
from millpond.kernel.database import Database
from millpond.kernel.errors import MillpondError
from millpond.kernel.process import Child

_FIRST_LOOK_S, _LOOKS_APART_S = 0.2, 15.0


@dataclass(kw_only=True)
class TaskMeter:
    """Looks at one task's processes: often at first, as most tasks are short."""

    looks: Looks
    subject: Subject
    task_id: int
    used: Used = field(default_factory=dict)
    """What they used and is not written yet, once they have ended."""
    _pause_s: float = _FIRST_LOOK_S
    _next_s: float = field(default_factory=lambda: time.monotonic() + _FIRST_LOOK_S)

    def look(self, child: Child) -> None:
        """Look, if it is time to."""
        if time.monotonic() < self._next_s:
            return
        self.looks.look(Tracked(key=self.task_id, subject=self.subject, pids=(child.pid,)))
        self._pause_s = min(2 * self._pause_s, _LOOKS_APART_S)
        self._next_s = time.monotonic() + self._pause_s

    def end(self, child: Child) -> None:
        """They have ended."""
        self.used = self.looks.finish(self.task_id, child.spent_s)


class TaskCosts:
    """Meters tasks, and asks quotas before they begin."""

    def __init__(
        self, database: Database, meter: Meter, quotas: QuotaService, principal_named: Callable[[str], Principal]
    ) -> None:
        self._meter = meter
        self._database = database
        self._quotas = quotas
        self._principal_named = principal_named
        self._turns = threading.Lock()

    def check(self, run_as: str, settings: Mapping[str, Any], *, more: int = 0) -> None:
        """Pass where whom tasks run as may use more, and have so many more tasks at once. Raises LimitExceeded."""
        tasks = {Measure.TASKS: (self._running, float(more))} if more else {}
        self._quotas.check(self._principal_named(run_as), tags=settings.get("tags"), now=tasks)

    @contextmanager
    def turn(self) -> Iterator[Collection[str]]:
        """Whose tasks are to wait, as they have as many at once as they may. While the block runs no other task of a
        quota is claimed on this server."""
        if not self._quotas.bound(Measure.TASKS):
            yield ()
            return
        with self._turns:
            with self._database.read() as connection:
                names = store.whose_tasks_wait(connection)
            yield [name for name in names if self._has_all(name)]

    def _has_all(self, name: str) -> bool:
        try:
            principal = self._principal_named(name)
        except MillpondError:  # then its tasks fail, with the reason
            return False
        return not self._quotas.admits(principal, Measure.TASKS, self._running, 1.0)

    def of_task(self, run: Run, task: TaskRun) -> TaskMeter:
        """The meter of a task's process on this server."""
        return TaskMeter(looks=self._meter, subject=subject_of(run, task), task_id=task.id)

    def note(self, meter: TaskMeter) -> None:
        """A task's process has ended, and how the task did is not ours to write."""
        self._meter.note(meter.subject, meter.used)

    def _running(self, names: Collection[str]) -> float:
        with self._database.read() as connection:
            return float(store.count_running_tasks(connection, names))


def subject_of(run: Run, task: TaskRun) -> Subject:
    """Whose a task's usage is, and of what; on a cluster it is part of what that is charged for."""
    return Subject(
        product=Product.JOBS, run_as=run.run_as, kind="job" if run.pipeline_id is None else "pipeline",
        object_id=run.pipeline_id or str(run.job_id or ""), object_name=run.name,
        run_id=run.id, cluster_id=task.cluster_id, tags=Subject.tagged(run.settings.get("tags")),
        included=bool(task.cluster_id),
    )  # fmt: skip
