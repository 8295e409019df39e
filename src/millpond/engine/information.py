"""Computed relations in queries, `information_schema` above all: they are answered as rows inside the plan."""

import json
from typing import Any

from millpond.catalog.domain import ObjectName
from millpond.catalog.service import CatalogService
from millpond.engine import wire
from millpond.engine.blocking import require_thread
from millpond.identity.domain import Principal


def computed_relation(catalog: CatalogService, principal: Principal, name: ObjectName) -> Any:
    """The rows that the principal may see, as a relation. Blocks for as long as the catalog is large."""
    require_thread()
    from millpond.engine.commands.answer import table  # these load pyarrow, which most sessions never need
    from millpond.engine.types import arrow_type

    columns, rows = catalog.computed_rows(principal, name)
    kinds = [(column.name, arrow_type(json.loads(column.type_json))) for column in columns]
    return wire.local_relation(table(kinds, rows))
