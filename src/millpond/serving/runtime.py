"""Brings what runs to what is desired: one controller for each endpoint, all on the server's event loop.

A controller reads its endpoint from the database, decides with `domain.plan`, and acts. Whatever changes (a client's
update, a worker that is ready or has ended) only wakes it. It keeps nothing that the database does not have, so a
killed server goes on where it was.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from sqlalchemy import Connection

from millpond.kernel.database import Database
from millpond.kernel.logs import get_logger
from millpond.kernel.settings import Settings
from millpond.serving import store
from millpond.serving.domain import Config, Deployment, Endpoint, EntityState, Outcome, Plan, ServedEntity, plan
from millpond.serving.launcher import Launcher
from millpond.serving.metrics import RESTARTS
from millpond.serving.models import ModelCache
from millpond.serving.pool import WorkerPool
from millpond.serving.ports import Served, nobody_listens
from millpond.serving.specs import Specs
from millpond.serving.variables import Variables

_HOUSEKEEPING_S = 1.0
_FOLLOWING_S = 1.0
_ROUNDS_TO_PRUNE = 60
_PAUSE_AFTER_ERROR_S = 1.0
_ANSWERS_HERE = EntityState(deployment=Deployment.READY, build_log="Features alone; no process is needed.\n")

T = TypeVar("T")

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class LiveEndpoint:
    """An endpoint's active configuration with the pools that answer for it: all that a request needs."""

    id: str
    name: str
    creator: str
    config: Config
    pools: Mapping[str, WorkerPool]
    """By the name of the served entity; those that need no process have none."""


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
        served: Served = nobody_listens,
    ) -> None:
        """`follow` takes endpoints where aliases and stages point now, and returns the ids of those that go."""
        self.database = database
        self.served = served
        self._follow = follow
        self.request_timeout_s = settings.serving.request_timeout_s
        self._models = models
        self._specs = specs
        self._variables = variables
        self._settings = settings
        self._live: dict[str, LiveEndpoint] = {}
        self._controllers: dict[str, _Controller] = {}
        self._background: set[asyncio.Task[None]] = set()
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
        )
        await self.run_blocking(self.launcher.clean)
        await self.run_blocking(self._prune)
        await self._discover()
        self.in_background(self._keep_house())
        self.in_background(self._keep_following())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every worker; requests have been drained by the web server before."""
        self._loop = None
        await asyncio.gather(*(controller.stop() for controller in list(self._controllers.values())))
        await asyncio.sleep(0)  # a task that is cancelled before it began would not end the workers that it was given
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.run_blocking(self.launcher.close)
        self._executor.shutdown(wait=False, cancel_futures=True)

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

    def publish(self, live: LiveEndpoint) -> None:
        """Answer under the endpoint's name with this configuration from now on."""
        self._live[live.name] = live

    def retire(self, endpoint_id: str) -> None:
        """Forget the controller of an endpoint that is gone."""
        self._controllers.pop(endpoint_id, None)

    def _wake(self, endpoint_id: str) -> None:
        controller = self._controllers.get(endpoint_id)
        if controller is None:
            controller = self._controllers[endpoint_id] = _Controller(endpoint_id, self)
        controller.wake()

    async def _discover(self) -> None:
        for endpoint_id in await self.run_blocking(partial(_read, self.database, store.list_ids)):
            self._wake(endpoint_id)

    async def _keep_house(self) -> None:
        rounds = 0
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            rounds += 1
            try:
                await self.run_blocking(self.launcher.bound_logs)
                if rounds % _ROUNDS_TO_PRUNE == 0:
                    await self.run_blocking(self._prune)
                    await self._discover()
            except Exception as error:  # the next round tries again
                log.error("housekeeping failed", exc_info=error)

    async def _keep_following(self) -> None:
        while True:
            await asyncio.sleep(_FOLLOWING_S)
            try:
                for endpoint_id in await self.run_blocking(self._follow):
                    self._wake(endpoint_id)
            except Exception as error:  # the next round tries again
                log.error("aliases and stages could not be followed", exc_info=error)

    def _prune(self) -> None:
        """Delete the models and logs of what is not served any more."""
        found = _read(self.database, store.list_endpoints)
        served = [
            (endpoint.id, entity)
            for endpoint in found
            for config in (endpoint.active, endpoint.pending)
            if config is not None
            for entity in config.entities
        ]
        self._models.prune(frozenset(entity.model for _, entity in served))
        self.launcher.prune_logs(
            frozenset(self.launcher.log_path(endpoint_id, entity) for endpoint_id, entity in served)
        )


