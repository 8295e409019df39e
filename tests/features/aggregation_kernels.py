"""What a declared aggregation must do, whichever kernel does it: the contract that each kernel is held to.

The oracle here is the definition: all pairs of a label and a row are looked at, in plain Python.
"""

import datetime as dt
import math
import statistics
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from millpond.features import (
    ApproxCountDistinct,
    ApproxPercentile,
    Avg,
    ContinuousWindow,
    Count,
    First,
    Last,
    Max,
    Min,
    RollingWindow,
    SlidingWindow,
    StddevPop,
    StddevSamp,
    Sum,
    TumblingWindow,
    VarPop,
    VarSamp,
)
from millpond.features.planning import Aggregate, Aggregation
from millpond.features.windows import Function, Window
from tests.features.kernels import LABELS, ONE_KEY, TWO_KEYS, table

__all__ = [
    "EVENTS", "Kernel", "aggregations", "close", "events", "holds", "labels", "nan_is_greatest",
    "null_is_least_of_one_time", "table",
]  # fmt: skip

Rows = Sequence[Sequence[Any]]
EVENTS = pa.schema(
    [
        ("ka", pa.int64()), ("kb", pa.string()), ("ts", pa.timestamp("us", "UTC")),
        ("known", pa.timestamp("us", "UTC")), ("x", pa.float64()), ("n", pa.int32()), ("w", pa.string()),
    ]
)  # fmt: skip
HALF = dt.timedelta(minutes=30)
START = dt.datetime(1969, 12, 31, 21, tzinfo=dt.UTC)
"""Times before 1970 are counted from it too."""

# Most of it is of one key and has a time: what is drawn evenly is hardly ever in a window.
moments = st.integers(0, 14).map(lambda halves: None if halves > 12 else START + halves * HALF)
keys, seconds = st.sampled_from([1, 1, 1, 1, 2, None]), st.sampled_from(["", "", "", "é", None])
texts, values = st.sampled_from(["z", "", "é", None]), st.sampled_from([0.25, -1.5, 7.0, 1e9, math.nan, None])
labels = st.lists(st.tuples(keys, seconds, moments, st.integers(0, 9)), min_size=1, max_size=8)
event = st.tuples(keys, seconds, moments, moments, values, st.sampled_from([3, -4, None]), texts)
events = st.lists(event, min_size=6, max_size=18) | st.just([])
hours = st.integers(1, 6).map(lambda number: number * dt.timedelta(hours=1))
nothing = dt.timedelta(0)
windows: st.SearchStrategy[Window] = st.one_of(
    st.builds(ContinuousWindow, window_duration=hours, offset=st.sampled_from([nothing, -HALF])),
    st.builds(RollingWindow, window_duration=hours, delay=st.sampled_from([nothing, HALF])),
    st.builds(TumblingWindow, window_duration=hours),
    st.builds(lambda one, more: SlidingWindow(window_duration=one + more, slide_duration=one), hours, hours),
)
NUMERIC = (Sum, Avg, StddevPop, StddevSamp, VarPop, VarSamp, ApproxPercentile)
functions: st.SearchStrategy[Function] = st.one_of(
    st.sampled_from([kind(column) for kind in (Count, Min, Max, First, Last, ApproxCountDistinct) for column in "xnw"]),
    st.sampled_from([kind(column) for kind in NUMERIC for column in "xn"]),
    st.builds(ApproxPercentile, st.sampled_from("xn"), st.sampled_from([0.0, 0.3, 0.5, 0.95, 1.0])),
)
several = st.lists(st.tuples(functions, windows), min_size=1, max_size=5).map(
    lambda each: tuple(
        Aggregate(output=f"out.{number}", function=function, span=window.span)
        for number, (function, window) in enumerate(each)
    )
)
aggregations = st.builds(
    Aggregation,
    table=st.just("main.shop.events"),
    keys=st.sampled_from([ONE_KEY, TWO_KEYS]),
    time=st.just(("at", "ts")),
    known_at=st.sampled_from([None, "known"]),
    aggregates=several,
)
Kernel = Callable[[pa.Table, pa.Table, Aggregation], pa.Table]
"""What gives the labels with the features of a step."""


def holds(kernel: Kernel, label_rows: Rows, event_rows: Rows, step: Aggregation) -> None:
    """The labels come back as they were, each with what the oracle says."""
    found = kernel(table(label_rows, LABELS), table(event_rows, EVENTS), step)
    assert found.column_names == [*LABELS.names, *step.made]
    rows = [tuple(row.values()) for row in found.to_pylist()]
    assert [row[: len(LABELS)] for row in rows] == [tuple(row) for row in label_rows]
    rows_of_events = [dict(zip(EVENTS.names, row, strict=True)) for row in event_rows]
    for row in rows:
        label = dict(zip(LABELS.names, row, strict=False))
        for each, value in zip(step.aggregates, row[len(LABELS) :], strict=True):
            wanted = _wanted(label, rows_of_events, each, step)
            assert close(wanted, value), (each, label, wanted, value)


