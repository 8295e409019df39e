"""Registered models that are objects of the catalog: the two rooms' rows move together.

Forward, the registry store writes the catalog's row in its own transaction. Backward, when a schema or catalog is
dropped or renamed, the catalog calls `MlflowRows` in its transaction; that part is plain SQL, because the Spark
gateway drops schemas too and must not load MLflow.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, inspect, text

from millpond.catalog.names import ObjectName
from millpond.catalog.service import CatalogService
from millpond.catalog.storage import FileTree
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument

_TABLES_BY_NAME = (
    "registered_model_aliases",
    "registered_model_tags",
    "model_version_tags",
    "model_versions",
    "registered_models",
)
_MAX_NAME_LENGTH = 256  # of MLflow's column


class CatalogModels:
    """The catalog's rows of three-level models, within MLflow's transactions."""

    def __init__(self, catalog: CatalogService) -> None:
        self._catalog = catalog

    def create(self, connection: Connection, principal: Principal, name: str, comment: str | None) -> None:
        """Write the row. Raises NotFound without the schema, AlreadyExists, PermissionDenied."""
        if len(name) > _MAX_NAME_LENGTH:
            raise InvalidArgument(f"The model's full name has {len(name)} characters; at most {_MAX_NAME_LENGTH}.")
        self._catalog.create_model_in(connection, principal, ObjectName.of_full_name(name), comment=comment)

    def update(
        self, connection: Connection, principal: Principal, name: str, *, new_name: str, comment: str | None
    ) -> None:
        """Give the row the name and comment. Raises as `create`, and NotFound without the model."""
        self._catalog.update_model_in(
            connection,
            principal,
            ObjectName.of_full_name(name),
            new_name=ObjectName.of_full_name(new_name),
            comment=comment,
        )

    def delete(self, connection: Connection, principal: Principal, name: str) -> None:
        """Delete the row. Raises NotFound, PermissionDenied."""
        self._catalog.delete_model_in(connection, principal, ObjectName.of_full_name(name))

    def require(self, principal: Principal, act: Act, name: ObjectName) -> None:
        """Pass if the principal may do this to the model. Raises NotFound, PermissionDenied."""
        require(principal, act, self._catalog.get_model(principal, name).securable)

    def files_at(self, location: str, *, shown: str) -> FileTree:
        """The files below a location, under this name in messages."""
        return self._catalog.storages.tree(location, shown=shown)

    def names(self, principal: Principal, act: Act) -> Select[Any]:
        """The names of all models with which the principal may do this, to be used inside a query."""
        return self._catalog.model_names(principal, act)


class MlflowRows:
    """MLflow's rows of three-level models follow their schema (`catalog.service.ModelHooks`)."""

    def deleted(self, connection: Connection, names: Sequence[ObjectName]) -> None:
        """These models were removed with their schema or catalog."""
        if not _has_mlflow(connection):
            return
        for table in _TABLES_BY_NAME:
            statement = text(f"DELETE FROM {table} WHERE name = :name")  # noqa: S608 - a name from the list above
            connection.execute(statement, [{"name": str(name)} for name in names])

    def renamed(self, connection: Connection, names: Sequence[tuple[ObjectName, ObjectName]]) -> None:
        """The full names of these models changed; MLflow's foreign keys carry the change to versions and tags."""
        if not _has_mlflow(connection):
            return
        connection.execute(
            text("UPDATE registered_models SET name = :new WHERE name = :old"),
            [{"old": str(old), "new": str(new)} for old, new in names],
        )


def _has_mlflow(connection: Connection) -> bool:
    """MLflow's tables are made when the server first starts."""
    return inspect(connection).has_table("registered_models")
