"""Feature tables: made, written, read, tagged and dropped. The part of the client that has to do with tables alone."""

import secrets
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from millpond.features import frames
from millpond.features.connection import Connection, literal, quoted, quoted_part
from millpond.features.lookups import Names, names_of
from millpond.features.tables import KNOWN_AT, TIME_TYPES, FeatureTable

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.streaming import StreamingQuery

Types = Mapping[str, str]
"""The SQL type of each column, in order."""
TRIGGER: Mapping[str, Any] = MappingProxyType({"processingTime": "5 seconds"})
"""When a stream into a feature table looks for new rows, if nothing else is said."""
_MERGE_FORMAT = "millpond.merge"
"""The gateway's sink that merges a stream by its table's primary key."""


class FeatureTables:
    """What one can do with feature tables."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create_table(
        self,
        *,
        name: str,
        primary_keys: Names,
        df: Any = None,
        timeseries_columns: Names = None,
        partition_columns: Names = None,
        schema: Any = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        timeseries_column: str | None = None,
        known_at_column: str | None = None,
    ) -> FeatureTable:
        """A new feature table of the columns of `df`, which are written to it, or of a schema.

        `known_at_column` (ours): the time at which a row was known; training sets then use no row before it.
        Raises ValueError, also when the name is taken.
        """
        if df is None and schema is None:
            raise ValueError("Give a df or a schema, which say what columns the feature table has.")
        full = self._connection.full_name(name)
        rows = None if df is None else self._in_spark(df)
        types = _types(schema if schema is not None else rows, self._connection)
        times = names_of(timeseries_columns) or names_of(timeseries_column)
        keys = (*names_of(primary_keys), *(time for time in times if time not in names_of(primary_keys)))
        _check(full, types, keys, times, (*names_of(partition_columns), *names_of(known_at_column)))
        if rows is not None:
            _refuse_twins(full, rows, keys)
        if self._connection.exists(full):
            raise ValueError(f"Table '{full}' already exists.")
        definition = _definition(full, types, keys, times, names_of(partition_columns), description, known_at_column)
        self._make(full, definition, rows, keys, tags or {})
        return self._connection.table(full, with_tags=True)

    def _make(
        self, full: str, definition: str, rows: "DataFrame | None", keys: Sequence[str], tags: Mapping[str, str]
    ) -> None:
        """Make a table under a name for the time being, fill it, and only then give it its own: never half of it."""
        staged = f"{full}__new_{secrets.token_hex(4)}"
        self._sql(f"CREATE TABLE {quoted(staged)}{definition}")
        try:
            if rows is not None:
                self._merge(staged, rows, keys)
            for key, value in tags.items():
                self._tag(staged, key, value)
            self._sql(f"ALTER TABLE {quoted(staged)} RENAME TO {quoted(full)}")
        except BaseException:
            self._sql(f"DROP TABLE IF EXISTS {quoted(staged)}")
            raise

    def write_table(
        self,
        *,
        name: str,
        df: Any,
        mode: str = "merge",
        checkpoint_location: str | None = None,
        trigger: Mapping[str, Any] = TRIGGER,
    ) -> "StreamingQuery | None":
        """Write rows: `merge` updates those of the same primary key and adds the others, `overwrite` replaces all.

        Columns that the table does not have become new features; features that `df` does not have stay as they are, or,
        in new rows, are NULL. Raises ValueError for rows without a key or two of the same.

        A streaming frame is merged as its rows come, for as long as the query runs that is returned: `trigger` is what
        `DataStreamWriter.trigger` takes, and `checkpoint_location` a path where the query remembers how far it is.
        """
        if mode not in ("merge", "overwrite"):
            raise ValueError(f"mode '{mode}' is not known: 'merge' or 'overwrite'.")
        table = self._connection.table(name)
        if getattr(df, "isStreaming", False):
            return self._write_stream(table, df, mode, checkpoint_location, trigger)
        if checkpoint_location is not None:
            raise ValueError("checkpoint_location is for streaming data frames; df is none. Leave it out.")
        rows = self._in_spark(df)
        types = self._checked_types(table, rows)
        _refuse_twins(table.name, rows, table.primary_keys)
        self._add_columns(table, types)
        if mode == "merge":
            self._merge(table.name, rows, table.primary_keys)
        else:
            columns = _listed(types)
            sql = f"INSERT OVERWRITE TABLE {quoted(table.name)} ({columns}) SELECT {columns} FROM {{rows}}"  # noqa: S608
            self._sql(sql, rows=rows)
        return None

    def _write_stream(
        self, table: FeatureTable, rows: Any, mode: str, checkpoint_location: str | None, trigger: Mapping[str, Any]
    ) -> "StreamingQuery":
        """Start the query that merges a stream."""
        if mode != "merge":
            raise ValueError(f"mode '{mode}' is not for streaming data frames, which are written by 'merge'.")
        if not checkpoint_location:
            raise ValueError(
                "checkpoint_location is missing: a path of your own, such as /Volumes/main/ml/checkpoints/name, where "
                "the stream remembers how far it is."
            )
        self._add_columns(table, self._checked_types(table, rows))
        writer = rows.writeStream.format(_MERGE_FORMAT).option("checkpointLocation", checkpoint_location)
        query: StreamingQuery = writer.trigger(**trigger).toTable(quoted(table.name))
        return query

    def _checked_types(self, table: FeatureTable, rows: Any) -> Types:
        """The columns of rows for a table. Raises ValueError when they lack its key."""
        types = _types(rows, self._connection)
        missing = [key for key in table.primary_keys if key not in types]
        if missing:
            raise ValueError(f"df lacks {missing} of the primary key of '{table.name}'.")
        return types

    def read_table(self, *, name: str, as_of_delta_timestamp: Any = None) -> "DataFrame":
        """The rows of a feature table, now or as of a time, as a Spark data frame."""
        table = self._connection.table(name)
        if as_of_delta_timestamp is None:
            return self._connection.read(table.name)
        reader = self._connection.spark.read.option("timestampAsOf", str(as_of_delta_timestamp))
        return reader.table(quoted(table.name))

    def get_table(self, *, name: str) -> FeatureTable:
        """What the catalog knows of a feature table. Raises ValueError when it is none."""
        return self._connection.table(name, with_tags=True)

    def drop_table(self, *, name: str) -> None:
        """Remove a feature table. Raises ValueError when it is none."""
        self._sql(f"DROP TABLE {quoted(self._connection.table(name).name)}")

    def set_feature_table_tag(self, *, name: str, key: str, value: str) -> None:
        """Give a feature table a tag, or another value of it."""
        self._tag(self._connection.table(name).name, key, value)

    def delete_feature_table_tag(self, *, name: str, key: str) -> None:
        """Take a tag away; one that is not there is an error."""
        table = self._connection.table(name, with_tags=True)
        if key not in table.tags:
            raise ValueError(f"'{table.name}' has no tag '{key}'; it has {sorted(table.tags)}.")
        self._sql(f"ALTER TABLE {quoted(table.name)} UNSET TAGS ({literal(key)})")

    def _tag(self, full: str, key: str, value: str) -> None:
        self._sql(f"ALTER TABLE {quoted(full)} SET TAGS ({literal(key)} = {literal(value)})")

    def _sql(self, text: str, **frames: Any) -> None:
        self._connection.spark.sql(text, **frames).collect()

    def _in_spark(self, df: Any) -> "DataFrame":
        """A frame of any kind as Spark's."""
        kind = frames.kind_of(df)
        if kind is frames.Kind.SPARK:
            frame: DataFrame = df
            return frame
        frames.columns_of(df)
        local = frames.eager(df)
        if kind is frames.Kind.POLARS:
            local = local.to_arrow()
        return self._connection.spark.createDataFrame(local)

    def _merge(self, full: str, rows: "DataFrame", keys: Sequence[str]) -> None:
        same = " AND ".join(f"t.{quoted_part(key)} = s.{quoted_part(key)}" for key in keys)
        features = [name for name in rows.columns if name not in keys]
        update = ", ".join(f"t.{quoted_part(name)} = s.{quoted_part(name)}" for name in features)
        values = ", ".join(f"s.{quoted_part(name)}" for name in rows.columns)
        matched = f"WHEN MATCHED THEN UPDATE SET {update} " if features else ""
        insert = f"INSERT ({_listed(rows.columns)}) VALUES ({values})"  # noqa: S608  all names are quoted
        sql = f"MERGE INTO {quoted(full)} t USING {{rows}} s ON {same} {matched}WHEN NOT MATCHED THEN {insert}"
        self._sql(sql, rows=rows)

    def _add_columns(self, table: FeatureTable, types: Types) -> None:
        new = [f"{quoted_part(name)} {kind}" for name, kind in types.items() if name not in table.types]
        if new:
            self._sql(f"ALTER TABLE {quoted(table.name)} ADD COLUMNS ({', '.join(new)})")


