"""Feature-serving endpoints from the user's side.

Source of names and arguments: Databricks' public guide "Feature Serving endpoints" and its reference of
`databricks.feature_engineering.entities.feature_serving_endpoint`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from millpond.features.connection import Connection

_API = "/api/2.0/serving-endpoints"


@dataclass(frozen=True, kw_only=True)
class ServedEntity:
    """A feature spec to serve."""

    feature_spec_name: str
    name: str | None = None
    workload_size: str = "Small"
    """Small, Medium or Large, in any case."""
    scale_to_zero_enabled: bool = True
    instance_profile_arn: str | None = None


@dataclass(frozen=True, kw_only=True)
class EndpointCoreConfig:
    """What an endpoint serves."""

    served_entities: ServedEntity | Sequence[ServedEntity]


@dataclass(frozen=True, kw_only=True)
class FeatureServingEndpoint:
    """What `get_feature_serving_endpoint` tells."""

    name: str
    creator: str
    creation_time_millis: int
    state: str
    """READY or NOT_READY."""


class FeatureServingEndpoints:
    """What one can do with feature-serving endpoints. The part of the client that has to do with them alone."""

    _connection: Connection

    def create_feature_serving_endpoint(self, *, name: str, config: EndpointCoreConfig) -> FeatureServingEndpoint:
        """A new endpoint that gives the features of a spec by keys. Raises ValueError."""
        given = config.served_entities
        entities = [given] if isinstance(given, ServedEntity) else list(given)
        served = [self._served(each) for each in entities]
        return _endpoint(self._connection.post(_API, {"name": name, "config": {"served_entities": served}}))

    def get_feature_serving_endpoint(self, *, name: str) -> FeatureServingEndpoint | None:
        """The endpoint, or None."""
        found = self._connection.get(f"{_API}/{quote(name, safe='')}")
        return None if found is None else _endpoint(found)

    def delete_feature_serving_endpoint(self, *, name: str) -> None:
        """Remove an endpoint; the spec stays."""
        self._connection.delete(f"{_API}/{quote(name, safe='')}")

    def _served(self, entity: ServedEntity) -> dict[str, Any]:
        values = {
            "name": entity.name,
            "entity_name": self._connection.full_name(entity.feature_spec_name),
            "workload_size": entity.workload_size.capitalize(),
            "scale_to_zero_enabled": entity.scale_to_zero_enabled,
            "instance_profile_arn": entity.instance_profile_arn,
        }
        return {key: value for key, value in values.items() if value is not None}


def _endpoint(told: Mapping[str, Any]) -> FeatureServingEndpoint:
    return FeatureServingEndpoint(
        name=told["name"],
        creator=told["creator"],
        creation_time_millis=told["creation_timestamp"],
        state=told["state"]["ready"],
    )
