"""What is kept of tasks on workers, what becomes of them, and how their files travel."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from millpond import __version__
from millpond.billing.domain import Holder, Measure, Period, Resource
from millpond.billing.metering import Meter
from millpond.billing.store.usage import usage
from millpond.identity.domain import WORKER_PATHS, Principal, PrincipalKind
from millpond.jobs import leases, store
from millpond.jobs.carrying import Order
from millpond.jobs.costs import TaskCosts
from millpond.jobs.domain import Kind, Place, Result, State, TaskRun, TaskSpec
from millpond.jobs.logs import lines_with, part
from millpond.jobs.outputs import Outputs
from millpond.jobs.runtime import Runtime
from millpond.jobs.settings import checked
from millpond.jobs.starting import submit
from millpond.jobs.task_files import Ended, TaskFiles
from millpond.jobs.workers import store as worker_store
from millpond.jobs.workers import travel
from millpond.jobs.workers.domain import PYTHON
from millpond.jobs.workers.service import Arrival, SparkDoor, WorkerService
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import Conflict
from tests.billing.free import quotas_of
from tests.jobs.servers_of import launcher_in, runtime_of

ME = Principal(id="1", name="workers", kind=PrincipalKind.SERVICE_PRINCIPAL, is_admin=False, paths=WORKER_PATHS)
ROOT = Principal(id="2", name="root", kind=PrincipalKind.USER, is_admin=True)
LEASE = timedelta(seconds=10)
ARRIVAL = Arrival(id="w", name="w", slots=1, version=__version__, python=PYTHON, address="")


def waiting(database: Database, run_as: str = "a", **more: Any) -> int:
    """The run of a task that waits for a process."""
    tasks = [{"task_key": "a", "spark_python_task": {"python_file": "/Volumes/a/b/c/s.py"}, **more}]
    with database.write() as connection:
        return submit(connection, checked({"tasks": tasks}), creator=run_as, run_as=run_as, now=utc_now(), token=None)


def task_of(database: Database, run_id: int) -> TaskRun:
    with database.read() as connection:
        return store.tasks_of(connection, run_id)[-1]


@pytest.fixture
def runtime(database: Database, tmp_path: Path) -> Runtime:
    return runtime_of(database, launcher_in(tmp_path))


@pytest.fixture
def workers(database: Database, tmp_path: Path, runtime: Runtime) -> WorkerService:
    """With one worker, `w`."""
    made = WorkerService(database, launcher_in(tmp_path), runtime, lease=LEASE, spark=SparkDoor(port=1, tls=False))
    made.register(ME, ARRIVAL)
    return made


@pytest.mark.parametrize(
    ("begins", "state", "result"), [(False, State.QUEUED, Result.NONE), (True, State.ENDED, Result.FAILED)]
)
def test_a_worker_that_comes_back_has_lost_what_it_held(
    database: Database, runtime: Runtime, workers: WorkerService, begins: bool, state: State, result: Result
) -> None:
    run_id = waiting(database)
    runtime.moved(run_id)
    task, _ = workers.claim(ME, "w", "lease")
    assert task is not None
    assert task.machine == "w"
    assert workers.claim(ME, "w", "other")[0] is None
    assert [running for _, running in _all(database)] == [1]
    if begins:
        workers.begin(ME, "w", "lease")
    workers.register(ME, ARRIVAL)
    found = task_of(database, run_id)
    assert (found.state, found.result) == (state, result)
    assert found.machine == ("w" if begins else "")
    with pytest.raises(Conflict):
        workers.begin(ME, "w", "lease")
    with pytest.raises(Conflict):
        workers.tell(ME, "w", "lease", "log", 0, b"x")


def test_what_a_worker_says_that_a_task_used_counts_once_and_within_reason(database: Database, tmp_path: Path) -> None:
    launcher = launcher_in(tmp_path)
    runtime = runtime_of(database, launcher)
    workers = WorkerService(database, launcher, runtime, lease=LEASE, spark=SparkDoor(port=1, tls=False))
    workers.register(ME, Arrival(id="w", name="w", slots=1, version=__version__, python=PYTHON, address=""))
    told = Ended(result=Result.FAILED, used={Resource.CPU: 0.25, Resource.MEMORY: 1e30, Resource.GPU: 0})
    for begins in (True, False):
        runtime.moved(waiting(database))
        workers.claim(ME, "w", "lease")
        if begins:
            workers.begin(ME, "w", "lease")
        workers.end(ME, "w", "lease", told)
        with pytest.raises(Conflict):
            workers.end(ME, "w", "lease", told)
    with database.read() as connection:
        found = {row.resource: row for row in connection.execute(select(usage))}
    assert set(found) == {"CPU", "MEMORY"}
    assert found["CPU"].quantity == 0.25
    assert (found["CPU"].sku, found["CPU"].run_as) == ("JOBS_CPU", "a")
    assert 0 < found["MEMORY"].quantity < 16384 * 600


def test_a_quota_refuses_a_task_that_a_worker_asks_for(database: Database, tmp_path: Path) -> None:
    quotas = quotas_of(database)
    quotas.create(ROOT, holder=Holder.USER, name="a", measure=Measure.CPU, limit=0, period=Period.DAY)
    costs = TaskCosts(database, Meter(database), quotas, lambda name: replace(ROOT, name=name))
    launcher = launcher_in(tmp_path)
    runtime = runtime_of(database, launcher, costs=costs)
    workers = WorkerService(database, launcher, runtime, lease=LEASE, spark=SparkDoor(port=1, tls=False))
    workers.register(ME, Arrival(id="w", name="w", slots=1, version=__version__, python=PYTHON, address=""))
    run_id = waiting(database)
    runtime.moved(run_id)
    workers.claim(ME, "w", "lease")
    with pytest.raises(Conflict, match="cpu_seconds per day of user a"):
        workers.code(ME, "w", "lease")
    found = task_of(database, run_id)
    assert (found.state, found.result) == (State.ENDED, Result.FAILED)
    assert "Quota exceeded" in found.message


def test_a_task_that_begins_while_it_is_taken_for_lost_goes_on(
    database: Database, runtime: Runtime, workers: WorkerService, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = waiting(database)
    runtime.moved(run_id)
    workers.claim(ME, "w", "lease")
    with database.write() as connection:
        leases.write_held(
            connection, task_of(database, run_id).id, "lease", leased_until=utc_now() - timedelta(seconds=1)
        )
    real = leases.lost

    def late(*given: Any) -> list[TaskRun]:
        found = real(*given)
        workers.heard(ME, "w", ["lease"])  # it is back
        workers.begin(ME, "w", "lease")
        return found

    monkeypatch.setattr(leases, "lost", late)
    runtime.round()
    found = task_of(database, run_id)
    assert (found.state, found.lease, found.began_at is None) == (State.RUNNING, "lease", False)
    with pytest.raises(Conflict):  # though whoever asks has read that it had not
        workers.give_back(ME, "w", "lease")
    assert not runtime.give_back(replace(found, began_at=None))
    assert task_of(database, run_id).state is State.RUNNING


def test_a_lease_that_is_asked_for_twice_at_once_holds_one_task(
    database: Database, runtime: Runtime, workers: WorkerService, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [waiting(database) for _ in range(2)]
    runtime.moved(*runs)
    real, first = leases.any_waits, []

    def late(*given: Any) -> bool:
        monkeypatch.setattr(leases, "any_waits", real)
        first.append(workers.claim(ME, "w", "lease")[0])
        return real(*given)

    monkeypatch.setattr(leases, "any_waits", late)
    second, _ = workers.claim(ME, "w", "lease")
    assert second is not None
    assert [second.id] == [task and task.id for task in first]
    other = task_of(database, runs[1])
    assert other.state is State.QUEUED
    with pytest.raises(IntegrityError), database.write() as connection:
        leases.claim(connection, utc_now(), "lease", utc_now() + LEASE, places=[Place.ANYWHERE], worker="v")


def test_a_registration_that_comes_late_leaves_what_was_claimed_since(
    database: Database, runtime: Runtime, workers: WorkerService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker waited no longer, has registered again, and claims."""
    run_id = waiting(database)
    runtime.moved(run_id)
    real = runtime.end_of_worker

    def late(*given: Any) -> None:
        monkeypatch.setattr(runtime, "end_of_worker", real)
        workers.register(ME, ARRIVAL)
        workers.claim(ME, "w", "lease")
        workers.begin(ME, "w", "lease")
        real(*given)

    monkeypatch.setattr(runtime, "end_of_worker", late)
    workers.register(ME, ARRIVAL)
    assert (task_of(database, run_id).state, task_of(database, run_id).lease) == (State.RUNNING, "lease")


