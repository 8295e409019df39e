"""What a result means under a condition: the value that counts, and how it compares. Pure."""

import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from operator import eq, ge, gt, le, lt, ne
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millpond.kernel.errors import InvalidArgument
from millpond.sql.alerts.domain import Aggregation, AlertState, Condition, Operand, Operator, Verdict
from millpond.sql.formats import text_rows

MOST_ROWS = 10_000
"""Of a result that are looked at."""
MOST_BYTES = 25 * 2**20
"""The same; so much lies in memory for each evaluation."""
MOST_SHOWN = 10
"""Rows of it that a message may hold."""
_LONGEST_VALUE = 1000
_COMPARE: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.EQUAL: eq, Operator.NOT_EQUAL: ne, Operator.GREATER_THAN: gt, Operator.GREATER_THAN_OR_EQUAL: ge,
    Operator.LESS_THAN: lt, Operator.LESS_THAN_OR_EQUAL: le,
}  # fmt: skip
_NUMBERS = (int, float, Decimal)


def judged(condition: Condition, table: pa.Table, *, truncated: bool) -> Verdict:
    """What the rows mean; `truncated` where there are more. Raises InvalidArgument for what cannot be said."""
    if truncated and not table.num_rows:
        raise InvalidArgument(f"The first row of the result has more than {MOST_BYTES >> 20} MiB; select less of it.")
    value, threshold = None, condition.threshold
    if table.num_rows:
        value = _value(condition.source, table, truncated=truncated)
        if isinstance(threshold, Operand):
            threshold = _value(threshold, table, truncated=truncated)
    state, message = _state(condition, value, threshold, is_empty=not table.num_rows)
    return Verdict(
        state=state,
        value=_text(value) if table.num_rows else "",
        message=message,
        columns=tuple(table.column_names),
        rows=tuple(tuple(row) for row in text_rows(table.slice(0, MOST_SHOWN))),
    )


def _state(condition: Condition, value: Any, threshold: Any, *, is_empty: bool) -> tuple[AlertState, str]:
    """The state, and why there is no better one."""
    operator = condition.operator
    if is_empty:
        return condition.empty_state, "The result has no rows."
    if not operator.compares:
        met = (value is None) is (operator is Operator.IS_NULL)
    elif value is None or threshold is None:
        what = condition.source if value is None else condition.threshold
        return AlertState.UNKNOWN, f"{what} is NULL, which compares with nothing."
    else:
        met = _COMPARE[operator](*_comparable(value, threshold))
    return AlertState.TRIGGERED if met else AlertState.OK, ""


# -- values -----------------------------------------------------------------------------------------------------------


def _value(operand: Operand, table: pa.Table, *, truncated: bool) -> Any:
    column = _column(operand.column, table)
    if operand.aggregation is None:
        return column[0].as_py()
    if truncated:
        raise InvalidArgument(
            f"The result has more than {MOST_ROWS:,} rows or {MOST_BYTES >> 20} MiB, too much for {operand}; "
            "aggregate in the query itself."
        )
    try:
        return _AGGREGATE[operand.aggregation](column)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidArgument(f"{operand} cannot be computed: the column is of type {column.type}.") from error


def _column(name: str, table: pa.Table) -> pa.ChunkedArray:
    """The column with a name, in any case where none is written like this."""
    names = table.column_names
    if name not in names:
        found = [each for each in names if each.casefold() == name.casefold()]
        if not found:
            raise InvalidArgument(f"The result has no column '{name[:80]}'; it has {', '.join(names)[:500]}.")
        name = found[0]
    return table.column(names.index(name))


def _number(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(column, pa.float64()) if pa.types.is_decimal(column.type) else column


def _median(column: pa.ChunkedArray) -> Any:
    return pc.quantile(_number(column), q=0.5)[0].as_py()


def _spread(column: pa.ChunkedArray) -> Any:
    """Of a sample, as SQL's STDDEV."""
    return pc.stddev(_number(column), ddof=1).as_py()


_AGGREGATE: dict[Aggregation, Callable[[pa.ChunkedArray], Any]] = {
    Aggregation.SUM: lambda column: pc.sum(column).as_py(),
    Aggregation.COUNT: lambda column: pc.count(column).as_py(),
    Aggregation.COUNT_DISTINCT: lambda column: pc.count_distinct(column).as_py(),
    Aggregation.AVG: lambda column: pc.mean(_number(column)).as_py(),
    Aggregation.MEDIAN: _median,
    Aggregation.MIN: lambda column: pc.min(column).as_py(),
    Aggregation.MAX: lambda column: pc.max(column).as_py(),
    Aggregation.STDDEV: _spread,
}


# -- comparing --------------------------------------------------------------------------------------------------------


def _comparable(value: Any, threshold: Any) -> tuple[Any, Any]:
    """Both in a form in which they compare: as the value's type says. Raises InvalidArgument."""
    try:
        if isinstance(value, bool):
            return value, _truth(threshold)
        if isinstance(value, _NUMBERS):
            return _alike(_exact(value), _exact(threshold))
        if isinstance(value, datetime):
            return _moment(value), _moment(threshold)
        if isinstance(value, date):
            return value, threshold if type(threshold) is date else date.fromisoformat(str(threshold)[:10])
        if isinstance(value, str):
            numbers = isinstance(threshold, _NUMBERS)
            return _alike(_exact(value), _exact(threshold)) if numbers else (value, str(threshold))
    except (ValueError, ArithmeticError) as error:
        raise InvalidArgument(f"{_text(value)[:200]} cannot be compared with {_text(threshold)[:200]}.") from error
    raise InvalidArgument(f"A value of type {type(value).__name__} cannot be compared; select one of its parts.")


def _exact(value: Any) -> Any:
    """A number as it is, so that large integers and decimals compare exactly. NaN is above all, as in Spark."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        value = float(value)
    return math.inf if isinstance(value, float) and math.isnan(value) else value


def _alike(value: Any, threshold: Any) -> tuple[Any, Any]:
    """Both as decimals where one is: 0.1 is then 0.10, as whoever wrote it meant."""
    if isinstance(value, Decimal) is isinstance(threshold, Decimal):
        return value, threshold
    return _decimal(value), _decimal(threshold)


def _decimal(value: Any) -> Any:
    return Decimal(repr(value)) if isinstance(value, float) else value


def _truth(value: Any) -> bool:
    known = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
    text = str(value).strip().lower()
    if text not in known:
        raise ValueError(text)
    return known[text]


def _moment(value: Any) -> datetime:
    """Without a time zone it is UTC."""
    found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _text(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.15g}" if isinstance(value, float) else str(value)[:_LONGEST_VALUE]
