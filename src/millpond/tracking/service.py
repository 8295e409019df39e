"""What one can do with the catalog's registered models beyond MLflow's own API: the model's two halves as one.

The catalog knows owner and comment, MLflow knows versions, aliases and tags. Each method acts as the principal.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from millpond.catalog.domain import Model, ObjectName, SchemaName
from millpond.catalog.service import CatalogService
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.identity.middleware import acting_as
from millpond.kernel.errors import InvalidArgument, NotFound
from millpond.kernel.paging import Page, cut_page, decode_token, page_size
from millpond.tracking.translation import millpond_errors

if TYPE_CHECKING:
    from millpond.tracking.embed import Stores
    from millpond.tracking.version_uploads import VersionUploads


@dataclass(frozen=True, kw_only=True)
class CatalogModel:
    """A registered model of the catalog with what MLflow knows of it."""

    model: Model
    aliases: tuple[tuple[str, int], ...]
    """Alias and version number, by alias."""
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ModelVersion:
    """One version of a registered model of the catalog."""

    name: ObjectName
    version: int
    comment: str
    status: str
    """As Unity Catalog has it: PENDING_REGISTRATION, FAILED_REGISTRATION or READY."""
    source: str
    storage_location: str
    """Where the files are as `file:` or `s3:` location; MLflow's own URI where it names a run instead of a place."""
    run_id: str
    created_by: str
    created_ms: int
    updated_ms: int
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    origin: Mapping[str, Any]
    """The logged model that it came from, in Unity Catalog's JSON; empty in lists."""


