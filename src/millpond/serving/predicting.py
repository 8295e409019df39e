"""Asking endpoints for predictions: which model answers, within which limits, and who gets a copy."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

from millpond.identity.access import Act, allows, require
from millpond.identity.domain import Principal
from millpond.kernel.asides import aside_unless
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, MillpondError, NotFound, ResourceExhausted, Unavailable
from millpond.kernel.http import STATUS_OF_CODE
from millpond.serving import metrics
from millpond.serving.capture import Captures
from millpond.serving.controller import LiveEndpoint
from millpond.serving.costs import EndpointCosts
from millpond.serving.domain import ServedEntity, Shadow, Update
from millpond.serving.features import Exchange, ServedFeatures
from millpond.serving.frames import Kind
from millpond.serving.keeping import keeping_of, refusal
from millpond.serving.parts import InParts, PartsQuery
from millpond.serving.pool import WorkerPool, no_time
from millpond.serving.reach import get_endpoint
from millpond.serving.routing import entity_for
from millpond.serving.runtime import ServingRuntime
from millpond.serving.specs import Specs
from millpond.serving.streaming import StreamedAnswer, StreamRequest, open_stream
from millpond.serving.tracing import Trace, Tracing
from millpond.serving.worker_process import Answer, Question


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a served model answered: predictions, or its refusal of the request."""

    entity: str
    """The name of the served entity."""
    version: str
    """The version of the model that answered; empty for a feature spec."""
    status: int
    content_type: str
    body: bytes


