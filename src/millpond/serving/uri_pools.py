"""The processes of versions that are asked by their URI: there while somebody asks, and of a few versions at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from millpond.kernel.clock import utc_now
from millpond.kernel.errors import ResourceExhausted
from millpond.serving.domain import Concurrency, Deployment, ModelVersion, ServedEntity, default_entity_name
from millpond.serving.pool import WorkerPool
from millpond.serving.scaling import REPLICA_CONCURRENCY

MOST_POOLS = 8
_REPLICAS = 2
"""Of a version at most."""


class UriPools:
    """The pools of versions, by their keys. On the server's event loop."""

    def __init__(self, open_pool: Callable[[ServedEntity], WorkerPool]) -> None:
        self._open_pool = open_pool
        self._pools: dict[str, WorkerPool] = {}
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def use(self, model: ModelVersion) -> AsyncIterator[WorkerPool]:
        """The pool of a version, begun where there is none, which stays while the block runs.

        Raises ResourceExhausted where all others are busy.
        """
        async with self._lock:
            pool = await self._pool(model)
            self._pools[model.key] = pool  # the last is the one asked last
        with pool.in_use():  # nothing was awaited since, so nobody has taken it for unused
            yield pool

    async def _pool(self, model: ModelVersion) -> WorkerPool:
        found = self._pools.pop(model.key, None)
        if found is not None and found.state.deployment is not Deployment.FAILED:
            return found
        if found is not None:
            await found.close(drain_s=0)
        while len(self._pools) >= MOST_POOLS:
            unused = next((key for key, pool in self._pools.items() if not pool.is_asked), None)
            if unused is None:
                raise ResourceExhausted(f"{MOST_POOLS} models are being asked by their URI; try again later.")
            await self._pools.pop(unused).close(drain_s=0)
        return self._open_pool(_entity(model))

    async def close(self) -> None:
        """End all."""
        await asyncio.gather(*(pool.close(drain_s=0) for pool in self._pools.values()))
        self._pools.clear()


def _entity(model: ModelVersion) -> ServedEntity:
    return ServedEntity(
        name=default_entity_name(model.name, model.version),
        model=model,
        provisioned=Concurrency(minimum=REPLICA_CONCURRENCY, maximum=_REPLICAS * REPLICA_CONCURRENCY),
        scale_to_zero=True,
        creator="",
        created_at=utc_now(),
    )
