"""Endpoints, configurations and served entities, and the pure rules about them."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from millpond.identity.access import Securable
from millpond.kernel.errors import InvalidArgument
from millpond.secrets.references import has_references
from millpond.serving.capture import AutoCapture
from millpond.serving.limits import RateLimit
from millpond.serving.references import Reference

MAX_ENTITIES = 10
MAX_CONCURRENCY = 256
MAX_ENVIRONMENT_BYTES = 64 << 10
"""Names and values of all variables of one served entity, with its secrets put in."""
_ENDPOINT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_ENTITY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
NETWORK = "MILLPOND_NETWORK"
"""The variable by which a served entity asks for the network."""
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Deployment(Enum):
    """How a served entity is doing; the values are the SDK's ServedModelStateDeployment."""

    CREATING = "DEPLOYMENT_CREATING"
    READY = "DEPLOYMENT_READY"
    RECOVERING = "DEPLOYMENT_RECOVERING"
    """It was ready, its process ended, and another one is being started."""
    FAILED = "DEPLOYMENT_FAILED"
    ABORTED = "DEPLOYMENT_ABORTED"
    """Stopped before it was ready, because another entity of its configuration failed."""


class Update(Enum):
    """How the pending configuration is doing; the values are the SDK's EndpointStateConfigUpdate."""

    NOT_UPDATING = "NOT_UPDATING"
    IN_PROGRESS = "IN_PROGRESS"
    FAILED = "UPDATE_FAILED"


class WorkloadSize(Enum):
    """How many requests are answered at a time. Source: databricks-sdk, ServedEntityInput.workload_size."""

    SMALL = "Small"
    MEDIUM = "Medium"
    LARGE = "Large"

    @property
    def concurrency(self) -> "Concurrency":
        """The size's range of provisioned concurrency."""
        minimum, maximum = {"Small": (4, 4), "Medium": (8, 16), "Large": (16, 64)}[self.value]
        return Concurrency(minimum=minimum, maximum=maximum)


class WorkloadType(Enum):
    """What a worker computes on. Source: databricks-sdk, ServingModelWorkloadType."""

    CPU = "CPU"
    GPU_SMALL = "GPU_SMALL"
    GPU_MEDIUM = "GPU_MEDIUM"
    GPU_LARGE = "GPU_LARGE"
    MULTIGPU_MEDIUM = "MULTIGPU_MEDIUM"

    @property
    def most_gpus(self) -> int:
        """How many GPUs a worker gets where there are so many."""
        return {"CPU": 0, "MULTIGPU_MEDIUM": 4}.get(self.value, 1)


