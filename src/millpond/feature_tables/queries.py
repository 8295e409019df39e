"""The queries behind statistics, as SQL that Sail and Spark both know, and the bins of histograms."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from millpond.catalog.names import quote, text_literal

MOST_BINS = 20
_LARGEST = "1.7976931348623157E308D"
"""Of the numbers that are finite; NaN is larger than all, as Spark orders."""
_EXACT = 2.0**52
"""Below it a DOUBLE is exact about whole numbers, and those next to them."""
_LONGEST_VALUE = 200
"""Characters of a text that are told."""


class Kind(StrEnum):
    """How the values of a column are described."""

    NUMBER = "number"
    TIME = "time"
    TEXT = "text"
    """Truth values too: by their most frequent values."""
    NESTED = "nested"
    """Arrays, maps, structs, bytes: counted, and no more."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column as a query returns it."""

    name: str
    kind: Kind
    type: str
    """Arrow's name of it."""

    @classmethod
    def of(cls, field: pa.Field) -> "Column":
        """The column of a field."""
        return cls(name=field.name, kind=_kind(field.type), type=str(field.type))

    @property
    def sql(self) -> str:
        """Its name in SQL."""
        return quote(self.name)

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers."""
        return self.type.startswith(("int", "uint"))

    @property
    def number(self) -> str:
        """Its value as a finite DOUBLE, or NULL: seconds since 1970 of a time."""
        if self.kind is Kind.TIME:
            return f"CAST(unix_timestamp(CAST({self.sql} AS TIMESTAMP)) AS DOUBLE)"
        value = f"CAST({self.sql} AS DOUBLE)"
        return f"CASE WHEN abs({value}) <= {_LARGEST} THEN {value} END"

    @property
    def text(self) -> str:
        """Its value as people read it, cut where it is long."""
        return f"substring(CAST({self.sql} AS STRING), 1, {_LONGEST_VALUE})"


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Parts of equal width of a range."""

    low: float
    high: float
    """The end of the last one."""
    width: float
    count: int
    are_whole: bool = False
    """Whether each bin is one whole number."""

    @property
    def edges(self) -> tuple[float, ...]:
        """The ends of the bins, in order: one more than there are bins."""
        begins = (
            min(self.low + self.width * number, self.high) for number in range(self.count)
        )  # rounded, it may pass
        return (*begins, self.high)


def bins_for(ranges: Sequence[tuple[float, float]], *, whole: bool) -> Bins:
    """Bins in which values of all ranges have a place; those of few whole numbers are the numbers."""
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    if whole and high - low < MOST_BINS and max(-low, high) < _EXACT:
        return Bins(low=low, high=high + 1, width=1.0, count=int(high - low) + 1, are_whole=True)
    width = high / MOST_BINS - low / MOST_BINS  # the difference of the two might be no finite number
    if low + width == low:
        return Bins(low=low, high=high, width=1.0, count=1)
    return Bins(low=low, high=high, width=width, count=MOST_BINS)


def summary_query(place: str, columns: Sequence[Column], rows: int) -> str:
    """One row: `rows`, and for each column, followed by its number, `v` (values), `d` (distinct), `a` and `b` (ends, as
    texts), and of numbers and times `l`, `h` (ends), `f` (finite values), `m` (mean), `s` (standard deviation), and
    `q1_` to `q3_` (quartiles)."""
    told = "".join(f", {each}" for number, column in enumerate(columns) for each in _figures(number, column))
    return f"SELECT count(*) AS rows{told} FROM ({_sample(place, columns, rows)}) AS t"  # noqa: S608 - names are quoted


def _figures(number: int, column: Column) -> list[str]:
    name = column.sql
    made = [f"count({name}) AS v{number}"]
    if column.kind is Kind.NESTED:
        return made
    hashed = f"CASE WHEN {name} IS NOT NULL THEN xxhash64({name}) END"  # Sail counts different values of few types
    made.append(f"approx_count_distinct({hashed}) AS d{number}")
    if column.kind is Kind.TEXT:
        return [*made, f"min({column.text}) AS a{number}", f"max({column.text}) AS b{number}"]
    value = column.number
    shown = value if column.type in FLOATS else name
    quarters = (f"percentile_approx({value}, {part}) AS q{at}_{number}" for at, part in enumerate((0.25, 0.5, 0.75), 1))
    return [
        *made,
        f"CAST(min({shown}) AS STRING) AS a{number}", f"CAST(max({shown}) AS STRING) AS b{number}",
        f"min({value}) AS l{number}", f"max({value}) AS h{number}", f"count({value}) AS f{number}",
        f"avg({value}) AS m{number}", f"stddev({value}) AS s{number}", *quarters,
    ]  # fmt: skip


def counts_query(place: str, column: Column, bins: Bins, rows: int) -> str:
    """Rows of `bin`, counted from 0, and `n`, how many values are in it; empty bins are left out."""
    value = column.number
    # of halves, which are exact, as the difference of two numbers might be no finite one
    at = f"CAST(floor(({value} / 2 - {_double(bins.low / 2)}) / {_double(bins.width / 2)}) AS INT)"
    inside = f"greatest(0, least({bins.count - 1}, {at}))"
    return (
        f"SELECT {inside} AS bin, count(*) AS n FROM ({_sample(place, [column], rows)}) AS t "  # noqa: S608 - quoted
        f"WHERE {value} IS NOT NULL GROUP BY {inside}"
    )


def values_query(place: str, column: Column, rows: int, *, most: int, among: Sequence[str] | None = None) -> str:
    """Rows of `value`, a text, and `n`, how often it is there: the most frequent, or those of some that are there."""
    value = column.text
    where = f"{value} IS NOT NULL" if among is None else f"{value} IN ({', '.join(map(text_literal, among))})"
    return (
        f"SELECT {value} AS value, count(*) AS n FROM ({_sample(place, [column], rows)}) AS t "  # noqa: S608 - quoted
        f"WHERE {where} GROUP BY {value} ORDER BY n DESC, value LIMIT {most}"
    )


def _sample(place: str, columns: Sequence[Column], rows: int) -> str:
    return f"SELECT {', '.join(column.sql for column in columns) or '1'} FROM {place} LIMIT {rows}"  # noqa: S608 - quoted


def _double(value: float) -> str:
    return f"CAST({value!r} AS DOUBLE)"


FLOATS = frozenset({"halffloat", "float", "double"})


def _kind(kind: pa.DataType) -> Kind:
    types = pa.types
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return Kind.NUMBER
    if types.is_timestamp(kind) or types.is_date(kind):
        return Kind.TIME
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_boolean(kind):
        return Kind.TEXT
    return Kind.NESTED
