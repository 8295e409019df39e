"""The processes of versions that are asked by their URI: there while somebody asks, and of a few versions at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from millpond.kernel.clock import utc_now
from millpond.kernel.errors import ResourceExhausted
from millpond.serving.domain import Concurrency, Deployment, ModelVersion, ServedEntity, default_entity_name
from millpond.serving.pool import WorkerPool
from millpond.serving.scaling import REPLICA_CONCURRENCY

MOST_POOLS = 8
MOST_OF_ONE = 3
"""So many of them were begun for one asker: others find some that are not theirs to end."""
_REPLICAS = 2
"""Of a version at most."""


@dataclass(frozen=True, kw_only=True)
class UriPool:
    """The pool of a version."""

    model: ModelVersion
    beginner: str
    """For whom it was begun: it is of their share while it is there, whoever else asks it."""
    asker: str
    """Who asked it last."""
    pool: WorkerPool


class UriPools:
    """The pools of versions, by their keys. On the server's event loop."""

    def __init__(self, open_pool: Callable[[ServedEntity], WorkerPool]) -> None:
        self._open_pool = open_pool
        self._begun: dict[str, UriPool] = {}
        """The last is the one asked last."""
        self._lock = asyncio.Lock()

    def all(self) -> list[UriPool]:
        """Those that there are now. From any thread."""
        return list(self._begun.values())

    @asynccontextmanager
    async def use(self, model: ModelVersion, asker: str) -> AsyncIterator[WorkerPool]:
        """The pool of a version for somebody, begun where there is none, which stays while the block runs.

        Raises ResourceExhausted where all that may give way are busy: those of the asker, who has a share, or all.
        """
        async with self._lock:
            begun = await self._pool(model, asker)
            self._begun[model.key] = replace(begun, asker=asker)
        with begun.pool.in_use():  # nothing was awaited since, so nobody has taken it for unused
            yield begun.pool

    async def _pool(self, model: ModelVersion, asker: str) -> UriPool:
        found = self._begun.pop(model.key, None)
        if found is not None and found.pool.state.deployment is not Deployment.FAILED:
            return found
        if found is not None:
            await found.pool.close(drain_s=0)
        while sum(each.beginner == asker for each in self._begun.values()) >= MOST_OF_ONE:
            await self._end_unused(
                asker, f"{MOST_OF_ONE} models that you ask by their URI are busy, which is your share"
            )
        while len(self._begun) >= MOST_POOLS:
            await self._end_unused(None, f"{MOST_POOLS} models are being asked by their URI")
        return UriPool(model=model, beginner=asker, asker=asker, pool=self._open_pool(_entity(model)))

    async def _end_unused(self, asker: str | None, refusal: str) -> None:
        """End the one that nobody has asked for longest; of an asker's own, if one is given."""
        for key, begun in self._begun.items():
            if asker in {None, begun.beginner} and not begun.pool.is_asked:
                del self._begun[key]
                await begun.pool.close(drain_s=0)
                return
        raise ResourceExhausted(f"{refusal}; try again when one of them has answered, or serve one by an endpoint.")

    async def close(self) -> None:
        """End all."""
        await asyncio.gather(*(begun.pool.close(drain_s=0) for begun in self._begun.values()))
        self._begun.clear()


def _entity(model: ModelVersion) -> ServedEntity:
    return ServedEntity(
        name=default_entity_name(model.name, model.version),
        model=model,
        provisioned=Concurrency(minimum=REPLICA_CONCURRENCY, maximum=_REPLICAS * REPLICA_CONCURRENCY),
        scale_to_zero=True,
        creator="",
        created_at=utc_now(),
    )
