"""What happens to one endpoint: its controller reads what is desired, decides with `domain.plan`, and acts."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from millpond.identity.access import Securable
from millpond.kernel.database import Database
from millpond.kernel.logs import get_logger
from millpond.serving import store
from millpond.serving.domain import (
    Config,
    Deployment,
    Endpoint,
    EntityState,
    Outcome,
    Plan,
    ServedEntity,
    Shadow,
    endpoint_securable,
    plan,
)
from millpond.serving.events import event
from millpond.serving.limits import RateLimit
from millpond.serving.notices import announce
from millpond.serving.pool import WorkerPool
from millpond.serving.ports import Served

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
    rate_limits: tuple[RateLimit, ...]
    shadows: tuple[Shadow, ...]
    config: Config
    pools: Mapping[str, WorkerPool]
    """By the name of the served entity; those that need no process have none."""

    @cached_property
    def securable(self) -> Securable:
        """What whoever asks it needs rights on."""
        return endpoint_securable(self.id, self.name, self.creator)


class Runtime(Protocol):
    """What a controller acts through."""

    database: Database
    served: Served
    longest_answer_s: float

    async def run_blocking(self, function: Callable[[], T]) -> T:
        """Run something that blocks in a thread."""

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something go on by itself until the server stops."""

    def needs_process(self, entity: ServedEntity) -> bool:
        """Whether anything of users' runs for it."""

    def open_pool(
        self, endpoint: Endpoint, entity: ServedEntity, *, replicas: int, on_change: Callable[[], None]
    ) -> WorkerPool:
        """Begin to start workers for an entity, so many at first."""

    def serve(self, entities: Sequence[ServedEntity], pool: WorkerPool) -> None:
        """Let a pool answer, with between as many workers as the entities that share it ask for."""

    def publish(self, live: LiveEndpoint) -> None:
        """Answer under the endpoint's name with this configuration from now on."""

    def withdraw(self, name: str, endpoint_id: str) -> None:
        """Stop answering under a name."""

    def retire(self, endpoint_id: str) -> None:
        """Forget the controller of an endpoint that is gone."""


class Controller:
    """Serialises everything that happens to one endpoint."""

    def __init__(self, endpoint_id: str, runtime: Runtime) -> None:
        self._id = endpoint_id
        self._runtime = runtime
        self._name = ""
        self._pools: dict[str, WorkerPool] = {}
        self._answering: Config | None = None
        """What was published last."""
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
        desired = endpoint.upcoming if steps.outcome is Outcome.PROMOTE else endpoint.active
        serving = self._best(desired)
        if serving is not None:
            self._publish(endpoint, serving)  # before it is recorded: who reads "updated" finds it so
        if steps.states or steps.outcome is not Outcome.UNDECIDED:
            recorded = await self._runtime.run_blocking(
                partial(_record, self._runtime.database, self._runtime.served, endpoint, steps)
            )
            if not recorded:  # an update came between: what answers is what it says, and all still runs
                self.wake()
                return True
        for key in self._pools.keys() - steps.keep - _keys(serving):
            self._runtime.in_background(self._close(self._pools.pop(key)))
        return True

    def _best(self, desired: Config | None) -> Config | None:
        """What is to answer: what does so far, as long as it can and what another server has activated cannot here."""
        known = self._answering
        if desired is None or known is None or known.version == desired.version:
            return desired
        return known if self._is_up(known) and not self._is_up(desired) else desired

    def _is_up(self, config: Config) -> bool:
        pools = [self._pools[key] for key in _keys(config) if key in self._pools]
        return all(pool.state.deployment is Deployment.READY for pool in pools)

    def _without_process(self, endpoint: Endpoint) -> dict[str, EntityState]:
        configs = [config for config in (endpoint.active, endpoint.upcoming) if config is not None]
        entities = (entity for config in configs for entity in config.entities)
        return {each.worker_key: _ANSWERS_HERE for each in entities if not self._runtime.needs_process(each)}

    def _start(self, endpoint: Endpoint, entity: ServedEntity) -> None:
        before = endpoint.active.entity(entity.name) if endpoint.active else None
        pool = self._pools.get(before.worker_key) if before else None
        replicas = len(pool.replicas) if pool else 1  # what takes over a load begins with what it needs
        opened = self._runtime.open_pool(endpoint, entity, replicas=replicas, on_change=self.wake)
        self._pools[entity.worker_key] = opened

    def _publish(self, endpoint: Endpoint, config: Config) -> None:
        self._answering = config
        pools = {
            entity.name: self._pools[entity.worker_key]
            for entity in config.entities
            if entity.worker_key in self._pools
        }
        for key in {entity.worker_key for entity in config.entities if entity.name in pools}:
            self._runtime.serve([each for each in config.entities if each.worker_key == key], self._pools[key])
        self._runtime.publish(
            LiveEndpoint(
                id=endpoint.id,
                name=endpoint.name,
                creator=endpoint.creator,
                rate_limits=endpoint.rate_limits,
                shadows=endpoint.shadows,
                config=config,
                pools=pools,
            )
        )

    def _leave(self) -> None:
        self._runtime.withdraw(self._name, self._id)  # once more: a step may have been under way at the deletion
        self._runtime.retire(self._id)
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            self._runtime.in_background(self._close(pool))

    async def _close(self, pool: WorkerPool) -> None:
        try:
            await pool.close(drain_s=self._runtime.longest_answer_s)
        except asyncio.CancelledError:
            await asyncio.shield(pool.close(drain_s=0))
            raise


def _keys(config: Config | None) -> frozenset[str]:
    return frozenset(entity.worker_key for entity in config.entities) if config else frozenset()


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
            return _failed(connection, endpoint, endpoint.pending, steps)
        if not store.promote(connection, endpoint.id, endpoint.pending.version):
            return False
        _tell(connection, endpoint, endpoint.pending, None)
        served_here = [entity.model for entity in endpoint.pending.entities if not entity.model.is_spec]
        models = [(model.name, model.version) for model in served_here]
        served(connection, endpoint.id, endpoint.name, models)
        return True


def _failed(connection: Connection, endpoint: Endpoint, config: Config, steps: Plan) -> bool:
    if not store.fail(connection, endpoint.id, config.version):
        return False
    states = {entity.name: steps.states.get((config.version, entity.name), entity.state) for entity in config.entities}
    problems = [f"{name}: {state.message}" for name, state in states.items() if state.deployment is Deployment.FAILED]
    _tell(connection, endpoint, config, "\n\n".join(problems))
    return True


def _tell(connection: Connection, endpoint: Endpoint, config: Config, problem: str | None) -> None:
    """The owner, by an event, and whoever wants to know, by mail."""
    kind = "updated" if problem is None else "update failed"
    store.add_events(connection, [(endpoint.id, event("", kind, f"Configuration {config.version}. {problem or ''}"))])
    announce(connection, endpoint, config, problem)
