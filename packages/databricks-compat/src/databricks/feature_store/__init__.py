"""The names of Databricks' workspace feature store client; what they do is Millpond's own."""

from millpond.features import FeatureFunction, FeatureLookup, FeatureStoreClient

__all__ = ["FeatureFunction", "FeatureLookup", "FeatureStoreClient"]
