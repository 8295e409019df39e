"""Declared aggregations for labels on this machine, in Polars.

Rows are put into the order of their keys and times, so that each window is a range of them; labels of one window share
it. Rows without a key or a time are nobody's; where the table says when a row was known, those that were not yet known
at the label's time are left out of its windows.

The cost is mostly that of sorting (`folding.py`). Functions that have to see all rows of a window (distinct values,
percentiles), and tables whose rows are known later, cost as much as the rows of all windows together, some millions of
them at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from millpond.features.folding import Positions, can_fold, fold
from millpond.features.planning import Aggregate, Aggregation
from millpond.features.windows import ApproxPercentile, Last, Span

_MOST_PAIRS = 1 << 22
"""How many pairs of a window and a row of it are in memory at a time, unless one window has more."""


@dataclass(frozen=True, kw_only=True)
class Aggregated:
    """The features of each label, in order, and what was seen."""

    columns: pl.DataFrame
    matched: int
    """Labels with a row in at least one window."""
    newest_lead_us: int | None
    """The greatest (time of a row in a window − time of its label), in microseconds: less than 0."""
    newest_known_lead_us: int | None


def aggregate(labels: pl.DataFrame, events: pl.DataFrame, step: Aggregation) -> Aggregated:
    """Carry a step out; both frames hold what `columns.prepared_...` makes of them."""
    keys = [f"k{number}" for number in range(len(step.keys))]
    known = ["known"] if step.known_at else []
    ordered = _in_order(events.drop_nulls([*keys, "t", *known]), [*keys, "t", *known], step)
    asking = labels.select(*keys, "t").with_row_index("label").drop_nulls()
    found = [_over(asking, ordered, keys, span, some, step) for span, some in step.spans.items()]
    made = pl.concat([_for_all(each, asking["label"], labels.height) for each in found], how="horizontal")
    columns = made.select(pl.col(_slot(each, step)).alias(each.output) for each in step.aggregates)
    rows = pl.concat([each.select("rows", "newest", "latest", "t") for each in found])
    leads = rows.select(pl.col("newest") - pl.col("t"), known=pl.col("latest") - pl.col("t")).max().row(0)
    matched = asking.select("label").with_columns(
        pl.any_horizontal(pl.Series(each["rows"] > 0) for each in found).alias("some")
    )
    return Aggregated(
        columns=columns,
        matched=int(matched["some"].sum()),
        newest_lead_us=leads[0],
        newest_known_lead_us=leads[1] if known else None,
    )


def end_of(time: pl.Expr, span: Span) -> pl.Expr:
    """Where the window of a label at a time ends."""
    end = time - span.delay_us
    return end if span.slide_us is None else end - end % span.slide_us


def _in_order(events: pl.DataFrame, order: Sequence[str], step: Aggregation) -> pl.DataFrame:
    """Events by keys and time; inputs of `First` and `Last` once more (`in order v0`), the least first among ties."""
    ordered = events.sort(order)
    for each in step.aggregates:
        column = step.alias(each.input)
        if _column(each, step) not in ordered.columns:
            ordered = ordered.with_columns(ordered.sort([*order, column])[column].alias(_column(each, step)))
    return ordered


def _column(each: Aggregate, step: Aggregation) -> str:
    """The column that a function is of."""
    column = step.alias(each.input)
    return f"in order {column}" if each.function.kind in ("first", "last") else column


def _over(
    asking: pl.DataFrame, events: pl.DataFrame, keys: list[str], span: Span, some: Sequence[Aggregate],
    step: Aggregation,
) -> pl.DataFrame:  # fmt: skip
    """For each row of `asking`, in order: its features, the number of rows, and the newest of them."""
    asked = asking.with_columns(end_of(pl.col("t"), span).alias("end"))
    if span.slide_us is None:
        windows = asked.drop("label").with_row_index("window")
        return pl.concat([asked, _made(windows, events, keys, span, some, step)], how="horizontal")
    by = [*keys, "end", *(["t"] if step.known_at else [])]
    windows = asked.select(by).unique(maintain_order=True).with_row_index("window")
    made = pl.concat([windows, _made(windows, events, keys, span, some, step)], how="horizontal").drop("window")
    return asked.join(made, on=by, how="left", maintain_order="left")


def _made(
    windows: pl.DataFrame, events: pl.DataFrame, keys: list[str], span: Span, some: Sequence[Aggregate],
    step: Aggregation,
) -> pl.DataFrame:  # fmt: skip
    """For each window its features, the number of rows (rows), and the newest time (newest) and arrival (latest)."""
    first, after = _ranges(windows, events, keys, span)
    if step.known_at:
        return _by_pairs(events, first, after, windows["t"], some, step)
    folded = [each for each in some if can_fold(each.function, events.schema[step.alias(each.input)])]
    rest = [each for each in some if each not in folded]
    columns = [
        fold(each.function, events[_column(each, step)], first, after).alias(_slot(each, step)) for each in folded
    ]
    made = pl.DataFrame(
        [
            *columns,
            pl.Series("rows", after - first),
            fold(Last(), events["t"], first, after).alias("newest"),
            pl.repeat(None, len(first), dtype=pl.Int64, eager=True).alias("latest"),
        ]
    )
    if not rest:
        return made
    return pl.concat([made, _by_pairs(events, first, after, None, rest, step).select("^slot .*$")], how="horizontal")


def _by_pairs(
    events: pl.DataFrame, first: Positions, after: Positions, known_by: pl.Series | None, some: Sequence[Aggregate],
    step: Aggregation,
) -> pl.DataFrame:  # fmt: skip
    """The same by all rows of each window, for what has to see them."""
    values = [_expression(each, step.alias(each.input), events).alias(_slot(each, step)) for each in some]
    latest = pl.lit(None, dtype=pl.Int64) if known_by is None else pl.col("known").max()
    seen = [pl.len().cast(pl.Int64).alias("rows"), pl.col("t").max().alias("newest"), latest.alias("latest")]
    made = pl.concat(
        pairs.group_by("window", maintain_order=True).agg(*values, *seen)
        for pairs in _pairs(events, first, after, known_by)
    )
    every = pl.DataFrame({"window": np.arange(len(first), dtype=np.uint32)})
    found = every.join(made, on="window", how="left", maintain_order="left").drop("window")
    counts = [_slot(each, step) for each in some if each.function.kind in ("count", "approx_count_distinct")]
    return found.with_columns(pl.col(*counts, "rows").fill_null(0))


def _ranges(windows: pl.DataFrame, events: pl.DataFrame, keys: list[str], span: Span) -> tuple[Positions, Positions]:
    """For each window the positions of its first event and of the first one after it."""
    row = pl.col("row").cast(pl.Int64)
    runs = events.select(keys).with_row_index("row").group_by(keys).agg(first=row.min(), after=row.max() + 1)
    mine = windows.select(*keys, "end").join(runs, on=keys, how="left", maintain_order="left")
    first, after, end = (mine[name].fill_null(0).to_numpy() for name in ("first", "after", "end"))
    times = events["t"].to_numpy()
    begin = _bisect(times, first, after, end - span.duration_us)
    return begin, _bisect(times, begin, after, end)


def _bisect(times: Positions, low: Positions, high: Positions, wanted: Positions) -> Positions:
    """In each range of positions, of ordered times, the first one whose time is not before the one that is wanted."""
    low, high = low.copy(), high.copy()
    while (left := low < high).any():
        middle = (low + high) // 2
        before = left & (times.take(middle, mode="clip") < wanted)
        low, high = np.where(before, middle + 1, low), np.where(left & ~before, middle, high)
    return low


def _pairs(
    events: pl.DataFrame, first: Positions, after: Positions, known_by: pl.Series | None
) -> Iterator[pl.DataFrame]:
    """The events of each window, with its number, window by window; at least one frame, be it empty."""
    sizes = after - first
    ends = np.cumsum(sizes)
    begin = 0
    while True:
        before = ends[begin - 1] if begin else 0
        stop = max(begin + 1, int(np.searchsorted(ends, before + _MOST_PAIRS, side="right")))
        numbers = np.arange(begin, min(stop, len(sizes)), dtype=np.uint32)
        window = np.repeat(numbers, sizes[begin:stop])
        within = np.arange(len(window)) - np.repeat(ends[begin:stop] - sizes[begin:stop] - before, sizes[begin:stop])
        pairs = events[np.repeat(first[begin:stop], sizes[begin:stop]) + within]
        pairs = pairs.with_columns(pl.Series("window", window, dtype=pl.UInt32))
        if known_by is not None:
            pairs = pairs.filter(pl.col("known") <= known_by.gather(pairs["window"]))
        yield pairs
        begin = stop
        if begin >= len(sizes):
            return


def _expression(aggregate: Aggregate, column: str, events: pl.DataFrame) -> pl.Expr:
    """An aggregate of the rows of one window, in order."""
    values, dtype, function = pl.col(column), events.schema[column], aggregate.function
    double = values.cast(pl.Float64)
    whole = pl.Int64 if dtype.is_integer() else pl.Float64 if dtype.is_float() else dtype
    ordered = pl.col(f"in order {column}")
    percentile = function.percentile if isinstance(function, ApproxPercentile) else 0.0
    return {
        "count": values.count().cast(pl.Int64),
        "sum": pl.when(values.count() > 0).then(values.cast(whole).sum()),
        "avg": double.mean(),
        "min": values.min(),
        "max": values.nan_max() if dtype.is_float() else values.max(),
        "stddev_pop": double.std(ddof=0),
        "stddev_samp": double.std(ddof=1),
        "var_pop": double.var(ddof=0),
        "var_samp": double.var(ddof=1),
        "first": ordered.first(),
        "last": ordered.last(),
        "approx_count_distinct": values.drop_nulls().n_unique().cast(pl.Int64),
        "approx_percentile": _at_rank(values, percentile),
    }[function.kind]


def _at_rank(values: pl.Expr, percentile: float) -> pl.Expr:
    """The value of a percentile. A rank that is a whole number but for the inexactness of fractions is that number."""
    rank = ((values.count() * percentile - 1e-9).ceil().cast(pl.Int64) - 1).clip(lower_bound=0)
    return values.drop_nulls().sort().get(rank, null_on_oob=True)


def _for_all(found: pl.DataFrame, labels: pl.Series, height: int) -> pl.DataFrame:
    """The features for all labels: those without a key or a time have none."""
    rows = np.full(height, -1, dtype=np.int64)
    rows[labels.to_numpy()] = np.arange(len(labels))
    where = pl.Series(rows)
    return found.select(pl.col("^slot .*$").gather(where.set(where < 0, None)))


def _slot(aggregate: Aggregate, step: Aggregation) -> str:
    """What a feature is called meanwhile: a name that is no key's."""
    return f"slot {step.aggregates.index(aggregate)}"
