"""The point-in-time join of one lookup as a Spark plan, for labels that are a Spark data frame.

The rows of the table stand between the labels, ordered by time, and each label takes the best one before it: a union
and a window, which every Spark Connect server carries out wherever its data is. It gives what `asof.py` gives.
"""

from itertools import chain
from typing import TYPE_CHECKING

from millpond.features.connection import quoted_part
from millpond.features.planning import Join, Read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspark.sql import Column, DataFrame

_NESTED = frozenset({"array", "map", "struct", "variant"})
"""Types whose values do not decide between rows of the same time."""


def look_up(labels: "DataFrame", features: "DataFrame", join: Join, *, proof: str | None = None) -> "DataFrame":
    """The labels with the outputs of a join; each is still there once, in no particular order.

    With `proof`, also a column of that name for the certificate: whether a row matched, and how much newer than the
    label its time and the time at which it was known are, in microseconds.
    """
    from pyspark.sql import functions as F

    check(labels, features, join)
    found = _exact(labels, features, join) if join.time is None else _as_of(labels, features, join)
    outputs = []
    for name, output in join.outputs.items():
        value = F.col("__row").getField(name)
        default = join.defaults.get(output)
        kind = features.schema[name].dataType
        outputs.append((value if default is None else F.coalesce(value, F.lit(default).cast(kind))).alias(output))
    if proof is not None:
        outputs.append(_proof(join).alias(proof))
    return found.select(*(F.col(quoted_part(name)) for name in labels.columns), *outputs)


def check(labels: "DataFrame", features: "DataFrame", join: Read) -> None:
    """Raises ValueError for keys of different types, which never match but by accident, and for a time that is none."""
    mine, theirs = (
        {field.name: field.dataType.typeName() for field in frame.schema.fields} for frame in (labels, features)
    )
    for label, key in join.keys:
        if _family(mine[label]) != _family(theirs[key]) and "void" not in (mine[label], theirs[key]):
            raise ValueError(
                f"The column '{label}' is {mine[label]} and cannot be compared with the key '{key}' of '{join.table}', "
                f"which is {theirs[key]}. Convert it first."
            )
    if join.time is not None and mine[join.time[0]] not in ("date", "timestamp", "timestamp_ntz"):
        raise ValueError(
            f"The column '{join.time[0]}' is {mine[join.time[0]]} and no time to look up in '{join.table}' with."
        )


def _family(kind: str) -> str:
    families = {"byte": "whole", "short": "whole", "integer": "whole", "long": "whole", "float": "double"}
    return families.get(kind, kind)


def _as_of(labels: "DataFrame", features: "DataFrame", join: Join) -> "DataFrame":
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    assert join.time is not None
    own = [F.col(quoted_part(name)) for name in labels.columns]
    asking = labels.select(*own, *key_columns(join, 0), micros(join.time[0]).alias("__from"), F.lit(1).alias("__asks"))
    events = _union(asking, _events(features, join))
    ties = [] if join.known_at else [F.asc_nulls_first(name) for name in _tie_names(features, join)]
    window = Window.partitionBy(*_key_names(join)).orderBy(F.asc_nulls_first("__from"), F.asc("__asks"), *ties)
    before = window.rowsBetween(Window.unboundedPreceding, Window.currentRow)
    best = F.max_by("__event", "__order") if join.known_at else F.last("__event", ignorenulls=True)
    found = events.withColumn("__best", best.over(before)).where("__asks = 1")
    row = F.col("__best").getField("row")
    if join.lookback is not None:
        age = F.col("__from") - F.col("__best").getField("t")
        row = F.when(age <= int(join.lookback.total_seconds() * 1_000_000), row)
    return found.withColumn("__row", row)


def null_least(columns: "Sequence[Column]") -> "Iterator[Column]":
    """What a struct is made of that is compared as its columns are, with NULL before all: engines differ there."""
    return chain.from_iterable((column.isNotNull(), column) for column in columns)


