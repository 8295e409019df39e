"""Columns as the join compares them: keys of one type on both sides, times as microseconds since 1970 in UTC."""

from collections.abc import Sequence

import polars as pl

from millpond.features.planning import Read


def prepared_labels(labels: pl.DataFrame, join: Read, *, zone: str) -> pl.DataFrame:
    """The keys (k0, k1, ...) and the time (t) of labels."""
    time = {} if join.time is None else {"t": join.time[0]}
    keys = {f"k{number}": mine for number, (mine, _) in enumerate(join.keys)}
    return labels.select(*_keys(labels, keys), *_times(labels, time, join, zone=zone))


def prepared_features(features: pl.DataFrame, join: Read, *, zone: str) -> pl.DataFrame:
    """The columns to give, and the keys (k0, ...), the time (t) and when a row was known (known) of features."""
    times = {} if join.time is None else {"t": join.time[1]}
    if join.known_at is not None:
        times["known"] = join.known_at
    keys = {f"k{number}": theirs for number, (_, theirs) in enumerate(join.keys)}
    given = features.select(pl.col(name).alias(join.alias(name)) for name in join.values)
    return pl.concat(
        [given, features.select(*_keys(features, keys), *_times(features, times, join, zone=zone))],
        how="horizontal",
    )


def check_keys(labels: pl.DataFrame, features: pl.DataFrame, join: Read) -> None:
    """Raises ValueError for keys whose types differ, which would never match."""
    for number, (mine, theirs) in enumerate(join.keys):
        left, right = labels.schema[f"k{number}"], features.schema[f"k{number}"]
        if left != right and labels[f"k{number}"].null_count() < labels.height:
            raise ValueError(
                f"The column '{mine}' is {left} and cannot be compared with the key '{theirs}' of '{join.table}', "
                f"which is {right}. Convert it first."
            )


def _keys(frame: pl.DataFrame, names: dict[str, str]) -> Sequence[pl.Expr]:
    return [_comparable(pl.col(name), frame.schema[name]).alias(key) for key, name in names.items()]


def _comparable(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """All whole numbers, all fractions and all texts as one type each."""
    if dtype.is_integer():
        return column.cast(pl.Int64)
    if dtype.is_float():
        return column.cast(pl.Float64)
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    if isinstance(dtype, pl.Datetime):
        return column.dt.cast_time_unit("us")
    return column


def _times(frame: pl.DataFrame, names: dict[str, str], join: Read, *, zone: str) -> Sequence[pl.Expr]:
    return [_microseconds(frame, name, join, zone=zone).alias(key) for key, name in names.items()]


def _microseconds(frame: pl.DataFrame, name: str, join: Read, *, zone: str) -> pl.Expr:
    """A date is its midnight and a time without a zone is in the session's, as Spark has it."""
    column, dtype = pl.col(name), frame.schema[name]
    if dtype == pl.Null:
        return column.cast(pl.Int64)
    if dtype == pl.Date:
        column, dtype = column.cast(pl.Datetime("us")), pl.Datetime("us")
    if not isinstance(dtype, pl.Datetime):
        raise ValueError(f"The column '{name}' is {dtype} and no time to look up in '{join.table}' with.")
    if dtype.time_zone is None:
        column = column.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return column.dt.convert_time_zone("UTC").dt.timestamp("us")
