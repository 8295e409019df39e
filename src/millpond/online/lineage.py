"""What publishing tells lineage, and who may see online tables in it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from millpond.catalog.domain import Table
from millpond.catalog.service import CatalogService
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.ids import new_id
from millpond.lineage.domain import Act, ColumnFlow, Known, Node, NodeKind, Observation, SeenNode
from millpond.online import store
from millpond.online.tables import OnlineTable


def publication(principal: Principal, source: Table, table: OnlineTable) -> Observation:
    """A table, each column of it, flows into its online table."""
    node = Node(kind=NodeKind.TABLE, key=source.id, name=str(source.name))
    names = [column.name for column in source.columns]
    return Observation(
        id=new_id(),
        act=Act(actor=principal.name, time=utc_now(), operation="PUBLISH", known=Known.OBSERVED, work=principal.work),
        sources=(node,),
        target=Node(kind=NodeKind.ONLINE_TABLE, key=table.id, name=table.name),
        columns=tuple(ColumnFlow(source=node, source_column=name, target_column=name) for name in names),
    )


def online_seer(
    database: Database, catalog: CatalogService
) -> Callable[[Principal, Sequence[SeenNode]], dict[str, SeenNode]]:
    """Online tables are seen by who sees their sources."""

    def see(principal: Principal, found: Sequence[SeenNode]) -> dict[str, SeenNode]:
        with database.read() as connection:
            tables = {each.id: each for each in store.tables_with_ids(connection, [node.key for node in found])}
        sources = catalog.find_tables_by_id(principal, {each.source_id for each in tables.values()})
        seen = {key: each for key, each in tables.items() if each.source_id in sources}
        return {node.id: replace(node, name=seen[node.key].name) for node in found if node.key in seen}

    return see
