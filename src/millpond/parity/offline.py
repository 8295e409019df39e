"""The offline side: the point-in-time join of training, over tables as they were at the version that is online.

Rows come through the gateway, as whoever asks may see them; the join is that of `millpond.features`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa

from millpond.catalog.domain import ObjectName
from millpond.catalog.names import quote, text_literal
from millpond.features.columns import prepared_features, prepared_labels
from millpond.features.joining import Means, look_up
from millpond.features.planning import Call, Join, made_by, needs_of
from millpond.identity.domain import Principal
from millpond.kernel.clock import epoch_us
from millpond.kernel.column_values import moment
from millpond.kernel.errors import FailedPrecondition, InvalidArgument
from millpond.parity.requests import Row
from millpond.registry.checks import at_version

Query = Callable[[Principal, str, int], pa.Table]
"""Runs a query as somebody; its first so many rows."""
Compute = Callable[[Principal, pa.Table, Sequence[str]], pa.Table]
"""Expressions of SQL over rows, as somebody."""

_KEYS_AT_ONCE = 100
_MOST_ROWS = 500_000
"""Of the history of so many keys."""
_ZONE = "UTC"
_UTC = pl.Datetime("us", "UTC")
_POSITION = "__position"


@dataclass(frozen=True, kw_only=True)
class Offline:
    """What the rows have offline."""

    columns: Mapping[str, Sequence[Any]]
    """Those of the requests, and all that the steps make."""
    superseded: Mapping[str, frozenset[int]]
    """By column the rows for which newer values have come since: online they are not to be had any more."""


class OfflinePath:
    """Carries out steps for the requests of one replay."""

    def __init__(
        self,
        query: Query,
        compute: Compute,
        rights: Principal,
        *,
        versions: Mapping[str, int],
        parameters: Mapping[str, Sequence[str]],
        now: datetime,
    ) -> None:
        """`versions` are those of the tables, `parameters` the SQL types of each function's parameters."""
        self._query, self._compute, self._rights = query, compute, rights
        self._versions, self._parameters, self._now = versions, parameters, now
        self._columns: dict[str, list[Any]] = {}
        self._superseded: dict[str, frozenset[int]] = {}

    def replay(self, steps: Sequence[Join | Call], rows: Sequence[Row]) -> Offline:
        """All that the steps make. Raises InvalidArgument for keys of another type, FailedPrecondition, SqlError."""
        self._columns = {name: [row[name] for row in rows] for name in rows[0]}
        for step in steps:
            before = frozenset[int]().union(*(self._superseded.get(name, ()) for name in needs_of(step)))
            made, newer = self._looked_up(step, len(rows)) if isinstance(step, Join) else (self._called(step), set())
            self._columns.update(made)
            self._superseded.update(dict.fromkeys(made_by(step), before | newer))
        return Offline(columns=self._columns, superseded=self._superseded)

    # Lookups

    def _looked_up(self, join: Join, height: int) -> tuple[dict[str, list[Any]], set[int]]:
        made: dict[str, list[Any]] = {output: [] for output in join.outputs.values()}
        newer: set[int] = set()
        for start in range(0, height, _KEYS_AT_ONCE):
            some = {name: self._columns[name][start : start + _KEYS_AT_ONCE] for name in join.label_columns}
            features = self._history(join, some)
            labels = _labels(join, some, features)
            try:
                found = look_up(labels, [features], join, Means(zone=_ZONE)).columns
            except (ValueError, pl.exceptions.PolarsError) as error:
                raise InvalidArgument(f"Nothing can be looked up in '{join.table}': {error}") from error
            for output, values in made.items():
                values += found[output].to_list()
            newer.update(start + number for number in self._newer(join, labels, features))
        return made, newer

    def _history(self, join: Join, columns: Mapping[str, Sequence[Any]]) -> pl.DataFrame:
        """The rows of some keys; more of composite ones, as each part is asked for by itself."""
        wanted = ", ".join(map(quote, join.table_columns))
        conditions = " AND ".join(_among(theirs, columns[mine]) for mine, theirs in join.keys)
        place = at_version(join.table, self._versions[join.table])
        text = f"SELECT {wanted} FROM {place} WHERE {conditions}"  # noqa: S608 - names and values are quoted
        rows = self._query(self._rights, text, _MOST_ROWS + 1)
        if rows.num_rows > _MOST_ROWS:
            raise FailedPrecondition(
                f"{_KEYS_AT_ONCE} keys of '{join.table}' have more than {_MOST_ROWS} rows; replay fewer, by 'sample'."
            )
        made = pl.from_arrow(rows)
        assert isinstance(made, pl.DataFrame)
        return made

    def _newer(self, join: Join, labels: pl.DataFrame, features: pl.DataFrame) -> Iterator[int]:
        """The labels whose key has a row that came, or was known, after the label's time, and until now."""
        if join.time is None:
            return
        keys = [f"k{number}" for number in range(len(join.keys))]
        since = pl.max_horizontal("t", "known") if join.known_at else pl.col("t")
        needed = ["t", "known"] if join.known_at else ["t"]
        rows = prepared_features(features, join, zone=_ZONE).drop_nulls(needed).with_columns(since.alias("since"))
        newest = rows.filter(pl.col("since") <= epoch_us(self._now)).group_by(keys).agg(pl.col("since").max())
        mine = prepared_labels(labels, join, zone=_ZONE)
        found = mine.join(newest, on=keys, how="left", maintain_order="left")
        yield from found.select((pl.col("since") > pl.col("t")).fill_null(False)).to_series().arg_true().to_list()

    # Functions

    def _called(self, call: Call) -> dict[str, list[Any]]:
        """What a function makes of each row; it runs in the engine of whoever asks, confined as all users' code is."""
        given = [self._columns[name] for name in call.arguments]
        height = len(next(iter(self._columns.values())))
        rows = pa.table({_POSITION: range(height), **{f"a{number}": values for number, values in enumerate(given)}})
        types = self._parameters[call.function]
        casts = ", ".join(f"CAST(a{number} AS {kind})" for number, kind in enumerate(types))
        function = f"{ObjectName.of_full_name(call.function).quoted}({casts})"
        found = self._compute(self._rights, rows, [_POSITION, f"{function} AS result"])
        made = pl.from_arrow(found)
        assert isinstance(made, pl.DataFrame)
        return {call.output: made.sort(_POSITION)["result"].to_list()}


