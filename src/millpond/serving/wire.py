"""The JSON of the Databricks serving-endpoints API.

Source: databricks-sdk 0.156, `databricks/sdk/service/serving.py`. What a client may ask for and Millpond does not have
is refused by name; fields that we do not know are passed over.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, Field

from millpond.identity.access import Act, allows
from millpond.identity.domain import Principal
from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import InvalidArgument, NotImplementedHere
from millpond.serving.capture import AutoCapture, CaptureRequest, CaptureState
from millpond.serving.domain import (
    Concurrency,
    Config,
    Endpoint,
    Notifications,
    Route,
    ServedEntity,
    WorkloadSize,
    WorkloadType,
    check_provisioned,
    default_entity_name,
)
from millpond.serving.limits import RateLimit
from millpond.serving.references import read_asked
from millpond.serving.service import EntityRequest
from millpond.serving.wire_options import (
    EmailNotifications,
    GatewayInput,
    NotificationsInput,
    RateLimitInput,
    RateLimitsInput,
    options_json,
)

NO_CAPTURES: Mapping[str, CaptureState] = MappingProxyType({})

# Requests


class Tag(BaseModel):
    """EndpointTag."""

    key: str = Field(min_length=1, max_length=255, pattern=r"^[^\x00]+$")
    value: str = Field(default="", max_length=1000, pattern=r"^[^\x00]*$")


class _Workload(BaseModel):
    name: str | None = None
    workload_size: WorkloadSize | None = None
    workload_type: str = "CPU"
    scale_to_zero_enabled: bool = False
    environment_vars: dict[str, str] = {}
    external_model: Any = None
    instance_profile_arn: Any = None
    max_provisioned_concurrency: int | None = None
    min_provisioned_concurrency: int | None = None
    max_provisioned_throughput: int | None = None
    min_provisioned_throughput: int | None = None
    provisioned_model_units: int | None = None

    def request(self, model: str, version: str) -> EntityRequest:
        """What the service is asked to serve. Raises NotImplementedHere, InvalidArgument."""
        _refuse(self, "external_model", "instance_profile_arn", "max_provisioned_throughput",
                "min_provisioned_throughput", "provisioned_model_units")  # fmt: skip
        asked = read_asked(model, version)
        name = self.name or default_entity_name(asked.model, asked.label)
        return EntityRequest(
            name=name,
            asked=asked,
            workload_size=self.workload_size or WorkloadSize.SMALL,
            workload_type=self._type(name),
            provisioned=self._provisioned(),
            scale_to_zero=self.scale_to_zero_enabled,
            environment=self.environment_vars,
        )

    def _type(self, name: str) -> WorkloadType:
        known = {each.value: each for each in WorkloadType}
        if self.workload_type not in known:
            raise InvalidArgument(
                f"Served entity '{name[:80]}' has workload_type '{self.workload_type[:40]}', which is not known here; "
                f"there are {', '.join(known)}."
            )
        return known[self.workload_type]

    def _provisioned(self) -> Concurrency | None:
        asked = check_provisioned(
            self.min_provisioned_concurrency,
            self.max_provisioned_concurrency,
            scale_to_zero=self.scale_to_zero_enabled,
        )
        if asked and self.workload_size:
            raise InvalidArgument("Give workload_size, or min_ and max_provisioned_concurrency, not both.")
        return asked


class ServedEntityInput(_Workload):
    """A model version to serve, or a feature spec, which has no version."""

    entity_name: str | None = None
    entity_version: str | None = None
    entity_reference: str | None = None
    """As an answer has it beside the version: who gives back what they got goes on following."""

    def as_request(self) -> EntityRequest:
        """What the service is asked to serve."""
        if not self.external_model and not self.entity_name:
            raise InvalidArgument("A served entity needs entity_name, and of a model entity_version.")
        return self.request(self.entity_name or "", self.entity_reference or self.entity_version or "")


class ServedModelInput(_Workload):
    """The same in the older words."""

    model_name: str
    model_version: str
    model_reference: str | None = None

    def as_request(self) -> EntityRequest:
        """What the service is asked to serve."""
        return self.request(self.model_name, self.model_reference or self.model_version)


class RouteInput(BaseModel):
    """Route."""

    traffic_percentage: int
    served_entity_name: str | None = None
    served_model_name: str | None = None

    def as_route(self) -> Route:
        """The route. Raises InvalidArgument when it names no entity."""
        name = self.served_entity_name or self.served_model_name
        if not name:
            raise InvalidArgument("traffic_config: a route needs served_entity_name or served_model_name.")
        return Route(entity=name, percent=self.traffic_percentage)


class TrafficInput(BaseModel):
    """TrafficConfig."""

    routes: list[RouteInput] = []


class CaptureInput(BaseModel):
    """AutoCaptureConfigInput."""

    catalog_name: str | None = None
    schema_name: str | None = None
    table_name_prefix: str | None = None
    enabled: bool = True

    def as_request(self) -> CaptureRequest:
        """The capture asked for."""
        return CaptureRequest(
            catalog=self.catalog_name or None,
            schema=self.schema_name or None,
            prefix=self.table_name_prefix or None,
            enabled=self.enabled,
        )


class ConfigInput(BaseModel):
    """EndpointCoreConfigInput, and the body of update_config."""

    served_entities: list[ServedEntityInput] | None = None
    served_models: list[ServedModelInput] | None = None
    traffic_config: TrafficInput | None = None
    auto_capture_config: CaptureInput | None = None

    def entities(self) -> list[EntityRequest] | None:
        """The entities asked for; None when the request has none. Raises InvalidArgument."""
        if self.served_entities is not None and self.served_models is not None:
            raise InvalidArgument("Give served_entities or the older served_models, not both.")
        if self.served_entities is None and self.served_models is None:
            return None
        return [entity.as_request() for entity in (self.served_entities or self.served_models or [])]

    def routes(self) -> list[Route] | None:
        """The routes asked for; None when the request has none."""
        return None if self.traffic_config is None else [route.as_route() for route in self.traffic_config.routes]

    def capture(self) -> CaptureRequest | None:
        """The capture asked for; None when the request has none."""
        return None if self.auto_capture_config is None else self.auto_capture_config.as_request()


class CreateInput(BaseModel):
    """The body of create."""

    name: str
    config: ConfigInput | None = None
    description: str = Field(default="", max_length=10_000, pattern=r"^[^\x00]*$")
    tags: list[Tag] = []
    route_optimized: bool = False
    ai_gateway: GatewayInput | None = None
    budget_policy_id: Any = None
    email_notifications: EmailNotifications | None = None
    rate_limits: list[RateLimitInput] = []
    telemetry_config: Any = None

    def check(self) -> ConfigInput:
        """The configuration. Raises InvalidArgument without one, NotImplementedHere for what Millpond does not have."""
        _refuse(self, "budget_policy_id", "telemetry_config")
        if self.config is None:
            raise InvalidArgument("config is missing: say what the endpoint serves in config.served_entities.")
        return self.config

    def limits(self) -> list[RateLimit]:
        """The rate limits, which may be in two places. Raises InvalidArgument where they are in both."""
        if self.rate_limits and self.ai_gateway and self.ai_gateway.rate_limits:
            raise InvalidArgument("Give rate_limits in ai_gateway or, as it was before, beside it, not both.")
        given = RateLimitsInput(rate_limits=self.rate_limits) if self.rate_limits else self.ai_gateway
        return given.limits() if given else []

    def notifications(self) -> Notifications:
        """Who gets mail."""
        return NotificationsInput(email_notifications=self.email_notifications).notifications()


class TagsInput(BaseModel):
    """The body of patch."""

    add_tags: list[Tag] = []
    delete_tags: list[str] = []


def _refuse(body: BaseModel, *names: str) -> None:
    for name in names:
        if getattr(body, name):
            raise NotImplementedHere(f"{name} is not supported by this Millpond; leave it out.")


# Answers


def summary(endpoint: Endpoint) -> dict[str, Any]:
    """ServingEndpoint, as in a list."""
    found = _common(endpoint)
    if endpoint.active:
        entities = endpoint.active.entities
        found["config"] = {
            "served_entities": [_entity_spec(entity, "entity") for entity in entities],
            "served_models": [_entity_spec(entity, "model") for entity in entities],
        }
    return found


def detailed(
    endpoint: Endpoint, principal: Principal, base_url: str, captures: Mapping[str, CaptureState] = NO_CAPTURES
) -> dict[str, Any]:
    """ServingEndpointDetailed; `captures` are the states of inference tables by their ids."""
    may = [level for act, level in _LEVELS if allows(principal, act, endpoint.securable)]
    found = _common(endpoint) | {
        "route_optimized": endpoint.route_optimized,
        "permission_level": may[0] if may else "CAN_VIEW",
        "data_plane_info": {"query_info": _query_info(endpoint, base_url)},
    }
    found |= options_json(endpoint)
    if endpoint.active:
        found["config"] = _config(endpoint.active, captures)
    if endpoint.pending:
        found["pending_config"] = _config(endpoint.pending, captures) | {
            "start_time": epoch_ms(endpoint.pending.created_at)
        }
    return found


_LEVELS = ((Act.MANAGE, "CAN_MANAGE"), (Act.USE, "CAN_QUERY"))


def tags(endpoint: Endpoint) -> list[dict[str, str]]:
    """EndpointTag of each tag."""
    return [{"key": key, "value": value} for key, value in sorted(endpoint.tags.items())]


def _common(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "name": endpoint.name,
        "creator": endpoint.creator,
        "description": endpoint.description,
        "creation_timestamp": epoch_ms(endpoint.created_at),
        "last_updated_timestamp": epoch_ms(endpoint.updated_at),
        "state": {"ready": "READY" if endpoint.ready else "NOT_READY", "config_update": endpoint.update.value},
        "tags": tags(endpoint),
    }


def _query_info(endpoint: Endpoint, base_url: str) -> dict[str, str]:
    url = f"{base_url}/serving-endpoints/{endpoint.name}/invocations"
    path = f"/serving-endpoints/{endpoint.name}"  # what a token for this endpoint alone is narrowed to
    details = [{"type": "workspace_permission", "object_type": "serving-endpoints", "object_path": path,
                "actions": ["query_inference_endpoint"]}]  # fmt: skip
    return {"endpoint_url": url, "authorization_details": json.dumps(details)}


def _config(config: Config, captures: Mapping[str, CaptureState]) -> dict[str, Any]:
    capture = {} if config.capture is None else {"auto_capture_config": _capture(config.capture, captures)}
    return {
        **capture,
        "config_version": config.version,
        "served_entities": [_entity(entity, "entity") for entity in config.entities],
        "served_models": [_entity(entity, "model") for entity in config.entities],
        "traffic_config": {"routes": [_route(route) for route in config.routes]},
    }


def _capture(capture: AutoCapture, captures: Mapping[str, CaptureState]) -> dict[str, Any]:
    """AutoCaptureConfigOutput."""
    told: dict[str, Any] = {
        "catalog_name": capture.catalog,
        "schema_name": capture.schema,
        "table_name_prefix": capture.prefix,
        "enabled": capture.enabled,
    }
    state = captures.get(capture.table_id)
    if state is not None:
        table = {"name": state.name, "status": state.status, "status_message": state.message}
        told["state"] = {"payload_table": table}
    return told


def _route(route: Route) -> dict[str, Any]:
    return {
        "served_entity_name": route.entity,
        "served_model_name": route.entity,
        "traffic_percentage": route.percent,
    }


def _entity(entity: ServedEntity, prefix: str) -> dict[str, Any]:
    return _entity_spec(entity, prefix) | {
        **_size(entity),
        "workload_type": entity.workload_type.value,
        "scale_to_zero_enabled": entity.scale_to_zero,
        "environment_vars": dict(entity.environment),
        "creator": entity.creator,
        "creation_timestamp": epoch_ms(entity.created_at),
        "state": {
            "deployment": entity.state.deployment.value,
            "deployment_state_message": _told(entity),
        },
    }


def _size(entity: ServedEntity) -> dict[str, Any]:
    asked = entity.provisioned
    if asked is None:
        return {"workload_size": entity.workload_size.value}
    return {"min_provisioned_concurrency": asked.minimum, "max_provisioned_concurrency": asked.maximum}


def _told(entity: ServedEntity) -> str:
    """The state in words, with what names the version: clients drop fields that they do not know."""
    follows = f"Follows {entity.reference.words}. {entity.reference_note}" if entity.reference else ""
    return "\n".join(text for text in (follows.strip(), entity.state.message) if text)


def _entity_spec(entity: ServedEntity, prefix: str) -> dict[str, Any]:
    """`prefix` is entity, or model in the older words."""
    version = {} if entity.model.is_spec else {f"{prefix}_version": entity.model.version}
    reference = {f"{prefix}_reference": str(entity.reference)} if entity.reference else {}
    return {"name": entity.name, f"{prefix}_name": entity.model.name, **version, **reference}
