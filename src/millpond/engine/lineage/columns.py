"""Columns on their way through a query: what they are called, and which columns of which sources are in them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

Source = tuple[str, str]
"""Key of a source (a table, view or path) and the name of its column; an empty name is for any that is asked for."""
NOTHING: frozenset[Source] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of an intermediate result, or, where it is `open`, all those whose names are not known."""

    name: str
    sources: frozenset[Source] = NOTHING
    qualifier: str = ""
    """Alias of the relation under which it may be asked for, in lower case."""
    plans: frozenset[int] = frozenset()
    """Ids of the DataFrames that have it."""
    exact: bool = True
    """Whether `sources` is all that is in it; if not, it came through something that cannot be looked into."""
    is_open: bool = False
    is_hidden: bool = False
    """Only there when asked for by its qualifier: a join's own copy of a column that both sides had."""

    def named(self, name: str) -> "Column":
        """The same under another name; of open columns, the one with that name."""
        sources = frozenset((key, column or name) for key, column in self.sources) if self.is_open else self.sources
        return replace(self, name=name, sources=sources, is_open=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """An intermediate result: its columns, and what else was looked at to make it (conditions, keys, order)."""

    columns: tuple[Column, ...] = ()
    uses: frozenset[Source] = NOTHING

    @property
    def shown(self) -> tuple[Column, ...]:
        """The columns that a star means."""
        return tuple(column for column in self.columns if not column.is_hidden)

    @property
    def everything(self) -> frozenset[Source]:
        """All sources, whatever for."""
        return self.uses.union(*(column.sources for column in self.shown))

    def using(self, sources: Iterable[Source]) -> "Rows":
        """The same after a look at these."""
        return replace(self, uses=self.uses.union(sources))

    def aliased(self, alias: str, names: Sequence[str] = ()) -> "Rows":
        """As a relation with a name, and perhaps with other names of its columns."""
        renamed = renamed_columns(self.shown, names) if names else self.shown
        return replace(self, columns=tuple(replace(column, qualifier=alias.lower()) for column in renamed))


@dataclass(slots=True)
class Found:
    """What an expression is made of."""

    sources: set[Source] = field(default_factory=set)
    uses: set[Source] = field(default_factory=set)
    exact: bool = True

    def add(self, column: Column | None) -> None:
        """A column stands in the expression; None for one that is not known."""
        if column is None:
            self.exact = False
            return
        self.sources |= column.sources
        self.exact = self.exact and column.exact

    def column(self, name: str) -> Column:
        """The expression as a column."""
        return Column(name=name, sources=frozenset(self.sources), exact=self.exact)


def open_rows(key: str) -> Rows:
    """A source whose columns are not known beforehand."""
    return Rows(columns=(Column(name="*", sources=frozenset({(key, "")}), is_open=True),))


def opaque_rows(uses: Iterable[Source] = ()) -> Rows:
    """What came out of something that cannot be looked into."""
    return Rows(columns=(Column(name="*", exact=False, is_open=True),), uses=frozenset(uses))


def source_rows(key: str, names: Iterable[str]) -> Rows:
    """A source with known columns."""
    return Rows(columns=tuple(Column(name=name, sources=frozenset({(key, name)})) for name in names))


def find_column(columns: Sequence[Column], parts: Sequence[str], plan: int | None = None) -> Column | None:
    """What a name of one or more parts means: `column`, `alias.column`, and the fields of either."""
    if plan is not None:
        columns = [column for column in columns if plan in column.plans] or columns
    lowered = [part.lower() for part in parts]
    for at in range(1, len(lowered)):
        found = [c for c in columns if c.qualifier == lowered[at - 1] and c.name.lower() == lowered[at]]
        if found:
            return _merged(found)
    named = [c for c in columns if c.name.lower() == lowered[0]]
    found = [c for c in named if not c.is_hidden] or named
    if found:
        return _merged(found)
    return _find_open(columns, lowered, parts)


def _find_open(columns: Sequence[Column], lowered: Sequence[str], parts: Sequence[str]) -> Column | None:
    wide = [column for column in columns if column.is_open]
    qualified = [column for column in wide if len(parts) > 1 and column.qualifier == lowered[0]]
    if qualified:
        return _merged([column.named(parts[1]) for column in qualified])
    if len(wide) > 1:
        return Column(name=parts[0], exact=False)
    return wide[0].named(parts[0]) if wide else None


def _merged(found: Sequence[Column]) -> Column:
    if len(found) == 1:
        return found[0]
    sources = NOTHING.union(*(column.sources for column in found))
    return replace(found[0], sources=sources, exact=all(column.exact for column in found))


def renamed_columns(columns: Sequence[Column], names: Sequence[str]) -> tuple[Column, ...]:
    """Columns under new names, one by one. Where some are open, a name can only be trusted if it is already theirs."""
    if any(column.is_open for column in columns):
        return tuple(Column(name=name, exact=False) for name in names)
    pairs = zip(columns, names, strict=False)
    return tuple(column.named(name) for column, name in pairs)


def united(left: Rows, right: Rows, *, by_name: bool) -> Rows:
    """UNION: each column from both sides."""
    if by_name:
        pairs = [(column, find_column(right.shown, [column.name])) for column in left.shown]
        known = {column.name.lower() for column in left.shown}
        more = [column for column in right.shown if column.name.lower() not in known]
    else:
        pairs = list(zip(left.shown, right.shown, strict=False))
        more = []
        if len(left.shown) != len(right.shown) or any(c.is_open for c in (*left.shown, *right.shown)):
            pairs = [(column, Column(name=column.name, exact=False)) for column in left.shown]
    columns = [replace(_merged([a, b]) if b else a, is_open=a.is_open) for a, b in pairs]
    return Rows(columns=(*columns, *more), uses=left.uses | right.uses)


def joined(left: Rows, right: Rows, *, side: str, using: Sequence[str] = (), natural: bool = False) -> Rows:
    """A join; `side` is "", left, right, full, semi or anti. Columns of `using` come once."""
    uses = left.uses | right.uses
    if natural:
        using = [c.name for c in left.shown if any(c.name.lower() == o.name.lower() for o in right.shown)]
    keys = {name.lower() for name in using}
    pairs = [(find_column(left.columns, [name]), find_column(right.columns, [name])) for name in using]
    uses = uses.union(*(column.sources for pair in pairs for column in pair if column))
    if side in {"semi", "anti"}:
        return Rows(columns=left.columns, uses=uses | right.uses)
    once = [_key_column(a, b, side) for a, b in pairs if a and b]
    rest = [
        replace(column, is_hidden=True) if column.name.lower() in keys else column
        for column in (*left.columns, *right.columns)
    ]
    return Rows(columns=(*once, *rest), uses=uses)


def _key_column(left: Column, right: Column, side: str) -> Column:
    if side == "full":
        return replace(_merged([left, right]), plans=left.plans | right.plans, qualifier="")
    column = right if side == "right" else left
    return replace(column, qualifier="", plans=left.plans | right.plans)
