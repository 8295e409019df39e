"""MLflow's rows as they change, told as what happened to models (`watch.py`), on the connection that changes them.

Import only after `loading.load_mlflow`.
"""

from collections.abc import Callable
from typing import Any

from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersion,
    SqlModelVersionTag,
    SqlRegisteredModel,
    SqlRegisteredModelAlias,
    SqlRegisteredModelTag,
)
from sqlalchemy import Connection, event, inspect

from millpond.identity.domain import Principal
from millpond.tracking.watch import Happening, RegistryEvent, RegistryWatch

_READY = "READY"

Tell = Callable[[Connection, RegistryEvent], None]


def listen(watch: RegistryWatch, principal: Callable[[], Principal]) -> None:
    """Tell whoever watches of each change of MLflow's registry in this process."""

    def tell(connection: Connection, what: RegistryEvent) -> None:
        watch.happened(connection, principal(), what)

    _listen_to_models(tell)
    _listen_to_versions(tell)
    _listen_to_aliases(tell)
    _listen_to_tags(tell, SqlRegisteredModelTag, Happening.MODEL_TAG_SET, Happening.MODEL_TAG_DELETED)
    _listen_to_tags(tell, SqlModelVersionTag, Happening.VERSION_TAG_SET, Happening.VERSION_TAG_DELETED)


def _listen_to_models(tell: Tell) -> None:
    def inserted(_mapper: Any, connection: Connection, model: Any) -> None:
        details = {"description": model.description, "tags": _tags(model.registered_model_tags)}
        tell(connection, RegistryEvent(what=Happening.MODEL_CREATED, model=model.name, details=details))

    def updated(_mapper: Any, connection: Connection, model: Any) -> None:
        before = _before(model, "name")
        if before is not None:
            tell(connection, RegistryEvent(what=Happening.MODEL_RENAMED, model=before, name=model.name))

    def deleted(_mapper: Any, connection: Connection, model: Any) -> None:
        tell(connection, RegistryEvent(what=Happening.MODEL_DELETED, model=model.name))

    event.listen(SqlRegisteredModel, "after_insert", inserted)
    event.listen(SqlRegisteredModel, "after_update", updated)
    event.listen(SqlRegisteredModel, "before_delete", deleted)


def _listen_to_versions(tell: Tell) -> None:
    def created(connection: Connection, version: Any) -> None:
        details = {
            "source": version.source,
            "run_id": version.run_id,
            "description": version.description,
            "tags": _tags(version.model_version_tags),
        }
        what = Happening.VERSION_CREATED
        tell(connection, RegistryEvent(what=what, model=version.name, version=version.version, details=details))

    def inserted(_mapper: Any, connection: Connection, version: Any) -> None:
        if version.status in {None, _READY}:
            created(connection, version)

    def updated(_mapper: Any, connection: Connection, version: Any) -> None:
        if _before(version, "status") is not None and version.status == _READY:
            created(connection, version)
        before = _before(version, "current_stage")
        if before is not None:
            gone = version.current_stage == STAGE_DELETED_INTERNAL
            stage = "" if gone else version.current_stage
            tell(connection, RegistryEvent(what=Happening.STAGE_CHANGED, model=version.name, version=version.version,
                                           name=stage, previous=before))  # fmt: skip

    event.listen(SqlModelVersion, "after_insert", inserted)
    event.listen(SqlModelVersion, "after_update", updated)


def _listen_to_aliases(tell: Tell) -> None:
    def pointed(connection: Connection, alias: Any, before: str) -> None:
        tell(connection, RegistryEvent(what=Happening.ALIAS_SET, model=alias.name, version=int(alias.version),
                                       name=alias.alias, previous=before))  # fmt: skip

    def inserted(_mapper: Any, connection: Connection, alias: Any) -> None:
        pointed(connection, alias, "")

    def updated(_mapper: Any, connection: Connection, alias: Any) -> None:
        before = _before(alias, "version")
        if before is not None:
            pointed(connection, alias, str(before))

    def deleted(_mapper: Any, connection: Connection, alias: Any) -> None:
        tell(connection, RegistryEvent(what=Happening.ALIAS_REMOVED, model=alias.name, name=alias.alias,
                                       previous=str(alias.version)))  # fmt: skip

    event.listen(SqlRegisteredModelAlias, "after_insert", inserted)
    event.listen(SqlRegisteredModelAlias, "after_update", updated)
    event.listen(SqlRegisteredModelAlias, "after_delete", deleted)


def _listen_to_tags(tell: Tell, row: type[Any], put: Happening, removed: Happening) -> None:
    def told(what: Happening, connection: Connection, tag: Any) -> None:
        version = getattr(tag, "version", None)
        number = None if version is None else int(version)
        tell(connection, RegistryEvent(what=what, model=tag.name, version=number, name=tag.key,
                                       details={"value": tag.value}))  # fmt: skip

    def inserted(_mapper: Any, connection: Connection, tag: Any) -> None:
        told(put, connection, tag)

    def updated(_mapper: Any, connection: Connection, tag: Any) -> None:
        if inspect(tag).attrs.value.history.has_changes():
            told(put, connection, tag)

    def deleted(_mapper: Any, connection: Connection, tag: Any) -> None:
        told(removed, connection, tag)

    event.listen(row, "after_insert", inserted)
    event.listen(row, "after_update", updated)
    event.listen(row, "after_delete", deleted)


def _before(row: Any, attribute: str) -> Any:
    """The value that an attribute had before this change; None where it did not change."""
    history = inspect(row).attrs[attribute].history
    return history.deleted[0] if history.has_changes() and history.deleted else None


def _tags(rows: Any) -> dict[str, str]:
    return {row.key: row.value for row in rows or ()}
