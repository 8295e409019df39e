"""Model versions whose client brings the files, as Unity Catalog's registry has it.

A version is pending while its client uploads, and ready once the server has seen the files; from then on they do not
change. MLflow's own registry only points to what a run has logged. Import only after `loading.load_mlflow`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException

from millpond.catalog import locations
from millpond.catalog.domain import ObjectName
from millpond.catalog.files import Place
from millpond.catalog.storage.port import HOUSEKEEPING
from millpond.identity.access import Act
from millpond.identity.domain import Principal
from millpond.identity.middleware import acting_as
from millpond.kernel.clock import utc_now
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, NotFound
from millpond.tracking.catalog_models import CatalogModels
from millpond.tracking.domain import ARTIFACT_SCHEME, VersionPlace, logged_model_of_source
from millpond.tracking.flask_json import json_of
from millpond.tracking.model_files import artifact_path_of
from millpond.tracking.stores.registry import PENDING, READY
from millpond.tracking.translation import millpond_errors

if TYPE_CHECKING:
    from millpond.tracking.embed import Stores

FILES_PREFIX = "Models"
"""Below it the Files API has the versions' files: `/Models/<catalog>/<schema>/<model>/<version>/...`."""

_MODEL_FILE = "MLmodel"
_MAX_SOURCE_LENGTH = 500  # of MLflow's column


class VersionUploads:
    """Begins, fills and finalizes versions of the catalog's models, as the principal who asks."""

    def __init__(self, catalog: CatalogModels, stores: "Stores") -> None:
        self._catalog = catalog
        self._stores = stores

    def begin(
        self,
        principal: Principal,
        name: ObjectName,
        *,
        source: str,
        run_id: str | None = None,
        comment: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Any:
        """MLflow's entity of a new version, pending. `source` only says where the client has the files from.

        Raises NotFound for the model, PermissionDenied, InvalidArgument.
        """
        if len(source) > _MAX_SOURCE_LENGTH:
            raise InvalidArgument(f"The source has {len(source)} characters; at most {_MAX_SOURCE_LENGTH}.")
        with self._acting(principal, Act.CREATE_VERSION, name):
            return self._stores.registry.begin_model_version(
                str(name), source, run_id=self._known_run(run_id), description=comment, tags=tags or {}
            )

    def finalize(self, principal: Principal, name: ObjectName, version: str) -> Any:
        """MLflow's entity of the version, ready; harmless when it was.

        Raises NotFound, PermissionDenied, FailedPrecondition when the files have not come.
        """
        with self._acting(principal, Act.CREATE_VERSION, name):
            place = self._place(name, version)
            if place.status != READY:
                self._check_maker(principal, name, place)
                self._check_files(name, version, place)
            return self._stores.registry.finish_model_version(str(name), version)

    def resolve(self, principal: Principal, parts: tuple[str, ...], write: bool) -> Place:
        """The place of a path of the Files API below `/Models` (a `catalog.files.Resolver`)."""
        if len(parts) < 4:
            raise NotFound(f"'/{FILES_PREFIX}/{'/'.join(parts)}' does not exist; models' files are in "
                           f"/{FILES_PREFIX}/catalog/schema/model/version/...")  # fmt: skip
        below = parts[4:]
        if below[:1] == (HOUSEKEEPING,):
            raise InvalidArgument(f"'{HOUSEKEEPING}' at the root of a version is the server's; choose another name.")
        name = ObjectName(*parts[:3])
        location = self.location(principal, name, parts[3], write=write)
        return Place(tree=self._catalog.files_at(location, shown=_shown(name, parts[3])), parts=below)

    def location(self, principal: Principal, name: ObjectName, version: str, *, write: bool) -> str:
        """Where a version's files are, for somebody who may read them, or bring them while it is pending.

        Raises NotFound, PermissionDenied, FailedPrecondition.
        """
        with self._acting(principal, Act.CREATE_VERSION if write else Act.READ, name):
            place = self._place(name, version)
            if write and place.status != PENDING:
                raise FailedPrecondition(
                    f"Version {version} of model '{name}' is {place.status}; its files do not change any more. "
                    "Register another version."
                )
            if write:
                self._check_maker(principal, name, place)
            else:
                self._catalog.lineage.version_read(principal, str(name), version)
            return self.location_of(place.uri)

    def location_of(self, uri: str) -> str:
        """The `file:` or `s3:` location of a version's URI. Raises InvalidArgument for files that are not kept here."""
        return locations.join(self._catalog.root, *artifact_path_of(uri, self._stores.tracking).split("/"))

    def shown_location(self, uri: str) -> str:
        """The location of a version's URI, or the URI itself when only MLflow can follow it."""
        return self.location_of(uri) if uri.startswith(f"{ARTIFACT_SCHEME}:") else uri

    def origin(self, source: str) -> dict[str, Any]:
        """See `origin_of`."""
        return origin_of(self._stores.tracking, source)

    @contextmanager
    def _acting(self, principal: Principal, act: Act, name: ObjectName) -> Iterator[None]:
        self._catalog.require(principal, act, name)
        with acting_as(principal), millpond_errors():
            yield

    def _place(self, name: ObjectName, version: str) -> VersionPlace:
        number = int(version) if version.isdecimal() and len(version) < 10 else 0
        place = self._stores.registry.places_of(str(name), [number]).get(number)
        if place is None:
            raise NotFound(f"Version '{version[:80]}' of model '{name}' does not exist.")
        return place

    def _check_maker(self, principal: Principal, name: ObjectName, place: VersionPlace) -> None:
        """A version in the making is its maker's, else anybody who may make versions could slip files into it."""
        if place.maker != principal.name:
            self._catalog.require(principal, Act.MANAGE, name)

    def _check_files(self, name: ObjectName, version: str, place: VersionPlace) -> None:
        location = self.location_of(place.uri)
        tree = self._catalog.files_at(location, shown=_shown(name, version))
        found = tree.status((_MODEL_FILE,))
        if found is None or found.is_directory:
            raise FailedPrecondition(
                f"Version {version} of model '{name}' has no file {_MODEL_FILE} at '{location}', so it stays pending. "
                "A client that writes to this location itself must run where the server's disk is; others register "
                "under databricks-uc, which uploads."
            )
        tree.sweep(utc_now())

    def _known_run(self, run_id: str | None) -> str | None:
        """The run, if it is one of this server's that the principal sees: else the client's claim links to nothing."""
        try:
            return run_id and self._stores.tracking.get_run(run_id).info.run_id
        except MlflowException:
            return None


def origin_of(tracking: Any, source: str) -> dict[str, Any]:
    """The logged model that a version came from, with what the principal sees of it, as Unity Catalog's APIs show it.

    `tracking` is MLflow's tracking store.
    """
    model_id = logged_model_of_source(source)
    if model_id is None:
        return {}
    try:
        model = json_of(tracking.get_logged_model(model_id).to_proto())
    except MlflowException:  # another's, or another server's
        return {"model_id": model_id}
    data = model.get("data", {})
    params = [{"name": param["key"], "value": param["value"]} for param in data.get("params", ())]
    return {"model_id": model_id, "model_params": params, "model_metrics": data.get("metrics", [])}


def _shown(name: ObjectName, version: str) -> str:
    return f"/{FILES_PREFIX}/{name.catalog}/{name.schema}/{name.name}/{version}"
