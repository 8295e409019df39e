"""What goes on while a server runs: clusters start, run and end as their rows say, and rows say what is true.

A state in a row is an order, which the server that owns the cluster carries out; how it went is written only where the
row still says the same. Processes die with their server, so at its start none of its clusters runs.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from millpond.compute.beside import Beside
from millpond.compute.clusters import ALIVE, forget, has_ended, order_end, pool_lacks, why_words
from millpond.compute.costs import SliceMeter
from millpond.compute.domain import Cluster, State, Why
from millpond.compute.drivers import Driver, Placement
from millpond.compute.interpreters import Interpreters
from millpond.compute.libraries import Installer
from millpond.compute.machine import Load, Machine, Size, choose_cores, observed, scaled
from millpond.compute.monitor import Monitor, Usage
from millpond.compute.pools import used_by
from millpond.compute.processes import cores_here
from millpond.compute.specs import shape_of
from millpond.compute.store import clusters as rows
from millpond.compute.store import contexts as context_rows
from millpond.compute.store import policies as pool_rows
from millpond.compute.versions import VERSIONS
from millpond.compute.warm import WarmDrivers
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.environments import Environments
from millpond.kernel.errors import FailedPrecondition, MillpondError, NotFound
from millpond.kernel.logs import get_logger
from millpond.kernel.process_usage import seen

_ROUND_S = 0.5
_QUIET_ROUND_S = 2.0
_LOOK_S = 1.0
_ALIVE_EVERY_S = 5.0
_GRACE = timedelta(seconds=30)
_TIDY_S = 300.0
_KEPT = timedelta(days=30)
"""Clusters that ended so long ago go, unless they are pinned. Source: Databricks' own time."""
_OF_JOBS_KEPT = timedelta(days=2)
_CONTEXTS_KEPT = timedelta(days=1)
_AT_ONCE = 8
_STARTING = (State.PENDING, State.RESTARTING)

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Given:
    """What clusters need of the rest of the server."""

    make_driver: Callable[[str], Driver]
    """A driver, by the name of its log."""
    log_of: Callable[[str], Path]
    """Where a driver writes, by the same name."""
    resolve: Callable[[str, Mapping[str, str]], tuple[dict[str, str], tuple[str, ...]]]
    """Texts with their secrets put in, with somebody's rights, and the secrets. Raises MillpondError."""
    environments: Environments
    directory: Path
    """Where files of clusters lie while they run."""
    run_is_over: Callable[[int], bool]
    """Whether a run of a job has ended."""
    slices: SliceMeter


