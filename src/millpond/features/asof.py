"""The point-in-time join of one lookup on this machine, in Polars.

For each label, the row of its keys with the greatest time that is not after the label's time; of rows of the same time
the one known last, and of those the greatest values of the features in the order of their names (NULL is least, NaN
greatest; nested columns do not count). Rows without a key or time are nobody's. Where the table says when a row was
known, only rows that were known by the label's time count, and one that never was known counts for nothing.

Source of the choice of Polars and of the late gathering of values: docs/decisions/0024.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from millpond.features.planning import Join

_MICROSECOND = datetime.timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Matched:
    """Which row of the features each label has."""

    rows: pl.Series
    """For each label, in order: the index of its row, or null."""
    newest_lead_us: int | None
    """The greatest (time of a value − time of its label), in microseconds: at most 0. None without times or matches."""
    newest_known_lead_us: int | None
    """The same for when the values were known."""


def match(labels: pl.DataFrame, features: pl.DataFrame, join: Join) -> Matched:
    """Find the rows. Both frames hold what `prepared` makes of them."""
    keys = [f"k{number}" for number in range(len(join.keys))]
    needed = [*keys, *(["t"] if join.time else [])]
    left = labels.select(*needed).with_row_index("label").drop_nulls(needed)
    right = _without_ties(_usable(features.with_row_index("row"), needed, join), keys, join)
    if join.time is None:
        found = left.join(right.select(*keys, "row"), on=keys, how="left", maintain_order="left")
        return Matched(rows=_in_order(found, labels.height), newest_lead_us=None, newest_known_lead_us=None)
    found = left.sort("t").join_asof(
        right.select(*keys, pl.col("from").alias("t"), pl.col("t").alias("valid"), "row", *_known(join)),
        on="t",
        by=keys,
        strategy="backward",
        check_sortedness=False,  # both sides were just sorted
    )
    if join.lookback is not None:
        young = pl.col("t") - pl.col("valid") <= join.lookback // _MICROSECOND
        found = found.with_columns(pl.when(young).then("row").alias("row"))
    return Matched(
        rows=_in_order(found, labels.height),
        newest_lead_us=_newest(found, "valid"),
        newest_known_lead_us=_newest(found, "known") if join.known_at else None,
    )


def gather(features: pl.DataFrame, rows: pl.Series, join: Join) -> pl.DataFrame:
    """The outputs of a join for matched rows, defaults where there is no value."""
    found = features.select(
        pl.col(join.alias(name)).gather(rows).alias(output) for name, output in join.outputs.items()
    )
    return found.with_columns(
        pl.col(output).fill_null(pl.lit(value, dtype=found.schema[output])) for output, value in join.defaults.items()
    )


def _usable(features: pl.DataFrame, needed: Sequence[str], join: Join) -> pl.DataFrame:
    """Rows that can match, with the time from which they do."""
    if join.time is None:
        return features.drop_nulls(needed)
    if join.known_at is None:
        return features.drop_nulls(needed).with_columns(pl.col("t").alias("from"))
    return features.drop_nulls([*needed, "known"]).with_columns(pl.max_horizontal("t", "known").alias("from"))


def _without_ties(right: pl.DataFrame, keys: list[str], join: Join) -> pl.DataFrame:
    """Rows in the order of `from`, of each key only those that are the best ones for some time, each from then on."""
    timed = join.time is not None
    if timed and join.known_at is None:
        narrow = right.select(*keys, "t", "from", "row").sort("t", *keys)
        if not _has_ties(narrow, [*keys, "t"]):
            return narrow
    best = ["t"] if timed else []
    ranked = right.sort([*best, *_known(join), *_tie_columns(right, join)]).with_row_index("rank")
    if not timed:
        return ranked.unique(keys, keep="last", maintain_order=True)
    ranked = ranked.sort("from", "rank")
    ranked = ranked.filter(pl.col("rank") == pl.col("rank").cum_max().over(keys))
    return ranked.unique([*keys, "from"], keep="last", maintain_order=True)


def _has_ties(ordered: pl.DataFrame, columns: Sequence[str]) -> bool:
    """Whether neighbours are equal in some columns, by which the rows are ordered."""
    if ordered.height < 2:
        return False
    same = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in columns)
    return bool(ordered.select(same.fill_null(False).any()).item())


def _known(join: Join) -> list[str]:
    return ["known"] if join.known_at else []


def _tie_columns(features: pl.DataFrame, join: Join) -> list[str]:
    columns = [join.alias(name) for name in sorted(join.outputs)]
    return [column for column in columns if not features.schema[column].is_nested()]


def _in_order(found: pl.DataFrame, height: int) -> pl.Series:
    """The matched rows in the order of the labels; those that could not match are null."""
    rows = np.full(height, -1, dtype=np.int64)
    rows[found["label"].to_numpy()] = found["row"].cast(pl.Int64).fill_null(-1).to_numpy()
    made = pl.Series("row", rows)
    return made.set(made < 0, None)


def _newest(found: pl.DataFrame, column: str) -> int | None:
    matched = found.filter(pl.col("row").is_not_null())
    newest = matched.select((pl.col(column) - pl.col("t")).max()).item()
    return None if newest is None else int(newest)
