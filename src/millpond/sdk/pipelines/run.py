"""Runs one update of a pipeline, in a process of its own."""

from collections.abc import Mapping
from typing import Any

from millpond.catalog.names import quote
from millpond.features.connection import Connection
from millpond.sdk.pipelines.domain import PipelineFailed, Spec
from millpond.sdk.pipelines.events import Emit, Events
from millpond.sdk.pipelines.tables import Tables
from millpond.sdk.pipelines.update import Update

__all__ = ["PipelineFailed", "run"]


def run(spec: Mapping[str, Any], emit: Emit) -> None:
    """Carry out the update that `spec` is; `emit` is given each event, one at a time, from any thread.

    Raises PipelineFailed, after all that does not depend on what failed was done.
    """
    told = Spec.of(spec)
    connection, events = Connection(), Events(emit)
    spark = connection.spark
    try:
        spark.sql(f"USE {quote(told.catalog)}.{quote(told.schema)}").collect()
        for key, value in told.configuration.items():
            spark.conf.set(key, value)
    except Exception as error:
        events.update("FAILED", error=str(error))
        raise PipelineFailed(str(error)) from error
    Update(told, spark, Tables(told, spark, connection), events).run()
