"""Computed relations in queries, `information_schema` above all: they are answered as rows inside the plan."""

import json
from typing import Any

from millpond.catalog.domain import INFORMATION_SCHEMA, ObjectName
from millpond.catalog.service import CatalogService
from millpond.engine import wire
from millpond.identity.domain import Principal

_NAMES = (INFORMATION_SCHEMA.encode(), b"history", b"ai_query", b"millpond.changes")
"""What stands in a request that may read such a relation, ask about a model or lay files out: that blocks."""
_HEAVY_BYTES = 1 << 20
_LOOKED_AT_BYTES = 1 << 16


def computed_relation(catalog: CatalogService, principal: Principal, name: ObjectName) -> Any:
    """The rows that the principal may see, as a relation. Blocks for as long as the catalog is large."""
    from millpond.engine.commands.answer import table  # these load pyarrow, which most sessions never need
    from millpond.engine.types import arrow_type

    columns, rows = catalog.computed_rows(principal, name)
    kinds = [(column.name, arrow_type(json.loads(column.type_json))) for column in columns]
    return wire.local_relation(table(kinds, rows))


def weight(request: bytes) -> int:
    """The size of a request, and much more for one whose plan will read the whole catalog: that blocks."""
    folded = request.lower() if len(request) <= _LOOKED_AT_BYTES else b""
    heavy = any(name in folded for name in _NAMES)
    return len(request) + (_HEAVY_BYTES if heavy else 0)
