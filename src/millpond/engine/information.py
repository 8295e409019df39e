"""`information_schema` in queries: its relations are answered from the catalog, as rows inside the plan."""

from typing import Any

from millpond.catalog.domain import INFORMATION_SCHEMA, ObjectName
from millpond.catalog.information import information_columns, information_rows
from millpond.catalog.service import CatalogService
from millpond.engine import wire
from millpond.identity.domain import Principal

_NAME = INFORMATION_SCHEMA.encode()
_HEAVY_BYTES = 1 << 20
_LOOKED_AT_BYTES = 1 << 16


def information_relation(catalog: CatalogService, principal: Principal, name: ObjectName) -> Any:
    """The rows that the principal may see, as a relation. Blocks for as long as the catalog is large."""
    from millpond.engine.commands.answer import table  # these load pyarrow, which most sessions never need
    from millpond.engine.types import arrow_type

    columns = [(column, arrow_type(kind)) for column, kind in information_columns(name.name)]
    return wire.local_relation(table(columns, information_rows(catalog, principal, name)))


def weight(request: bytes) -> int:
    """The size of a request, and much more for one whose plan will read the whole catalog: that blocks."""
    heavy = len(request) <= _LOOKED_AT_BYTES and _NAME in request.lower()
    return len(request) + (_HEAVY_BYTES if heavy else 0)
