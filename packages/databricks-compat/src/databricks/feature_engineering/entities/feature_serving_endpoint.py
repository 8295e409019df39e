"""Where notebooks import the configuration of feature-serving endpoints from."""

from millpond.features import EndpointCoreConfig, FeatureServingEndpoint, ServedEntity

__all__ = ["EndpointCoreConfig", "FeatureServingEndpoint", "ServedEntity"]
