"""Registered models that are objects of the catalog: the two rooms' rows move together.

Forward, the registry store writes the catalog's row in its own transaction. Backward, when a schema or catalog is
dropped or renamed, the catalog calls `MlflowRows` in its transaction; that part is plain SQL, because the Spark
gateway drops schemas too and must not load MLflow.

Files that a version has for itself (`registry/<id>`) go with it, by the catalog's janitor and as late as a table's.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, inspect, text

from millpond.catalog import locations
from millpond.catalog.names import ObjectName
from millpond.catalog.service import CatalogService
from millpond.catalog.storage import FileTree
from millpond.identity.access import Act, Securable, require
from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument
from millpond.kernel.settings import Settings
from millpond.lineage import pins
from millpond.tracking.domain import REGISTRY_FOLDER, registry_uri
from millpond.tracking.lineage import ModelLineage

_TABLES_BY_NAME = (
    "registered_model_aliases",
    "registered_model_tags",
    "model_version_tags",
    "model_versions",
    "registered_models",
)
_DELETED_STAGE = "Deleted_Internal"  # MLflow's mark of a version that is gone; its number is not given again
_MAX_NAME_LENGTH = 256  # of MLflow's column


def artifact_root(settings: Settings) -> str:
    """The location of all artifacts."""
    root = settings.storage_root or ""
    if root.startswith("s3://"):
        return locations.canonical(f"{root.rstrip('/')}/artifacts")
    return locations.canonical(str((settings.data_dir / "artifacts").resolve()))


class CatalogModels:
    """The catalog's rows of three-level models, within MLflow's transactions."""

    def __init__(self, catalog: CatalogService, root: str) -> None:
        """`root` is the location of all artifacts."""
        self._catalog = catalog
        self.root = root
        self.lineage = ModelLineage(catalog)

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

    def version_deleted(self, connection: Connection, name: str, version: int, uri: str | None) -> None:
        """Note the version's own files for removal, and let go of what was kept for it."""
        pins.release(connection, name, version)
        _purge(connection, self._catalog, self.root, uri, f"version {version} of model {name}")

    def require(self, principal: Principal, act: Act, name: ObjectName) -> None:
        """Pass if the principal may do this to the model. Raises NotFound, PermissionDenied."""
        require(principal, act, self._catalog.get_model(principal, name).securable)

    def files_at(self, location: str, *, shown: str) -> FileTree:
        """The files below a location, under this name in messages."""
        return self._catalog.storages.tree(location, shown=shown)

    def securable(self, connection: Connection, name: str) -> Securable:
        """The model under permission; without owners and grants if it does not exist, so that nobody but an
        administrator may do anything to it."""
        found = self._catalog.find_model_in(connection, ObjectName.of_full_name(name))
        return found.securable if found else Securable(kind="model", name=name, owners=())

    def names(self, principal: Principal, act: Act) -> Select[Any]:
        """The names of all models with which the principal may do this, to be used inside a query."""
        return self._catalog.model_names(principal, act)


class MlflowRows:
    """MLflow's rows of three-level models follow their schema (`catalog.service.ModelHooks`)."""

    def __init__(self, catalog: CatalogService, root: str) -> None:
        """`root` is the location of all artifacts."""
        self._catalog = catalog
        self._root = root

    def uses(self, connection: Connection, location: str) -> bool:
        """Whether a version has its files there; a copy that MLflow made has those of its source."""
        folder, _, place_id = location.rpartition("/")
        if folder != locations.join(self._root, REGISTRY_FOLDER) or not _has_mlflow(connection):
            return False
        statement = text("SELECT 1 FROM model_versions WHERE storage_location = :uri AND current_stage <> :deleted")
        values = {"uri": registry_uri(place_id), "deleted": _DELETED_STAGE}
        return connection.execute(statement, values).first() is not None

    def deleted(self, connection: Connection, names: Sequence[ObjectName]) -> None:
        """These models were removed with their schema or catalog."""
        if not _has_mlflow(connection):
            return
        versions = text("SELECT version, storage_location FROM model_versions WHERE name = :name")
        for name in names:
            for version, uri in connection.execute(versions, {"name": str(name)}).all():
                _purge(connection, self._catalog, self._root, uri, f"version {version} of model {name}")
            pins.release(connection, str(name))
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
        for old, new in names:
            pins.rename(connection, str(old), str(new))


def _purge(connection: Connection, catalog: CatalogService, root: str, uri: str | None, what: str) -> None:
    prefix = registry_uri("")
    if uri is not None and uri.startswith(prefix):
        location = locations.join(root, REGISTRY_FOLDER, uri.removeprefix(prefix))
        catalog.remove_files_later(connection, location, what)


def _has_mlflow(connection: Connection) -> bool:
    """MLflow's tables are made when the server first starts."""
    return inspect(connection).has_table("registered_models")
