"""What one can do with endpoints: make, look at, change, delete, and ask them for predictions."""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from millpond.feature_serving.service import aside_unless
from millpond.feature_serving.specs import parse_spec
from millpond.identity import acts, grants
from millpond.identity.access import WORKSPACE, Act, Securable, allows, require
from millpond.identity.domain import Principal
from millpond.identity.permissions import ObjectType
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import (
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    MillpondError,
    NotFound,
    NotImplementedHere,
    Unavailable,
)
from millpond.kernel.ids import new_id
from millpond.kernel.logs import mask_secrets
from millpond.lineage.domain import ColumnFlow, SeenNode
from millpond.serving import metrics, store
from millpond.serving.capture import AutoCapture, CaptureRequest, Captures, CaptureState, NoCaptures, attach, prepared
from millpond.serving.domain import (
    CREATING,
    Config,
    Endpoint,
    ModelVersion,
    Route,
    ServedEntity,
    Update,
    WorkloadSize,
    check_endpoint_name,
    check_entities,
    check_routes,
    choose,
    endpoint_securable,
)
from millpond.serving.features import Exchange, ServedFeatures, called
from millpond.serving.frames import Kind
from millpond.serving.keeping import keeping_of, refusal
from millpond.serving.models import ModelCache
from millpond.serving.openapi import ModelInput, openapi_document, read_model_input
from millpond.serving.pool import WorkerPool
from millpond.serving.ports import Deployed, ModelSource, Served, nobody_listens
from millpond.serving.runtime import LiveEndpoint, ServingRuntime
from millpond.serving.specs import Specs
from millpond.serving.variables import Variables
from millpond.serving.worker_process import Answer, Question

_LOG_TAIL_BYTES = 256 << 10


