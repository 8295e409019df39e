"""Grants on catalogs, schemas and what is in them, and on the metastore, by their names."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection

from millpond.catalog.domain import ObjectName, SchemaName
from millpond.catalog.names import fold_name
from millpond.catalog.service.discovery import Discovery
from millpond.catalog.store import objects
from millpond.catalog.store.rows import function_of, model_of, table_of, volume_of
from millpond.catalog.store.schema import functions, models, tables, volumes
from millpond.identity.access import METASTORE
from millpond.identity.domain import Principal
from millpond.identity.grants import Assignment, Chain, Change, Find
from millpond.kernel.errors import InvalidArgument, NotFound

_OBJECTS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "table": (tables, table_of),
    "volume": (volumes, volume_of),
    "function": (functions, function_of),
    "model": (models, model_of),
}
GRANTING_KINDS = ("metastore", "catalog", "schema", *_OBJECTS, "tag policy")


class Granting(Discovery):
    """What one can do with grants. `kind` is one of GRANTING_KINDS."""

    def grants_on(
        self, principal: Principal, kind: str, name: str, *, grantee: str | None = None, inherited: bool = False
    ) -> tuple[Assignment, ...]:
        """What was granted on an object (and, `inherited`, on its containers). Raises NotFound, InvalidArgument."""
        return self.grants.granted(principal, self.finding(kind, name), grantee=grantee, inherited=inherited)

    def change_grants(self, principal: Principal, kind: str, name: str, changes: Sequence[Change]) -> None:
        """Grant and revoke, all or nothing. Raises NotFound, PermissionDenied, InvalidArgument."""
        self.grants.change(principal, self.finding(kind, name), changes)

    def finders(self) -> dict[str, Callable[[str], Find]]:
        """How an object of each kind is found by its name."""
        return {kind: partial(self.finding, kind) for kind in GRANTING_KINDS}

    def finding(self, kind: str, name: str) -> Find:
        """How an object and its containers are found, without a check of rights, for the service of grants.

        Raises InvalidArgument for a kind that has no grants here.
        """
        if kind not in GRANTING_KINDS:
            raise InvalidArgument(f"Nothing can be granted on a '{kind[:40]}'; only on {', '.join(GRANTING_KINDS)}.")
        return lambda connection: self._chain(connection, kind, name)

    def _chain(self, connection: Connection, kind: str, name: str) -> Chain:
        if kind == "metastore":
            return (METASTORE,)
        try:
            return self._found(connection, kind, name)
        except NotFound as error:  # always of the object: which of its containers is missing is not for everybody
            raise NotFound(f"{kind.capitalize()} '{name.lower()}' does not exist.") from error

    def _found(self, connection: Connection, kind: str, name: str) -> Chain:
        if kind == "catalog":
            return (self._catalog(connection, fold_name(name, "catalog")).securable,)
        if kind == "schema":
            schema = self._schema(connection, SchemaName.of_full_name(name))
            return (schema.securable, *self._found(connection, "catalog", schema.name.catalog))
        full_name = ObjectName.of_full_name(name)
        table, convert = _OBJECTS[kind]
        row = objects.find_row(connection, table, full_name)
        if row is None:
            raise NotFound(f"{kind.capitalize()} '{full_name}' does not exist.")
        return (convert(row).securable, *self._found(connection, "schema", str(full_name.schema_name)))
