"""Which requests are replayed: what they need, and how rows are made of keys. Pure: it knows no data but keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from millpond.features.planning import Call, Join, made_by, needs_of

Row = dict[str, Any]
_FIRST_DAY = date(1900, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Columns of a request that are sampled together from a feature table."""

    table: str
    columns: Mapping[str, str]
    """By the request's column that of the table."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What requests of a spec have to bring."""

    keys: tuple[str, ...]
    times: tuple[str, ...]
    """Columns that say when a request is made; now, where they are not given."""
    others: tuple[str, ...]
    """What functions are given besides."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.keys, *self.times, *self.others)


def needs(steps: Sequence[Join | Call]) -> Needs:
    """What no step before makes."""
    made: set[str] = set()
    found: dict[str, None] = {}
    for step in steps:
        found |= dict.fromkeys(name for name in needs_of(step) if name not in made)
        made.update(made_by(step))
    joins = [step for step in steps if isinstance(step, Join)]
    keys = {mine for join in joins for mine, _ in join.keys} & found.keys()
    times = {join.time[0] for join in joins if join.time} & found.keys() - keys
    return Needs(
        keys=tuple(name for name in found if name in keys),
        times=tuple(name for name in found if name in times),
        others=tuple(name for name in found if name not in keys | times),
    )


def sampled_keys(steps: Sequence[Join | Call], wanted: Sequence[str]) -> tuple[Keys, ...]:
    """From which tables keys are taken: the widest first, as what belongs together is taken together."""
    joins = [step for step in steps if isinstance(step, Join)]
    filled: set[str] = set()
    found = []
    for join in sorted(joins, key=lambda join: -len(join.keys)):
        columns = {mine: theirs for mine, theirs in join.keys if mine in wanted and mine not in filled}
        if columns:
            found.append(Keys(table=join.table, columns=columns))
            filled |= columns.keys()
    return tuple(found)


def side_by_side(groups: Sequence[Sequence[Row]], columns: Sequence[str]) -> list[Row]:
    """Rows of several tables as one each, the shorter ones again and again; NULL where a table has none."""
    height = max(map(len, groups), default=0)
    empty = dict.fromkeys(columns)
    return [
        empty | {name: value for group in groups if group for name, value in group[number % len(group)].items()}
        for number in range(height)
    ]


def absent(rows: Sequence[Row], keys: Mapping[str, str], count: int) -> list[Row]:
    """As many requests for keys that are hardly there, and one without any; `keys` are the columns with SQL types."""
    empty = rows[0] if rows else {}
    missing = [empty | {name: _absent(kind, number) for name, kind in keys.items()} for number in range(count)]
    return [*missing, empty | dict.fromkeys(keys)]


def _absent(kind: str, number: int) -> Any:
    """A value that is in few tables. Should it be there, nothing is lost: both sides find it."""
    bits = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}.get(kind)
    if bits:
        return 2 ** (bits - 1) - 2 - number
    if kind == "string":
        return f"absent-{number}-93b1c7"
    if kind == "date":
        return _FIRST_DAY + timedelta(days=number)
    return None


def filled_in(rows: Sequence[Row], times: Sequence[str], now: datetime) -> list[Row]:
    """Rows that have a time: now, where they say none."""
    return [{**dict.fromkeys(times, now), **row} for row in rows]
