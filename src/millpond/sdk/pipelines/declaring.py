"""What Python sources declare datasets with: the modules `dlt`, and `pyspark.pipelines` with expectations and more.

Signatures are those of Databricks' `dlt` (PyPI: databricks-dlt) and of PySpark's `pyspark.pipelines`.
"""

import inspect
import sys
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from millpond.sdk.pipelines.domain import Action, Changes, Dataset, Expectation, Flow, Kind, Location, PipelineFailed
from millpond.sdk.pipelines.registry import EXPECTATIONS, check_format, columns_of, current

_Decorator = Callable[[Any], Any]


def _here() -> Location:
    """Where the source calls one of our functions."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return Location(path="?") if frame is None else Location(path=frame.f_code.co_filename, line=frame.f_lineno)


def _refuse(where: str, given: Mapping[str, Any]) -> None:
    """Raises PipelineFailed for an option that is not there."""
    for name, value in given.items():
        if value not in (None, False):
            raise PipelineFailed(f"{where} at {_here()}: the option {name} is not there.")


# -- datasets -----------------------------------------------------------------------------------------------------


def _declared(kind: Kind, query_function: Any, name: str | None, settings: Any, facts: dict[str, Any]) -> Any:
    location = _here()

    def declare(function: Any) -> Any:
        if not callable(function):
            raise PipelineFailed(f"What is declared at {location} is no function that gives a DataFrame.")
        dataset = Dataset(name=name or function.__name__, kind=kind, location=location, **facts)
        current().add_table(dataset, function, settings or {})
        return function

    return declare if query_function is None else declare(query_function)


def _stored(
    comment: str | None, table_properties: Any, partition_cols: Any, cluster_by: Any, schema: Any, format_: Any = None
) -> dict[str, Any]:
    check_format(format_, str(_here()))
    return {
        "comment": comment,
        "properties": {str(key): str(value) for key, value in (table_properties or {}).items()},
        "partitioned_by": tuple(partition_cols or ()),
        "clustered_by": tuple(cluster_by or ()),
        "schema": schema,
    }


def _table_of(kind: Kind) -> Any:
    def table(
        query_function: Any = None,
        *,
        name: str | None = None,
        comment: str | None = None,
        spark_conf: Mapping[str, str] | None = None,
        table_properties: Mapping[str, str] | None = None,
        partition_cols: Collection[str] | None = None,
        cluster_by: Collection[str] | None = None,
        cluster_by_auto: bool = False,
        schema: Any = None,
        format: str | None = None,
        path: str | None = None,
        temporary: bool = False,
        private: bool = False,
        row_filter: str | None = None,
    ) -> Any:
        """Declare a table; what is decorated gives its rows."""
        _refuse("A table", {"path": path, "row_filter": row_filter})
        _ = (cluster_by_auto, temporary, private)  # all tables are in the catalog
        facts = _stored(comment, table_properties, partition_cols, cluster_by, schema, format)
        return _declared(kind, query_function, name, spark_conf, facts)

    return table


def view(
    query_function: Any = None,
    *,
    name: str | None = None,
    comment: str | None = None,
    spark_conf: Mapping[str, str] | None = None,
) -> Any:
    """Declare a view, which is there for the pipeline alone."""
    return _declared(Kind.VIEW, query_function, name, spark_conf, {"comment": comment})


def create_streaming_table(
    name: str,
    *,
    comment: str | None = None,
    spark_conf: Mapping[str, str] | None = None,
    table_properties: Mapping[str, str] | None = None,
    partition_cols: Collection[str] | None = None,
    cluster_by: Collection[str] | None = None,
    schema: Any = None,
    format: str | None = None,
    path: str | None = None,
    expect_all: Mapping[str, Any] | None = None,
    expect_all_or_drop: Mapping[str, Any] | None = None,
    expect_all_or_fail: Mapping[str, Any] | None = None,
    row_filter: str | None = None,
) -> None:
    """Declare a table that flows write to."""
    _refuse("A streaming table", {"path": path, "row_filter": row_filter, "spark_conf": spark_conf})
    given = {Action.WARN: expect_all, Action.DROP: expect_all_or_drop, Action.FAIL: expect_all_or_fail}
    expected = [each for action, found in given.items() for each in _expectations(found or {}, action)]
    facts = _stored(comment, table_properties, partition_cols, cluster_by, schema, format)
    current().add_dataset(
        Dataset(name=name, kind=Kind.STREAMING_TABLE, location=_here(), expectations=tuple(expected), **facts)
    )


def append_flow(
    *,
    target: str,
    name: str | None = None,
    comment: str | None = None,
    spark_conf: Mapping[str, str] | None = None,
    once: bool = False,
) -> _Decorator:
    """Declare that what is decorated is added to a streaming table."""
    location, registry = _here(), current()

    def declare(function: Any) -> Any:
        registry.add_flow(
            Flow(
                name=name or function.__name__, target=target, location=location, query=function,
                settings=dict(spark_conf or {}), once=once,
            )
        )  # fmt: skip
        return function

    return declare


# -- expectations -------------------------------------------------------------------------------------------------


def _expectations(given: Mapping[str, Any], action: Action) -> list[Expectation]:
    return [Expectation(name=str(name), condition=condition, action=action) for name, condition in given.items()]


def _expecting(action: Action) -> tuple[Any, Any]:
    def every(expectations: Mapping[str, Any]) -> _Decorator:
        def declare(function: Any) -> Any:
            known = list(getattr(function, EXPECTATIONS, ()))
            setattr(function, EXPECTATIONS, [*_expectations(expectations, action), *known])
            return function

        return declare

    def one(name: str, inv: Any) -> _Decorator:
        return every({name: inv})

    return one, every


# -- changes ------------------------------------------------------------------------------------------------------


def create_auto_cdc_flow(
    target: str,
    source: str,
    keys: Any,
    sequence_by: Any,
    where: Any = None,
    ignore_null_updates: bool | None = None,
    apply_as_deletes: Any = None,
    apply_as_truncates: Any = None,
    column_list: Any = None,
    except_column_list: Any = None,
    stored_as_scd_type: Any = None,
    track_history_column_list: Any = None,
    track_history_except_column_list: Any = None,
    flow_name: str | None = None,
    once: bool = False,
    ignore_null_updates_column_list: Any = None,
    ignore_null_updates_except_column_list: Any = None,
    columns_to_update: Any = None,
    name: str | None = None,
) -> None:
    """Declare that the events of a source are applied to a streaming table, as rows by their keys."""
    _refuse("AUTO CDC", {
        "where": where, "ignore_null_updates": ignore_null_updates, "apply_as_truncates": apply_as_truncates,
        "once": once, "ignore_null_updates_column_list": ignore_null_updates_column_list,
        "ignore_null_updates_except_column_list": ignore_null_updates_except_column_list,
        "columns_to_update": columns_to_update,
    })  # fmt: skip
    current().add_flow(
        Flow(
            name=flow_name or name or target,
            target=target,
            location=_here(),
            query=None,
            changes=changes_of(
                source, columns_of(keys), sequence_by, apply_as_deletes, column_list, except_column_list,
                "1" if stored_as_scd_type is None else stored_as_scd_type,
                track_history_column_list, track_history_except_column_list,
            ),
        )
    )  # fmt: skip


def changes_of(
    source: str, keys: tuple[str, ...], sequence_by: Any, deletes: Any, columns: Any, except_columns: Any,
    scd_type: Any, track: Any, track_except: Any,
) -> Changes:  # fmt: skip
    """How changes are applied. Raises PipelineFailed for what contradicts itself."""
    if not keys:
        raise PipelineFailed("AUTO CDC takes at least one key.")
    if columns is not None and except_columns is not None:
        raise PipelineFailed("AUTO CDC takes a list of columns, or of columns that are left out; not both.")
    if track is not None and track_except is not None:
        raise PipelineFailed("AUTO CDC takes columns to track history of, or all except some; not both.")
    if str(scd_type) not in {"1", "2"}:
        raise PipelineFailed(f"The SCD type is 1 or 2, not '{scd_type}'.")
    if str(scd_type) == "1" and (track is not None or track_except is not None):
        raise PipelineFailed("The history of columns is tracked with SCD type 2.")
    return Changes(
        source=source, keys=keys, sequence_by=sequence_by, deletes=deletes,
        columns=None if columns is None else columns_of(columns), except_columns=columns_of(except_columns),
        scd_type=int(scd_type), track=None if track is None else columns_of(track),
        track_except=columns_of(track_except),
    )  # fmt: skip


def _not_there(name: str, instead: str) -> Any:
    def refuse(*_given: Any, **_options: Any) -> Any:
        raise PipelineFailed(f"{name} at {_here()} is not there: {instead}")

    return refuse


# -- reads --------------------------------------------------------------------------------------------------------


def read(name: str) -> Any:
    """All rows of a dataset."""
    return _session().read.table(name)


def read_stream(name: str) -> Any:
    """What is new in a dataset."""
    return _session().readStream.table(name)


def _session() -> Any:
    from pyspark.sql import SparkSession

    return SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()


# -- modules ------------------------------------------------------------------------------------------------------


def _shared() -> dict[str, Any]:
    found: dict[str, Any] = {
        "view": view, "temporary_view": view, "create_streaming_table": create_streaming_table,
        "append_flow": append_flow, "create_auto_cdc_flow": create_auto_cdc_flow, "apply_changes": create_auto_cdc_flow,
        "materialized_view": _table_of(Kind.MATERIALIZED_VIEW), "read": read, "read_stream": read_stream,
        "create_sink": _not_there("create_sink", "rows go to tables; write them on from a job."),
        "on_event_hook": _not_there("on_event_hook", "ask for events with the API."),
    }  # fmt: skip
    for name in ("apply_changes_from_snapshot", "create_auto_cdc_from_snapshot_flow"):
        found[name] = _not_there(name, "read the snapshots' differences as a stream of events.")
    for action, suffix in ((Action.WARN, ""), (Action.DROP, "_or_drop"), (Action.FAIL, "_or_fail")):
        found["expect" + suffix], found["expect_all" + suffix] = _expecting(action)
    return found


@contextmanager
def modules() -> Iterator[None]:
    """`import dlt` and `from pyspark import pipelines` give what is here, until the block ends."""
    import pyspark.pipelines

    dlt = types.ModuleType("dlt", "Declares datasets of a pipeline.")
    vars(dlt).update(
        _shared(),
        table=_table_of(Kind.TABLE),
        create_table=_table_of(Kind.TABLE),
        create_view=view,
        create_target_table=create_streaming_table,
        create_streaming_live_table=create_streaming_table,
    )
    extended = {**_shared(), "table": _table_of(Kind.STREAMING_TABLE)}
    before = {name: vars(pyspark.pipelines).get(name) for name in extended}
    outside = sys.modules.get("dlt")
    sys.modules["dlt"] = dlt
    vars(pyspark.pipelines).update(extended)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                delattr(pyspark.pipelines, name)
            else:
                setattr(pyspark.pipelines, name, value)
        if outside is None:
            del sys.modules["dlt"]
        else:
            sys.modules["dlt"] = outside