def _types(given: Any, connection: Connection) -> Types:
    """The columns of a Spark frame, a StructType or an Arrow schema."""
    if type(given).__module__.startswith("pyarrow"):
        from pyspark.sql.pandas.types import from_arrow_schema

        given = from_arrow_schema(given)
    fields = given.schema.fields if hasattr(given, "schema") else given.fields
    return {field.name: field.dataType.simpleString() for field in fields}


def _check(full: str, types: Types, keys: Sequence[str], times: Sequence[str], others: Sequence[str]) -> None:
    if not keys:
        raise ValueError(f"primary_keys of '{full}' is empty; name the columns that say whose features a row has.")
    missing = [name for name in (*keys, *others) if name not in types]
    if missing:
        raise ValueError(f"The columns {missing} of '{full}' are not among {list(types)}.")
    if len(times) > 1:
        raise ValueError(f"'{full}' can have one timeseries column, not {len(times)}: {list(times)}.")
    if times and types[times[0]] not in TIME_TYPES:
        raise ValueError(f"The timeseries column '{times[0]}' is {types[times[0]]}; it must be a timestamp or a date.")
    if set(keys) == set(times):
        raise ValueError(f"primary_keys of '{full}' needs a column beside the time '{times[0]}'.")


def _definition(
    full: str, types: Types, keys: Sequence[str], times: Sequence[str], parts: Sequence[str], description: str | None,
    known_at: str | None,
) -> str:  # fmt: skip
    columns = [f"{quoted_part(name)} {kind}{' NOT NULL' * (name in keys)}" for name, kind in types.items()]
    key = ", ".join(quoted_part(name) + " TIMESERIES" * (name in times) for name in keys)
    named = quoted_part(full.rpartition(".")[2] + "_pk")
    text = f" ({', '.join(columns)}, CONSTRAINT {named} PRIMARY KEY ({key}))"
    text += f" PARTITIONED BY ({_listed(parts)})" if parts else ""
    text += f" COMMENT {literal(description)}" if description else ""
    return text + (f" TBLPROPERTIES ({literal(KNOWN_AT)} = {literal(known_at)})" if known_at else "")


def _refuse_twins(full: str, rows: "DataFrame", keys: Sequence[str]) -> None:
    """Raises ValueError when two rows have the same key, or one has none."""
    from pyspark.sql import functions as F

    found = rows.groupBy(*(F.col(quoted_part(key)) for key in keys)).agg(F.count(F.lit(1)).alias("__rows"))
    empty = " OR ".join(f"{quoted_part(key)} IS NULL" for key in keys)
    bad = found.where(f"__rows > 1 OR {empty}").limit(1).collect()
    if bad:
        key = {name: bad[0][name] for name in keys}
        what = "a row has no" if None in key.values() else f"{bad[0]['__rows']} rows have the"
        raise ValueError(f"In the rows for '{full}' {what} primary key {key}; each key may be there once.")


def _listed(names: Sequence[str] | Types) -> str:
    return ", ".join(map(quoted_part, names))
