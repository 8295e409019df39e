"""What one can ask about feature tables. Nothing is kept here, and each answer is for who asks."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from millpond.catalog.domain import ObjectName, Table
from millpond.catalog.search import Wanted
from millpond.catalog.service import CatalogService
from millpond.catalog.service.discovery import TaggedTable
from millpond.feature_tables.domain import (
    Feature,
    FeaturesOfTable,
    FeatureTable,
    ModelFeatures,
    consumers_of,
    feature_columns,
    is_feature_table,
)
from millpond.identity.domain import Principal
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, NotFound
from millpond.kernel.paging import Page, cut_page, decode_token, encode_token, page_size
from millpond.lineage.room import LineageRoom
from millpond.lineage.service import table_node
from millpond.lineage.uses import TableUses
from millpond.online.service import OnlineService
from millpond.online.tables import OnlineTable
from millpond.tracking.lineage import ModelLineage

MOST_AT_ONCE = 100
_LOOKED_AT = 5000
"""For one page of unused tables, which may lie far apart; then the page is short and its token leads on."""


class FeatureTableService:
    """Finds feature tables and says what is known of them."""

    def __init__(
        self, catalog: CatalogService, lineage: LineageRoom, models: ModelLineage, online: OnlineService
    ) -> None:
        self._catalog = catalog
        self._lineage = lineage.lineage
        self._uses = lineage.uses
        self._models = models
        self._online = online

    def list(
        self,
        principal: Principal,
        wanted: Wanted,
        *,
        unused: bool = False,
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> Page[FeatureTable]:
        """Feature tables that the principal may see and that fit, by name; with `unused` those without a consumer.

        A page may be shorter than asked. Raises InvalidArgument for more than `MOST_AT_ONCE` at once.
        """
        size = page_size(max_results, default=MOST_AT_ONCE)
        if size > MOST_AT_ONCE:
            raise InvalidArgument(f"max_results is {max_results}; at most {MOST_AT_ONCE} are listed at once.")
        tables = self._in_order(principal, wanted, decode_token(page_token), MOST_AT_ONCE if unused else size + 1)
        found: list[FeatureTable] = []
        last = ""
        for each in islice(tables, _LOOKED_AT):
            last = str(each.table.name)
            if each.consumers.is_none or not unused:
                found.append(each)
            if len(found) > size:
                break
        page = cut_page(found, size, lambda each: str(each.table.name))
        if page.next_page_token is None and next(tables, None) is not None:
            return replace(page, next_page_token=encode_token(last))
        return page

    def _in_order(
        self, principal: Principal, wanted: Wanted, after: str | None, at_once: int
    ) -> Iterator[FeatureTable]:
        """All that fit, by name; so many are looked up at once, each lot by the same few queries."""
        while True:
            found = self._catalog.keyed_tables(principal, wanted, after=after, limit=at_once)
            uses = self._uses.of_tables(principal, [table_node(each.table).id for each in found])
            online = self._online.online_of([each.table for each in found])
            for each in found:
                yield _described(each, uses[table_node(each.table).id], online)
            if len(found) < at_once:
                return
            after = str(found[-1].table.name)

    def get(self, principal: Principal, name: ObjectName) -> FeaturesOfTable:
        """A feature table with its features. Raises NotFound, FailedPrecondition for a table without a primary key."""
        table = self._catalog.get_table(principal, name)
        if not is_feature_table(table):
            raise FailedPrecondition(
                f"'{name}' is no feature table: it needs a primary key, as by "
                f"ALTER TABLE {name.quoted} ADD CONSTRAINT ... PRIMARY KEY (...)."
            )
        node = self._lineage.table_node(principal, name)
        tagged = TaggedTable(table=table, tags=self._catalog.tags_of(table))
        described = _described(tagged, self._uses.of_columns(principal, node.id), self._online.online_of([table]))
        sources = self._uses.sources_of(principal, node)
        features = (
            Feature(
                column=column,
                tags=tagged.tags.columns.get(column.name.lower(), {}),
                sources=tuple(sources.get(column.name.lower(), ())),
                consumers=described.consumers.of(column.name),
            )
            for column in described.columns
        )
        return FeaturesOfTable(described=described, features=tuple(features))

    def of_model(self, principal: Principal, name: str, version: str) -> Sequence[ModelFeatures]:
        """What a model version uses of feature tables that the principal may see, by name.

        Raises NotFound for a model that the principal may not see.
        """
        node = self._models.version_node(name, version)
        seen = self._lineage.see_nodes(principal, [node]).get(node.id)
        if seen is None:
            raise NotFound(f"Model '{name[:200]}' does not exist.")
        used = self._uses.tables_of(principal, seen)
        tables = self._catalog.find_tables_by_id(principal, [each.node.key for each in used])
        return [
            ModelFeatures(table=tables[each.node.key], features=_used(tables[each.node.key], each.columns))
            for each in used
            if each.node.key in tables and is_feature_table(tables[each.node.key])
        ]


def _described(found: TaggedTable, uses: TableUses, online: Mapping[str, Sequence[OnlineTable]]) -> FeatureTable:
    return FeatureTable(
        table=found.table,
        tags=found.tags,
        online=tuple(online.get(found.table.id, ())),
        consumers=consumers_of(uses),
    )


def _used(table: Table, columns: Collection[str] | None) -> tuple[str, ...] | None:
    """The features among columns that are used, in the table's order."""
    if columns is None:
        return None
    names = {name.lower() for name in columns}
    return tuple(column.name for column in feature_columns(table) if column.name.lower() in names)
