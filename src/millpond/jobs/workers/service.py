"""What workers may do with tasks, and administrators with workers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import IO

from sqlalchemy import Connection

from millpond import __version__
from millpond.billing.domain import Resource, Used
from millpond.identity import acts
from millpond.identity.access import require_admin
from millpond.identity.domain import WORKER, Principal, checked_text
from millpond.jobs import leases
from millpond.jobs import store as job_store
from millpond.jobs.domain import Place, Result, TaskRun
from millpond.jobs.launching import Launcher
from millpond.jobs.runtime import Given, Runtime
from millpond.jobs.task_files import KEPT, LARGEST_KEPT, Ended
from millpond.jobs.workers import store, travel
from millpond.jobs.workers.domain import COMES, LOG, LONGEST_PART, MOST_LOG_BYTES, PYTHON, Worker
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied

LOST = "LOST"
_SEEN_EVERY = 0.1
"""After this share of a lease it is written anew; a worker that relies on its beats ends its task well before."""
_MOST_IN_USE = {Resource.CPU: 1024.0, Resource.MEMORY: 16384.0, Resource.GPU: 64.0}
"""Cores, GiB and GPUs."""
_KEPT = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class SparkDoor:
    """Where a server speaks Spark Connect, on its own host."""

    port: int
    tls: bool


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A worker that says that it is there."""

    id: str
    name: str
    slots: int
    version: str
    python: str
    address: str


