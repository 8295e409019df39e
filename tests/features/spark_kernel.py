"""The Spark plans of joins and aggregations as kernels that the contracts can be held against."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from millpond.features.spark_aggregating import aggregate
from millpond.features.spark_asof import look_up
from tests.features import aggregation_kernels
from tests.features.kernels import Kernel


def kernel_on(spark: SparkSession) -> Kernel:
    """Both sides as local relations of a session; labels carry their position, as a training set's do."""
    return _kernel(spark, look_up)


def aggregations_on(spark: SparkSession) -> aggregation_kernels.Kernel:
    """The same for aggregations."""
    return _kernel(spark, aggregate)


def _kernel(spark: SparkSession, plan: Callable[..., DataFrame]) -> Callable[[pa.Table, pa.Table, Any], pa.Table]:
    def outputs(labels: pa.Table, rows: pa.Table, step: Any) -> pa.Table:
        numbered = labels.append_column("n", pa.array(range(labels.num_rows), pa.int64()))
        found = plan(in_spark(spark, numbered), in_spark(spark, rows), step)
        made: pa.Table = found.orderBy("n").drop("n").toArrow()
        return made

    return outputs


def in_spark(spark: SparkSession, rows: pa.Table) -> DataFrame:
    """PySpark takes no types from an empty table."""
    return spark.createDataFrame(rows) if rows.num_rows else spark.createDataFrame([], from_arrow_schema(rows.schema))
