"""What the values of one version of a feature table are like, counted by the engine as whoever asks.

So a row filter or a mask holds here as in any query. At most `SAMPLE_ROWS` rows are read, and an answer says when they
were not all. Answers are kept by table and version for those from whom nothing of the table is kept back; for others
they are worked out each time, as what a filter decides may change with more than the table.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import pyarrow as pa

from millpond.catalog.domain import SYSTEM_CATALOG, ObjectName, Table
from millpond.catalog.service import CatalogService
from millpond.engine.reader import Commit, TableReader
from millpond.engine.sql_client import SqlClient
from millpond.feature_tables.queries import (
    FLOATS,
    Bins,
    Column,
    Kind,
    bins_for,
    counts_query,
    summary_query,
    values_query,
)
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.clock import from_epoch_ms
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, NotFound

SAMPLE_ROWS = 500_000
MOST_COLUMNS = 100
"""In one question."""
TOP_VALUES = 10
VERSIONS = 100
"""The newest, which one may choose from."""
_TIMEOUT_S = 60
_MOST_ROWS = 100
"""Of an answer."""
_KEPT = 1000


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the values of a column are like."""

    column: str
    kind: Kind
    type: str
    """Arrow's name of it."""
    values: int
    nulls: int
    distinct: int | None
    """Different values, a few percent off; None for nested ones."""
    minimum: str | None
    maximum: str | None
    not_finite: int = 0
    """NaN and infinities of a number, which are in no other figure but `distinct`."""
    mean: float | None = None
    stddev: float | None = None
    """Of the sample."""
    quartiles: tuple[float, ...] = ()
    """The three, approximately."""
    low: float | None = None
    high: float | None = None
    """The range of a histogram; seconds since 1970 for times."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What one version of a table is like."""

    version: int
    committed_at: datetime | None
    """None for a version that is older than the newest `VERSIONS`."""
    rows: int
    """That were read."""
    is_sample: bool
    """Whether there are more rows."""
    summaries: Mapping[str, Summary]


