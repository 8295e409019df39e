"""What a point-in-time join must do, whichever kernel does it: the contract that each kernel is held to.

The oracle here is the definition: all pairs of rows are looked at, in plain Python.
"""

import datetime as dt
import math
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from millpond.features.planning import Join

DAY = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
Rows = Sequence[Sequence[Any]]
LABELS = pa.schema([("a", pa.int64()), ("b", pa.string()), ("at", pa.timestamp("us", "UTC")), ("y", pa.int64())])
FEATURES = pa.schema(
    [
        ("ka", pa.int64()), ("kb", pa.string()), ("ts", pa.timestamp("us", "UTC")),
        ("known", pa.timestamp("us", "UTC")), ("x", pa.float64()), ("w", pa.string()),
    ]
)  # fmt: skip
ONE_KEY, TWO_KEYS = (("a", "ka"),), (("a", "ka"), ("b", "kb"))
OUTPUTS = {"x": "x_out", "w": "w"}

moments = st.integers(0, 6).map(lambda hours: DAY + dt.timedelta(hours=hours))
ints, texts = st.sampled_from([None, 1, 2, 3]), st.sampled_from([None, "", "é"])
labels = st.lists(st.tuples(ints, texts, st.none() | moments, st.integers(0, 9)), max_size=8)
values = st.sampled_from([None, -1.5, 0.0, 7.25, math.nan])
features = st.lists(st.tuples(ints, texts, st.none() | moments, st.none() | moments, values, texts), max_size=12)
joins = st.builds(
    Join,
    table=st.just("main.shop.t"),
    keys=st.sampled_from([ONE_KEY, TWO_KEYS]),
    time=st.just(("at", "ts")),
    known_at=st.sampled_from([None, "known"]),
    lookback=st.none() | st.integers(0, 4).map(lambda hours: dt.timedelta(hours=hours)),
    outputs=st.sampled_from([OUTPUTS, {"x": "x_out"}]),
    defaults=st.sampled_from([{}, {"x_out": 0.5}]),
)
exact = joins.map(lambda join: Join(**{**vars(join), "time": None, "lookback": None, "known_at": None}))


def table(rows: Rows, schema: pa.Schema) -> pa.Table:
    """Rows as Arrow."""
    columns = zip(_columns(rows, schema), schema, strict=True)
    return pa.table([pa.array(column, field.type) for column, field in columns], schema=schema)


def _columns(rows: Rows, schema: pa.Schema) -> list[list[Any]]:
    return [[row[number] for row in rows] for number in range(len(schema))]


def oracle(label_rows: Rows, feature_rows: Rows, join: Join) -> list[tuple]:
    """The outputs for each label, by the definition."""
    return [_outputs(_best(dict(zip(LABELS.names, row, strict=True)), feature_rows, join), join) for row in label_rows]


def _best(label: dict[str, Any], feature_rows: Rows, join: Join) -> dict[str, Any] | None:
    found = [dict(zip(FEATURES.names, row, strict=True)) for row in feature_rows]
    found = [row for row in found
             if all(label[mine] is not None and label[mine] == row[theirs] for mine, theirs in join.keys)]  # fmt: skip
    if join.time:
        now = label["at"]
        found = [row for row in found if now is not None and row["ts"] is not None and row["ts"] <= now]
        if join.known_at:
            found = [row for row in found if row["known"] is not None and row["known"] <= now]
    best = max(found, key=lambda row: _rank(row, join), default=None)
    if best and join.lookback is not None and label["at"] - best["ts"] > join.lookback:
        return None
    return best


def _rank(row: dict[str, Any], join: Join) -> list[tuple[Any, ...]]:
    names = [*(["ts"] if join.time else []), *(["known"] if join.known_at else []), *sorted(join.outputs)]
    return [_ordered(row[name]) for name in names]


def _ordered(value: Any) -> tuple[Any, ...]:
    return (0,) if value is None else (2,) if _is_nan(value) else (1, value)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _outputs(row: dict[str, Any] | None, join: Join) -> tuple:
    found = {output: row[name] if row else None for name, output in join.outputs.items()}
    return tuple(join.defaults.get(output) if value is None else value for output, value in found.items())


def comparable(rows: Rows) -> list[tuple]:
    """Rows in which NaN equals NaN."""
    return [tuple("NaN" if _is_nan(value) else value for value in row) for row in rows]


Kernel = Callable[[pa.Table, pa.Table, Join], pa.Table]
"""What gives the labels with the outputs of a join."""


def holds(kernel: Kernel, label_rows: Rows, feature_rows: Rows, join: Join) -> None:
    """The labels come back as they were, each with what the oracle says."""
    found = kernel(table(label_rows, LABELS), table(feature_rows, FEATURES), join)
    assert found.column_names == [*LABELS.names, *join.outputs.values()]
    rows = [tuple(row.values()) for row in found.to_pylist()]
    assert [row[: len(LABELS)] for row in rows] == [tuple(row) for row in label_rows]
    assert comparable([row[len(LABELS) :] for row in rows]) == comparable(oracle(label_rows, feature_rows, join))


def late_data_counts_from_when_it_was_known(kernel: Kernel) -> None:
    hours = [DAY + dt.timedelta(hours=hour) for hour in range(6)]
    rows = [(1, "", hours[0], hours[0], 1.0, "first"), (1, "", hours[1], hours[4], 2.0, "late"),
            (1, "", hours[2], hours[3], 3.0, "later")]  # fmt: skip
    join = Join(table="t", keys=ONE_KEY, time=("at", "ts"), known_at="known", outputs={"w": "w"}, defaults={})
    found = kernel(table([(1, "", hour, 0) for hour in hours], LABELS), table(rows, FEATURES), join)
    assert found["w"].to_pylist() == ["first", "first", "first", "later", "later", "later"]


def labels_stay_as_many_as_they_are(kernel: Kernel) -> None:
    """As they do not in a store that keeps one row for each key and time."""
    twins = [(1, "é", DAY, 0), (1, "é", DAY, 0), (None, "é", DAY, 1), (9, "", None, 2), (1, "é", DAY, 0)]
    join = Join(table="t", keys=ONE_KEY, time=("at", "ts"), outputs=OUTPUTS, defaults={})
    holds(kernel, twins, [(1, "", DAY, DAY, 1.0, "")], join)


def null_is_least_of_what_is_known_at_one_time(kernel: Kernel) -> None:
    """In whichever order the rows come: one key for each order."""
    join = Join(table="t", keys=ONE_KEY, time=("at", "ts"), known_at="known", outputs={"x": "x_out"}, defaults={})
    orders = list(enumerate(permutations([None, -1.5, 7.25])))
    rows = [(key, "", DAY, DAY, value, "") for key, order in orders for value in order]
    holds(kernel, [(key, "", DAY, 0) for key, _ in orders], rows, join)