def _labels(join: Join, columns: Mapping[str, Sequence[Any]], features: pl.DataFrame) -> pl.DataFrame:
    """The keys as the table has them, and the times. Raises InvalidArgument for what is of another type."""
    try:
        made = {mine: pl.Series(mine, columns[mine], features.schema[theirs]) for mine, theirs in join.keys}
    except (TypeError, OverflowError, pl.exceptions.PolarsError) as error:
        keys = [mine for mine, _ in join.keys]
        raise InvalidArgument(f"The columns {keys} are no keys of '{join.table}': {error}") from error
    if join.time is not None:
        mine = join.time[0]
        times = [None if value is None else moment(value) for value in columns[mine]]
        made[mine] = pl.Series(mine, times, _UTC)
    return pl.DataFrame(made)


def _among(column: str, values: Sequence[Any]) -> str:
    known = {_literal(value) for value in values if value is not None}
    return f"{quote(column)} IN ({', '.join(sorted(known))})" if known else "1 = 0"


def _literal(value: Any) -> str:
    """A key as SQL. Raises InvalidArgument for what is no key."""
    if isinstance(value, bool | int):
        return str(value).upper()
    if isinstance(value, str):
        return text_literal(value)
    if isinstance(value, float):
        return f"CAST('{value}' AS DOUBLE)"
    if isinstance(value, Decimal):
        digits = -int(value.as_tuple().exponent)
        return f"CAST('{value:f}' AS DECIMAL(38, {max(0, digits)}))"
    if isinstance(value, date):
        kind = "TIMESTAMP" if isinstance(value, datetime) else "DATE"
        return f"CAST('{value.isoformat()}' AS {kind})"
    raise InvalidArgument(f"A {type(value).__name__} is no key that can be looked up.")
