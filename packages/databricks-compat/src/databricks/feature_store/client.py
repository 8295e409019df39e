"""Where notebooks also import it from."""

from millpond.features import FeatureStoreClient

__all__ = ["FeatureStoreClient"]