class _Controller:
    """Serialises everything that happens to one endpoint."""

    def __init__(self, endpoint_id: str, runtime: ServingRuntime) -> None:
        self._id = endpoint_id
        self._runtime = runtime
        self._name = ""
        self._pools: dict[str, WorkerPool] = {}
        self._changed = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"endpoint {endpoint_id}")

    def wake(self) -> None:
        """Look again at what is desired and what runs."""
        self._changed.set()

    async def stop(self) -> None:
        """End every worker at once."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(pool.close(drain_s=0) for pool in self._pools.values()))

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                if not await self._step():
                    return
            except Exception as error:  # a boundary: the database may be away for a while
                log.error("controller failed", endpoint_id=self._id, exc_info=error)
                await asyncio.sleep(_PAUSE_AFTER_ERROR_S)
                self.wake()

    async def _step(self) -> bool:
        """Act once; False when the endpoint is gone and nothing is left to do."""
        endpoint = await self._runtime.run_blocking(partial(_find, self._runtime.database, self._id))
        if endpoint is None:
            self._leave()
            return False
        self._name = endpoint.name
        elsewhere = await self._runtime.run_blocking(partial(self._without_process, endpoint))
        steps = plan(endpoint, elsewhere | {key: pool.state for key, pool in self._pools.items()})
        for entity in steps.start:
            self._start(endpoint, entity)
        serving = endpoint.upcoming if steps.outcome is Outcome.PROMOTE else endpoint.active
        if serving is not None:
            self._publish(endpoint, serving)  # before it is recorded: who reads "updated" finds it so
        if steps.states or steps.outcome is not Outcome.UNDECIDED:
            recorded = await self._runtime.run_blocking(
                partial(_record, self._runtime.database, self._runtime.served, endpoint, steps)
            )
            if not recorded:  # an update came between: what answers is what it says, and all still runs
                self.wake()
                return True
        for key in self._pools.keys() - steps.keep:
            self._runtime.in_background(self._close(self._pools.pop(key)))
        return True

    def _without_process(self, endpoint: Endpoint) -> dict[str, EntityState]:
        configs = [config for config in (endpoint.active, endpoint.upcoming) if config is not None]
        entities = (entity for config in configs for entity in config.entities)
        return {each.worker_key: _ANSWERS_HERE for each in entities if not self._runtime.needs_process(each)}

    def _start(self, endpoint: Endpoint, entity: ServedEntity) -> None:
        runs_already = endpoint.active is not None and any(
            entity.worker_key == active.worker_key for active in endpoint.active.entities
        )
        self._pools[entity.worker_key] = WorkerPool(
            name=entity.name,
            launch=self._runtime.launcher.launch_for(self._id, entity),
            persistent=runs_already,
            hangs_after_s=self._runtime.request_timeout_s,
            on_change=self.wake,
            on_restart=RESTARTS.labels(endpoint.name).inc,
        )

    def _publish(self, endpoint: Endpoint, config: Config) -> None:
        pools = {
            entity.name: self._pools[entity.worker_key]
            for entity in config.entities
            if entity.worker_key in self._pools
        }
        self._runtime.publish(
            LiveEndpoint(id=endpoint.id, name=endpoint.name, creator=endpoint.creator, config=config, pools=pools)
        )

    def _leave(self) -> None:
        self._runtime.withdraw(self._name, self._id)  # once more: a step may have been under way at the deletion
        self._runtime.retire(self._id)
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            self._runtime.in_background(self._close(pool))

    async def _close(self, pool: WorkerPool) -> None:
        try:
            await pool.close(drain_s=self._runtime.request_timeout_s)
        except asyncio.CancelledError:
            await asyncio.shield(pool.close(drain_s=0))
            raise


def _read(database: Database, query: Callable[[Connection], T]) -> T:
    with database.read() as connection:
        return query(connection)


def _find(database: Database, endpoint_id: str) -> Endpoint | None:
    with database.read() as connection:
        return store.find_endpoint_by_id(connection, endpoint_id)


def _record(database: Database, served: Served, endpoint: Endpoint, steps: Plan) -> bool:
    """Write states and outcome together; False for an outcome that came too late (deleted, replaced)."""
    with database.write() as connection:
        store.write_states(connection, endpoint.id, steps.states)
        if endpoint.pending is None or steps.outcome is Outcome.UNDECIDED:
            return True
        if steps.outcome is not Outcome.PROMOTE:
            return store.fail(connection, endpoint.id, endpoint.pending.version)
        if not store.promote(connection, endpoint.id, endpoint.pending.version):
            return False
        served_here = [entity.model for entity in endpoint.pending.entities if not entity.model.is_spec]
        models = [(model.name, model.version) for model in served_here]
        served(connection, endpoint.id, endpoint.name, models)
        return True
