"""Versions of models that are asked before they are served: each in a pool of its own, which no client reaches.

For other rooms, from their threads: `opened` starts the processes and ends them, `Rehearsal.ask` blocks.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from millpond.identity.access import Act
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, MillpondError, Unavailable
from millpond.serving.domain import NETWORK, Deployment, Endpoint, ServedEntity, default_entity_name
from millpond.serving.keeping import refusal
from millpond.serving.pool import WorkerPool
from millpond.serving.predicting import Predictions
from millpond.serving.reach import get_endpoint
from millpond.serving.references import Asked
from millpond.serving.resolving import Resolver
from millpond.serving.runtime import ServingRuntime
from millpond.serving.variables import Variables
from millpond.serving.worker_process import Answer


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What is to be asked, in the place of an endpoint's own entities."""

    endpoint: Endpoint
    entity: ServedEntity


class Rehearsal:
    """A candidate that answers."""

    def __init__(self, candidate: Candidate, who: Principal, pool: WorkerPool, at: "Rehearsals") -> None:
        self._candidate = candidate
        self._who = who
        self._pool = pool
        self._at = at

    def ask(self, requests: Sequence[tuple[str, bytes]]) -> Sequence[Answer]:
        """The answers to some requests, each a content type and a body; refusals and lost requests are answers too.

        One after the other: so their times are the model's own, and who is served has the rest of the machine.
        Raises FailedPrecondition when the candidate cannot be loaded any more.
        """
        return self._at.runtime.run_here(self._ask_all(requests))

    async def _ask_all(self, requests: Sequence[tuple[str, bytes]]) -> Sequence[Answer]:
        answers = [await self._ask(*request) for request in requests]
        if self._pool.state.deployment is Deployment.FAILED:
            raise FailedPrecondition(self._pool.state.message)
        return answers

    async def _ask(self, content_type: str, body: bytes) -> Answer:
        try:
            return await self._at.predictions.ask(
                self._who, self._candidate.entity, self._pool, content_type=content_type, body=body
            )
        except MillpondError as error:
            return refusal(error)


class Rehearsals:
    """Opens them."""

    def __init__(
        self,
        database: Database,
        runtime: ServingRuntime,
        resolver: Resolver,
        predictions: Predictions,
        variables: Variables,
    ) -> None:
        self.runtime = runtime
        self.predictions = predictions
        self._database = database
        self._resolver = resolver
        self._variables = variables

    def candidate(self, principal: Principal, name: str, asked: Asked) -> Candidate:
        """A version in the place of what an endpoint serves, with the variables of that, for who may manage it.

        Without the network that the served one was given, for who may not give it: this model is another one.
        An empty model is the one that has most of the traffic. Raises NotFound, PermissionDenied, InvalidArgument,
        FailedPrecondition where the endpoint serves nothing yet.
        """
        endpoint = get_endpoint(self._database, principal, name, Act.MANAGE)
        if endpoint.active is None:
            raise FailedPrecondition(f"Endpoint '{name}' does not answer yet; wait until it is ready.")
        most = max(endpoint.active.routes, key=lambda route: route.percent)
        present = endpoint.active.entity(most.entity)
        assert present is not None, "routes name entities"
        model = self._resolver.resolve(principal, replace(asked, model=asked.model or present.model.name))
        if model.is_spec:
            raise InvalidArgument("Only versions of models are replayed; give entity_version.")
        environment = dict(present.environment)
        if not self._variables.may_open_network(principal):
            environment.pop(NETWORK, None)
        entity = replace(
            present,
            name=default_entity_name(model.name, model.version),
            model=model,
            reference=None,
            provisioned=None,
            environment=environment,
            scale_to_zero=False,
            creator=principal.name,
            created_at=utc_now(),
        )
        return Candidate(endpoint=endpoint, entity=entity)

    @contextmanager
    def opened(self, candidate: Candidate, who: Principal) -> Iterator[Rehearsal]:
        """A candidate that has been loaded. Raises FailedPrecondition with what it said when it cannot be."""
        pool = self.runtime.run_here(self._open(candidate))
        try:
            yield Rehearsal(candidate, who, pool, self)
        finally:
            with suppress(Unavailable):  # a server that is being stopped ends all processes
                self.runtime.run_here(pool.close(drain_s=0))

    async def _open(self, candidate: Candidate) -> WorkerPool:
        changed = asyncio.Event()
        alone = replace(candidate.endpoint, active=None)  # so that it is not taken for one that has answered before
        pool = self.runtime.open_pool(alone, candidate.entity, replicas=1, on_change=changed.set)
        try:
            while pool.state.deployment is Deployment.CREATING:
                await changed.wait()
                changed.clear()
        except BaseException:
            await asyncio.shield(pool.close(drain_s=0))
            raise
        if pool.state.deployment is not Deployment.READY:
            state = pool.state
            await pool.close(drain_s=0)
            raise FailedPrecondition(f"The candidate cannot be loaded. {state.message}")
        return pool
