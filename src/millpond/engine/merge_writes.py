"""Writes of data frames that put rows into the place of those with the same key (`millpond.mergeOn`)."""

from collections.abc import Mapping, Sequence
from typing import Any

from millpond.catalog.domain import Table
from millpond.catalog.service import CatalogService
from millpond.engine.errors import column_not_found, unsupported
from millpond.engine.guarded import require_manager
from millpond.engine.handover import Target
from millpond.engine.write_requests import Write
from millpond.identity.domain import Principal


def merged_into(
    catalog: CatalogService, principal: Principal, write: Write, table: Table, fields: Sequence[Mapping[str, Any]]
) -> Target:
    """Where the rows go. Raises SparkError for a table or columns that cannot be merged, PermissionDenied."""
    assert write.merge is not None, "a merge was asked for"
    require_manager(catalog, principal, table, "MERGE")
    if table.data_source_format != "DELTA" or write.mode != "append":
        raise unsupported(f"millpond.mergeOn is for Delta tables and the mode append, which {table.name} is not.")
    known = tuple(column.name for column in table.columns)
    lowered = {name.lower() for name in known}
    names = [str(field["name"]) for field in fields if field["name"] != write.merge.deletes]
    unknown = next((name for name in (*names, *write.merge.keys) if name.lower() not in lowered), None)
    if unknown is not None:
        raise column_not_found(unknown, known)
    return Target(
        location=table.storage_location,
        fields=[dict(field) for field in fields],
        overwrite=False,
        options=write.options,
        storage_options={},
        merge=write.merge,
        once=write.once,
    )
