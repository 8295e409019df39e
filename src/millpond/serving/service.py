"""What one can do with endpoints: make, look at, change and delete them; `predictions` asks them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import Connection

from millpond.identity import acts, grants
from millpond.identity.access import WORKSPACE, Act, Securable, allows, require
from millpond.identity.domain import Principal
from millpond.identity.permissions import ObjectType
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import (
    Conflict,
    InvalidArgument,
    NotFound,
)
from millpond.kernel.ids import new_id
from millpond.kernel.logs import mask_secrets
from millpond.kernel.process import end_of
from millpond.lineage.domain import SeenNode
from millpond.serving import metrics, store
from millpond.serving.capture import AutoCapture, CaptureRequest, Captures, CaptureState, NoCaptures, attach, prepared
from millpond.serving.costs import EndpointCosts
from millpond.serving.domain import (
    CREATING,
    Concurrency,
    Config,
    Endpoint,
    ModelVersion,
    Notifications,
    Route,
    ServedEntity,
    Update,
    WorkloadSize,
    WorkloadType,
    check_endpoint_name,
    check_entities,
    check_routes,
)
from millpond.serving.features import ServedFeatures
from millpond.serving.gpus import check_gpus
from millpond.serving.limits import RateLimit, check_limits
from millpond.serving.models import ModelCache
from millpond.serving.openapi import ModelInput, openapi_document, read_model_input
from millpond.serving.options import EndpointOptions
from millpond.serving.ports import Deployed, Served, nobody_listens
from millpond.serving.predicting import Predictions
from millpond.serving.reach import get_endpoint, lock_endpoint
from millpond.serving.references import Asked
from millpond.serving.resolving import Resolver
from millpond.serving.runtime import ServingRuntime
from millpond.serving.specs import Specs
from millpond.serving.variables import Variables

_LOG_TAIL_BYTES = 256 << 10


@dataclass(frozen=True, kw_only=True)
class EntityRequest:
    """A served entity as a client asks for it."""

    name: str
    asked: Asked
    workload_size: WorkloadSize = WorkloadSize.SMALL
    workload_type: WorkloadType = WorkloadType.CPU
    provisioned: Concurrency | None = None
    scale_to_zero: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


class ServingService:
    """Endpoints, for users. All of it blocks; `runtime` makes happen what is written here."""

    def __init__(
        self,
        *,
        database: Database,
        resolver: Resolver,
        models: ModelCache,
        variables: Variables,
        runtime: ServingRuntime,
        specs: Specs,
        features: ServedFeatures | None,
        options: EndpointOptions,
        predictions: Predictions,
        costs: EndpointCosts,
        deployed: Deployed,
        served: Served = nobody_listens,
        captures: Captures | None = None,
    ) -> None:
        self.predictions = predictions
        self._database = database
        self._resolver = resolver
        self._models = models
        self._variables = variables
        self._runtime = runtime
        self._specs = specs
        self._features = features
        self._options = options
        self._costs = costs
        self._deployed = deployed
        self._served = served
        self._captures = captures or NoCaptures()

    # Looking

    def get_endpoint(self, principal: Principal, name: str) -> Endpoint:
        """An endpoint. Raises NotFound."""
        return get_endpoint(self._database, principal, name, Act.SEE)

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
        endpoint = get_endpoint(self._database, principal, name, Act.MANAGE)
        paths = self._runtime.launcher.log_paths(endpoint.id, _entity(endpoint, served_model))
        return mask_secrets(_tails(paths))

    def read_build_log(self, principal: Principal, name: str, served_model: str) -> str:
        """How a served model's environment was checked and the model loaded. Raises NotFound."""
        state = _entity(get_endpoint(self._database, principal, name, Act.MANAGE), served_model).state
        return f"{state.build_log}{state.deployment.value}\n{state.message}".rstrip() + "\n"

    def export_metrics(self, principal: Principal, name: str) -> bytes:
        """The endpoint's metrics in Prometheus's text format. Raises NotFound."""
        return metrics.render_endpoint(get_endpoint(self._database, principal, name, Act.SEE).name, self._runtime)

    def describe_inputs(self, principal: Principal, name: str) -> dict[str, ModelInput]:
        """What each served model takes, by its name; without those whose files are not here yet. Raises NotFound."""
        endpoint = get_endpoint(self._database, principal, name, Act.SEE)
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
        rate_limits: Sequence[RateLimit] = (),
        notifications: Notifications | None = None,
        capture: CaptureRequest | None = None,
    ) -> Endpoint:
        """Make an endpoint and begin to bring it up.

        Raises InvalidArgument, AlreadyExists, NotFound (a model version or a secret that is not there or not the
        principal's to read), LimitExceeded (a quota).
        """
        require(principal, Act.CREATE_IN, WORKSPACE)
        self._costs.check(principal, tags)
        check_endpoint_name(name)
        limits = check_limits(rate_limits)
        listening = notifications or Notifications()
        self._options.check_notifications(principal, listening)
        now = utc_now()
        served = self._resolve(principal, entities)
        flows = self._resolver.flows(served)
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
            rate_limits=limits,
            notifications=listening,
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
        before = get_endpoint(self._database, principal, name, Act.MANAGE)
        served = None if entities is None else self._resolve(principal, entities)
        base = before.active or before.pending
        flows = self._resolver.flows(served or (base.entities if base else ()))
        kept = prepared(self._captures, principal, name, base.capture if base else None, capture) if capture else None
        with self._database.write() as connection:
            endpoint = lock_endpoint(connection, principal, before.name)
            if endpoint.update is Update.IN_PROGRESS and not (endpoint.pending and endpoint.pending.followed):
                raise Conflict(f"Endpoint '{name}' is being updated; wait until that update has ended.")
            version = store.next_version(connection, endpoint.id)
            config = _next_config(endpoint, version, served, routes, kept)
            store.replace_pending(connection, endpoint.id, config, now=config.created_at)
            self._deployed(connection, principal, endpoint, config.entities, flows)
            attach(self._captures, connection, principal, (endpoint.id, endpoint.name), config.capture)
            acts.changed(connection, principal.name, "update", "endpoint", name, config_version=version)
            changed = lock_endpoint(connection, principal, name)
        self._runtime.notify(changed.id)
        return changed

    def patch_tags(self, principal: Principal, name: str, *, add: Mapping[str, str], delete: Sequence[str]) -> Endpoint:
        """Set tags and remove tags. Raises NotFound."""
        with self._database.write() as connection:
            endpoint = lock_endpoint(connection, principal, name)
            tags = {key: value for key, value in endpoint.tags.items() if key not in delete} | dict(add)
            store.write_tags(connection, endpoint.id, tags, now=utc_now())
            acts.changed(connection, principal.name, "tag", "endpoint", name)
            return lock_endpoint(connection, principal, name)

    def delete_endpoint(self, principal: Principal, name: str) -> None:
        """Delete an endpoint; requests that it has accepted are still answered. Raises NotFound."""
        with self._database.write() as connection:
            endpoint = lock_endpoint(connection, principal, name)
            store.delete_endpoint(connection, endpoint.id)
            self._served(connection, endpoint.id, endpoint.name, [])
            self._captures.detach(connection, endpoint.id)
            grants.forget(connection, [endpoint.id])
            acts.changed(connection, principal.name, "delete", "endpoint", name)
        self._runtime.withdraw(endpoint.name, endpoint.id)
        self._runtime.notify(endpoint.id)

    # Parts

    def _resolve(self, principal: Principal, requests: Sequence[EntityRequest]) -> tuple[ServedEntity, ...]:
        now = utc_now()
        served = check_entities([
            ServedEntity(
                name=request.name,
                model=self._resolver.resolve(principal, request.asked),
                reference=request.asked.reference,
                workload_size=request.workload_size,
                workload_type=request.workload_type,
                provisioned=request.provisioned,
                scale_to_zero=request.scale_to_zero,
                environment=self._variables.check(principal, request.environment),
                creator=principal.name,
                created_at=now,
            )
            for request in requests
        ])  # fmt: skip
        check_gpus(served)
        return served


def _find(connection: Connection, endpoint_id: str) -> Securable:
    endpoint = store.find_endpoint_by_id(connection, endpoint_id)
    if endpoint is None:
        raise NotFound(f"Endpoint '{endpoint_id[:80]}' does not exist.")
    return replace(endpoint.securable, name=endpoint_id)  # whoever may not see it must not learn its name


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


def _entity(endpoint: Endpoint, name: str) -> ServedEntity:
    """The served entity of the pending configuration, else of the active one."""
    for config in (endpoint.pending, endpoint.active):
        entity = config.entity(name) if config else None
        if entity:
            return entity
    raise NotFound(f"Endpoint '{endpoint.name}' has no served model '{name[:80]}'.")


def _tails(paths: Mapping[int, Path]) -> str:
    """The ends of the logs of replicas, each under its number where there are several."""
    texts = {number: end_of(path, _LOG_TAIL_BYTES // len(paths)) for number, path in sorted(paths.items())}
    if len(texts) < 2:
        return "".join(texts.values())
    return "\n".join(f"=== replica {number} ===\n{text}" for number, text in texts.items())
