"""The check `drift`: how far columns of a table's version are from those of another, the baseline.

```yaml
- drift: {table: main.eval.recent, table_version: 5, baseline: main.train.churn, baseline_version: 3,
          columns: {age: {psi: 0.2}, income: {ks: 0.1}, region: {js_distance: 0.1}}}
```
"""

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from millpond.kernel.errors import InvalidArgument
from millpond.registry.checks import NUMBER, Looked, PlainCheck, Subject
from millpond.registry.metrics import column

_BINS = 10
_LEAST_SHARE = 1e-4
"""In the place of 0, of which PSI has no logarithm."""


def psi(baseline: Sequence[Any], recent: Sequence[Any]) -> float:
    """Population stability index, 0 for the same; numbers in deciles of the baseline, nulls for themselves.

    Source: Siddiqi, Credit Risk Scorecards (2006); above 0.25 is commonly called a shift.
    """
    pairs = [(max(p, _LEAST_SHARE), max(q, _LEAST_SHARE)) for p, q in _shares(baseline, recent)]
    return math.fsum((q - p) * math.log(q / p) for p, q in pairs)


def js_distance(baseline: Sequence[Any], recent: Sequence[Any]) -> float:
    """Jensen-Shannon distance in base 2, from 0 for the same to 1 for nothing in common; bins as for `psi`.

    Source: Endres and Schindelin 2003.
    """
    total = 0.0
    for p, q in _shares(baseline, recent):
        middle = (p + q) / 2
        total += sum(share * math.log2(share / middle) for share in (p, q) if share) / 2
    return math.sqrt(max(0.0, total))


def ks(baseline: Sequence[Any], recent: Sequence[Any]) -> float:
    """Kolmogorov-Smirnov statistic of numbers, from 0 to 1: the largest distance of the two distribution functions.

    Raises InvalidArgument for what is not numbers, or none.
    """
    first, second = (sorted(value for value in values if value is not None) for values in (baseline, recent))
    if not first or not second or not all(_is_number(value) for value in (*first, *second)):
        raise InvalidArgument("ks needs numbers in both tables.")
    points = sorted({*first, *second})
    gaps = (abs(bisect_right(first, x) / len(first) - bisect_right(second, x) / len(second)) for x in points)
    return max(gaps)


MEASURES: Mapping[str, Callable[[Sequence[Any], Sequence[Any]], float]] = {
    "psi": psi,
    "js_distance": js_distance,
    "ks": ks,
}


def _shares(baseline: Sequence[Any], recent: Sequence[Any]) -> list[tuple[float, float]]:
    """The share of each bin in the two."""
    if not baseline or not recent:
        raise InvalidArgument("drift needs rows in both tables.")
    binned = _binning(baseline)
    first, second = Counter(map(binned, baseline)), Counter(map(binned, recent))
    return [(first[each] / len(baseline), second[each] / len(recent)) for each in {*first, *second}]


def _binning(baseline: Sequence[Any]) -> Callable[[Any], Any]:
    values = [value for value in baseline if value is not None]
    if not values or not all(map(_is_number, values)) or len(set(values)) <= _BINS:
        return lambda value: value
    numbers = sorted(values)
    edges = sorted({numbers[len(numbers) * part // _BINS] for part in range(1, _BINS)})
    return lambda value: None if value is None else bisect_left(edges, value)


def _clean(rows: Any, name: str) -> list[Any]:
    """A column, in which what is not a number is null, and what has parts is a text."""
    values = [None if isinstance(value, float) and math.isnan(value) else value for value in column(rows, name)]
    return [str(value) if isinstance(value, list | dict) else value for value in values]


def _is_number(value: Any) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, bool)


def _look(subject: Subject, params: Mapping[str, Any]) -> Looked:
    asked: Mapping[str, Mapping[str, float]] = params["columns"]
    recent = subject.tools.table(params["table"], params["table_version"], tuple(asked))
    baseline = subject.tools.table(params["baseline"], params["baseline_version"], tuple(asked))
    columns = {name: (_clean(baseline, name), _clean(recent, name)) for name in asked}
    found = {name: {measure: MEASURES[measure](*columns[name]) for measure in limits} for name, limits in asked.items()}
    over = [
        f"{measure} of {name} is {found[name][measure]:.4g}, the limit {limit}"
        for name, limits in asked.items()
        for measure, limit in limits.items()
        if not found[name][measure] <= limit
    ]
    return not over, "; ".join(over) or "all columns are within their limits", {"columns": found}


def _inspect(params: Mapping[str, Any]) -> None:
    for name, limits in params["columns"].items():
        known = isinstance(limits, dict) and limits and not set(limits) - set(MEASURES)
        if not known or not all(isinstance(limit, NUMBER) for limit in limits.values()):
            raise InvalidArgument(f"Check 'drift': column '{name}' has limits of {', '.join(MEASURES)}, as numbers.")


DRIFT = PlainCheck(
    name="drift",
    types={
        "table": (str,), "table_version": (int,), "baseline": (str,), "baseline_version": (int,), "columns": (dict,),
    },
    look=_look,
    slow=True,
    required=("table", "table_version", "baseline", "baseline_version", "columns"),
    inspect=_inspect,
)  # fmt: skip
