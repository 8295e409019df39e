"""`FeatureStoreClient`: the names that the feature store had before Unity Catalog, for what they mean now.

Source: Databricks' public reference of `databricks.feature_store`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from millpond.features.client import FeatureEngineeringClient
from millpond.features.feature_tables import TRIGGER
from millpond.features.lookups import Names
from millpond.features.tables import FeatureTable
from millpond.features.training_set import TrainingSet

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.streaming import StreamingQuery


class FeatureStoreClient:
    """The same feature store with its older arguments, which may be given by position."""

    def __init__(self, feature_store_uri: str | None = None, model_registry_uri: str | None = None) -> None:
        """`feature_store_uri` named another workspace; there is one here."""
        if feature_store_uri is not None:
            raise ValueError("feature_store_uri is not supported: the environment says which server is meant.")
        self._client = FeatureEngineeringClient(model_registry_uri=model_registry_uri)

    def create_table(
        self,
        name: str,
        primary_keys: Names,
        df: Any = None,
        *,
        timestamp_keys: Names = None,
        partition_columns: Names = None,
        schema: Any = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> FeatureTable:
        """A new feature table."""
        return self._client.create_table(
            name=name,
            primary_keys=primary_keys,
            df=df,
            timeseries_columns=timestamp_keys,
            partition_columns=partition_columns,
            schema=schema,
            description=description,
            tags=tags,
        )

    def create_feature_table(
        self,
        name: str,
        keys: Names,
        features_df: Any = None,
        schema: Any = None,
        partition_columns: Names = None,
        description: str | None = None,
        timestamp_keys: Names = None,
    ) -> FeatureTable:
        """A new feature table, under the oldest name of that."""
        return self.create_table(
            name, keys, features_df, timestamp_keys=timestamp_keys, partition_columns=partition_columns, schema=schema,
            description=description,
        )  # fmt: skip

    def write_table(
        self,
        name: str,
        df: Any,
        mode: str = "merge",
        checkpoint_location: str | None = None,
        trigger: Mapping[str, Any] = TRIGGER,
    ) -> "StreamingQuery | None":
        """Write rows; a streaming frame as long as the query runs that is returned."""
        return self._client.write_table(
            name=name, df=df, mode=mode, checkpoint_location=checkpoint_location, trigger=trigger
        )

    def read_table(self, name: str, as_of_delta_timestamp: Any = None) -> "DataFrame":
        """The rows of a feature table."""
        return self._client.read_table(name=name, as_of_delta_timestamp=as_of_delta_timestamp)

    def get_table(self, name: str) -> FeatureTable:
        """What the catalog knows of a feature table."""
        return self._client.get_table(name=name)

    def get_feature_table(self, name: str) -> FeatureTable:
        """The same, under its oldest name."""
        return self._client.get_table(name=name)

    def drop_table(self, name: str) -> None:
        """Remove a feature table."""
        self._client.drop_table(name=name)

    def set_feature_table_tag(self, table_name: str, key: str, value: str) -> None:
        """Give a feature table a tag."""
        self._client.set_feature_table_tag(name=table_name, key=key, value=value)

    def delete_feature_table_tag(self, table_name: str, key: str) -> None:
        """Take a tag away."""
        self._client.delete_feature_table_tag(name=table_name, key=key)

    def create_training_set(
        self, df: Any, feature_lookups: Any, label: Names, exclude_columns: Names = None
    ) -> TrainingSet:
        """The rows of `df` with their features."""
        return self._client.create_training_set(
            df=df, feature_lookups=feature_lookups, label=label, exclude_columns=exclude_columns
        )

    def log_model(
        self,
        model: Any,
        artifact_path: str,
        *,
        flavor: Any,
        training_set: TrainingSet | None = None,
        registered_model_name: str | None = None,
        await_registration_for: int = 300,
        **kwargs: Any,
    ) -> Any:
        """Log a model together with its feature spec."""
        return self._client.log_model(
            model=model,
            artifact_path=artifact_path,
            flavor=flavor,
            training_set=training_set,
            registered_model_name=registered_model_name,
            await_registration_for=await_registration_for,
            **kwargs,
        )

    def score_batch(self, model_uri: str, df: Any, result_type: str = "double", **kwargs: Any) -> Any:
        """The rows of `df` with their features and a prediction."""
        return self._client.score_batch(model_uri=model_uri, df=df, result_type=result_type, **kwargs)
