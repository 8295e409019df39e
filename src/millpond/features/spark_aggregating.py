"""Declared aggregations as a Spark plan, for labels that are a Spark data frame. It gives what `aggregating.py` gives.

Each window stands in the one or two stretches of time of its own length that it overlaps, each row in one: so windows
meet their rows by equality, whatever engine joins them. Then rows are grouped by window, and windows joined to labels.
"""

from typing import TYPE_CHECKING

from millpond.features.connection import quoted_part
from millpond.features.planning import Aggregate, Aggregation
from millpond.features.spark_asof import check, key_columns, micros, null_least
from millpond.features.windows import ApproxPercentile, Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import Column, DataFrame
    from pyspark.sql.types import DataType


def aggregate(labels: "DataFrame", events: "DataFrame", step: Aggregation, *, proof: str | None = None) -> "DataFrame":
    """The labels with the features of a step; each is still there once, in no particular order.

    With `proof`, also a column of that name for the certificate: whether there was a row in a window, and how much
    newer than the label the newest time and the newest time at which one was known are, in microseconds.
    """
    from pyspark.sql import functions as F

    check(labels, events, step)
    assert step.time is not None
    own, time = [F.col(quoted_part(name)) for name in labels.columns], micros(step.time[0])
    ends = [end_of(time, span).alias(f"__end{number}") for number, span in enumerate(step.spans)]
    found = asked = labels.select(*own, *key_columns(step, 0), time.alias("__t"), *ends)
    rows = _usable(events, step)
    for number, (span, some) in enumerate(step.spans.items()):
        names = {f"{name}_{number}": name for name in _names_of_windows(number, step)}
        windows = asked.select(*(F.col(name).alias(alias) for alias, name in names.items())).dropna().distinct()
        met = _met(windows, rows, number, span, step)
        made = met.groupBy(*names).agg(*_values(rows, number, some, step))
        found = found.join(made, [F.col(name) == F.col(alias) for alias, name in names.items()], "left")
    outputs = [_output(each, step).alias(each.output) for each in step.aggregates]
    if proof is not None:
        outputs.append(_proof(step).alias(proof))
    return found.select(*own, *outputs)


def end_of(time: "Column", span: Span) -> "Column":
    """Where the window of a label at a time ends, in microseconds."""
    from pyspark.sql import functions as F

    end = time - F.lit(span.delay_us)
    return end if span.slide_us is None else end - F.pmod(end, F.lit(span.slide_us))


def _usable(events: "DataFrame", step: Aggregation) -> "DataFrame":
    """The rows that somebody's windows may hold: their keys, times and inputs."""
    from pyspark.sql import functions as F

    assert step.time is not None
    values = [F.col(quoted_part(name)).alias(step.alias(name)) for name in step.values]
    known = [micros(step.known_at).alias("__known")] if step.known_at else []
    keys = [key.alias(f"__e{number}") for number, key in enumerate(key_columns(step, 1))]
    return events.select(*keys, micros(step.time[1]).alias("__at"), *known, *values).dropna(
        subset=[*(f"__e{number}" for number in range(len(step.keys))), "__at", *(["__known"] if known else [])]
    )


def _names_of_windows(number: int, step: Aggregation) -> list[str]:
    """What tells the windows of one kind apart: keys and end, and the label's time where rows are known later."""
    return [*(f"__k{each}" for each in range(len(step.keys))), f"__end{number}", *(["__t"] if step.known_at else [])]


def _met(windows: "DataFrame", rows: "DataFrame", number: int, span: Span, step: Aggregation) -> "DataFrame":
    """Each window with each of its rows."""
    from pyspark.sql import functions as F

    def stretch(time: "Column") -> "Column":
        return time - F.pmod(time, F.lit(span.duration_us))

    end, at = F.col(f"__end{number}_{number}"), F.col("__at")
    start = end - F.lit(span.duration_us)
    both = F.array_distinct(F.array(stretch(start), stretch(end - F.lit(1))))
    standing = windows.select("*", F.explode(both).alias("__stretch"))
    placed = rows.select("*", stretch(at).alias("__place"))
    same = [F.col(f"__k{each}_{number}") == F.col(f"__e{each}") for each in range(len(step.keys))]
    within = (at >= start) & (at < end)
    if step.known_at:
        within = within & (F.col("__known") <= F.col(f"__t_{number}"))
    return standing.join(placed, [*same, F.col("__stretch") == F.col("__place")], "inner").where(within)


def _values(rows: "DataFrame", number: int, some: "Sequence[Aggregate]", step: Aggregation) -> list["Column"]:
    from pyspark.sql import functions as F

    types = {field.name: field.dataType for field in rows.schema.fields}
    values = [_value(each, step, types[step.alias(each.input)]).alias(_slot(each, step)) for each in some]
    known = F.max("__known") if step.known_at else F.lit(None).cast("bigint")
    return [*values, F.max("__at").alias(f"__newest{number}"), known.alias(f"__latest{number}")]