@dataclass(frozen=True, kw_only=True)
class Counted:
    """How often values are in one version."""

    version: int
    counts: tuple[int, ...]
    others: int
    """Values that are in none of the counts."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """How the values of a column are spread, in the same bins for each version."""

    column: str
    kind: Kind
    labels: tuple[str, ...]
    edges: tuple[float, ...]
    """Of the bins of a number or a time: one more than there are bins. Empty for texts, whose labels are the values."""
    versions: tuple[Counted, ...]


class FeatureStatistics:
    """Works statistics out. Every method blocks, and raises NotFound, PermissionDenied, and what the engine says."""

    def __init__(self, catalog: CatalogService, reader: TableReader, sql: SqlClient) -> None:
        self._catalog = catalog
        self._reader = reader
        self._sql = sql
        self._kept: dict[Hashable, pa.Table] = {}

    def versions(self, principal: Principal, name: ObjectName) -> Sequence[Commit]:
        """The newest versions of a table, the newest first."""
        return self._reader.history(principal, name, limit=VERSIONS)

    def summarise(
        self, principal: Principal, name: ObjectName, columns: Sequence[str] = (), *, version: int | None = None
    ) -> Statistics:
        """What columns are like, or the first of them all; those that the version lacks are left out.

        Raises InvalidArgument for too many columns, DeadlineExceeded.
        """
        if len(columns) > MOST_COLUMNS:
            raise InvalidArgument(f"{len(columns)} columns are asked for; at most {MOST_COLUMNS} at once.")
        [place] = self._places(principal, name, [version])
        known = self._columns(place)
        wanted = [known[each] for each in columns if each in known] if columns else list(known.values())[:MOST_COLUMNS]
        return self._summaries(place, wanted)

    def distribution(
        self, principal: Principal, name: ObjectName, column: str, *, versions: Sequence[int | None] = (None,)
    ) -> Distribution:
        """How a column's values are spread in one version or several: a histogram, or the most frequent values of the
        first and how often they are in the others. Raises NotFound for a column that a version lacks."""
        found: list[_Described] = []
        for place in self._places(principal, name, versions):
            described = self._column(place, column)
            found.append((place, described, self._summaries(place, [described]).summaries[column]))
        kinds = {described.kind for _, described, _ in found}
        if kinds in ({Kind.NUMBER}, {Kind.TIME}):
            return self._histogram(found)
        if Kind.NESTED in kinds:
            return Distribution(column=column, kind=Kind.NESTED, labels=(), edges=(), versions=())
        return self._frequencies(found)

    # -- the work -----------------------------------------------------------------------------------------------

    def _places(self, principal: Principal, name: ObjectName, versions: Sequence[int | None]) -> Sequence["_Place"]:
        """Versions of a table, None for the newest."""
        table = self._catalog.get_table(principal, name)
        require(principal, Act.READ, table.securable)
        if table.data_source_format != "DELTA" or table.name.catalog == SYSTEM_CATALOG:
            raise FailedPrecondition(f"'{name}' is no Delta table, of whose versions there could be statistics.")
        is_kept = not self._catalog.guards_for(principal, table)
        commits = {commit.version: commit for commit in self.versions(principal, name)}
        newest = max(commits)
        chosen = [newest if version is None else version for version in versions]
        if wrong := [version for version in chosen if not 0 <= version <= newest]:
            raise NotFound(f"'{name}' has no version {wrong[0]}; its newest is {newest}.")
        return [
            _Place(principal=principal, table=table, version=version, commit=commits.get(version), is_kept=is_kept)
            for version in chosen
        ]

    def _columns(self, place: "_Place") -> Mapping[str, Column]:
        """Those of the version, by name."""
        schema = self._ask(place, f"SELECT * FROM {place.sql} LIMIT 0").schema  # noqa: S608 - the name is quoted
        return {field.name: Column.of(field) for field in schema}

    def _column(self, place: "_Place", name: str) -> Column:
        found = self._columns(place).get(name)
        if found is None:
            raise NotFound(f"Version {place.version} of '{place.table.name}' has no column '{name[:200]}'.")
        return found

    def _summaries(self, place: "_Place", columns: Sequence[Column]) -> Statistics:
        [row] = self._ask(place, summary_query(place.sql, columns, SAMPLE_ROWS)).to_pylist()
        return Statistics(
            version=place.version,
            committed_at=from_epoch_ms(place.commit.timestamp_ms) if place.commit else None,
            rows=row["rows"],
            is_sample=row["rows"] >= SAMPLE_ROWS,
            summaries={each.name: _summary(each, number, row) for number, each in enumerate(columns)},
        )

    def _histogram(self, found: Sequence["_Described"]) -> Distribution:
        _, column, _ = found[0]
        ranges = [(told.low, told.high) for _, _, told in found if told.low is not None and told.high is not None]
        whole = all(each.is_whole for _, each, _ in found)
        bins = bins_for(ranges or [(0.0, 0.0)], whole=whole)
        counted = []
        for place, each, told in found:
            rows = self._ask(place, counts_query(place.sql, each, bins, SAMPLE_ROWS)).to_pylist()
            counts = {row["bin"]: row["n"] for row in rows}
            here = tuple(counts.get(number, 0) for number in range(bins.count))
            counted.append(Counted(version=place.version, counts=here, others=told.not_finite))
        return Distribution(
            column=column.name, kind=column.kind, labels=_labels(column.kind, bins), edges=bins.edges,
            versions=tuple(counted),
        )  # fmt: skip

    def _frequencies(self, found: Sequence["_Described"]) -> Distribution:
        labels: tuple[str, ...] | None = None
        counted = []
        for place, column, told in found:
            query = values_query(place.sql, column, SAMPLE_ROWS, most=TOP_VALUES, among=labels)
            counts = {} if labels == () else {row["value"]: row["n"] for row in self._ask(place, query).to_pylist()}
            labels = tuple(counts) if labels is None else labels
            here = tuple(counts.get(label, 0) for label in labels)
            others = max(0, told.values - sum(here))  # a sample of which each query may read other rows
            counted.append(Counted(version=place.version, counts=here, others=others))
        return Distribution(
            column=found[0][1].name, kind=Kind.TEXT, labels=labels or (), edges=(), versions=tuple(counted)
        )

    def _ask(self, place: "_Place", query: str) -> pa.Table:
        """The answer to a query, which has few rows; the one before if nothing is kept back from who asks."""
        commit = place.commit.timestamp_ms if place.commit else None
        key = (place.table.id, place.version, commit, query)
        answer = self._kept.get(key) if place.is_kept else None
        if answer is None:
            answer = self._sql.rows(place.principal, query, _MOST_ROWS, timeout_s=_TIMEOUT_S)
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            if place.is_kept:
                self._kept[key] = answer
        return answer


@dataclass(frozen=True, kw_only=True)
class _Place:
    """One version of a table, for somebody who may read it."""

    principal: Principal
    table: Table
    version: int
    commit: Commit | None
    """None for one that is older than the newest `VERSIONS`."""
    is_kept: bool
    """Whether answers hold for everybody who may read the table."""

    @property
    def sql(self) -> str:
        """It in SQL."""
        return f"{self.table.name.quoted} VERSION AS OF {self.version}"


_Described = tuple[_Place, Column, Summary]


def _summary(column: Column, number: int, row: Mapping[str, Any]) -> Summary:
    def told(letter: str) -> Any:
        return row.get(f"{letter}{number}")

    quartiles = tuple(value for at in (1, 2, 3) if (value := told(f"q{at}_")) is not None)
    values = int(told("v"))
    return Summary(
        column=column.name,
        kind=column.kind,
        type=column.type,
        values=values,
        nulls=row["rows"] - values,
        distinct=None if told("d") is None else min(told("d"), values),
        minimum=told("a"),
        maximum=told("b"),
        not_finite=values - told("f") if column.type in FLOATS else 0,
        mean=told("m") if column.kind is Kind.NUMBER else None,
        stddev=told("s") if column.kind is Kind.NUMBER else None,
        quartiles=quartiles if column.kind is Kind.NUMBER else (),
        low=told("l"),
        high=told("h"),
    )


def _labels(kind: Kind, bins: Bins) -> tuple[str, ...]:
    """What each bin is called."""
    ends = [_end(kind, edge) for edge in bins.edges]
    if bins.count == 1 or bins.are_whole:
        return tuple(ends[:-1])
    return tuple(f"{low} – {high}" for low, high in pairwise(ends))


def _end(kind: Kind, value: float) -> str:
    return f"{from_epoch_ms(int(value * 1000)):%Y-%m-%d %H:%M}" if kind is Kind.TIME else f"{value:.6g}"