def null_is_least_of_one_time(kernel: Kernel) -> None:
    """In whichever order the rows come: one key for each order."""
    first, last = (
        Aggregate(output=function.kind, function=function, span=TumblingWindow(window_duration=2 * HALF).span)
        for function in (First("n"), Last("n"))
    )
    step = Aggregation(table="main.shop.events", keys=ONE_KEY, time=("at", "ts"), aggregates=(first, last))
    orders = list(enumerate(permutations([None, 3, -4])))
    rows = [(key, "", START, START, 0.0, value, "") for key, order in orders for value in order]
    holds(kernel, [(key, "", START + 2 * HALF, 0) for key, _ in orders], rows, step)


def nan_is_greatest(kernel: Kernel) -> None:
    """In whichever order the rows come: one key for each order."""
    least, greatest = (
        Aggregate(output=function.kind, function=function, span=TumblingWindow(window_duration=2 * HALF).span)
        for function in (Min("x"), Max("x"))
    )
    step = Aggregation(table="main.shop.events", keys=ONE_KEY, time=("at", "ts"), aggregates=(least, greatest))
    orders = [*permutations([None, 7.0, math.nan, -1.5]), (math.nan,), (None,), (None, math.nan)]
    rows = [(key, "", START, START, value, 0, "") for key, order in enumerate(orders) for value in order]
    holds(kernel, [(key, "", START + 2 * HALF, 0) for key in range(len(orders))], rows, step)


def _wanted(label: dict[str, Any], rows: Sequence[dict[str, Any]], each: Aggregate, step: Aggregation) -> Any:
    now, span = label["at"], each.span
    if now is None or any(label[mine] is None for mine, _ in step.keys):
        return None
    end = now - dt.timedelta(microseconds=span.delay_us)
    if span.slide_us is not None:
        slide = dt.timedelta(microseconds=span.slide_us)
        epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        end = epoch + (end - epoch) // slide * slide
    begin = end - dt.timedelta(microseconds=span.duration_us)
    within = [row for row in rows if all(label[mine] == row[theirs] for mine, theirs in step.keys)]
    within = [row for row in within if row["ts"] is not None and begin <= row["ts"] < end]
    if step.known_at:
        within = [row for row in within if row["known"] is not None and row["known"] <= now]
    return _of(each.function, within, step)


def _of(function: Function, rows: list[dict[str, Any]], step: Aggregation) -> Any:
    name = str(function.input)
    if isinstance(function, First | Last):
        ordered = sorted(rows, key=lambda row: (row["ts"], row["known"] if step.known_at else 0, _rank(row[name])))
        return None if not rows else ordered[0 if isinstance(function, First) else -1][name]
    given = sorted((row[name] for row in rows if row[name] is not None), key=_rank)
    match function:
        case Count():
            return len(given)
        case ApproxCountDistinct():
            return len({_rank(value) for value in given})
        case _ if not given:
            return None
        case Min():
            return given[0]
        case Max():
            return given[-1]
        case ApproxPercentile():
            return next(value for number, value in enumerate(given, 1) if number / len(given) >= function.percentile)
        case Sum():
            return sum(given)
    if any(math.isnan(value) for value in given):
        return None if len(given) == 1 and isinstance(function, StddevSamp | VarSamp) else math.nan
    return _statistic(function, [float(value) for value in given])


def _statistic(function: Function, given: list[float]) -> float | None:
    if isinstance(function, StddevSamp | VarSamp) and len(given) < 2:
        return None
    made: Callable[[list[float]], float] = {
        Avg: statistics.fmean, StddevPop: statistics.pstdev, StddevSamp: statistics.stdev,
        VarPop: statistics.pvariance, VarSamp: statistics.variance,
    }[type(function)]  # fmt: skip
    return made(given)


def _rank(value: Any) -> tuple[Any, ...]:
    """NULL is least, NaN greatest."""
    return (0,) if value is None else (2,) if isinstance(value, float) and math.isnan(value) else (1, value)


def close(wanted: Any, value: Any) -> bool:
    """Whether two values are the same; fractions but for the order in which they were added."""
    if isinstance(wanted, float) and isinstance(value, float):
        both = (math.isnan(wanted), math.isnan(value))
        return all(both) or (not any(both) and math.isclose(wanted, value, rel_tol=1e-9, abs_tol=1e-5))
    return type(wanted) is type(value) and bool(wanted == value)