class Runtime:
    """Carries clusters on."""

    def __init__(
        self, database: Database, *, server: str, machine: Machine, given: Given, interpreters: Interpreters,
        installer: Installer,
    ) -> None:  # fmt: skip
        self._database = database
        self._server = server
        self._machine = machine
        self._given = given
        self._interpreters = interpreters
        self._installer = installer
        self.warm = WarmDrivers(given.make_driver)
        self.monitor = Monitor(given.directory)
        self._drivers: dict[str, Driver] = {}
        self._places: dict[str, Placement] = {}
        self._used: dict[str, int] = {}
        self._sizes: dict[str, Size] = {}
        self._waiting: set[str] = set()
        """Clusters without room, of which nothing runs any more."""
        self._lock = threading.RLock()
        self._work = threading.Condition()
        self._woken = False
        self._stopped = threading.Event()
        self._beside = Beside(self._stopped)
        self._looked_s = self._alive_s = self._tidied_s = 0.0
        self._round_s = _ROUND_S

    # -- for others -----------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """There is something to do."""
        with self._work:
            self._woken = True
            self._work.notify_all()

    @contextmanager
    def place(self, cluster_id: str) -> Iterator[Placement]:
        """A place on a cluster that runs here, used while the block runs. Raises FailedPrecondition."""
        with self._lock:
            placement = self._places.get(cluster_id)
            if placement is None:
                raise FailedPrecondition(f"Cluster '{cluster_id}' does not run on this server.")
            self._used[cluster_id] = self._used.get(cluster_id, 0) + 1
        try:
            yield placement
        finally:
            with self._lock:
                self._used[cluster_id] -= 1
            with self._database.write() as connection:
                rows.use(connection, cluster_id, utc_now())

    def looks(self, cluster_id: str) -> tuple[Usage, ...]:
        """What a cluster that runs here has used lately."""
        return self.monitor.looks(cluster_id)

    # -- going on -------------------------------------------------------------------------------------------------

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Carry clusters on while the block runs."""
        self._given.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in self._given.directory.iterdir():
            self.monitor.end_engines(left.name)
            shutil.rmtree(left, ignore_errors=True)
        self._settle_what_was()
        starts = ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="cluster-start")
        others = ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="cluster")
        thread = threading.Thread(target=self._run, args=(starts, others), name="clusters", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            self.wake()
            thread.join(10)
            for pool in (starts, others):
                pool.shutdown(wait=False, cancel_futures=True)
            self.warm.close()
            for driver in list(self._drivers.values()):
                driver.close()

    def _settle_what_was(self) -> None:
        """No process of before lives. What was ordered is done yet, what ran has ended."""
        with self._database.write() as connection:
            for cluster in rows.at_work(connection, self._server):
                context_rows.end_all_of(connection, cluster.id, "The server was started anew.")
                if cluster.state in (State.RUNNING, State.RESIZING):
                    why = Why.CONTROL_PLANE_CONNECTION_FAILURE
                    order_end(connection, cluster, why, error_message="The server was started anew; start it again.")

    def _run(self, starts: ThreadPoolExecutor, others: ThreadPoolExecutor) -> None:
        while not self._stopped.is_set():
            try:
                self._round(starts, others)
            except Exception as error:  # the boundary of a work item
                log.error("clusters were not carried on", exc_info=error)
            with self._work:
                if not self._woken:
                    self._work.wait(self._round_s)
                self._woken = False

    def _round(self, starts: ThreadPoolExecutor, others: ThreadPoolExecutor) -> None:
        """`starts` are threads for what may take minutes; nothing else waits behind it."""
        now_s = time.monotonic()
        if now_s - self._alive_s > _ALIVE_EVERY_S:
            self._alive_s = now_s
            self._say_alive()
        with self._database.read() as connection:
            mine = rows.at_work(connection, self._server)
            pools = pool_rows.all_pools(connection)
        for cluster in mine:
            self._beside.do(starts if cluster.state in _STARTING else others, cluster.id, self._carry, cluster)
            if cluster.id in self._places:
                self._beside.do(starts, f"libraries of {cluster.id}", self._install, cluster)
        for cluster_id in set(self._drivers) - {each.id for each in mine}:  # another server has taken us for gone
            self._beside.do(others, cluster_id, self._let_go, cluster_id)
        self._interpreters.round(
            {each.id: self._places[each.id] for each in mine if each.id in self._places},
            lambda key, act, *given: self._beside.do(others, key, act, *given),
        )
        if pools or self.warm.any():
            self._beside.do(starts, "pools", self.warm.tend, pools, lambda each: self._used_of(each.id))
        self._round_s = _ROUND_S if mine or pools else _QUIET_ROUND_S
        if now_s - self._looked_s >= _LOOK_S:
            self._look(now_s, {each.id: each for each in mine})
            self._looked_s = now_s
        if now_s - self._tidied_s > _TIDY_S:
            self._tidied_s = now_s
            self._tidy()

    def _say_alive(self) -> None:
        """That we live; and what ran on servers that have not said so for long has ended."""
        now = utc_now()
        with self._database.write() as connection:
            rows.still_alive(connection, self._server, now + ALIVE)
            for cluster in rows.lapsed(connection, now - _GRACE):
                context_rows.end_all_of(connection, cluster.id, "The server of the cluster is gone.")
                why, told = Why.CONTROL_PLANE_CONNECTION_FAILURE, "The server of the cluster is gone."
                has_ended(connection, cluster, why, told, event="DRIVER_UNAVAILABLE")

    # -- one cluster ----------------------------------------------------------------------------------------------

    def _carry(self, cluster: Cluster) -> None:
        match cluster.state:
            case State.PENDING | State.RESTARTING:
                self._start(cluster)
            case State.RESIZING:
                self._resize(cluster)
            case State.TERMINATING:
                self._end(cluster)
            case State.RUNNING:
                self._tend(cluster)
            case _:
                self._forget(cluster)

    def _start(self, cluster: Cluster) -> None:
        if cluster.state is State.PENDING and self._is_over(cluster):  # nobody waits for it any more
            self._order_end(cluster, Why.JOB_FINISHED)
            return
        if cluster.state is State.RESTARTING or cluster.id not in self._waiting:
            self._stop_processes(cluster, "The cluster was started anew.")
        self._waiting.discard(cluster.id)
        try:
            shape = shape_of(cluster.spec, self._machine)
            size = shape.size(cluster.workers)
            self._machine.check_ever(size)
            if lacking := self._take_room(cluster, size):
                self._waiting.add(cluster.id)
                self._wait(cluster, f"Waits for room: it {lacking}.")
                return
            driver, placement = self._started(cluster, size)
        except MillpondError as error:
            self._sizes.pop(cluster.id, None)
            why = Why.INSTANCE_POOL_NOT_FOUND if isinstance(error, NotFound) else Why.INTERNAL_ERROR
            self._failed(cluster, why, error.message)
            return
        except Exception as error:  # the boundary of a work item: what went wrong becomes the state
            log.error("a cluster could not be started", cluster=cluster.id, exc_info=error)
            self._sizes.pop(cluster.id, None)
            told = f"The server could not start it ({type(error).__name__}); its log says more."
            self._failed(cluster, Why.INTERNAL_ERROR, told)
            return
        self._running(cluster, driver, placement)

    def _take_room(self, cluster: Cluster, size: Size) -> str:
        """Take a cluster's slice of the machine, or say why there is none now."""
        with self._lock:
            used = sum((each for key, each in self._sizes.items() if key != cluster.id), Size())
            lacking = self._machine.lacking(used, size)
            if not lacking:
                with self._database.read() as connection:
                    lacking = pool_lacks(connection, cluster, cluster.workers)
            if lacking:
                self._sizes.pop(cluster.id, None)
            else:
                self._sizes[cluster.id] = size
        return lacking

    def _wait(self, cluster: Cluster, message: str) -> None:
        if cluster.message != message or cluster.state is not State.PENDING:
            with self._database.write() as connection:
                rows.move(connection, cluster, State.PENDING, message=message)

    def _started(self, cluster: Cluster, size: Size) -> tuple[Driver, Placement]:
        """A driver that answers, and what runs on it is given. Raises MillpondError."""
        version = VERSIONS.get(cluster.spec["spark_version"])
        if version is None:
            raise FailedPrecondition(f"Runtime version '{cluster.spec['spark_version']}' is none any more.")
        variables, secrets = self._given.resolve(cluster.creator, cluster.spec.get("spark_env_vars", {}))
        if version.lock:
            self._say(cluster, f"Installing the packages of runtime {version.key}, where they are not there yet.")
        installed, wheels = self._installer.installed(cluster.id)
        pool_id = cluster.spec.get("instance_pool_id")
        driver = self.warm.take(pool_id) if pool_id else None
        if driver is None:
            driver = self._given.make_driver(cluster.id)
            driver.start()
        placement = Placement(
            cluster=cluster, spawn=driver.spawn, memory_bytes=size.memory_mb << 20, variables=variables,
            secrets=secrets, lock=version.requirements, libraries=installed, wheels=wheels,
            environments=self._given.environments,
        )  # fmt: skip
        try:
            with placement.packages():
                pass
        except BaseException:
            driver.close()
            raise
        return driver, placement

    def _say(self, cluster: Cluster, message: str) -> None:
        with self._database.write() as connection:
            rows.change(connection, cluster.id, message=message)

    def _running(self, cluster: Cluster, driver: Driver, placement: Placement) -> None:
        now = utc_now()
        size = self._sizes[cluster.id]
        self._place(cluster.id, driver, size)
        started = {"restarted_at": now} if cluster.state is State.RESTARTING else {"started_at": now}
        values = {**started, "starts": cluster.starts + 1, "message": "", "used_at": now, "terminated_at": None}
        with self._lock, self._database.write() as connection:
            moved = rows.move(connection, cluster, State.RUNNING, **values)
            if moved:
                rows.note(connection, cluster.id, "RUNNING", current_num_workers=cluster.workers)
                rows.note(connection, cluster.id, "DRIVER_HEALTHY")
                self._drivers[cluster.id], self._places[cluster.id] = driver, placement
                self._given.slices.has(cluster, size)
        if not moved:  # it was to end meanwhile
            driver.close()
            self._sizes.pop(cluster.id, None)
        self.wake()

    def _place(self, cluster_id: str, driver: Driver, size: Size) -> None:
        """On which cores it runs."""
        with self._lock:
            taken = [each.cores for key, each in self._drivers.items() if key != cluster_id]
        driver.place(choose_cores(cores_here(), taken, size.cores), self.monitor.engines(cluster_id, seen()))

    def _resize(self, cluster: Cluster) -> None:
        least, most = cluster.bounds
        self._give_workers(cluster, min(max(cluster.workers, least), most))

    def _give_workers(self, cluster: Cluster, workers: int) -> None:
        """Another size, or the old one where there is no room for it."""
        driver = self._drivers.get(cluster.id)
        if driver is None:
            return
        size = shape_of(cluster.spec, self._machine).size(workers)
        with self._lock:
            used = sum((each for key, each in self._sizes.items() if key != cluster.id), Size())
            lacking = self._machine.lacking(used, size)
        if not lacking and workers > cluster.workers:
            with self._database.read() as connection:
                lacking = pool_lacks(connection, cluster, workers)
        if not lacking and (used_mb := self.monitor.memory_mb(cluster.id, driver)) > size.memory_mb:
            lacking = f"uses {used_mb} MiB of memory, more than the {size.memory_mb} MiB of {workers} workers"
        if lacking:
            with self._database.write() as connection:
                moved = rows.move(connection, cluster, State.RUNNING, message=f"Was not resized: it {lacking}.")
                if moved and cluster.state is State.RESIZING:
                    rows.note(connection, cluster.id, "ADD_NODES_FAILED", did_not_expand_reason=lacking)
            return
        self._sizes[cluster.id] = size
        self._given.slices.has(cluster, size)
        self._place(cluster.id, driver, size)
        with self._lock:
            self._places[cluster.id] = replace(self._places[cluster.id], memory_bytes=size.memory_mb << 20)
        with self._database.write() as connection:
            if rows.move(connection, cluster, State.RUNNING, workers=workers, message=""):
                told = {"current_num_workers": workers, "previous_cluster_size": {"num_workers": cluster.workers}}
                rows.note(connection, cluster.id, "UPSIZE_COMPLETED", **told)

    def _end(self, cluster: Cluster) -> None:
        self._waiting.discard(cluster.id)
        self._stop_processes(cluster, why_words(Why(cluster.termination["code"]), cluster.termination["parameters"]))
        with self._lock:
            self._sizes.pop(cluster.id, None)
        with self._database.write() as connection:
            rows.move(connection, cluster, State.TERMINATED, terminated_at=utc_now())

    def _failed(self, cluster: Cluster, why: Why, message: str) -> None:
        with self._database.write() as connection:
            has_ended(connection, cluster, why, message[:2000])

    def _stop_processes(self, cluster: Cluster, message: str) -> None:
        with self._lock:
            self._places.pop(cluster.id, None)
        self._given.slices.ended(cluster.id)
        with self._database.write() as connection:
            context_rows.end_all_of(connection, cluster.id, message)
        self._end_processes(cluster.id)

    def _forget(self, cluster: Cluster) -> None:
        with self._database.write() as connection:
            forget(connection, cluster)
        self._given.log_of(cluster.id).unlink(missing_ok=True)

    def _end_processes(self, cluster_id: str) -> None:
        with self._lock:
            driver = self._drivers.pop(cluster_id, None)
            self._places.pop(cluster_id, None)
        self._interpreters.end_all_of(cluster_id)
        if driver is not None:
            driver.close()
        self.monitor.end_engines(cluster_id)
        shutil.rmtree(self._given.directory / cluster_id, ignore_errors=True)

    def _let_go(self, cluster_id: str) -> None:
        """Nothing goes on of a cluster that another server has ended."""
        self._end_processes(cluster_id)
        with self._lock:
            self._sizes.pop(cluster_id, None)

    def _tend(self, cluster: Cluster) -> None:
        """A cluster that runs: is it alive, is it used, has it what was installed?"""
        driver = self._drivers.get(cluster.id)
        if driver is None or not driver.answers():
            with self._database.write() as connection:
                rows.note(connection, cluster.id, "DRIVER_UNAVAILABLE")
                told = "The cluster's driver does not answer; it was ended."
                order_end(connection, cluster, Why.DRIVER_UNREACHABLE, error_message=told)
            self.wake()
            return
        now = utc_now()
        if self._used.get(cluster.id) or self._interpreters.works(cluster.id) or self.monitor.computes(cluster.id):
            if now - cluster.used_at > timedelta(seconds=_ALIVE_EVERY_S):
                with self._database.write() as connection:
                    rows.use(connection, cluster.id, now)
        elif cluster.is_idle(now):
            minutes = str(cluster.spec["autotermination_minutes"])
            self._order_end(cluster, Why.INACTIVITY, inactivity_duration_min=minutes)
            return
        if self._is_over(cluster):
            self._order_end(cluster, Why.JOB_FINISHED)
            return
        self._scale(cluster)

    def _order_end(self, cluster: Cluster, why: Why, **parameters: str) -> None:
        with self._database.write() as connection:
            order_end(connection, cluster, why, **parameters)

    def _is_over(self, cluster: Cluster) -> bool:
        """Whether it was made for a run that has ended."""
        return cluster.run_id is not None and self._given.run_is_over(cluster.run_id)

    def _install(self, cluster: Cluster) -> None:
        """What is to be installed on it is there for what begins then."""
        changed = self._installer.install(cluster)
        if changed is None:
            return
        with self._lock:
            if (place := self._places.get(cluster.id)) is not None:
                self._places[cluster.id] = replace(place, libraries=changed[0], wheels=changed[1])

    def _scale(self, cluster: Cluster) -> None:
        load = self.monitor.loads.get(cluster.id)
        least, most = cluster.bounds
        if load is None or least == most:
            return
        workers = scaled(load, workers=cluster.workers, least=least, most=most)
        if workers != cluster.workers:
            self.monitor.loads[cluster.id] = Load()
            details = {"current_num_workers": cluster.workers, "target_num_workers": workers, "cause": "AUTOSCALE"}
            with self._database.write() as connection:
                rows.note(connection, cluster.id, "RESIZING", **details)
            self._give_workers(cluster, workers)

    def _look(self, now_s: float, clusters: Mapping[str, Cluster]) -> None:
        with self._lock:
            drivers = {key: each for key, each in self._drivers.items() if key in clusters}
            limits = {key: self._sizes[key].memory_mb for key in drivers}
        elapsed_s = min(now_s - self._looked_s, 5.0)
        for cluster_id, pid in self.monitor.look(drivers, limits, now_s).items():
            with self._database.write() as connection:
                told = f"Process {pid} was ended: the cluster used more than its {limits[cluster_id]} MiB."
                rows.note(connection, cluster_id, "DRIVER_UNAVAILABLE", driver_state_message=told)
        for cluster_id in drivers:
            looks = self.monitor.looks(cluster_id)
            with suppress(MillpondError):
                shape = shape_of(clusters[cluster_id].spec, self._machine)
                before = self.monitor.loads.get(cluster_id, Load())
                self.monitor.loads[cluster_id] = observed(
                    before, used_cores=looks[-1].used_cores, shape=shape, workers=clusters[cluster_id].workers,
                    elapsed_s=elapsed_s,
                )  # fmt: skip

    def _used_of(self, pool_id: str) -> int:
        with self._database.read() as connection:
            return used_by(connection, pool_id)

    def _tidy(self) -> None:
        """Clusters and contexts of long ago go."""
        now: datetime = utc_now()
        with self._database.write() as connection:
            old = rows.old(connection, now - _KEPT, now - _OF_JOBS_KEPT)
            context_rows.remove_old(connection, now - _CONTEXTS_KEPT)
        for cluster in old:
            self._forget(cluster)
        self._interpreters.end_old(time.monotonic())
