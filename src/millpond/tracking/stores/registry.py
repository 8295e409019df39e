"""MLflow's registry store with owners, and its three-level models as objects of the catalog.

The rows of MLflow and of the catalog are written by one transaction: SQLAlchemy tells us of each registered model that
is inserted, renamed or deleted, on the connection that does it.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.store.model_registry.abstract_store import AbstractStore
from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersion,
    SqlModelVersionTag,
    SqlRegisteredModel,
    SqlRegisteredModelAlias,
    SqlRegisteredModelTag,
)
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.time import get_current_time_millis
from mlflow.utils.validation import _validate_model_version, _validate_model_version_tag
from sqlalchemy import Connection, event, func, inspect, or_
from sqlalchemy.orm import with_loader_criteria

from millpond.identity.access import WORKSPACE, Act, require, require_admin
from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, NotFound
from millpond.kernel.ids import new_id
from millpond.tracking import store
from millpond.tracking.catalog_models import CatalogModels
from millpond.tracking.domain import (
    ARTIFACT_SCHEME,
    Owned,
    VersionPlace,
    canonical_model_name,
    check_model_source,
    is_three_level,
    registry_uri,
    run_of_source,
)
from millpond.tracking.stores.session import SessionMaker, mlflow_errors
from millpond.tracking.stores.tracking import OwnedTrackingStore

_NAMED = (SqlRegisteredModel, SqlModelVersion, SqlRegisteredModelTag, SqlModelVersionTag, SqlRegisteredModelAlias)

PENDING, READY = "PENDING_REGISTRATION", "READY"

_METHODS_BY_NAME = (
    "create_registered_model", "update_registered_model", "delete_registered_model", "get_registered_model",
    "get_latest_versions", "set_registered_model_tag", "delete_registered_model_tag", "create_model_version",
    "update_model_version", "transition_model_version_stage", "delete_model_version", "get_model_version",
    "get_model_version_download_uri", "set_model_version_tag", "delete_model_version_tag",
    "set_registered_model_alias", "delete_registered_model_alias", "get_model_version_by_alias",
    "begin_model_version", "finish_model_version", "places_of",
)  # fmt: skip


class OwnedRegistryStore(SqlAlchemyStore):  # type: ignore[misc]  # MLflow ships no types
    """MLflow's SQL store on our engine, limited to what the current principal may reach."""

    def __init__(
        self,
        database: Database,
        principal: Callable[[], Principal],
        catalog: CatalogModels,
        tracking: OwnedTrackingStore,
    ) -> None:
        AbstractStore.__init__(self)  # not the SQL store's own: it would make an engine and run migrations
        self.db_uri = database.url
        self.db_type = "sqlite" if database.is_sqlite else "postgresql"
        self.engine = database.engine
        self.read_engine = None
        self._principal = principal
        self._catalog = catalog
        self._tracking = tracking
        self.ManagedSessionMaker = SessionMaker(database.engine, self._criteria)
        self._listen()

    def _criteria(self, writes: bool) -> Sequence[Any]:
        principal = self._principal()
        if principal.is_admin:
            return ()
        owned = store.owned_ids(Owned.MODEL, principal)
        in_catalog = self._catalog.names(principal, Act.WRITE if writes else Act.READ)
        return [
            with_loader_criteria(model, or_(model.name.in_(owned), model.name.in_(in_catalog)), include_aliases=True)
            for model in _NAMED
        ]

    # One transaction with the catalog

    def _listen(self) -> None:
        event.listen(SqlRegisteredModel, "after_insert", self._inserted)
        event.listen(SqlRegisteredModel, "after_update", self._updated)
        event.listen(SqlRegisteredModel, "after_delete", self._deleted)
        event.listen(SqlModelVersion, "before_insert", self._stamp_version)
        event.listen(SqlModelVersion, "after_update", self._version_updated)
        event.listen(SqlModelVersion, "after_delete", self._version_deleted)

    def _inserted(self, _mapper: Any, connection: Connection, model: Any) -> None:
        principal = self._principal()
        if is_three_level(model.name):
            self._catalog.create(connection, principal, model.name, model.description)
            return
        require(principal, Act.CREATE_IN, WORKSPACE)
        store.record_owner(connection, Owned.MODEL, model.name, principal.name)

    def _updated(self, _mapper: Any, connection: Connection, model: Any) -> None:
        attributes = inspect(model).attrs
        new = model.name
        old = attributes.name.history.deleted[0] if attributes.name.history.deleted else new
        if is_three_level(old) != is_three_level(new):
            raise InvalidArgument(f"Model '{old}' cannot become '{new}': only the catalog's models have three levels.")
        if not is_three_level(old):
            if old != new:
                store.rename_owned(connection, Owned.MODEL, old, new)
        elif old != new or attributes.description.history.has_changes():
            comment = model.description or ""
            self._catalog.update(connection, self._principal(), old, new_name=new, comment=comment)

    def _deleted(self, _mapper: Any, connection: Connection, model: Any) -> None:
        if is_three_level(model.name):
            self._catalog.delete(connection, self._principal(), model.name)
        else:
            store.forget_owner(connection, Owned.MODEL, model.name)

    def _stamp_version(self, _mapper: Any, _connection: Connection, version: Any) -> None:
        version.user_id = self._principal().name

    def _version_updated(self, mapper: Any, connection: Connection, version: Any) -> None:
        stage = inspect(version).attrs.current_stage
        if stage.history.has_changes() and stage.value == STAGE_DELETED_INTERNAL:
            self._version_deleted(mapper, connection, version)

    def _version_deleted(self, _mapper: Any, connection: Connection, version: Any) -> None:
        self._catalog.version_deleted(connection, version.name, version.version, version.storage_location)

    # Names and sources

    def rename_registered_model(self, name: str, new_name: str) -> Any:
        """Rename a model; a three-level one may move to another schema."""
        with mlflow_errors():
            names = canonical_model_name(name), canonical_model_name(new_name)
        return super().rename_registered_model(*names)

    def create_model_version(self, name: str, source: str, run_id: str | None = None, *args: Any, **values: Any) -> Any:
        """Create the next version of a model from artifacts that this server keeps and the principal may read."""
        with mlflow_errors():
            check_model_source(source)
        for named in {run_id or "", run_of_source(source) or ""} - {""}:
            self._tracking.get_run(named)  # raises for another's
        return super().create_model_version(name, source, run_id, *args, **values)

    # Versions whose client brings the files

    def begin_model_version(
        self, name: str, source: str, *, run_id: str | None, description: str | None, tags: Mapping[str, str]
    ) -> Any:
        """The next version of a model, pending, with a place of its own for files that are still to come."""
        for key, value in tags.items():
            _validate_model_version_tag(key, value)
        with self.ManagedSessionMaker(read_only=False) as session:
            model = self._get_registered_model(session, name)
            session.query(SqlRegisteredModel.name).filter_by(name=name).with_for_update().one()
            number = (session.query(func.max(SqlModelVersion.version)).filter_by(name=name).scalar() or 0) + 1
            now = get_current_time_millis()
            model.last_updated_time = now
            version = SqlModelVersion(
                name=name,
                version=number,
                creation_time=now,
                last_updated_time=now,
                source=source,
                run_id=run_id,
                description=description,
                status=PENDING,
                storage_location=registry_uri(new_id()),
                model_version_tags=[
                    SqlModelVersionTag(name=name, version=number, key=key, value=value) for key, value in tags.items()
                ],
            )
            session.add(version)
            session.flush()
            return version.to_mlflow_entity()

    def finish_model_version(self, name: str, version: str) -> Any:
        """The version, ready from now on."""
        with self.ManagedSessionMaker(read_only=False) as session:
            row = self._get_sql_model_version(session, name, _validate_model_version(version))
            row.status = READY
            row.last_updated_time = get_current_time_millis()
            return self._populate_model_version_aliases(session, name, row.to_mlflow_entity())

    def places_of(self, name: str, versions: Sequence[int]) -> dict[int, VersionPlace]:
        """Where the files of these versions of a model are, by number; those that there are not are left out."""
        row = SqlModelVersion
        with self.ManagedSessionMaker() as session:
            found = session.query(row.version, row.storage_location, row.source, row.status).filter(
                row.name == name, row.version.in_(versions), row.current_stage != STAGE_DELETED_INTERNAL
            )
            return {number: VersionPlace(place or source, status) for number, place, source, status in found}

    def get_model_version_download_uri(self, name: str, version: str) -> str:
        """Where a version's files are, once they are all there."""
        number = _validate_model_version(version)
        place = self.places_of(name, [number]).get(number)
        with mlflow_errors():
            if place is None:
                raise NotFound(f"Model Version (name={name}, version={version}) not found")
            if place.status != READY:
                raise InvalidArgument(
                    f"Version {version} of model '{name}' is {place.status}: its files have not all come. "
                    "Register another version, or wait for the client that uploads it."
                )
        return place.uri

    def transition_model_version_stage(
        self, name: str, version: str, stage: str, archive_existing_versions: bool
    ) -> Any:
        """Move a version to a stage; MLflow compares its number as text, which PostgreSQL refuses."""
        number = _validate_model_version(version)
        return super().transition_model_version_stage(name, number, stage, archive_existing_versions)

    def may_read_artifact(self, path: str) -> bool:
        """Whether an artifact belongs to a version of a model that the principal may read."""
        parts = path.split("/")
        places = [f"{ARTIFACT_SCHEME}:/{'/'.join(parts[: end + 1])}" for end in range(1, len(parts))]
        with self.ManagedSessionMaker() as session:
            query = session.query(SqlModelVersion.name).filter(SqlModelVersion.storage_location.in_(places))
            return query.first() is not None

    # Webhooks call out to any address in the server's name: only administrators set them up

    def create_webhook(self, *args: Any, **values: Any) -> Any:
        """Create a webhook, as an administrator."""
        return self._as_admin(super().create_webhook, *args, **values)

    def get_webhook(self, *args: Any, **values: Any) -> Any:
        """Read a webhook, as an administrator."""
        return self._as_admin(super().get_webhook, *args, **values)

    def list_webhooks(self, *args: Any, **values: Any) -> Any:
        """List webhooks, as an administrator."""
        return self._as_admin(super().list_webhooks, *args, **values)

    def update_webhook(self, *args: Any, **values: Any) -> Any:
        """Change a webhook, as an administrator."""
        return self._as_admin(super().update_webhook, *args, **values)

    def delete_webhook(self, *args: Any, **values: Any) -> Any:
        """Delete a webhook, as an administrator."""
        return self._as_admin(super().delete_webhook, *args, **values)

    def _as_admin(self, method: Callable[..., Any], *args: Any, **values: Any) -> Any:
        with mlflow_errors():
            require_admin(self._principal(), "manage webhooks")
        return method(*args, **values)


def _by_canonical_name(method: Callable[..., Any]) -> Callable[..., Any]:
    """The catalog knows names without regard to case, and keeps them in lower case."""

    @functools.wraps(method)
    def wrapper(self: Any, name: str, *args: Any, **values: Any) -> Any:
        with mlflow_errors():
            canonical = canonical_model_name(name)
        return method(self, canonical, *args, **values)

    return wrapper


for _method in _METHODS_BY_NAME:
    setattr(OwnedRegistryStore, _method, _by_canonical_name(getattr(OwnedRegistryStore, _method)))