@dataclass(frozen=True, kw_only=True)
class EntityRequest:
    """A served entity as a client asks for it."""

    name: str
    model: str
    version: str
    """Empty for a feature spec."""
    workload_size: WorkloadSize = WorkloadSize.SMALL
    scale_to_zero: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a served model answered: predictions, or its refusal of the request."""

    entity: str
    """The name of the served entity."""
    status: int
    content_type: str
    body: bytes


class ServingService:
    """Endpoints, for users. All but `query` blocks; `runtime` makes happen what is written here."""

    def __init__(
        self,
        *,
        database: Database,
        source: ModelSource,
        models: ModelCache,
        variables: Variables,
        runtime: ServingRuntime,
        specs: Specs,
        features: ServedFeatures | None,
        deployed: Deployed,
        request_timeout_s: float,
        served: Served = nobody_listens,
        captures: Captures | None = None,
    ) -> None:
        self._database = database
        self._source = source
        self._models = models
        self._variables = variables
        self._runtime = runtime
        self._specs = specs
        self._features = features
        self._deployed = deployed
        self._request_timeout_s = request_timeout_s
        self._served = served
        self._captures = captures or NoCaptures()

    # Looking

    def get_endpoint(self, principal: Principal, name: str) -> Endpoint:
        """An endpoint. Raises NotFound."""
        return self._get(principal, name, Act.SEE)

    def list_endpoints(self, principal: Principal) -> tuple[Endpoint, ...]:
        """The endpoints that the principal may see, by name."""
        with self._database.read() as connection:
            found = store.list_endpoints(connection)
        return tuple(endpoint for endpoint in found if allows(principal, Act.SEE, endpoint.securable))

    def see_nodes(self, principal: Principal, found: Sequence[SeenNode]) -> dict[str, SeenNode]:
        """Of endpoints in lineage those that the principal may see, under their names of now."""
        names = {endpoint.id: endpoint.name for endpoint in self.list_endpoints(principal)}
        return {node.id: replace(node, name=names[node.key]) for node in found if node.key in names}

    def read_logs(self, principal: Principal, name: str, served_model: str) -> str:
        """The end of what a served model has printed. Raises NotFound."""
        endpoint = self._get(principal, name, Act.MANAGE)
        return mask_secrets(_tail(self._runtime.launcher.log_path(endpoint.id, _entity(endpoint, served_model))))

    def read_build_log(self, principal: Principal, name: str, served_model: str) -> str:
        """How a served model's environment was checked and the model loaded. Raises NotFound."""
        state = _entity(self._get(principal, name, Act.MANAGE), served_model).state
        return f"{state.build_log}{state.deployment.value}\n{state.message}".rstrip() + "\n"

    def export_metrics(self, principal: Principal, name: str) -> bytes:
        """The endpoint's metrics in Prometheus's text format. Raises NotFound."""
        return metrics.render_endpoint(self._get(principal, name, Act.SEE).name)

    def describe_inputs(self, principal: Principal, name: str) -> dict[str, ModelInput]:
        """What each served model takes, by its name; without those whose files are not here yet. Raises NotFound."""
        endpoint = self._get(principal, name, Act.SEE)
        config = endpoint.active or endpoint.pending
        found = ((entity.name, self._describe_input(entity.model)) for entity in (config.entities if config else ()))
        return {entity: told for entity, told in found if told is not None}

    def _describe_input(self, model: ModelVersion) -> ModelInput | None:
        path = self._models.find(model)
        told = None if path is None else read_model_input(path)
        spec = self._specs.of(model)
        return told if spec is None or self._features is None else self._features.describe_input(spec, told)

    def describe_api(self, principal: Principal, name: str, base_url: str) -> dict[str, object]:
        """The OpenAPI document of the endpoint's invocations. Raises NotFound."""
        return openapi_document(name, base_url, self.describe_inputs(principal, name))

    def capture_states(self, endpoint: Endpoint) -> dict[str, CaptureState]:
        """How the inference tables of an endpoint's configurations are doing, by their ids."""
        configs = (endpoint.active, endpoint.pending)
        kept = {config.capture.table_id for config in configs if config and config.capture}
        return self._captures.states(sorted(kept)) if kept else {}

    @staticmethod
    def permission_types() -> tuple[ObjectType, ...]:
        """Endpoints as objects with permission levels, by their ids."""
        return (ObjectType(path="serving-endpoints", name="serving-endpoint", kind="endpoint", find=_find),)

    # Changing

    def create_endpoint(
        self,
        principal: Principal,
        name: str,
        *,
        entities: Sequence[EntityRequest],
        routes: Sequence[Route] | None = None,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        route_optimized: bool = False,
        capture: CaptureRequest | None = None,
    ) -> Endpoint:
        """Make an endpoint and begin to bring it up.

        Raises InvalidArgument, AlreadyExists, NotFound (a model version or a secret that is not there or not the
        principal's to read).
        """
        require(principal, Act.CREATE_IN, WORKSPACE)
        check_endpoint_name(name)
        now = utc_now()
        served = self._resolve(principal, entities)
        flows = self._flows(served)
        config = Config(
            version=1,
            entities=served,
            routes=check_routes(routes or (), served),
            created_at=now,
            capture=prepared(self._captures, principal, name, None, capture),
        )
        endpoint = Endpoint(
            id=new_id(),
            name=name,
            creator=principal.name,
            description=description,
            created_at=now,
            updated_at=now,
            tags=tags or {},
            route_optimized=route_optimized,
            active=None,
            pending=config,
            update=Update.IN_PROGRESS,
        )
        with self._database.write() as connection:
            store.insert_endpoint(connection, endpoint)
            self._deployed(connection, principal, endpoint, served, flows)
            attach(self._captures, connection, principal, (endpoint.id, endpoint.name), config.capture)
            acts.changed(connection, principal.name, "create", "endpoint", name)
        self._runtime.notify(endpoint.id)
        return endpoint

    def update_config(
        self,
        principal: Principal,
        name: str,
        *,
        entities: Sequence[EntityRequest] | None,
        routes: Sequence[Route] | None,
        capture: CaptureRequest | None = None,
    ) -> Endpoint:
        """Begin to bring up another configuration; what is left out stays as it is now.

        Raises NotFound, InvalidArgument, Conflict while an update is under way.
        """
        before = self._get(principal, name, Act.MANAGE)
        served = None if entities is None else self._resolve(principal, entities)
        base = before.active or before.pending
        flows = self._flows(served or (base.entities if base else ()))
        kept = prepared(self._captures, principal, name, base.capture if base else None, capture) if capture else None
        with self._database.write() as connection:
            endpoint = self._lock(connection, principal, before.name)
            if endpoint.update is Update.IN_PROGRESS:
                raise Conflict(f"Endpoint '{name}' is being updated; wait until that update has ended.")
            version = store.next_version(connection, endpoint.id)
            config = _next_config(endpoint, version, served, routes, kept)
            store.replace_pending(connection, endpoint.id, config, now=config.created_at)
            self._deployed(connection, principal, endpoint, config.entities, flows)
            attach(self._captures, connection, principal, (endpoint.id, endpoint.name), config.capture)
            acts.changed(connection, principal.name, "update", "endpoint", name, config_version=version)
            changed = self._lock(connection, principal, name)
        self._runtime.notify(changed.id)
        return changed

    def patch_tags(self, principal: Principal, name: str, *, add: Mapping[str, str], delete: Sequence[str]) -> Endpoint:
        """Set tags and remove tags. Raises NotFound."""
        with self._database.write() as connection:
            endpoint = self._lock(connection, principal, name)
            tags = {key: value for key, value in endpoint.tags.items() if key not in delete} | dict(add)
            store.write_tags(connection, endpoint.id, tags, now=utc_now())
            acts.changed(connection, principal.name, "tag", "endpoint", name)
            return self._lock(connection, principal, name)

    def delete_endpoint(self, principal: Principal, name: str) -> None:
        """Delete an endpoint; requests that it has accepted are still answered. Raises NotFound."""
        with self._database.write() as connection:
            endpoint = self._lock(connection, principal, name)
            store.delete_endpoint(connection, endpoint.id)
            self._served(connection, endpoint.id, endpoint.name, [])
            self._captures.detach(connection, endpoint.id)
            grants.forget(connection, [endpoint.id])
            acts.changed(connection, principal.name, "delete", "endpoint", name)
        self._runtime.withdraw(endpoint.name, endpoint.id)
        self._runtime.notify(endpoint.id)

    # Predicting

    async def query(
        self,
        principal: Principal,
        name: str,
        *,
        content_type: str,
        body: bytes,
        served_model: str | None = None,
        client_request_id: str | None = None,
    ) -> Reply:
        """Ask an endpoint (or one of its served models, past the traffic split) for a prediction.

        Raises NotFound, FailedPrecondition, Unavailable, StorageFull (it cannot be kept), and what `WorkerPool.ask`
        raises. A refusal by the model is an answer.
        """
        live = self._runtime.find(name)
        if live is None:
            await self._runtime.run_blocking(partial(self._explain_silence, principal, name))
            raise Unavailable(f"Endpoint '{name}' is about to answer; try again in a moment.")
        require(principal, Act.USE, endpoint_securable(live.id, live.name, live.creator))
        entity = _route(live, served_model)
        keeping = keeping_of(self._captures, live, principal, content_type, body)
        began = time.perf_counter()
        failure: MillpondError | None = None
        status = "500"
        try:
            answer = await self._answer(principal, entity, live.pools.get(entity.name), content_type, body)
            status = str(answer.status)
        except MillpondError as error:
            failure, answer = error, refusal(error)
            status = str(answer.status)
        finally:
            seconds = time.perf_counter() - began
            metrics.REQUESTS.labels(live.name, entity.name, status).inc()
            metrics.SECONDS.labels(live.name, entity.name).observe(seconds)
        if keeping is not None:
            await keeping.end(entity, answer, seconds, client_id=client_request_id, is_direct=served_model is not None)
        if failure is not None:
            raise failure
        return Reply(entity=entity.name, status=answer.status, content_type=answer.content_type, body=answer.body)

    async def _answer(
        self, principal: Principal, entity: ServedEntity, pool: WorkerPool | None, content_type: str, body: bytes
    ) -> Answer:
        spec = await aside_unless(self._specs.knows(entity.model), partial(self._specs.of, entity.model))
        if spec is not None and self._features is not None:
            deadline = asyncio.get_running_loop().time() + self._request_timeout_s
            exchange = Exchange(content_type=content_type, body=body, pool=pool, deadline=deadline)
            return await self._features.answer(principal, entity, spec, exchange)
        assert pool is not None, "what is no feature spec has a process"
        question = Question(kind=Kind.PREDICT, content_type=content_type, body=body)
        return await pool.ask(question, timeout_s=self._request_timeout_s)

    def _explain_silence(self, principal: Principal, name: str) -> None:
        """Raise what tells why an endpoint does not answer; returns when it is about to."""
        endpoint = self._get(principal, name, Act.USE)
        if endpoint.update is Update.FAILED and endpoint.active is None:
            raise FailedPrecondition(
                f"Endpoint '{name}' has no configuration that works; the state of its served models says why."
            )
        if endpoint.active is None:
            raise Unavailable(f"Endpoint '{name}' is still being created; wait until it is ready.")

    # Parts

    def _get(self, principal: Principal, name: str, act: Act) -> Endpoint:
        with self._database.read() as connection:
            endpoint = store.find_endpoint(connection, name=name)
        return _checked(principal, act, name, endpoint)

    def _lock(self, connection: Connection, principal: Principal, name: str) -> Endpoint:
        return _checked(principal, Act.MANAGE, name, store.lock_endpoint(connection, name=name))

    def _resolve(self, principal: Principal, requests: Sequence[EntityRequest]) -> tuple[ServedEntity, ...]:
        now = utc_now()
        return check_entities([
            ServedEntity(
                name=request.name,
                model=self._resolve_model(principal, request),
                workload_size=request.workload_size,
                scale_to_zero=request.scale_to_zero,
                environment=self._variables.check(principal, request.environment),
                creator=principal.name,
                created_at=now,
            )
            for request in requests
        ])  # fmt: skip

    def _resolve_model(self, principal: Principal, request: EntityRequest) -> ModelVersion:
        """The version or spec; what features it needs are there, and the principal's to read."""
        model = self._source.find_version(principal, request.model, request.version)
        text = self._source.find_spec(principal, model)
        if text is None:
            return model
        if self._features is None:
            raise NotImplementedHere(f"{called(model)} needs features, which are not served here.")
        spec = parse_spec(text)
        self._features.check(principal, model, spec)
        self._specs.keep(model, spec)
        return model

    def _flows(self, entities: Sequence[ServedEntity]) -> list[ColumnFlow]:
        """What the entities read of feature tables."""
        specs = [spec for entity in entities if (spec := self._specs.of(entity.model)) is not None]
        return [flow for spec in specs for flow in self._features.flows(spec)] if self._features else []


