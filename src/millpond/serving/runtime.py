"""What runs: one controller for each endpoint, all on the server's event loop, and what they share.

Whatever changes (a client's update, a worker that is ready or has ended, an alias that moved) only wakes a controller.
It keeps nothing that the database does not have, so a killed server goes on where it was.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Connection

from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.kernel.environments import Environments
from millpond.kernel.errors import Unavailable
from millpond.kernel.logs import get_logger
from millpond.kernel.settings import Settings
from millpond.serving import store
from millpond.serving.canary.counting import CanaryCounts
from millpond.serving.canary.rounds import CanaryRounds
from millpond.serving.controller import Controller, LiveEndpoint
from millpond.serving.domain import Endpoint, ServedEntity
from millpond.serving.events import EventLog
from millpond.serving.history import LOOK_S as HISTORY_S
from millpond.serving.history import History
from millpond.serving.launcher import Launcher
from millpond.serving.limits import RateLimiter
from millpond.serving.metrics import COLD_STARTS, RESTARTS
from millpond.serving.models import ModelCache
from millpond.serving.pool import WorkerPool
from millpond.serving.ports import Served, nobody_listens
from millpond.serving.scaling import Scale, scale_of, together
from millpond.serving.shadowing import ShadowReports
from millpond.serving.shared_limits import SharedLimits
from millpond.serving.specs import Specs
from millpond.serving.tracing import Tracing
from millpond.serving.uri_pools import UriPools
from millpond.serving.variables import Variables

_HOUSEKEEPING_S = 1.0
_LOOK_S = 1.0
_ROUNDS_TO_PRUNE = 60

T = TypeVar("T")

log = get_logger(__name__)


class ServingRuntime:
    """All controllers. Entered when the server starts, left when it stops."""

    def __init__(
        self,
        *,
        database: Database,
        models: ModelCache,
        specs: Specs,
        variables: Variables,
        settings: Settings,
        follow: Callable[[], Sequence[str]],
        find_principal: Callable[[str], Principal],
        served: Served = nobody_listens,
        environments: Environments | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """`follow` takes endpoints where aliases and stages point now, and returns the ids of those that go.

        `find_principal` gives the principal of a name, or raises NotFound.
        """
        self.database = database
        self.served = served
        self._follow = follow
        self._request_timeout_s = settings.serving.request_timeout_s
        self.longest_answer_s = max(settings.serving.request_timeout_s, settings.serving.stream_timeout_s)
        self._models = models
        self._specs = specs
        self._variables = variables
        self._settings = settings
        self._environments = environments if settings.serving.environments == "own" else None
        self._tracing = tracing
        self.events = EventLog(database)
        self.shadow_reports = ShadowReports()
        self.history = History(self)
        self.limiter = RateLimiter()
        self._shared_limits = SharedLimits(database, self.limiter)
        self.canary_counts = CanaryCounts()
        self._canaries = CanaryRounds(
            database=database, counts=self.canary_counts, shadows=self.shadow_reports, find_principal=find_principal
        )
        self.by_uri = UriPools(self._open_by_uri)
        self._live: dict[str, LiveEndpoint] = {}
        self._controllers: dict[str, Controller] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._for_threads: set[Future[Any]] = set()
        self._logs: WeakKeyDictionary[WorkerPool, tuple[str, str]] = WeakKeyDictionary()
        """Whose logs each pool writes: of which endpoint, under which key."""
        self._executor = ThreadPoolExecutor(max_workers=16, thread_name_prefix="serving")
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> "ServingRuntime":
        """Begin to bring back every endpoint; returns before they answer."""
        self._loop = asyncio.get_running_loop()
        self.launcher = Launcher(
            data_dir=self._settings.data_dir,
            models=self._models,
            variables=self._variables,
            settings=self._settings.serving,
            executor=self._executor,
            environments=self._environments,
        )
        await self.run_blocking(self.launcher.clean)
        await self.run_blocking(partial(self._prune, frozenset(self._logs.values())))
        await self._discover()
        self.in_background(self._keep_house())
        self.in_background(self._keep_looking(self._follow, "aliases and stages could not be followed"))
        self.in_background(self._keep_looking(self._canaries.look, "canaries could not be looked at"))
        self.in_background(self._keep_looking(self._shared_limits.look, "rate limits could not be shared"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every worker; requests have been drained by the web server before."""
        self._loop = None
        for asked in list(self._for_threads):
            asked.cancel()
        await asyncio.gather(*(controller.stop() for controller in list(self._controllers.values())))
        await self.by_uri.close()
        await asyncio.sleep(0)  # a task that is cancelled before it began would not end the workers that it was given
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.run_blocking(self.launcher.close)
        if self._tracing is not None:
            await self.run_blocking(self._tracing.close)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def reset(self, endpoint: Endpoint) -> None:
        """Let the rate limits and shadows count at once, from any thread, that an endpoint has from now on."""
        live = self._live.get(endpoint.name)
        if live is not None and live.id == endpoint.id:
            self._live[endpoint.name] = replace(live, rate_limits=endpoint.rate_limits, shadows=endpoint.shadows)
        self.notify(endpoint.id)

    def pools(self) -> Iterator[tuple[tuple[str, str, str], WorkerPool]]:
        """The pools that answer, each with the names of its endpoint and served entity, and the version."""
        for live in list(self._live.values()):
            for name, pool in live.pools.items():
                entity = live.config.entity(name)
                yield (live.name, name, entity.model.version if entity else ""), pool

    def live(self) -> list[LiveEndpoint]:
        """All that answer."""
        return list(self._live.values())

    def find(self, name: str) -> LiveEndpoint | None:
        """What answers under a name; None before the first configuration is up."""
        return self._live.get(name)

    def notify(self, endpoint_id: str) -> None:
        """Say, from any thread, that an endpoint was changed, made or deleted in the database."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake, endpoint_id)

    def withdraw(self, name: str, endpoint_id: str) -> None:
        """Stop answering under a name, from any thread, for an endpoint that was deleted."""
        live = self._live.get(name)
        if live is not None and live.id == endpoint_id:
            del self._live[name]

    def run_here(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of something that the server's loop does; for threads. Raises Unavailable while there is none."""
        loop = self._loop
        if loop is None:
            work.close()
            raise Unavailable("The server is being started or stopped; try again in a moment.")
        going = asyncio.run_coroutine_threadsafe(work, loop)
        self._for_threads.add(going)
        try:
            return going.result()
        except CancelledError as error:
            raise Unavailable("The server is being stopped.") from error
        finally:
            self._for_threads.discard(going)

    # For controllers

    async def run_blocking(self, function: Callable[[], T]) -> T:
        """Run something that blocks in one of our threads."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something go on by itself until the server stops."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def needs_process(self, entity: ServedEntity) -> bool:
        """Whether anything of users' runs for it: a model, or functions."""
        spec = self._specs.of(entity.model) if entity.model.is_spec else None
        return spec is None or bool(spec.functions)

    def open_pool(
        self, endpoint: Endpoint, entity: ServedEntity, *, replicas: int, on_change: Callable[[], None]
    ) -> WorkerPool:
        """Begin to start workers for an entity, so many at first."""
        runs_already = endpoint.active is not None and any(
            entity.worker_key == active.worker_key for active in endpoint.active.entities
        )
        pool = WorkerPool(
            name=entity.name,
            launch=self.launcher.launch_for(endpoint.id, entity),
            scale=self._scale_of(entity),
            replicas=replicas,
            persistent=runs_already,
            hangs_after_s=self._request_timeout_s,
            on_change=on_change,
            tell=partial(self._note, endpoint, entity),
            patience=self._settings.serving.queue_patience,
            on_cold_start=COLD_STARTS.labels(endpoint.name, entity.name).observe,
        )
        self._logs[pool] = (endpoint.id, entity.worker_key)
        return pool

    def _open_by_uri(self, entity: ServedEntity) -> WorkerPool:
        scale = self._scale_of(entity)
        pool = WorkerPool(
            name=entity.name,
            launch=self.launcher.launch_for("by-uri", entity),
            scale=scale,
            replicas=1,
            persistent=False,
            hangs_after_s=self._request_timeout_s,
            on_change=lambda: None,
            tell=lambda kind, message: log.info("model asked by its URI", pool=entity.name, kind=kind, message=message),
            on_cold_start=lambda _seconds: None,
        )
        self._logs[pool] = ("by-uri", entity.worker_key)
        pool.serve(scale)
        return pool

    def serve(self, entities: Sequence[ServedEntity], pool: WorkerPool) -> None:
        """Let a pool answer, with between as many workers as the entities that share it ask for."""
        pool.serve(together([self._scale_of(entity) for entity in entities]))

    def _scale_of(self, entity: ServedEntity) -> Scale:
        settings = self._settings.serving
        idle_s = settings.scale_to_zero_after_s if entity.scale_to_zero else None
        return scale_of(entity.concurrency, idle_s=idle_s, calm_s=settings.scale_down_after_s)

    def _note(self, endpoint: Endpoint, entity: ServedEntity, kind: str, message: str) -> None:
        """What happened to a pool."""
        self.events.note(endpoint.id, entity.name, kind, message)
        if kind in {"ended", "hangs"}:
            RESTARTS.labels(endpoint.name).inc()

    def publish(self, live: LiveEndpoint) -> None:
        """Answer under the endpoint's name with this configuration from now on."""
        self._live[live.name] = live

    def retire(self, endpoint_id: str) -> None:
        """Forget the controller of an endpoint that is gone."""
        self.shadow_reports.forget(endpoint_id)
        self._controllers.pop(endpoint_id, None)

    def _wake(self, endpoint_id: str) -> None:
        controller = self._controllers.get(endpoint_id)
        if controller is None:
            controller = self._controllers[endpoint_id] = Controller(endpoint_id, self)
        controller.wake()

    async def _discover(self) -> None:
        """Wake all: those that are there, and those that another server has deleted."""
        found = await self.run_blocking(partial(_read, self.database, store.list_ids))
        for endpoint_id in {*found, *self._controllers}:
            self._wake(endpoint_id)

    async def _keep_house(self) -> None:
        rounds = 0
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            rounds += 1
            try:
                await self.run_blocking(self.launcher.bound_logs)
                await self.run_blocking(self.events.flush)
                if rounds % HISTORY_S == 0:
                    await self.run_blocking(partial(self.history.look, time.time()))
                if rounds % _ROUNDS_TO_PRUNE == 0:
                    await self.run_blocking(partial(self._prune, frozenset(self._logs.values())))
                    await self.run_blocking(self.events.prune)
                    await self._discover()
            except Exception as error:  # the next round tries again
                log.error("housekeeping failed", exc_info=error)

    async def _keep_looking(self, look: Callable[[], Sequence[str]], failure: str) -> None:
        """Rounds that say which endpoints have changed."""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                for endpoint_id in await self.run_blocking(look):
                    self._wake(endpoint_id)
            except Exception as error:  # the next round tries again
                log.error(failure, exc_info=error)

    def _prune(self, written: frozenset[tuple[str, str]]) -> None:
        """Delete the models and logs of what is not served any more; but not logs that are `written`."""
        found = _read(self.database, store.list_endpoints)
        served = [
            (endpoint.id, entity)
            for endpoint in found
            for config in (endpoint.active, endpoint.pending)
            if config is not None
            for entity in config.entities
        ]
        self._models.prune(frozenset(entity.model for _, entity in served))
        self.launcher.prune_logs(written | {(endpoint_id, entity.worker_key) for endpoint_id, entity in served})


def _read(database: Database, query: Callable[[Connection], T]) -> T:
    with database.read() as connection:
        return query(connection)
