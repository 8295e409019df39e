"""The join again, for a few labels and by another way: each row of the table is looked at, in plain Python.

What a certificate's sample is checked against. It shares no code with the kernels.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from millpond.features.planning import Join

Row = Mapping[str, Any]


def expected(label: Row, rows: Sequence[Row], join: Join) -> Row | None:
    """The row of a table that a label must have; both with the columns k0, ..., t and known."""
    keys = [f"k{number}" for number in range(len(join.keys))]
    if any(label[key] is None for key in keys) or (join.time and label["t"] is None):
        return None
    found = [row for row in rows if all(row[key] == label[key] for key in keys) and _counts(row, label, join)]
    best = _last(found, join) if found else None
    if best is not None and join.time and join.lookback is not None:
        age_us = label["t"] - best["t"]
        return best if age_us <= join.lookback.total_seconds() * 1_000_000 else None
    return best


def by_key(rows: Sequence[Row], join: Join) -> Mapping[tuple[Any, ...], Sequence[Row]]:
    """Rows by their keys, so that not each label has to look at those of all others."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(key_of(row, join), []).append(row)
    return found


def key_of(row: Row, join: Join) -> tuple[Any, ...]:
    """The keys of a label or a row."""
    return tuple(row[f"k{number}"] for number in range(len(join.keys)))


def same(one: Row | None, other: Row | None, join: Join) -> bool:
    """Whether two rows give the same values."""
    if one is None or other is None:
        return one is other
    return all(equal(one[join.alias(name)], other[join.alias(name)]) for name in join.outputs)


def _last(rows: Sequence[Row], join: Join) -> Row:
    """The newest row; of several with one time the one with the greatest values, of equal ones the last."""
    newest = max(_times(row, join) for row in rows)
    tied = [row for row in rows if _times(row, join) == newest]
    columns = [join.alias(name) for name in sorted(join.outputs)]
    ties = [name for name in columns if not any(isinstance(row[name], list | dict) for row in tied)]
    return max(reversed(tied), key=lambda row: [_order(row[name]) for name in ties])


def _counts(row: Row, label: Row, join: Join) -> bool:
    if join.time is None:
        return True
    known = join.known_at is None or (row["known"] is not None and row["known"] <= label["t"])
    return row["t"] is not None and row["t"] <= label["t"] and known


def _times(row: Row, join: Join) -> tuple[Any, ...]:
    given = ([row["t"]] if join.time else []) + ([row["known"]] if join.known_at else [])
    return tuple(_order(each) for each in given)


def _order(value: Any) -> tuple[Any, ...]:
    """NULL is least, NaN greatest."""
    if value is None:
        return (0,)
    return (2,) if isinstance(value, float) and math.isnan(value) else (1, value)


def equal(one: Any, other: Any) -> bool:
    """Whether two values are the same; NaN is NaN."""
    both = (one, other)
    if all(isinstance(each, float) and math.isnan(each) for each in both):
        return True
    return type(one) is type(other) and bool(one == other)
