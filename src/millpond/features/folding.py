"""Functions of many ranges of a column at once, whose cost does not depend on how long the ranges are.

Counts and whole numbers are differences of running totals. All else is put together of blocks: level by level, values
are merged two by two, and a range takes at each level at most one block at its start and one at its end. So sums of
fractions are as exact as sums by pairs are, and a value that is in no range of a label leaves no trace in its sums.

Source: the segment tree; for variances, Chan, Golub and LeVeque 1979, "Updating Formulae and a Pairwise Algorithm for
Computing Sample Variances".
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from millpond.features.windows import Function

Positions = npt.NDArray[np.int64]
Parts = tuple[npt.NDArray[Any], ...]
Merge = Callable[[Parts, Parts], Parts]
_LEFT_OUT = frozenset({"approx_count_distinct", "approx_percentile"})


def can_fold(function: Function, dtype: pl.DataType) -> bool:
    """Whether `fold` knows a function of values of a type; others want all values of a range."""
    return (
        function.kind not in _LEFT_OUT and not (function.kind == "sum" and dtype.is_decimal()) and not dtype.is_nested()
    )


def fold(function: Function, values: pl.Series, first: Positions, after: Positions) -> pl.Series:
    """The function of each range of `values`, from `first` on and before `after`.

    The order of values matters to `First` and `Last` alone.
    """
    if function.kind in ("first", "last"):
        at = first if function.kind == "first" else after - 1
        return values.gather(pl.Series(at).set(pl.Series(first == after), None))
    count = _between(values.is_not_null().to_numpy().astype(np.int64), first, after)
    if function.kind == "count":
        return pl.Series(count)
    if function.kind in ("min", "max"):
        return _extreme(function.kind, values, first, after).set(pl.Series(count == 0), None)
    if function.kind == "sum" and values.dtype.is_integer():
        whole = values.cast(pl.Int64).fill_null(0).to_numpy()
        return pl.Series(_between(whole, first, after)).set(pl.Series(count == 0), None)
    least = 2 if function.kind.endswith("samp") else 1
    with np.errstate(
        all="ignore"
    ):  # of NaN, infinities and of nothing: what comes of them is what is wanted, or is NULL
        made = _of_fractions(function.kind, values.cast(pl.Float64), first, after, count)
    return pl.Series(made).set(pl.Series(count < least), None)


def _of_fractions(
    kind: str, values: pl.Series, first: Positions, after: Positions, count: Positions
) -> npt.NDArray[np.float64]:
    given = values.fill_null(0.0).to_numpy()
    if kind in ("sum", "avg"):
        total = _merged(given, 0.0, np.add, first, after)
        return np.asarray(total / count if kind == "avg" else total, dtype=np.float64)
    there = values.is_not_null().to_numpy().astype(np.float64)
    _, _, squares = _blocks((there, given, np.zeros(len(given))), (0.0, 0.0, 0.0), _spread, first, after)
    variance = squares / (count - (1 if kind.endswith("samp") else 0))
    return np.asarray(np.sqrt(variance) if kind.startswith("stddev") else variance, dtype=np.float64)


def _spread(one: Parts, other: Parts) -> Parts:
    """Counts, means and sums of squared distances from them, of two blocks together."""
    count, apart = one[0] + other[0], other[1] - one[1]
    share = np.divide(other[0], count, out=np.zeros(len(count)), where=count > 0)
    some = other[0] > 0
    mean = np.where(some, one[1] + apart * share, one[1])
    return count, mean, one[2] + other[2] + np.where(some, apart * apart * one[0] * share, 0.0)


def _extreme(kind: str, values: pl.Series, first: Positions, after: Positions) -> pl.Series:
    """The least or greatest value of each range, whatever the type; NaN is greater than all."""
    none: float
    merge: np.ufunc
    if values.dtype.is_float():
        none, merge = (np.nan, np.fmin) if kind == "min" else (-np.inf, np.maximum)
        given = values.cast(pl.Float64).fill_null(none).to_numpy()
        return pl.Series(_merged(given, none, merge, first, after)).cast(values.dtype)
    order = values.arg_sort(nulls_last=False).to_numpy()
    places = np.empty(len(values), dtype=np.int64)
    places[order] = np.arange(len(values))
    none, merge = (len(values), np.minimum) if kind == "min" else (-1, np.maximum)
    places[places < values.null_count()] = none
    rows = np.append(order, 0)[_merged(places, none, merge, first, after)]  # without a value any: it is NULL in the end
    return values.gather(pl.Series(rows if len(values) else np.full(len(rows), -1)).replace(-1, None))


def _merged(
    values: npt.NDArray[Any], nothing: float, merge: np.ufunc, first: Positions, after: Positions
) -> npt.NDArray[Any]:
    (found,) = _blocks((values,), (nothing,), lambda one, other: (merge(one[0], other[0]),), first, after)
    return found


def _between(values: Positions, first: Positions, after: Positions) -> Positions:
    """The sums of ranges of whole numbers."""
    totals = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(values)])
    return np.asarray(totals[after] - totals[first], dtype=np.int64)


def _blocks(leaves: Parts, nothing: Sequence[float], merge: Merge, first: Positions, after: Positions) -> Parts:
    """What `merge` makes of the leaves of each range; `nothing` changes nothing that it is merged with."""
    level = leaves
    found = tuple(np.full(len(first), none, dtype=leaf.dtype) for none, leaf in zip(nothing, leaves, strict=True))
    start, stop = first.copy(), after.copy()
    open_ones = np.flatnonzero(start < stop)
    while len(open_ones):
        taking = open_ones[start[open_ones] & 1 == 1]
        _take(found, taking, level, start[taking], merge)
        start[taking] += 1
        taking = open_ones[(stop[open_ones] & 1 == 1) & (start[open_ones] < stop[open_ones])]
        stop[taking] -= 1
        _take(found, taking, level, stop[taking], merge)
        start >>= 1
        stop >>= 1
        open_ones = open_ones[start[open_ones] < stop[open_ones]]
        if len(level[0]) % 2:
            level = tuple(np.append(part, part.dtype.type(none)) for part, none in zip(level, nothing, strict=True))
        level = merge(tuple(part[0::2] for part in level), tuple(part[1::2] for part in level))
    return found


def _take(found: Parts, which: Positions, level: Parts, blocks: Positions, merge: Merge) -> None:
    merged = merge(tuple(part[which] for part in found), tuple(part[blocks] for part in level))
    for part, made in zip(found, merged, strict=True):
        part[which] = made
