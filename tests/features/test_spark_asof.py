"""The Spark plan of the point-in-time join, through the gateway, held to the same contract as the local kernel."""

from collections.abc import Iterator

import pytest
from hypothesis import Phase, given, settings
from pyspark.sql import SparkSession

from millpond.features.planning import Join
from tests.features.kernels import (
    Kernel,
    exact,
    features,
    holds,
    joins,
    labels,
    labels_stay_as_many_as_they_are,
    late_data_counts_from_when_it_was_known,
    null_is_least_of_what_is_known_at_one_time,
)
from tests.features.spark_kernel import kernel_on
from tests.servers import Server

FEW = settings(max_examples=25, phases=[Phase.generate])
"""Each is some statements on a server."""


@pytest.fixture(scope="module")
def kernel(server: Server) -> Iterator[Kernel]:
    """On the embedded engine; `engine/test_gateway_remote.py` has the same on Apache Spark."""
    spark = SparkSession.builder.remote(server.spark_remote).create()
    yield kernel_on(spark)
    spark.stop()


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


def test_null_is_least_of_what_is_known_at_one_time(kernel: Kernel) -> None:
    null_is_least_of_what_is_known_at_one_time(kernel)


def test_labels_stay_as_many_as_they_are(kernel: Kernel) -> None:
    labels_stay_as_many_as_they_are(kernel)
