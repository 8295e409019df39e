"""The aggregation again, for a few labels and by another way: each row of the table is looked at, in plain Python.

What a certificate's sample is checked against. It shares no code with the kernels.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from millpond.features.planning import Aggregate, Aggregation

Row = Mapping[str, Any]
TOLERANCE = 1e-9
"""How far fractions may be apart, as sums depend on the order of their terms: of the value and the greatest input."""


def expected(label: Row, rows: Sequence[Row], step: Aggregation) -> dict[str, Any]:
    """The features that a label must have; both with the columns k0, ..., t and known. `rows` may be of any key."""
    keys = [f"k{number}" for number in range(len(step.keys))]
    if any(label[name] is None for name in (*keys, "t")):
        return dict.fromkeys(step.made)
    mine = [row for row in rows if all(row[key] == label[key] for key in keys) and row["t"] is not None]
    if step.known_at:
        mine = [row for row in mine if row["known"] is not None and row["known"] <= label["t"]]
    return {each.output: _value(label["t"], mine, each, step) for each in step.aggregates}


def agree(label: Row, rows: Sequence[Row], step: Aggregation, found: Row) -> bool:
    """Whether a label has what it must have, fractions within `TOLERANCE`."""
    scale = {each.output: _greatest(row[step.alias(each.input)] for row in rows) for each in step.aggregates}
    wanted = expected(label, rows, step)
    return all(_close(wanted[name], found[name], scale[name]) for name in step.made)


def _value(at: int, rows: Sequence[Row], each: Aggregate, step: Aggregation) -> Any:
    end = at - each.span.delay_us
    if each.span.slide_us is not None:
        end = end // each.span.slide_us * each.span.slide_us
    within = [row for row in rows if end - each.span.duration_us <= row["t"] < end]
    name = step.alias(each.input)
    if each.function.kind in ("first", "last"):
        within.sort(key=lambda row: (row["t"], row["known"] if step.known_at else 0, _order(row[name])))
        return within[0 if each.function.kind == "first" else -1][name] if within else None
    values = sorted((row[name] for row in within if row[name] is not None), key=_order)
    if each.function.kind in ("count", "approx_count_distinct"):
        return len(values) if each.function.kind == "count" else len({_order(value) for value in values})
    return _OF_VALUES[each.function.kind](values, each) if values else None


_OF_VALUES: Mapping[str, Callable[[Sequence[Any], Aggregate], Any]] = {
    "sum": lambda values, _: sum(values),
    "avg": lambda values, _: _mean(values),
    "min": lambda values, _: values[0],
    "max": lambda values, _: values[-1],
    "var_pop": lambda values, _: _variance(values, 0),
    "var_samp": lambda values, _: _variance(values, 1),
    "stddev_pop": lambda values, _: _root(_variance(values, 0)),
    "stddev_samp": lambda values, _: _root(_variance(values, 1)),
    "approx_percentile": lambda values, each: values[
        max(0, math.ceil(each.function.percentile * len(values) - 1e-9) - 1)  # type: ignore[attr-defined]
    ],
}


def _mean(values: Sequence[Any]) -> float:
    return sum(map(float, values)) / len(values)


def _variance(values: Sequence[Any], less: int) -> float | None:
    if len(values) <= less:
        return None
    mean = _mean(values)
    return sum((float(value) - mean) ** 2 for value in values) / (len(values) - less)


def _root(value: float | None) -> float | None:
    return None if value is None else math.sqrt(value)


def _order(value: Any) -> tuple[Any, ...]:
    """NULL is least, NaN greatest."""
    if value is None:
        return (0,)
    return (2,) if isinstance(value, float) and math.isnan(value) else (1, value)


def _greatest(values: Any) -> float:
    """The greatest of some values without their signs, if they are fractions."""
    return max((abs(value) for value in values if isinstance(value, float) and math.isfinite(value)), default=0.0)


def _close(one: Any, other: Any, scale: float) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        least = TOLERANCE * max(scale, scale * scale)
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=least)
    return type(one) is type(other) and bool(one == other)
