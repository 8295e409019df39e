"""What tasks use, and the quotas that bind whom they run as."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from millpond.billing.domain import Measure, Product, Subject, Used
from millpond.billing.metering import Meter, Tracked
from millpond.billing.quotas import QuotaService
from millpond.compute.domain import Cluster
from millpond.identity.domain import Principal
from millpond.jobs import store
from millpond.jobs.domain import Run, TaskRun
from millpond.kernel.database import Database
from millpond.kernel.process import Child

_FIRST_LOOK_S, _LOOKS_APART_S = 0.5, 15.0


@dataclass(kw_only=True)
class TaskMeter:
    """Looks at one task's processes: often at first, as most tasks are short."""

    meter: Meter
    subject: Subject
    task_id: int
    child: Child
    _pause_s: float = _FIRST_LOOK_S
    _next_s: float = field(default_factory=lambda: time.monotonic() + _FIRST_LOOK_S)

    def look(self) -> None:
        """Look, if it is time to."""
        if time.monotonic() < self._next_s:
            return
        self.meter.look(Tracked(key=self.task_id, subject=self.subject, pids=(self.child.pid,)))
        self._pause_s = min(2 * self._pause_s, _LOOKS_APART_S)
        self._next_s = time.monotonic() + self._pause_s

    def rest(self) -> tuple[Subject, Used]:
        """What is not written yet of what the processes used, which have ended."""
        return self.subject, self.meter.finish(self.task_id, self.child.spent_s)


class TaskCosts:
    """Meters tasks, and asks quotas before they begin."""

    def __init__(
        self, database: Database, meter: Meter, quotas: QuotaService, principal_named: Callable[[str], Principal]
    ) -> None:
        self.meter = meter
        self._database = database
        self._quotas = quotas
        self._principal_named = principal_named

    def check(self, run_as: str, settings: Mapping[str, Any], *, more: int) -> None:
        """Pass where whom tasks run as may use more, and have so many more tasks at once. Raises LimitExceeded."""
        tasks = {Measure.TASKS: (self._running, float(more))}
        self._quotas.check(self._principal_named(run_as), tags=settings.get("tags"), now=tasks)

    def of_task(self, run: Run, task: TaskRun, child: Child, cluster: Cluster | None) -> TaskMeter:
        """The meter of a task's process; on a cluster it is part of what that is charged for."""
        subject = Subject(
            product=Product.JOBS, run_as=run.run_as, kind="job", object_id=str(run.job_id or ""), object_name=run.name,
            run_id=run.id, cluster_id=cluster.id if cluster else "", tags=Subject.tagged(run.settings.get("tags")),
            included=cluster is not None,
        )  # fmt: skip
        return TaskMeter(meter=self.meter, subject=subject, task_id=task.id, child=child)

    def _running(self, names: Collection[str]) -> float:
        with self._database.read() as connection:
            return float(store.count_running_tasks(connection, names))
