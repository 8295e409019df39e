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


def sampled_keys(steps: Sequence[Join | Call], wanted: Sequence[str]) -> tuple[tuple[Keys, ...], ...]:
    """From which tables keys are taken. Those of a group make one request together; each table has its turn.

    The widest come first, so that keys which belong together are taken together.
    """
    joins = sorted((step for step in steps if isinstance(step, Join)), key=lambda join: -len(join.keys))
    found: list[Keys] = []
    for join in joins:
        keys = Keys(table=join.table, columns={mine: theirs for mine, theirs in join.keys if mine in wanted})
        if keys.columns and keys not in found:
            found.append(keys)
    groups: list[list[Keys]] = []
    for keys in found:
        free = (group for group in groups if all(keys.columns.keys().isdisjoint(each.columns) for each in group))
        group = next(free, None)
        if group is None:
            groups.append([keys])
        else:
            group.append(keys)
    return tuple(map(tuple, groups))


def side_by_side(groups: Sequence[Sequence[Sequence[Row]]], columns: Sequence[str]) -> list[Row]:
    """Requests of what was taken from each table of each group: those of a group as one each, shorter ones again and
    again; what a group lacks is of the others, and NULL where nobody has it. Each request once."""
    made = (
        _request([*group, *(rows for other in groups if other is not group for rows in other)], number, columns)
        for group in groups
        for number in range(max(map(len, group)))
    )
    return list({tuple(row.values()): row for row in made}.values())


def _request(taken: Sequence[Sequence[Row]], number: int, columns: Sequence[str]) -> Row:
    made: Row = {}
    for rows in taken:
        made = (rows[number % len(rows)] if rows else {}) | made
    return dict.fromkeys(columns) | made


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