def _all(database: Database) -> list[tuple[object, int]]:
    with database.read() as connection:
        return [*worker_store.every(connection)]


def test_a_worker_takes_what_it_can_run_and_a_server_what_is_ready(database: Database) -> None:
    """SQL, and what runs on a cluster, is not for workers; what waits for its cluster is for nobody."""
    now = utc_now()
    places = dict(enumerate(Place, 1))
    with database.write() as connection:
        made = [
            TaskRun(id=number, run_id=1, key="a", state=State.QUEUED, place=place) for number, place in places.items()
        ]
        store.add_tasks(connection, made)
        taken = [
            leases.claim(connection, now, f"w{n}", now + LEASE, places=[Place.ANYWHERE], worker="w") for n in (1, 2)
        ]
        assert [each and each.place for each in taken] == [Place.ANYWHERE, None]
        own = (Place.ANYWHERE, Place.SERVER, Place.CLUSTER)
        rest = [leases.claim(connection, now, f"s{n}", now + LEASE, places=own, server="s") for n in range(3)]
        assert [each and each.place for each in rest] == [Place.SERVER, Place.CLUSTER, None]
        ready, _ = leases.assigned(connection, 10)
        last = leases.claim(connection, now, "s9", now + LEASE, places=(), ready=[ready], server="s")
        assert last is not None
        assert last.place is Place.ASSIGNED


