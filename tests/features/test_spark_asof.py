"""The Spark plan of the point-in-time join, through the gateway, held to the same contract as the local kernel."""

from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from millpond.features.planning import Join
from millpond.features.spark_asof import look_up
from tests.features.kernels import (
    Kernel,
    exact,
    features,
    holds,
    joins,
    labels,
    labels_stay_as_many_as_they_are,
    late_data_counts_from_when_it_was_known,
)
from tests.servers import Server

FEW = settings(max_examples=25, phases=[Phase.generate])
"""Each is some statements on a server."""


@pytest.fixture(scope="module")
def kernel(server: Server) -> Iterator[Kernel]:
    """Both sides as local relations of a session; labels carry their position, as a training set's do."""
    spark = SparkSession.builder.remote(server.spark_remote).create()

    def outputs(labels: pa.Table, features: pa.Table, join: Join) -> pa.Table:
        numbered = labels.append_column("n", pa.array(range(labels.num_rows), pa.int64()))
        found = look_up(_frame(spark, numbered), _frame(spark, features), join)
        made: pa.Table = found.orderBy("n").drop("n").toArrow()
        return made

    yield outputs
    spark.stop()


def _frame(spark: SparkSession, rows: pa.Table) -> DataFrame:
    """PySpark takes no types from an empty table."""
    return spark.createDataFrame(rows) if rows.num_rows else spark.createDataFrame([], from_arrow_schema(rows.schema))


@FEW
@given(labels=labels, features=features, join=joins)
def test_each_label_has_what_was_there_at_its_time(kernel: Kernel, labels: list, features: list, join: Join) -> None:
    holds(kernel, labels, features, join)


@FEW
@given(labels=labels, features=features, join=exact)
def test_without_a_time_keys_alone_decide(kernel: Kernel, labels: list, features: list, join: Join) -> None:
    holds(kernel, labels, features, join)


def test_late_data_counts_from_when_it_was_known(kernel: Kernel) -> None:
    late_data_counts_from_when_it_was_known(kernel)


def test_labels_stay_as_many_as_they_are(kernel: Kernel) -> None:
    labels_stay_as_many_as_they_are(kernel)
