"""Pins as one may see them: versions of tables that VACUUM keeps because registered models were trained on them."""

from dataclasses import replace

from millpond.catalog.domain import ObjectName
from millpond.catalog.service import CatalogService
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.lineage.domain import SeenNode
from millpond.lineage.pins import Pin, pins_of
from millpond.tracking.lineage import ModelLineage

HIDDEN_MODEL = "(a model that you may not see)"


class PinService:
    """Lists them."""

    def __init__(self, database: Database, catalog: CatalogService, models: ModelLineage) -> None:
        self._database = database
        self._catalog = catalog
        self._models = models

    def list(self, principal: Principal, table: str | None = None) -> list[Pin]:
        """Those on a table, or on all tables that the principal sees. Raises NotFound without the table."""
        wanted = None
        if table is not None:
            found = self._catalog.get_table(principal, ObjectName.of_full_name(table))
            require(principal, Act.SEE, found.securable)
            wanted = [found.id]
        pins = pins_of(self._database, wanted)
        tables = self._catalog.find_tables_by_id(principal, sorted({pin.table_id for pin in pins}))
        named = [replace(pin, table=str(tables[pin.table_id].name)) for pin in pins if pin.table_id in tables]
        seen = self._seen_models(principal, {(pin.model, pin.model_version) for pin in named})
        return [
            pin
            if (pin.model, pin.model_version) in seen
            else replace(pin, model=HIDDEN_MODEL, model_version=0, run_id="")
            for pin in named
        ]

    def _seen_models(self, principal: Principal, versions: set[tuple[str, int]]) -> set[tuple[str, int]]:
        nodes = {self._models.version_node(name, str(version)): (name, version) for name, version in sorted(versions)}
        found = [SeenNode(id=node.id, kind=node.kind, key=node.key, name=node.name) for node in nodes]
        seen = self._models.see_versions(principal, found)
        return {pair for node, pair in nodes.items() if node.id in seen}