def test_who_may_run_a_task_is_said_of_each_kind() -> None:
    """A worker has no engine of SQL, and evaluates no alert."""
    places = {kind: TaskSpec(key="a", kind=kind).place for kind in Kind if kind.has_process}
    assert {kind for kind, place in places.items() if place is Place.SERVER} == {Kind.SQL, Kind.ALERT}
    assert set(places.values()) == {Place.SERVER, Place.ANYWHERE}


def test_a_log_in_parts_is_read_as_one_in_a_file(database: Database, tmp_path: Path) -> None:
    text = "".join(f"line {number} ü\n" for number in range(1000)).encode()
    with database.write() as connection:
        for start in range(0, len(text), 700):
            worker_store.add_part(connection, 7, "log", start, text[start : start + 700])
    outputs = Outputs(database, TaskFiles(tmp_path), "here")
    task = TaskRun(id=7, run_id=1, key="a", worker="w", state=State.ENDED)
    log = outputs.log(task)
    assert log.size() == len(text)
    assert outputs.end_of_log(task) == (text.decode(), False)
    assert part(log, 0, 100, whole=True).text == text[-100:].decode(errors="replace")
    assert [line.number for line in lines_with(log, "LINE 77", 1 << 20)] == [78, *range(771, 781)]
    outputs.forget([7])
    assert outputs.log(task).size() == 0


def test_what_a_task_leaves_is_seen_whole_or_as_it_was(
    database: Database, tmp_path: Path, runtime: Runtime, workers: WorkerService
) -> None:
    run_id = waiting(database)
    runtime.moved(run_id)
    workers.claim(ME, "w", "lease")
    outputs = Outputs(database, TaskFiles(tmp_path), "here")

    def seen() -> Any:
        return outputs.kept(task_of(database, run_id), "output.json")

    def tell(start: int, data: bytes, *, more: bool = False) -> int:
        return workers.tell(ME, "w", "lease", "output.json", start, data, more=more)

    assert tell(0, b'{"a": 1}') == 8
    assert seen() == {"a": 1}
    assert [tell(0, b'{"a"', more=True), tell(0, b'{"b"', more=True)] == [4, 4]
    assert seen() == {"a": 1}
    assert tell(4, b": 2}") == 8
    assert seen() == {"b": 2}


def test_a_task_travels_with_its_files_and_finds_them_where_it_comes(tmp_path: Path) -> None:
    before, after = tmp_path / "before" / "7.aside-x", tmp_path / "after" / "7"
    (before / "script").mkdir(parents=True)
    after.mkdir(parents=True)
    (before / "script" / "s.py").write_text("print(1)")
    (before / "link").symlink_to("/etc/passwd")
    argv = [str(before / "stays"), "file:///x"]
    code = {"script": str(before / "script" / "s.py"), "argv": argv, "wheels": [str(before / "wheel-0" / "a.whl")],
            "beside": [str(before)], "path": f"file:{before}/repository/n.ipynb", "parameters": {}}  # fmt: skip
    order = Order(
        code=code, own=[], more=["x"], notebook=False, token="t", context={}, memory_bytes=1, file_bytes=1,
        timeout_s=1.0,
    )  # fmt: skip
    with travel.packed(before, order) as archive:
        moved = travel.unpacked(archive, after)
    assert moved.code == {
        "script": str(after / "script" / "s.py"), "argv": argv, "wheels": [str(after / "wheel-0" / "a.whl")],
        "beside": [str(after)], "path": f"file:{after}/repository/n.ipynb", "parameters": {},
    }  # fmt: skip
    assert (after / "script" / "s.py").read_text() == "print(1)"
    assert sorted(each.name for each in after.iterdir()) == ["script"]