@dataclass(frozen=True, kw_only=True)
class Concurrency:
    """Between how many requests at a time the processes of a served entity are meant for."""

    minimum: int
    maximum: int


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """A registered model version, resolved: what is served stays the same when names move. Or a feature spec."""

    name: str
    version: str
    """Empty for a feature spec."""
    source: str
    """Where its files are, as the model source understands it; of a feature spec its text."""

    @property
    def is_spec(self) -> bool:
        """Whether features are served, and no model."""
        return not self.version

    @property
    def key(self) -> str:
        """Names the version's directory in the cache: another model of the same name and number has another key."""
        return hashlib.sha256("\0".join((self.name, self.version, self.source)).encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class EntityState:
    """How a served entity is doing, and why."""

    deployment: Deployment
    message: str = ""
    build_log: str = ""


CREATING = EntityState(deployment=Deployment.CREATING, message="Waiting for a worker.")


@dataclass(frozen=True, kw_only=True)
class ServedEntity:
    """A model version, or a feature spec, and how to run it."""

    name: str
    model: ModelVersion
    reference: Reference | None = None
    """What names the version, where it was asked for by an alias or a stage: `model` is what that named last."""
    reference_note: str = ""
    """Why the endpoint does not go where the reference points; empty where it does."""
    workload_size: WorkloadSize = WorkloadSize.SMALL
    workload_type: WorkloadType = WorkloadType.CPU
    provisioned: Concurrency | None = None
    """Where a client said it itself, instead of by a size."""
    scale_to_zero: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    creator: str
    created_at: datetime
    state: EntityState = CREATING

    @property
    def concurrency(self) -> Concurrency:
        """Between how many requests at a time it moves."""
        return self.provisioned or self.workload_size.concurrency

    @property
    def asks_for_network(self) -> bool:
        """Whether its processes are to reach others, where it may ask for that."""
        return self.environment.get(NETWORK) == "true"

    @property
    def worker_key(self) -> str:
        """The same for two entities that one worker can serve: a new configuration keeps running what it shares."""
        needs: list[object] = [self.model.key, sorted(self.environment.items())]
        if any(map(has_references, self.environment.values())):
            needs.append(self.creator)  # whose right it is to read the secrets
        if self.workload_type is not WorkloadType.CPU:
            needs.append(self.workload_type.value)
        return hashlib.sha256(json.dumps(needs).encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class Route:
    """The share of an endpoint's traffic that one served entity gets."""

    entity: str
    percent: int


@dataclass(frozen=True, kw_only=True)
class Config:
    """What an endpoint serves."""

    version: int
    entities: tuple[ServedEntity, ...]
    routes: tuple[Route, ...]
    created_at: datetime
    followed: bool = False
    """Made by the server, because an alias or a stage moved or a canary took a step, and not because somebody asked."""
    capture: AutoCapture | None = None
    """Where its requests are kept, if they are or were."""

    def entity(self, name: str) -> ServedEntity | None:
        """The served entity with a name."""
        return next((entity for entity in self.entities if entity.name == name), None)


@dataclass(frozen=True, kw_only=True)
class Notifications:
    """To which addresses mail goes when an update ends."""

    on_update_success: tuple[str, ...] = ()
    on_update_failure: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Shadow:
    """A served entity that gets copies of a share of the requests which others answer."""

    entity: str
    percent: int


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to an endpoint or to the processes of one of its entities."""

    at: datetime
    entity: str
    """The served entity's name; empty for the endpoint's own."""
    kind: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A named address for predictions."""

    id: str
    name: str
    creator: str
    description: str
    created_at: datetime
    updated_at: datetime
    tags: Mapping[str, str]
    route_optimized: bool
    rate_limits: tuple[RateLimit, ...] = ()
    notifications: Notifications = Notifications()
    shadows: tuple[Shadow, ...] = ()
    active: Config | None
    pending: Config | None
    """The configuration being brought up, or the last one that failed."""
    update: Update

    @property
    def ready(self) -> bool:
        """Whether every served entity of the active configuration answers."""
        return self.active is not None and all(
            entity.state.deployment is Deployment.READY for entity in self.active.entities
        )

    @property
    def upcoming(self) -> Config | None:
        """The configuration being brought up, if there is one."""
        return self.pending if self.update is Update.IN_PROGRESS else None

    @property
    def securable(self) -> Securable:
        """This endpoint as the permission rule sees it."""
        return endpoint_securable(self.id, self.name, self.creator)


def endpoint_securable(endpoint_id: str, name: str, owner: str) -> Securable:
    """An endpoint as the permission rule sees it."""
    return Securable(kind="endpoint", name=name, owners=(owner,), ids=(endpoint_id,))


# Checks of what a client asks for


def check_endpoint_name(name: str) -> str:
    """The name. Raises InvalidArgument."""
    if not _ENDPOINT_NAME.fullmatch(name):
        raise InvalidArgument(
            f"Endpoint name '{name[:80]}' is not valid: use up to 63 letters, digits, dashes and underscores, "
            "beginning with a letter or digit."
        )
    return name


def default_entity_name(model_name: str, version: str) -> str:
    """The name of a served entity that was given none: the model's last name and its version, if it has one."""
    name = re.sub(r"[^A-Za-z0-9_-]", "-", model_name.rsplit(".", 1)[-1])
    return f"{name}-{version}" if version else name


def check_entities(entities: Sequence[ServedEntity]) -> tuple[ServedEntity, ...]:
    """The served entities of a configuration. Raises InvalidArgument naming what is wrong."""
    if not 1 <= len(entities) <= MAX_ENTITIES:
        raise InvalidArgument(f"A configuration has 1 to {MAX_ENTITIES} served entities; this one has {len(entities)}.")
    names = [entity.name for entity in entities]
    for name in names:
        if not _ENTITY_NAME.fullmatch(name):
            raise InvalidArgument(
                f"Served entity name '{name[:80]}' is not valid: use letters, digits, dashes and underscores."
            )
        if names.count(name) > 1:
            raise InvalidArgument(f"Two served entities are named '{name}'; give each a name of its own.")
    return tuple(entities)


def check_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Environment variables for a worker. Raises InvalidArgument naming the wrong one."""
    for name, value in variables.items():
        if name == NETWORK and value not in {"true", "false"}:
            raise InvalidArgument(f"environment_vars: {NETWORK} is true or false, not '{value[:20]}'.")
        if not _VARIABLE_NAME.fullmatch(name) or (name.startswith("MILLPOND_") and name != NETWORK):
            raise InvalidArgument(f"environment_vars: '{name[:80]}' is no name; use letters, digits and underscores.")
        if "\0" in value:
            raise InvalidArgument(f"environment_vars: the value of {name} has a NUL character, which none can have.")
    size_bytes = sum(len(name.encode()) + len(value.encode()) for name, value in variables.items())
    if size_bytes > MAX_ENVIRONMENT_BYTES:
        raise InvalidArgument(f"environment_vars have {size_bytes} bytes; at most {MAX_ENVIRONMENT_BYTES} are allowed.")
    return dict(variables)


def check_provisioned(minimum: int | None, maximum: int | None, *, scale_to_zero: bool) -> Concurrency | None:
    """A range of concurrency as a client gives it; None where it gives none. Raises InvalidArgument.

    Source: Databricks, "Create custom model serving endpoints": multiples of 4, and 0 only with scale to zero.
    """
    if minimum is None and maximum is None:
        return None
    if minimum is None or maximum is None:
        raise InvalidArgument("Give min_provisioned_concurrency and max_provisioned_concurrency, not one of them.")
    if minimum % 4 or maximum % 4 or not 0 <= minimum <= maximum <= MAX_CONCURRENCY or maximum == 0:
        raise InvalidArgument(
            f"The provisioned concurrency {minimum} to {maximum} is not valid: give multiples of 4 up to "
            f"{MAX_CONCURRENCY}, the smaller one first."
        )
    if minimum == 0 and not scale_to_zero:
        raise InvalidArgument("min_provisioned_concurrency is 0 only with scale_to_zero_enabled.")
    return Concurrency(minimum=minimum, maximum=maximum)


def check_routes(routes: Sequence[Route], entities: Sequence[ServedEntity]) -> tuple[Route, ...]:
    """The routes of a configuration; none given means that its only entity gets all.

    Raises InvalidArgument unless each names an entity, once, and the shares add up to 100.
    """
    names = [entity.name for entity in entities]
    if not routes:
        if len(names) > 1:
            raise InvalidArgument("traffic_config is needed to divide the traffic among several served entities.")
        return (Route(entity=names[0], percent=100),)
    for route in routes:
        if route.entity not in names:
            raise InvalidArgument(
                f"traffic_config: no served entity is named '{route.entity[:80]}'; there are {', '.join(names)}."
            )
        if not 0 <= route.percent <= 100:
            raise InvalidArgument(f"traffic_config: {route.percent} % for '{route.entity}' is not within 0 and 100.")
    if len({route.entity for route in routes}) < len(routes):
        raise InvalidArgument("traffic_config names a served entity twice.")
    if sum(route.percent for route in routes) != 100:
        raise InvalidArgument(f"traffic_config: the shares add up to {sum(r.percent for r in routes)} %, not to 100.")
    return tuple(routes)


def choose(routes: Sequence[Route], point: float) -> str:
    """The entity whose share of the traffic holds a point (0 <= point < 100)."""
    reached = 0
    for route in routes:
        reached += route.percent
        if point < reached:
            return route.entity
    raise ValueError(f"{point} is not within 0 and 100, or the routes do not add up")


# What to do next


class Outcome(Enum):
    """What becomes of the configuration being brought up."""

    UNDECIDED = "undecided"
    PROMOTE = "promote"
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The next steps for one endpoint, decided from what is desired and what runs."""

    start: tuple[ServedEntity, ...]
    """Entities for which no worker runs."""
    outcome: Outcome
    keep: frozenset[str]
    """Keys of the workers that are still wanted when the outcome is written; all others are drained and stopped."""
    states: Mapping[tuple[int, str], EntityState]
    """States to write, by configuration version and entity name; only those that changed."""


def plan(endpoint: Endpoint, running: Mapping[str, EntityState]) -> Plan:
    """Decide the next steps from the desired endpoint and the states of its workers by key."""
    upcoming = endpoint.upcoming
    configs = [config for config in (endpoint.active, upcoming) if config is not None]
    wanted = {entity.worker_key: entity for config in configs for entity in config.entities}
    outcome = _outcome(endpoint.active, upcoming, running)
    survivor = upcoming if outcome is Outcome.PROMOTE else endpoint.active
    kept = [survivor, upcoming] if outcome is Outcome.UNDECIDED else [survivor]
    states = {
        (config.version, entity.name): state
        for config in configs
        for entity in config.entities
        if (state := _state(config is upcoming and outcome is Outcome.FAIL, running.get(entity.worker_key)))
        and state != entity.state
    }
    return Plan(
        start=tuple(entity for key, entity in wanted.items() if key not in running),
        outcome=outcome,
        keep=frozenset(entity.worker_key for config in kept if config for entity in config.entities),
        states=states,
    )


def _outcome(active: Config | None, upcoming: Config | None, running: Mapping[str, EntityState]) -> Outcome:
    if upcoming is None:
        return Outcome.UNDECIDED
    needed = _needed(active, upcoming)
    deployments = [running[each.worker_key].deployment if each.worker_key in running else None for each in needed]
    if Deployment.FAILED in deployments:
        return Outcome.FAIL
    return Outcome.PROMOTE if set(deployments) == {Deployment.READY} else Outcome.UNDECIDED


def _needed(active: Config | None, upcoming: Config) -> Sequence[ServedEntity]:
    """The entities that have to be ready for the traffic to move.

    All of them; but those with traffic alone where nothing has to be started, so that traffic can leave one that ends
    again and again.
    """
    known = {entity.worker_key for entity in active.entities} if active else set()
    if any(entity.worker_key not in known for entity in upcoming.entities):
        return upcoming.entities
    asked = {route.entity for route in upcoming.routes if route.percent}
    return [entity for entity in upcoming.entities if entity.name in asked]


def _state(failing: bool, state: EntityState | None) -> EntityState | None:
    if not failing or (state is not None and state.deployment is Deployment.FAILED):
        return state
    message = "Stopped, because another served entity of this configuration failed."
    return EntityState(deployment=Deployment.ABORTED, message=message, build_log=state.build_log if state else "")


def storable(text: str) -> str:
    """A text of a model as each database takes it: without halves of characters, and without zeros."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")