class ModelService:
    """Registered models with three-level names."""

    def __init__(
        self, catalog: CatalogService, stores: Callable[[], "Stores"], uploads: Callable[[], "VersionUploads"]
    ) -> None:
        self._catalog = catalog
        self._stores = stores
        self._uploads = uploads

    @property
    def metastore_id(self) -> str:
        """The id of this installation's one metastore."""
        return self._catalog.metastore_id

    def begin_version(
        self,
        principal: Principal,
        name: ObjectName,
        *,
        source: str,
        run_id: str | None = None,
        comment: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> ModelVersion:
        """A new version, pending until its client has brought the files. Raises NotFound, PermissionDenied."""
        made = self._uploads().begin(principal, name, source=source, run_id=run_id, comment=comment, tags=tags)
        return self.get_version(principal, name, made.version)

    def finalize_version(self, principal: Principal, name: ObjectName, version: int) -> ModelVersion:
        """The version, ready. Raises NotFound, PermissionDenied, FailedPrecondition without its files."""
        self._uploads().finalize(principal, name, str(version))
        return self.get_version(principal, name, version)

    def version_location(self, principal: Principal, name: ObjectName, version: int, *, write: bool) -> str:
        """Where the files are, for somebody who may read them or bring them.

        Raises NotFound, PermissionDenied, FailedPrecondition.
        """
        return self._uploads().location(principal, name, str(version), write=write)

    def create(
        self,
        principal: Principal,
        name: ObjectName,
        *,
        comment: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> CatalogModel:
        """A new model without versions. Raises NotFound for the schema, AlreadyExists, PermissionDenied."""
        with self._acting(principal) as registry:
            from mlflow.entities.model_registry import RegisteredModelTag  # MLflow is loaded where there is a registry

            labels = [RegisteredModelTag(key, value) for key, value in (tags or {}).items()]
            registry.create_registered_model(str(name), tags=labels, description=comment)
        return self.get(principal, name)

    def get(self, principal: Principal, name: ObjectName) -> CatalogModel:
        """The model with a name. Raises NotFound."""
        model = self._catalog.get_model(principal, name)
        return self._described(principal, [model])[0]

    def list(
        self, principal: Principal, schema: SchemaName, *, max_results: int | None, page_token: str | None
    ) -> Page[CatalogModel]:
        """Models of a schema by name. Raises NotFound for the schema."""
        page = self._catalog.list_models(principal, schema, max_results=max_results, page_token=page_token)
        return Page(items=tuple(self._described(principal, list(page.items))), next_page_token=page.next_page_token)

    def list_everywhere(
        self, principal: Principal, *, catalog: str | None, max_results: int | None, page_token: str | None
    ) -> Page[CatalogModel]:
        """Models of a catalog, or of all, by full name."""
        size = page_size(max_results)
        names = self._names_after(principal, catalog, decode_token(page_token), size + 1)
        page = cut_page(names, size, str)
        models = [self._catalog.get_model(principal, name) for name in page.items]
        return Page(items=tuple(self._described(principal, models)), next_page_token=page.next_page_token)

    def update(
        self,
        principal: Principal,
        name: ObjectName,
        *,
        new_name: str | None = None,
        comment: str | None = None,
        owner: str | None = None,
    ) -> CatalogModel:
        """Change what is not None. Raises NotFound, AlreadyExists, PermissionDenied."""
        if owner is not None:
            with self._catalog.database.write() as connection:
                self._catalog.update_model_in(connection, principal, name, owner=owner)
        if comment is not None:
            with self._acting(principal) as registry:
                registry.update_registered_model(str(name), description=comment)
        if new_name is not None and new_name.lower() != name.name:
            target = ObjectName(name.catalog, name.schema, new_name)
            with self._acting(principal) as registry:
                registry.rename_registered_model(str(name), str(target))
            name = target
        return self.get(principal, name)

    def delete(self, principal: Principal, name: ObjectName) -> None:
        """Delete a model with all its versions. Raises NotFound, PermissionDenied."""
        self._require(principal, Act.MANAGE, name)
        with self._acting(principal) as registry:
            registry.delete_registered_model(str(name))

    def get_version(self, principal: Principal, name: ObjectName, version: int) -> ModelVersion:
        """One version. Raises NotFound."""
        self._require(principal, Act.READ, name)
        with self._acting(principal) as registry:
            found = registry.get_model_version(str(name), str(version))
            return self._whole(name, found)

    def get_version_by_alias(self, principal: Principal, name: ObjectName, alias: str) -> ModelVersion:
        """The version that an alias points to. Raises NotFound."""
        self._require(principal, Act.READ, name)
        try:
            with self._acting(principal) as registry:
                found = registry.get_model_version_by_alias(str(name), alias)
                return self._whole(name, found)
        except InvalidArgument as error:  # MLflow's code for an alias that is not there
            raise NotFound(f"Alias '{alias}' of model '{name}' does not exist.") from error

    def list_versions(
        self, principal: Principal, name: ObjectName, *, max_results: int | None, page_token: str | None
    ) -> Page[ModelVersion]:
        """Versions of a model, newest first."""
        self._require(principal, Act.READ, name)
        quoted = str(name).replace("'", "\\'")
        with self._acting(principal) as registry:
            found = registry.search_model_versions(
                f"name = '{quoted}'",
                max_results=page_size(max_results),
                order_by=["version_number DESC"],
                page_token=page_token or None,
            )
            aliases = registry.get_registered_model(str(name)).aliases
            locations = self._locations(name, found)
            items = tuple(_version_of(name, item, locations[int(item.version)], aliases) for item in found)
        return Page(items=items, next_page_token=found.token or None)

    def update_version(self, principal: Principal, name: ObjectName, version: int, *, comment: str) -> ModelVersion:
        """Change a version's comment. Raises NotFound, PermissionDenied."""
        self._require(principal, Act.WRITE, name)
        with self._acting(principal) as registry:
            registry.update_model_version(str(name), str(version), description=comment)
        return self.get_version(principal, name, version)

    def delete_version(self, principal: Principal, name: ObjectName, version: int) -> None:
        """Delete a version. Raises NotFound, PermissionDenied."""
        self._require(principal, Act.WRITE, name)
        with self._acting(principal) as registry:
            registry.delete_model_version(str(name), str(version))

    def set_alias(self, principal: Principal, name: ObjectName, alias: str, version: int) -> None:
        """Point an alias to a version. Raises NotFound, InvalidArgument, PermissionDenied."""
        self._require(principal, Act.WRITE, name)
        with self._acting(principal) as registry:
            registry.set_registered_model_alias(str(name), alias, str(version))

    def delete_alias(self, principal: Principal, name: ObjectName, alias: str) -> None:
        """Remove an alias, if it is there. Raises NotFound for the model, PermissionDenied."""
        self._require(principal, Act.WRITE, name)
        with self._acting(principal) as registry:
            registry.delete_registered_model_alias(str(name), alias)

    def change_tags(
        self, principal: Principal, name: ObjectName, *, put: Mapping[str, str], remove: Sequence[str]
    ) -> None:
        """Set and remove tags of a model. Raises NotFound, PermissionDenied, InvalidArgument."""
        self._require(principal, Act.WRITE, name)
        with self._acting(principal) as registry:
            from mlflow.entities.model_registry import RegisteredModelTag

            for key, value in put.items():
                registry.set_registered_model_tag(str(name), RegisteredModelTag(key, value))
            for key in remove:
                registry.delete_registered_model_tag(str(name), key)

    def change_version_tags(
        self, principal: Principal, name: ObjectName, version: str, *, put: Mapping[str, str], remove: Sequence[str]
    ) -> None:
        """Set and remove tags of a version. Raises NotFound, PermissionDenied, InvalidArgument."""
        self._require(principal, Act.WRITE, name)
        with self._acting(principal) as registry:
            from mlflow.entities.model_registry import ModelVersionTag

            for key, value in put.items():
                registry.set_model_version_tag(str(name), version, ModelVersionTag(key, value))
            for key in remove:
                registry.delete_model_version_tag(str(name), version, key)

    @contextmanager
    def _acting(self, principal: Principal) -> Iterator[Any]:
        with acting_as(principal), millpond_errors():
            yield self._stores().registry

    def _require(self, principal: Principal, act: Act, name: ObjectName) -> None:
        require(principal, act, self._catalog.get_model(principal, name).securable)

    def _whole(self, name: ObjectName, found: Any) -> ModelVersion:
        origin = self._uploads().origin(found.source or "")
        return _version_of(name, found, self._locations(name, [found])[int(found.version)], origin=origin)

    def _locations(self, name: ObjectName, found: Sequence[Any]) -> dict[int, str]:
        places = self._stores().registry.places_of(str(name), [int(item.version) for item in found])
        return {number: self._uploads().shown_location(place.uri) for number, place in places.items()}

    def _names_after(
        self, principal: Principal, catalog: str | None, after: str | None, limit: int
    ) -> Sequence[ObjectName]:
        with self._catalog.database.read() as connection:
            found = self._catalog.find_model_names(connection, principal, catalog=catalog, after=after, limit=limit)
        return [ObjectName.of_full_name(name) for name in found]

    def _described(self, principal: Principal, models: Sequence[Model]) -> Sequence[CatalogModel]:
        with self._acting(principal) as registry:
            found = [registry.get_registered_model(str(model.name)) for model in models]
        return [
            CatalogModel(
                model=model,
                aliases=tuple(sorted((alias, int(number)) for alias, number in known.aliases.items())),
                tags=known.tags,
            )
            for model, known in zip(models, found, strict=True)
        ]


def _version_of(
    name: ObjectName,
    found: Any,
    location: str,
    aliases: Mapping[str, str] | None = None,
    origin: Mapping[str, Any] | None = None,
) -> ModelVersion:
    own = (
        found.aliases if aliases is None else [a for a, number in aliases.items() if str(number) == str(found.version)]
    )
    return ModelVersion(
        name=name,
        version=int(found.version),
        comment=found.description or "",
        status=found.status,
        source=found.source or "",
        storage_location=location,
        run_id=found.run_id or "",
        created_by=found.user_id or "",
        created_ms=found.creation_timestamp,
        updated_ms=found.last_updated_timestamp or found.creation_timestamp,
        aliases=tuple(sorted(own or ())),
        tags=found.tags,
        origin=origin or {},
    )