class WorkerService:
    """Tasks for workers, and what became of them."""

    def __init__(
        self, database: Database, launcher: Launcher, runtime: Runtime, *, lease: timedelta, spark: SparkDoor
    ) -> None:
        self._database = database
        self._launcher = launcher
        self._runtime = runtime
        self.lease = lease
        self.spark = spark

    @property
    def changes(self) -> int:
        """Another number than before where there may be a task to claim."""
        return self._runtime.changes

    # -- for workers ----------------------------------------------------------------------------------------------

    def register(self, principal: Principal, arrival: Arrival) -> Worker:
        """Note a worker that has begun; what it held in an earlier life is lost.

        Raises PermissionDenied, and FailedPrecondition for one that is not of our kind.
        """
        _require_worker(principal)
        if (arrival.version, arrival.python) != (__version__, PYTHON):
            raise FailedPrecondition(
                f"Worker '{arrival.name[:100]}' has Millpond {arrival.version[:20]} on Python {arrival.python[:20]}; "
                f"this server has {__version__} on {PYTHON}, and so must its workers."
            )
        now = utc_now()
        worker = Worker(
            id=arrival.id, name=checked_text(arrival.name, "name of a worker", 100), account=principal.name,
            slots=arrival.slots, version=arrival.version, address=arrival.address[:64], draining=False, came_at=now,
            seen_at=now,
        )  # fmt: skip
        with self._database.write() as connection:
            known = store.find(connection, worker.id, lock=True)
            if known is not None and known.account != principal.name:
                acts.denied(principal, "register", "worker", known.name)
                raise PermissionDenied(f"Worker '{worker.id}' is of another account.")
            store.put(connection, worker)
            store.remove_unseen(connection, now - _KEPT)
            held = self._taken_over(connection, worker.id)
            acts.changed(
                connection, principal.name, "register", "worker", worker.name, object_id=worker.id, slots=worker.slots
            )
        self._runtime.end_of_worker(held, _ended(worker))
        return worker

    def claim(self, principal: Principal, worker_id: str, lease: str) -> tuple[TaskRun | None, Worker]:
        """A task that waits, if there is one, held under a lease that the worker has made up; the same task again for
        the same lease. Raises NotFound, PermissionDenied."""
        with self._database.read() as connection:
            worker = _known(principal, store.find(connection, worker_id), worker_id)
            held = leases.of_lease(connection, lease)
            if held is not None and held.worker == worker_id:
                return held, worker
            if held is not None or worker.draining or not leases.any_waits(connection, (Place.ANYWHERE,)):
                return None, worker
        with self._runtime.turn() as full, self._database.write() as connection:
            now = utc_now()  # after the others' turns
            worker = _known(principal, store.find(connection, worker_id, lock=True), worker_id)
            task = leases.of_lease(connection, lease)
            if task is not None:  # it was asked for twice at the same time
                return (task if task.worker == worker_id else None), worker
            if not worker.draining:
                task = leases.claim(
                    connection, now, lease, now + self.lease, places=(Place.ANYWHERE,), worker=worker_id,
                    machine=worker.name, but=full,
                )  # fmt: skip
            if task is not None:
                acts.changed(
                    connection, principal.name, "claim", "task run", str(task.id), object_id=str(task.id),
                    worker=worker.name, run_id=task.run_id, task_key=task.key,
                )  # fmt: skip
        return task, worker

    def heard(self, principal: Principal, worker_id: str, held: Sequence[str]) -> tuple[dict[str, str], Worker]:
        """A worker lives, and holds some leases: for each why its task is to end, if it is. Raises NotFound."""
        now, seen_every = utc_now(), _SEEN_EVERY * self.lease
        with self._database.read() as connection:
            worker = _known(principal, store.find(connection, worker_id), worker_id)
            mine = {task.lease: task for task in leases.of_worker(connection, worker_id)}
            ends = {
                lease: job_store.wants_end(connection, mine[lease].run_id, now).value if lease in mine else LOST
                for lease in held
            }
        old = [
            task
            for lease in held
            if (task := mine.get(lease)) and (task.leased_until or now) < now + self.lease - seen_every
        ]
        if old or now - worker.seen_at > seen_every:
            with self._database.write() as connection:
                store.change(connection, worker_id, seen_at=now)
                for task in old:
                    if not leases.write_held(connection, task.id, task.lease, leased_until=now + self.lease):
                        ends[task.lease] = LOST
        return ends, worker

    def code(self, principal: Principal, worker_id: str, lease: str) -> IO[bytes]:
        """The archive of a task that the worker holds. Blocks.

        Raises Conflict where it is lost, and where it cannot be run, so that it has failed.
        """
        with self._database.read() as connection:
            task = _held(connection, principal, worker_id, lease)
        made = self._runtime.outcome(task, self._packed)
        if isinstance(made, Ended):
            self._runtime.settle(task, made)
            raise Conflict(f"Task run {task.id} cannot be run: {made.message}")
        return made

    def _packed(self, given: Given) -> IO[bytes]:
        with self._launcher.files.aside(given.task.id) as directory:
            order = self._launcher.prepare(given.run, given.spec, given.task, given.values, directory)
            return travel.packed(directory, order)

    def begin(self, principal: Principal, worker_id: str, lease: str) -> None:
        """The code of a task is about to begin, after this. Raises Conflict."""
        now = utc_now()
        with self._database.write() as connection:
            task = _held(connection, principal, worker_id, lease)
            began = {"began_at": task.began_at or now, "leased_until": now + self.lease}
            if not leases.write_held(connection, task.id, lease, **began):
                raise _lost(task.id)

    def tell(
        self, principal: Principal, worker_id: str, lease: str, name: str, start: int, data: bytes, *,
        more: bool = False,
    ) -> int:  # fmt: skip
        """Keep bytes of what a task has printed, or left under a name; where the next of them begin. Bytes that were
        told before are passed over; what is no log begins anew at 0, and is seen once no `more` of it are to come.
        Raises Conflict, InvalidArgument."""
        if name != LOG and name not in KEPT:
            raise InvalidArgument(f"Tasks leave {', '.join((LOG, *KEPT))}, not '{name[:40]}'.")
        most = MOST_LOG_BYTES if name == LOG else LARGEST_KEPT
        if not 0 < len(data) <= LONGEST_PART or not 0 <= start <= most - len(data):
            raise InvalidArgument(f"1 to {LONGEST_PART:,} bytes are told at once, of {name} {most:,} in all.")
        with self._database.write() as connection:
            task = _held(connection, principal, worker_id, lease)
            place = name if name == LOG else name + COMES
            size = store.size_of(connection, task.id, place)
            if start > size:
                raise InvalidArgument(f"{name} of task run {task.id} has {size:,} bytes; what is next begins there.")
            if start < size and (start > 0 or name == LOG):
                return size
            if not leases.write_held(connection, task.id, lease, lease=lease):  # which nobody takes meanwhile
                raise _lost(task.id)
            store.add_part(connection, task.id, place, start, data)
            if place != name and not more:
                store.rename(connection, task.id, place, name)
        return start + len(data)

    def end(self, principal: Principal, worker_id: str, lease: str, ended: Ended) -> None:
        """Write how a task ended. Raises Conflict where somebody else has it by now."""
        with self._database.read() as connection:
            task = _held(connection, principal, worker_id, lease)
        if ended.result is Result.SUCCESS and task.began_at is None:
            raise Conflict(f"The code of task run {task.id} has not begun, so it has not succeeded.")
        if not self._runtime.settle(task, replace(ended, used=_bounded(task, ended.used))):
            raise _lost(task.id)

    def give_back(self, principal: Principal, worker_id: str, lease: str) -> None:
        """Let others do a task. Raises Conflict, also where its code has begun."""
        with self._database.read() as connection:
            task = _held(connection, principal, worker_id, lease)
        if not self._runtime.give_back(task):
            raise _lost(task.id)

    def leave(self, principal: Principal, worker_id: str) -> None:
        """Forget a worker that ends. Raises NotFound."""
        with self._database.write() as connection:
            worker = _known(principal, store.find(connection, worker_id), worker_id)
            store.remove(connection, worker_id)
            held = self._taken_over(connection, worker_id)
            acts.changed(connection, principal.name, "leave", "worker", worker.name, object_id=worker.id)
        self._runtime.end_of_worker(held, _ended(worker))

    def _taken_over(self, connection: Connection, worker_id: str) -> list[TaskRun]:
        """What a worker held, and holds no more; whatever it still says of it does not count."""
        until = utc_now() + self.lease
        held = [leases.take_over(connection, task, until) for task in leases.of_worker(connection, worker_id)]
        return [task for task in held if task is not None]

    # -- for administrators ---------------------------------------------------------------------------------------

    def list_all(self, principal: Principal) -> list[tuple[Worker, int]]:
        """All workers, with how many tasks each has."""
        require_admin(principal, "see workers")
        with self._database.read() as connection:
            return store.every(connection)

    def is_heard_of(self, worker: Worker) -> bool:
        """Whether a worker has said lately that it lives."""
        return utc_now() - worker.seen_at < self.lease

    def drain(self, principal: Principal, worker_id: str) -> None:
        """Have a worker finish what it has, take no more, and end. Raises NotFound."""
        require_admin(principal, "drain workers")
        with self._database.write() as connection:
            worker = _there(store.find(connection, worker_id, lock=True), worker_id)
            store.change(connection, worker_id, draining=True)
            acts.changed(connection, principal.name, "drain", "worker", worker.name, object_id=worker.id)

    def remove(self, principal: Principal, worker_id: str) -> None:
        """Take its tasks from a worker at once; it ends when it hears of it. Raises NotFound."""
        require_admin(principal, "remove workers")
        with self._database.write() as connection:
            worker = _there(store.find(connection, worker_id, lock=True), worker_id)
            store.remove(connection, worker_id)
            held = self._taken_over(connection, worker_id)
            acts.changed(connection, principal.name, "remove", "worker", worker.name, object_id=worker.id)
        self._runtime.end_of_worker(held, _ended(worker))


