"""Where notebooks also import it from."""

from millpond.features import FeatureEngineeringClient

__all__ = ["FeatureEngineeringClient"]
