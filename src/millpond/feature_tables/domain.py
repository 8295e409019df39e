"""Feature tables, their features and who uses them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from millpond.catalog.domain import Column, Table
from millpond.catalog.tags import CERTIFICATION, TableTags
from millpond.features.tables import KNOWN_AT
from millpond.lineage.domain import NodeKind, SeenNode
from millpond.lineage.uses import Consumer, Source, TableUses
from millpond.online.tables import OnlineTable


@dataclass(frozen=True, kw_only=True)
class Consumers:
    """What uses a feature or a whole table, as far as somebody may see it, newest first."""

    every: tuple[Consumer, ...]
    is_cut: bool
    """Whether there are more, older than those that were looked at."""

    @property
    def is_none(self) -> bool:
        """Whether it is unused, for certain."""
        return not self.every and not self.is_cut

    @property
    def runs(self) -> Sequence[SeenNode]:
        """Training runs, whose keys are their ids."""
        return [each.node for each in self.every if each.node.kind is NodeKind.RUN]

    @property
    def models(self) -> Mapping[str, Sequence[str]]:
        """The versions of each model."""
        found: dict[str, list[str]] = {}
        for name in self._names(NodeKind.MODEL_VERSION):
            model, _, version = name.rpartition("/")
            found.setdefault(model, []).append(version)
        return found

    @property
    def endpoints(self) -> Sequence[str]:
        """Names of serving endpoints."""
        return self._names(NodeKind.ENDPOINT)

    def of(self, column: str) -> "Consumers":
        """Those that use a column, or may, as it is not known which they use."""
        name = column.lower()
        return replace(self, every=tuple(each for each in self.every if each.columns is None or name in each.columns))

    def _names(self, kind: NodeKind) -> Sequence[str]:
        return [each.node.name for each in self.every if each.node.kind is kind]


def consumers_of(uses: TableUses) -> Consumers:
    """Online tables are no consumers: they are copies, of use to who reads them."""
    found = (each for each in uses.consumers if each.node.kind is not NodeKind.ONLINE_TABLE)
    return Consumers(every=tuple(found), is_cut=uses.is_cut)


def is_feature_table(table: Table) -> bool:
    """Whether a table is one: a Delta table with a primary key."""
    return table.primary_key is not None and table.data_source_format == "DELTA"


def feature_columns(table: Table) -> tuple[Column, ...]:
    """The columns of a feature table that are neither key nor time."""
    key = table.primary_key
    others = {name.lower() for name in (*(key.columns if key else ()), table.properties.get(KNOWN_AT, ""))}
    return tuple(column for column in table.columns if column.name.lower() not in others)


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """A feature table, as somebody may see it."""

    table: Table
    tags: TableTags
    online: tuple[OnlineTable, ...]
    consumers: Consumers

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns of the primary key without its time."""
        key = self.table.primary_key
        time = (self.time or "").lower()
        return () if key is None else tuple(each for each in key.columns if each.lower() != time)

    @property
    def time(self) -> str | None:
        """The column with the time of a row's values."""
        key = self.table.primary_key
        return next(iter(key.timeseries_columns), None) if key else None

    @property
    def known_at(self) -> str | None:
        """The column with the time at which a row was known."""
        return self.table.properties.get(KNOWN_AT)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Those that are features."""
        return feature_columns(self.table)

    @property
    def certification(self) -> str:
        """certified, deprecated or empty."""
        return self.tags.own.get(CERTIFICATION, "")


@dataclass(frozen=True, kw_only=True)
class Feature:
    """A column of a feature table that is no key."""

    column: Column
    tags: Mapping[str, str]
    sources: tuple[Source, ...]
    """The columns from which it comes."""
    consumers: Consumers


@dataclass(frozen=True, kw_only=True)
class FeaturesOfTable:
    """A feature table with its features."""

    described: FeatureTable
    features: tuple[Feature, ...]


@dataclass(frozen=True, kw_only=True)
class ModelFeatures:
    """What a model version uses of a feature table."""

    table: Table
    features: tuple[str, ...] | None
    """None where it is not known which."""
