"""The Spark plan of the point-in-time join as a kernel that the contract can be held against."""

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from millpond.features.planning import Join
from millpond.features.spark_asof import look_up
from tests.features.kernels import Kernel


def kernel_on(spark: SparkSession) -> Kernel:
    """Both sides as local relations of a session; labels carry their position, as a training set's do."""

    def outputs(labels: pa.Table, features: pa.Table, join: Join) -> pa.Table:
        numbered = labels.append_column("n", pa.array(range(labels.num_rows), pa.int64()))
        found = look_up(_frame(spark, numbered), _frame(spark, features), join)
        made: pa.Table = found.orderBy("n").drop("n").toArrow()
        return made

    return outputs


def _frame(spark: SparkSession, rows: pa.Table) -> DataFrame:
    """PySpark takes no types from an empty table."""
    return spark.createDataFrame(rows) if rows.num_rows else spark.createDataFrame([], from_arrow_schema(rows.schema))