def _value(each: Aggregate, step: Aggregation, kind: "DataType") -> "Column":
    """An aggregate of the rows of one window."""
    from pyspark.sql import functions as F

    column, function = F.col(step.alias(each.input)), each.function
    order = F.struct("__at", *(["__known"] if step.known_at else []), *null_least([column]))
    fraction = kind.typeName() in ("float", "double")
    double = column.cast("double")
    wide = column if kind.typeName() == "decimal" else double if fraction else column.cast("bigint")
    percentile = function.percentile if isinstance(function, ApproxPercentile) else 0.0
    rank = F.greatest(F.ceil(F.count(column) * F.lit(percentile) - F.lit(1e-9)), F.lit(1)).cast("int")
    made: dict[str, Column] = {
        "count": F.count(column),
        "sum": F.sum(wide),
        "avg": F.avg(double),
        "min": _least(column, kind) if fraction else F.min(column),
        "max": _greatest(column, kind) if fraction else F.max(column),
        "stddev_pop": F.stddev_pop(double),
        "stddev_samp": F.stddev_samp(double),
        "var_pop": F.var_pop(double),
        "var_samp": F.var_samp(double),
        "first": F.min_by(column, order),
        "last": F.max_by(column, order),
        "approx_count_distinct": F.count_distinct(column),
        "approx_percentile": F.get(F.sort_array(F.collect_list(column)), rank - 1),
    }
    return made[function.kind]


def _least(column: "Column", kind: "DataType") -> "Column":
    """The least of fractions, of which NaN is the greatest: the embedded engine's own depends on the order of rows."""
    from pyspark.sql import functions as F

    nan = F.lit(float("nan")).cast(kind)
    return F.coalesce(F.min(F.when(~F.isnan(column), column)), F.when(F.count(column) > 0, nan))


def _greatest(column: "Column", kind: "DataType") -> "Column":
    """NaN where there is one, else the greatest."""
    from pyspark.sql import functions as F

    nan = F.lit(float("nan")).cast(kind)
    return F.when(F.count(F.when(F.isnan(column), 1)) > 0, nan).otherwise(F.max(F.when(~F.isnan(column), column)))


def _output(each: Aggregate, step: Aggregation) -> "Column":
    """A feature; where there was no row it is NULL, and 0 if it counts."""
    from pyspark.sql import functions as F

    slot = F.col(_slot(each, step))
    if each.function.kind not in ("count", "approx_count_distinct"):
        return slot
    asks = F.col("__t").isNotNull()
    for number in range(len(step.keys)):
        asks = asks & F.col(f"__k{number}").isNotNull()
    return F.when(asks, F.coalesce(slot, F.lit(0).cast("bigint")))


def _proof(step: Aggregation) -> "Column":
    from pyspark.sql import functions as F

    def newest(name: str) -> "Column":
        times = [F.col(f"__{name}{number}") for number in range(len(step.spans))]
        return F.greatest(*times) if len(times) > 1 else times[0]

    lead = newest("newest") - F.col("__t")
    known = newest("latest") - F.col("__t")
    return F.struct(lead.isNotNull().alias("matched"), lead.alias("lead"), known.alias("known_lead"))


def _slot(each: Aggregate, step: Aggregation) -> str:
    """What a feature is called meanwhile: a name that is no column's."""
    return f"__slot{step.aggregates.index(each)}"


def turns(
    rows: "DataFrame", step: Aggregation, start_us: int | None, until_us: int | None, *, opening: bool = False
) -> "DataFrame":
    """The keys and times, after a start and not after an end, at which a feature of a step may get another value.

    Each row is in windows from the first end after it on until the first that is a duration later, and counts from when
    it was known. With `opening`, the start is a turn of each key that had one by then.
    """
    from pyspark.sql import functions as F

    assert step.time is not None
    used = _usable(rows, step)
    keys = [F.col(f"__e{number}").alias(key) for number, (key, _) in enumerate(step.keys)]
    turn = F.explode(F.flatten(F.array(*(_ends(span) for span in step.spans)))).alias("__turn")
    made = used.select(*keys, turn)
    if step.known_at:
        made = made.unionByName(used.select(*keys, F.col("__known").alias("__turn")))
    if until_us is not None:
        made = made.where(F.col("__turn") <= until_us)
    turned = F.col("__turn")
    if start_us is not None and opening:
        turned = F.greatest(turned, F.lit(start_us))
    elif start_us is not None:
        made = made.where(turned > start_us)
    return made.select(*map(quoted_part, dict(step.keys)), F.timestamp_micros(turned).alias(step.time[0])).distinct()


def _ends(span: Span) -> "Column":
    """The times of labels whose windows are the first with a row, the next ones with it, and the first without it."""
    from pyspark.sql import functions as F

    at = F.col("__at")
    if span.slide_us is None:
        return F.array(*(at + F.lit(span.delay_us + later) for later in (1, span.duration_us + 1)))
    first = at - F.pmod(at, F.lit(span.slide_us)) + F.lit(span.slide_us)
    return F.sequence(first, first + F.lit(-(-span.duration_us // span.slide_us) * span.slide_us), F.lit(span.slide_us))
