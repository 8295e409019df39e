"""Makes the tables of an inference table in the catalog, or finds those that are there."""

import json
from collections.abc import Mapping, Sequence

from millpond.catalog.delta import create_empty_table
from millpond.catalog.domain import Column, ObjectName, Table, TableType
from millpond.catalog.service import CatalogService
from millpond.engine.syntax.columns import columns_of
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.inference_tables.domain import LABELS, PAYLOAD, beside
from millpond.kernel.errors import InvalidArgument, MillpondError
from millpond.kernel.settings import S3Settings


class TableMaker:
    """With the rights of whoever turns an inference table on."""

    def __init__(self, catalog: CatalogService, s3: S3Settings) -> None:
        self._catalog = catalog
        self._s3 = s3

    def payload(self, principal: Principal, name: ObjectName, endpoint: str) -> Table:
        """The table of requests. Blocks. Raises as `CatalogService`, InvalidArgument for a table of another kind."""
        comment = f"Requests to the endpoint '{endpoint}' and its answers."
        return self._made(principal, name, columns_of(PAYLOAD, day="date"), comment)

    def labels(self, principal: Principal, payload: ObjectName) -> Table:
        """The table of labels beside it."""
        comment = f"What turned out to be true of the predictions in {payload}."
        return self._made(principal, beside(payload, "labels"), columns_of(LABELS), comment)

    def _made(self, principal: Principal, name: ObjectName, columns: Sequence[Column], comment: str) -> Table:
        found = self._catalog.look_up_table(name)
        if found is not None:
            return _checked(principal, found, columns)
        staged = self._catalog.stage_table(principal, name)
        try:
            create_empty_table(staged.storage_location, columns, self._s3)
            return self._catalog.register_table(principal, staged, columns, TableType.MANAGED, comment=comment)
        except MillpondError:
            self._catalog.abandon_table(principal, staged)
            raise


def _checked(principal: Principal, table: Table, wanted: Sequence[Column]) -> Table:
    """The table, if the principal may write to it and it is one of ours."""
    require(principal, Act.WRITE, table.securable)
    if table.table_type is TableType.VIEW or table.data_source_format != "DELTA":
        raise InvalidArgument(f"'{table.name}' is there already, and is no Delta table; choose another prefix.")
    kinds = _kinds(table.columns)
    for column in wanted:
        if kinds.get(column.name) != json.loads(column.type_json):
            raise InvalidArgument(
                f"Table '{table.name}' is there already, and is no inference table: it has no column '{column.name}' "
                f"of type {column.type_text}. Choose another prefix, or drop the table."
            )
    return table


def _kinds(columns: Sequence[Column]) -> Mapping[str, object]:
    return {column.name: json.loads(column.type_json) for column in columns}