class Predictions:
    """Predictions, for users, on the server's event loop."""

    def __init__(
        self,
        *,
        database: Database,
        runtime: ServingRuntime,
        specs: Specs,
        features: ServedFeatures | None,
        captures: Captures,
        costs: EndpointCosts,
        request_timeout_s: float,
        stream_timeout_s: float,
        tracing: Tracing | None,
    ) -> None:
        self.tracing = tracing
        self._database = database
        self._runtime = runtime
        self._specs = specs
        self._features = features
        self._captures = captures
        self._costs = costs
        self._request_timeout_s = request_timeout_s
        self._stream_timeout_s = stream_timeout_s
        self._in_parts = InParts(specs, features)

    async def query(
        self,
        principal: Principal,
        name: str,
        *,
        content_type: str,
        body: bytes,
        served_model: str | None = None,
        routing_key: str | None = None,
        timeout_s: float | None = None,
        accept: str | None = None,
        client_request_id: str | None = None,
        trace: Trace | None = None,
    ) -> Reply:
        """Ask an endpoint (or one of its served models, past the traffic split) for a prediction.

        Requests with one `routing_key` get the same served model. `timeout_s` may only shorten the server's own.
        Raises NotFound, FailedPrecondition, Unavailable, ResourceExhausted (a rate limit), StorageFull (it cannot be
        kept), and what `WorkerPool.ask` raises. A refusal by the model is an answer.
        """
        live, entity = await self._find(principal, name, served_model, routing_key)
        patience_s = min(timeout_s or self._request_timeout_s, self._request_timeout_s)
        query = _Query(principal=principal, content_type=content_type, body=body, accept=accept, patience_s=patience_s)
        keeping = keeping_of(self._captures, live, principal, content_type, body)
        began = time.perf_counter()
        answer: Answer | MillpondError
        status, is_admitted = "500", False
        try:
            self._admit(live, principal)
            is_admitted = True
            pool = live.pools.get(entity.name)
            with pool.in_use() if pool else nullcontext():
                answer = await self._answer(query, entity, pool)
            status = str(answer.status)
        except MillpondError as error:
            answer = error
            status = str(STATUS_OF_CODE.get(error.code, 500))
        finally:
            seconds = time.perf_counter() - began
            metrics.counted(live.name, entity.name, entity.model.version, status, seconds)
            if served_model is None and is_admitted:
                self._runtime.canary_counts.count(live.id, entity.name, int(status), seconds)
        if trace is not None:
            trace.end(live.name, entity, refusal(answer) if isinstance(answer, MillpondError) else answer)
        if keeping is not None:
            told = refusal(answer) if isinstance(answer, MillpondError) else answer
            await keeping.end(entity, told, seconds, client_id=client_request_id, is_direct=served_model is not None)
        if isinstance(answer, MillpondError):
            raise answer
        if live.shadows:
            self._copy(live, entity, answer, partial(self._answer, query))
        return _reply(entity, answer)

    async def stream(
        self,
        principal: Principal,
        name: str,
        *,
        body: bytes,
        served_model: str | None = None,
        routing_key: str | None = None,
        timeout_s: float | None = None,
        client_request_id: str | None = None,
        trace: Trace | None = None,
    ) -> StreamedAnswer | Reply:
        """As `query`, of a request in JSON whose answer shall come in parts: returns when the first is there, or with
        the model's refusal. `timeout_s` is for each part. Whoever gets the answer closes it."""
        live, entity = await self._find(principal, name, served_model, routing_key)
        query = PartsQuery(
            principal=principal,
            body=body,
            chunk_s=min(timeout_s or self._request_timeout_s, self._request_timeout_s),
            whole_s=self._stream_timeout_s,
        )
        asked = StreamRequest(
            live=live,
            entity=entity,
            query=query,
            is_direct=served_model is not None,
            client_id=client_request_id,
            trace=trace,
            canaries=self._runtime.canary_counts,
            copy=partial(self._copy_parts, live, entity, query) if live.shadows else None,
        )
        found = await open_stream(asked, self._captures, self._in_parts, partial(self._admit, live, principal))
        return found if isinstance(found, StreamedAnswer) else _reply(entity, found)

    async def _find(
        self, principal: Principal, name: str, served_model: str | None, routing_key: str | None
    ) -> tuple[LiveEndpoint, ServedEntity]:
        """What answers a principal who may ask for it."""
        live = await self.check(principal, name)
        return live, _route(live, served_model, routing_key)

    async def check(self, principal: Principal, name: str) -> LiveEndpoint:
        """The endpoint, for a principal who may ask it. Raises NotFound, FailedPrecondition, Unavailable."""
        live = self._runtime.find(name)
        if live is None:
            await self._runtime.run_blocking(partial(self._explain_silence, principal, name))
            raise Unavailable(f"Endpoint '{name}' is about to answer; try again in a moment.")
        require(principal, Act.USE, live.securable)
        return live

    def admit(
        self, principal: Principal, name: str, served_model: str | None
    ) -> ResourceExhausted | Callable[[], None] | None:
        """A request is about to be read: what is to be said to it where there is no time for it, or what is to be
        called when it is answered; None where that is to be seen later.

        It is where somebody may not ask, and where one of several served models may be the one."""
        live = self._runtime.find(name)
        if live is None or not allows(principal, Act.USE, live.securable):
            return None
        asked = [served_model] if served_model else [each.entity for each in live.config.routes if each.percent]
        pool = live.pools.get(asked[0]) if len(asked) == 1 else None
        if pool is None:
            return None
        wait_s = pool.expect()
        if wait_s is None:
            return pool.arrived
        entity = live.config.entity(asked[0])
        metrics.refused(live.name, asked[0], entity.model.version if entity else "")
        return no_time(name, wait_s)

    async def ask(
        self, principal: Principal, entity: ServedEntity, pool: WorkerPool, *, content_type: str, body: bytes
    ) -> Answer:
        """What an entity answers to a request that is no client's: nothing is counted or kept. Raises as `query`."""
        patience_s = self._request_timeout_s
        query = _Query(principal=principal, content_type=content_type, body=body, accept=None, patience_s=patience_s)
        with pool.in_use():
            return await self._answer(query, entity, pool)

    def _admit(self, live: LiveEndpoint, principal: Principal) -> None:
        """Count a request. Raises LimitExceeded for a quota, ResourceExhausted when a rate limit is reached."""
        self._costs.admit(principal)
        if live.rate_limits:
            try:
                self._runtime.limiter.admit(live.id, live.rate_limits, principal, time.time())
            except ResourceExhausted:
                metrics.LIMITED.labels(live.name).inc()
                raise
        self._costs.count(live, principal)

    def _copy_parts(self, live: LiveEndpoint, entity: ServedEntity, query: PartsQuery, answer: Answer) -> None:
        """Let shadows answer in parts, too: those of now, as this took a while."""
        now = self._runtime.find(live.name)
        if now is not None and (now.id, now.config.version) == (live.id, live.config.version):
            self._copy(now, entity, answer, partial(self._in_parts.ask_whole, query))

    def _copy(self, live: LiveEndpoint, entity: ServedEntity, answer: Answer, ask: "_Ask") -> None:
        """Let shadows answer too, in their own time."""
        reports = self._runtime.shadow_reports
        for shadow in live.shadows:
            target = live.config.entity(shadow.entity)
            if target is None or target.name == entity.name or not _is_chosen(shadow):
                continue
            names = (live.name, target.name)
            pool = live.pools.get(target.name)
            if not reports.begin(live.id, pool.waiting if pool else 0):
                reports.drop(live.id, names)
                continue
            self._runtime.in_background(self._compare(live, target, answer, ask))

    async def _compare(self, live: LiveEndpoint, target: ServedEntity, answer: Answer, ask: "_Ask") -> None:
        reports, pool = self._runtime.shadow_reports, live.pools.get(target.name)
        try:
            with pool.in_use() if pool else nullcontext():
                await reports.compare(live.id, (live.name, target.name), answer, partial(ask, target, pool))
        finally:
            reports.end(live.id)

    async def _answer(self, query: "_Query", entity: ServedEntity, pool: WorkerPool | None) -> Answer:
        spec = await aside_unless(self._specs.knows(entity.model), partial(self._specs.of, entity.model))
        if spec is not None and self._features is not None:
            deadline = asyncio.get_running_loop().time() + query.patience_s
            exchange = Exchange(content_type=query.content_type, body=query.body, pool=pool, deadline=deadline)
            return await self._features.answer(query.principal, entity, spec, exchange)
        assert pool is not None, "what is no feature spec has a process"
        question = Question(kind=Kind.PREDICT, content_type=query.content_type, body=query.body, accept=query.accept)
        return await pool.ask(question, timeout_s=query.patience_s)

    def _explain_silence(self, principal: Principal, name: str) -> None:
        """Raise what tells why an endpoint does not answer; returns when it is about to."""
        endpoint = get_endpoint(self._database, principal, name, Act.USE)
        if endpoint.update is Update.FAILED and endpoint.active is None:
            raise FailedPrecondition(
                f"Endpoint '{name}' has no configuration that works; the state of its served models says why."
            )
        if endpoint.active is None:
            raise Unavailable(f"Endpoint '{name}' is still being created; wait until it is ready.")


_Ask = Callable[[ServedEntity, WorkerPool | None], Awaitable[Answer]]
"""Asks another served entity the same."""


@dataclass(frozen=True, kw_only=True)
class _Query:
    """A request for a prediction."""

    principal: Principal
    content_type: str
    body: bytes
    accept: str | None
    patience_s: float


def _reply(entity: ServedEntity, answer: Answer) -> Reply:
    return Reply(
        entity=entity.name,
        version=entity.model.version,
        status=answer.status,
        content_type=answer.content_type,
        body=answer.body,
    )


def _is_chosen(shadow: Shadow) -> bool:
    return random.random() * 100 < shadow.percent  # noqa: S311 - a share


def _route(live: LiveEndpoint, served_model: str | None, key: str | None) -> ServedEntity:
    name = served_model or entity_for(live.config.routes, endpoint_id=live.id, key=key)
    entity = live.config.entity(name)
    if entity is None:
        raise NotFound(f"Endpoint '{live.name}' has no served model '{name[:80]}'.")
    return entity
