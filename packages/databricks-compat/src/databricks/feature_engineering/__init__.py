"""The names of Databricks' feature engineering client; what they do is Millpond's own."""

from millpond.features import FeatureEngineeringClient, FeatureFunction, FeatureLookup

__all__ = ["FeatureEngineeringClient", "FeatureFunction", "FeatureLookup"]