def _union(one: "DataFrame", other: "DataFrame") -> "DataFrame":
    """Both one below the other; what only one of them has is NULL in the other, of the same type."""
    from pyspark.sql import functions as F

    types = {field.name: field.dataType for frame in (other, one) for field in frame.schema.fields}

    def whole(frame: "DataFrame") -> "DataFrame":
        columns = set(frame.columns)
        missing = [F.lit(None).cast(kind).alias(name) for name, kind in types.items() if name not in columns]
        return frame.select("*", *missing)

    return whole(one).unionByName(whole(other))


def _events(features: "DataFrame", join: Join) -> "DataFrame":
    """The rows that may match, from when on they do, with what decides between those of one key."""
    from pyspark.sql import functions as F

    assert join.time is not None
    time = micros(join.time[1])
    known = micros(join.known_at) if join.known_at else time
    ties = [
        F.col(quoted_part(name)).alias(f"__tie{number}") for number, name in enumerate(_tie_columns(features, join))
    ]
    event = F.struct(time.alias("t"), known.alias("known"), _row(join).alias("row")).alias("__event")
    order = F.struct(time, known, *null_least(ties)).alias("__order")
    usable = features.where(_all_there([*(theirs for _, theirs in join.keys), join.time[1]])).where(known.isNotNull())
    start = F.greatest(time, known).alias("__from")
    return usable.select(*key_columns(join, 1), start, F.lit(0).alias("__asks"), event, order, *ties)


def _exact(labels: "DataFrame", features: "DataFrame", join: Join) -> "DataFrame":
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    known = [F.desc_nulls_last(quoted_part(join.known_at))] if join.known_at else []
    ties = [F.desc_nulls_last(quoted_part(name)) for name in _tie_columns(features, join)]
    rows = features.where(_all_there([theirs for _, theirs in join.keys]))
    order = [*known, *ties] or [F.lit(0)]
    best = F.row_number().over(Window.partitionBy(*key_columns(join, 1)).orderBy(*order))
    rows = (
        rows.withColumn("__rank", best)
        .where("__rank = 1")
        .select(*key_columns(join, 1, "__f"), _row(join).alias("__row"))
    )
    asking = labels.select(*(F.col(quoted_part(name)) for name in labels.columns), *key_columns(join, 0))
    same = [asking[key] == rows[key.replace("__k", "__f")] for key in _key_names(join)]
    return asking.join(rows, same, "left")


def _proof(join: Join) -> "Column":
    from pyspark.sql import functions as F

    matched = F.col("__row").isNotNull()
    if join.time is None:
        return F.struct(matched.alias("matched"), F.lit(None).cast("long").alias("lead"),
                        F.lit(None).cast("long").alias("known_lead"))  # fmt: skip
    leads = [F.when(matched, F.col("__best").getField(name) - F.col("__from")) for name in ("t", "known")]
    return F.struct(matched.alias("matched"), leads[0].alias("lead"), leads[1].alias("known_lead"))


def key_columns(join: Read, side: int, prefix: str = "__k") -> list["Column"]:
    """The keys of the labels (0) or the table (1), under the same names."""
    from pyspark.sql import functions as F

    return [F.col(quoted_part(pair[side])).alias(f"{prefix}{number}") for number, pair in enumerate(join.keys)]


def _key_names(join: Join) -> list[str]:
    return [f"__k{number}" for number in range(len(join.keys))]


def _row(join: Join) -> "Column":
    from pyspark.sql import functions as F

    return F.struct(*(F.col(quoted_part(name)).alias(name) for name in join.outputs))


def micros(column: str) -> "Column":
    """A time as microseconds since 1970; a date is its midnight in the session's zone."""
    from pyspark.sql import functions as F

    return F.unix_micros(F.col(quoted_part(column)).cast("timestamp"))


def _all_there(columns: list[str]) -> "Column":
    from pyspark.sql import functions as F

    there = F.lit(True)
    for name in columns:
        there = there & F.col(quoted_part(name)).isNotNull()
    return there


def _tie_columns(features: "DataFrame", join: Join) -> list[str]:
    types = {field.name: field.dataType.typeName() for field in features.schema.fields}
    return [name for name in sorted(join.outputs) if types[name] not in _NESTED]


def _tie_names(features: "DataFrame", join: Join) -> list[str]:
    return [f"__tie{number}" for number in range(len(_tie_columns(features, join)))]
