"""Where notebooks also import it from."""

from millpond.features import FeatureTable

__all__ = ["FeatureTable"]
