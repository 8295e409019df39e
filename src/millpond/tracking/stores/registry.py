"""MLflow's registry store with owners, and its three-level models as objects of the catalog.

The rows of MLflow and of the catalog are written by one transaction: SQLAlchemy tells us of each registered model that
is inserted, renamed or deleted, on the connection that does it.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL, get_canonical_stage
from mlflow.store.model_registry.abstract_store import AbstractStore
from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersion,
    SqlModelVersionTag,
    SqlRegisteredModel,
    SqlRegisteredModelAlias,
    SqlRegisteredModelTag,
)
from mlflow.utils.time import get_current_time_millis
from mlflow.utils.validation import _validate_model_version, _validate_model_version_tag
from sqlalchemy import Connection, and_, event, func, inspect, or_
from sqlalchemy.orm import with_loader_criteria

from millpond.identity import grants
from millpond.identity.access import WORKSPACE, Act, Securable, allows, require
from millpond.identity.domain import Principal
from millpond.identity.privileges import Privilege
from millpond.kernel.database import Database, among
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, NotFound
from millpond.kernel.ids import new_id
from millpond.lineage import pins
from millpond.tracking import store
from millpond.tracking.catalog_models import CatalogModels
from millpond.tracking.domain import (
    ARTIFACT_SCHEME,
    Owned,
    VersionPlace,
    canonical_model_name,
    check_model_source,
    granted_models,
    is_three_level,
    model_key,
    model_securable,
    registry_uri,
    run_of_source,
)
from millpond.tracking.stores.models import ModelReads
from millpond.tracking.stores.session import KEPT_LIMITS, SessionMaker, mlflow_errors
from millpond.tracking.stores.tracking import OwnedTrackingStore
from millpond.tracking.stores.watching import listen
from millpond.tracking.watch import RegistryWatch, Target, TargetKind, Unwatched, because, moving

_NAMED = (SqlRegisteredModel, SqlModelVersion, SqlRegisteredModelTag, SqlModelVersionTag, SqlRegisteredModelAlias)

PENDING, READY = "PENDING_REGISTRATION", "READY"

_METHODS_BY_NAME: Mapping[str, Act | None] = {
    "create_registered_model": None, "get_registered_model": None, "get_latest_versions": None,
    "get_model_version": None, "get_model_version_download_uri": None, "get_model_version_by_alias": None,
    "transition_model_version_stage": None,  # by its stages
    "places_of": None, "model_record": None, "version_record": None, "alias_record": None,
    "update_registered_model": Act.WRITE, "set_registered_model_tag": Act.TAG, "delete_registered_model_tag": Act.TAG,
    "set_registered_model_alias": Act.WRITE, "delete_registered_model_alias": Act.WRITE,
    "delete_registered_model": Act.MANAGE, "rename_registered_model": Act.MANAGE,
    "create_model_version": Act.CREATE_VERSION, "update_model_version": Act.WRITE,
    "begin_model_version": Act.CREATE_VERSION, "finish_model_version": Act.CREATE_VERSION,
    "delete_model_version": Act.MANAGE, "set_model_version_tag": Act.TAG, "delete_model_version_tag": Act.TAG,
}  # fmt: skip
"""The methods that take a model's name first, and what the principal must be allowed to do to the model; where it is
None, the method only reads what the session shows, or asks by itself."""
_STAGE = "production"
_USED = ("Staging", "Production")
_LEVELS = (
    (Act.MANAGE, Privilege.CAN_MANAGE),
    (Act.STAGE_PRODUCTION, Privilege.CAN_MANAGE_PRODUCTION_VERSIONS),
    (Act.STAGE, Privilege.CAN_MANAGE_STAGING_VERSIONS),
    (Act.WRITE, Privilege.CAN_EDIT),
)


class OwnedRegistryStore(ModelReads):
    """MLflow's SQL store on our engine, limited to what the current principal may reach."""

    def __init__(
        self,
        database: Database,
        principal: Callable[[], Principal],
        catalog: CatalogModels,
        tracking: OwnedTrackingStore,
        watch: RegistryWatch | None = None,
    ) -> None:
        AbstractStore.__init__(self)  # not the SQL store's own: it would make an engine and run migrations
        self.db_uri = database.url
        self.db_type = "sqlite" if database.is_sqlite else "postgresql"
        self.engine = database.engine
        self.read_engine = None
        self._database = database
        self._principal = principal
        self._catalog = catalog
        self._tracking = tracking
        self._watch = watch or Unwatched()
        self._limits = lru_cache(maxsize=KEPT_LIMITS)(self._limits_of)
        self.ManagedSessionMaker = SessionMaker(database, self._criteria)
        self._listen()

    def _criteria(self, writes: bool) -> Sequence[Any]:
        principal = self._principal()
        return () if principal.is_admin else self._limits(principal, writes)

    def _limits_of(self, principal: Principal, writes: bool) -> Sequence[Any]:
        # what may be changed is asked for each method, so that a reader is denied and does not find nothing
        owned = store.owned_ids(Owned.MODEL, principal)
        granted = granted_models(principal, Privilege.CAN_READ)
        visible, readable = (self._catalog.names(principal, act) for act in (Act.SEE, Act.READ))
        criteria = []
        for model in _NAMED:
            # a writer who may not read versions must still count them, to give the next one its number
            in_catalog = readable if model in {SqlModelVersion, SqlModelVersionTag} and not writes else visible
            reach = or_(model.name.in_(owned), among(model.name, granted), model.name.in_(in_catalog))
            if model is SqlModelVersion:  # whoever may make versions sees their own
                reach = or_(reach, and_(model.user_id == principal.name, model.name.in_(visible)))
            criteria.append(with_loader_criteria(model, reach, include_aliases=True))
        return criteria

    def require(self, act: Act, name: str) -> None:
        """Pass if the principal may do this to a model. Raises as MLflow does."""
        with mlflow_errors(), self._database.read() as connection:
            require(self._principal(), act, self._securable(connection, name))

    def permission_level(self, name: str) -> str:
        """What the principal may do to a model that it sees, as Databricks names it."""
        with self._database.read() as connection:
            securable = self._securable(connection, canonical_model_name(name))
        allowed = (level for act, level in _LEVELS if allows(self._principal(), act, securable))
        return next(allowed, Privilege.CAN_READ).value

    def open_requests(self, name: str, version: str) -> Sequence[Mapping[str, Any]]:
        """Who asks that a version be moved to another stage, as Databricks tells."""
        with mlflow_errors():
            return self._watch.open_requests(self._principal(), canonical_model_name(name), version)

    def _securable(self, connection: Connection, name: str) -> Securable:
        if is_three_level(name):
            return self._catalog.securable(connection, name)
        return model_securable(name, store.find_owner(connection, Owned.MODEL, name))

    # One transaction with the catalog

    def _listen(self) -> None:
        event.listen(SqlRegisteredModel, "after_insert", self._inserted)
        event.listen(SqlRegisteredModel, "after_update", self._updated)
        event.listen(SqlRegisteredModel, "after_delete", self._deleted)
        event.listen(SqlModelVersion, "before_insert", self._stamp_version)
        event.listen(SqlModelVersion, "after_insert", self._version_inserted)
        event.listen(SqlModelVersion, "after_update", self._version_updated)
        event.listen(SqlModelVersion, "after_delete", self._version_deleted)
        listen(self._watch, self._principal)

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
        if old != new:
            pins.rename(connection, old, new)
        if not is_three_level(old):
            if old != new:
                store.rename_owned(connection, Owned.MODEL, old, new)
                grants.rename(connection, model_key(old), model_key(new))
        elif old != new or attributes.description.history.has_changes():
            comment = model.description or ""
            self._catalog.update(connection, self._principal(), old, new_name=new, comment=comment)

    def _deleted(self, _mapper: Any, connection: Connection, model: Any) -> None:
        if is_three_level(model.name):
            self._catalog.delete(connection, self._principal(), model.name)
        else:
            store.forget_owner(connection, Owned.MODEL, model.name)
            grants.forget(connection, [model_key(model.name)])

    def _stamp_version(self, _mapper: Any, _connection: Connection, version: Any) -> None:
        version.user_id = self._principal().name

    def _version_inserted(self, _mapper: Any, connection: Connection, version: Any) -> None:
        self._catalog.lineage.version_made(connection, self._principal(), version)

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
        named = {run_id or "", run_of_source(source) or ""} - {"", self._run_of_copied(source)}
        for each in named:
            self._tracking.get_run(each)  # raises for another's
        with self._alone_with(name):  # one after the other: each gets the next number
            return super().create_model_version(name, source, run_id, *args, **values)

    def _run_of_copied(self, source: str) -> str | None:
        """The run of the version that a source `models:/<name>/<version>` copies: who may read it may link its run."""
        if not source.startswith("models:/") or "/" not in source.removeprefix("models:/"):
            return None
        name, _, version = source.removeprefix("models:/").rpartition("/")
        return self.get_model_version(name, version).run_id if version.isdecimal() else None

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
            found = session.query(row.version, row.storage_location, row.source, row.status, row.user_id).filter(
                row.name == name, row.version.in_(versions), row.current_stage != STAGE_DELETED_INTERNAL
            )
            return {
                number: VersionPlace(place or source, status, maker) for number, place, source, status, maker in found
            }

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
        self._catalog.lineage.version_read(self._principal(), name, str(number))
        return place.uri

    def transition_model_version_stage(
        self, name: str, version: str, stage: str, archive_existing_versions: bool
    ) -> Any:
        """Move a version to a stage; MLflow compares its number as text, which PostgreSQL refuses."""
        number = _validate_model_version(version)
        before = self.get_model_version(name, str(number)).current_stage
        in_production = _STAGE in {str(each).lower() for each in (before, stage)}
        self.require(Act.STAGE_PRODUCTION if in_production else Act.STAGE, name)
        target = Target(TargetKind.STAGE, get_canonical_stage(stage))
        with self._moving(name, number, target):
            return super().transition_model_version_stage(name, number, stage, archive_existing_versions)

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias to a version."""
        number = _validate_model_version(version)
        with self._moving(name, number, Target(TargetKind.ALIAS, alias)):
            super().set_registered_model_alias(name, alias, version)

    def delete_model_version(self, name: str, version: str) -> None:
        """Delete a version that is not in use."""
        with self._alone_with(name), mlflow_errors():
            self._require_out_of_use(name, _validate_model_version(version))
            super().delete_model_version(name, version)

    def delete_registered_model(self, name: str) -> None:
        """Delete a model none of whose versions is in use."""
        with self._alone_with(name), mlflow_errors():
            self._require_out_of_use(name)
            super().delete_registered_model(name)

    def _require_out_of_use(self, name: str, version: int | None = None) -> None:
        """Source: Databricks, "Delete a model or model version": only in the stages None and Archived."""
        row = SqlModelVersion
        with self.ManagedSessionMaker(read_only=False) as session:
            query = session.query(row.version, row.current_stage).filter(row.name == name, row.current_stage.in_(_USED))
            used = query.filter(row.version == version).first() if version is not None else query.first()
        if used is not None:
            raise FailedPrecondition(
                f"Version {used.version} of model '{name}' is in {used.current_stage}; only what is in None or "
                "Archived can be deleted. Archive it first."
            )

    @contextmanager
    def _moving(self, name: str, version: int, target: Target) -> Iterator[None]:
        """The block in which a version is moved, once the gates have let it pass."""
        why = replace(because(), moves=(name, version))
        with moving(why), self._watch.admitted(self._principal(), name, version, target), self._alone_with(name):
            yield

    @contextmanager
    def _alone_with(self, name: str) -> Iterator[None]:
        """A writing session, which MLflow's own joins, in which nobody else changes the model."""
        with self.ManagedSessionMaker(read_only=False) as session:
            session.query(SqlRegisteredModel.name).filter_by(name=name).with_for_update().first()
            yield

    def may_read_artifact(self, path: str) -> bool:
        """Whether an artifact belongs to a version of a model that the principal may read."""
        parts = path.split("/")
        places = [f"{ARTIFACT_SCHEME}:/{'/'.join(parts[: end + 1])}" for end in range(1, len(parts))]
        with self.ManagedSessionMaker() as session:
            query = session.query(SqlModelVersion.name).filter(SqlModelVersion.storage_location.in_(places))
            return query.first() is not None


def _by_canonical_name(method: Callable[..., Any], act: Act | None) -> Callable[..., Any]:
    """After the check of rights; the catalog knows names without regard to case, and keeps them in lower case."""

    @functools.wraps(method)
    def wrapper(self: Any, name: str, *args: Any, **values: Any) -> Any:
        with mlflow_errors():
            canonical = canonical_model_name(name)
        if act is not None:
            self.require(act, canonical)
        return method(self, canonical, *args, **values)

    return wrapper


for _method, _act in _METHODS_BY_NAME.items():
    setattr(OwnedRegistryStore, _method, _by_canonical_name(getattr(OwnedRegistryStore, _method), _act))