def _find(connection: Connection, endpoint_id: str) -> Securable:
    endpoint = store.find_endpoint_by_id(connection, endpoint_id)
    if endpoint is None:
        raise NotFound(f"Endpoint '{endpoint_id[:80]}' does not exist.")
    return replace(endpoint.securable, name=endpoint_id)  # whoever may not see it must not learn its name


def _checked(principal: Principal, act: Act, name: str, endpoint: Endpoint | None) -> Endpoint:
    """The endpoint, if it exists and the principal may; the same NotFound for what is not there and not theirs."""
    if endpoint is None:
        raise NotFound(f"Endpoint '{name[:80]}' does not exist.")
    require(principal, act, endpoint.securable)
    return endpoint


def _next_config(
    endpoint: Endpoint,
    version: int,
    served: tuple[ServedEntity, ...] | None,
    routes: Sequence[Route] | None,
    capture: AutoCapture | None,
) -> Config:
    base = endpoint.active or endpoint.pending
    if served is None:
        if base is None or (routes is None and capture is None):
            raise InvalidArgument("The update is empty: give served_entities, traffic_config or both.")
        served = tuple(replace(entity, state=CREATING) for entity in base.entities)
        routes = base.routes if routes is None else routes
    elif routes is None and len(served) > 1 and base is not None:
        routes = base.routes
    return Config(
        version=version,
        entities=served,
        routes=check_routes(routes or (), served),
        created_at=utc_now(),
        capture=capture or (base.capture if base else None),
    )


def _route(live: LiveEndpoint, served_model: str | None) -> ServedEntity:
    name = served_model or choose(live.config.routes, random.random() * 100)  # noqa: S311 - a split, not a secret
    entity = live.config.entity(name)
    if entity is None:
        raise NotFound(f"Endpoint '{live.name}' has no served model '{name[:80]}'.")
    return entity


def _entity(endpoint: Endpoint, name: str) -> ServedEntity:
    """The served entity of the pending configuration, else of the active one."""
    for config in (endpoint.pending, endpoint.active):
        entity = config.entity(name) if config else None
        if entity:
            return entity
    raise NotFound(f"Endpoint '{endpoint.name}' has no served model '{name[:80]}'.")


def _tail(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, 2) - _LOG_TAIL_BYTES))
        return stream.read().decode(errors="replace")