def _require_worker(principal: Principal) -> None:
    if not principal.is_worker:
        acts.denied(principal, "register", "worker", principal.name)
        raise PermissionDenied(f"{principal.name} is no worker: its account has not the entitlement {WORKER}.")


def _there(worker: Worker | None, worker_id: str) -> Worker:
    if worker is None:
        raise NotFound(f"There is no worker '{worker_id[:40]}'; it was removed, or has ended.")
    return worker


def _known(principal: Principal, worker: Worker | None, worker_id: str) -> Worker:
    """The worker that the principal is; the same answer for what is not there and not theirs."""
    _require_worker(principal)
    if worker is not None and worker.account != principal.name:
        acts.denied(principal, "be", "worker", worker.name)
        worker = None
    return _there(worker, worker_id)


def _held(connection: Connection, principal: Principal, worker_id: str, lease: str) -> TaskRun:
    """The task that a worker holds. Raises Conflict."""
    worker = _known(principal, store.find(connection, worker_id), worker_id)
    task = leases.of_lease(connection, lease)
    if task is None or task.worker != worker.id:
        raise Conflict(f"Worker {worker.name} does not hold this task; what it says of it does not count.")
    return task


def _bounded(task: TaskRun, used: Used) -> Used:
    """What a task can have used at most since its code began, on the largest of machines, whatever its worker says."""
    if task.began_at is None:
        return {}
    elapsed_s = (utc_now() - task.began_at).total_seconds()
    return {resource: min(amount, _MOST_IN_USE[resource] * elapsed_s) for resource, amount in used.items()}


def _ended(worker: Worker) -> str:
    return f"Worker {worker.name} ended while the task ran."


def _lost(task_id: int) -> Conflict:
    return Conflict(f"Task run {task_id} is not held under this lease any more, or has begun.")
