"""Versions whose client brings the files: numbers, files, and what becomes of them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion, SqlRegisteredModel
from sqlalchemy import event

from millpond.catalog.domain import ObjectName, SchemaName
from millpond.catalog.service import CatalogService
from millpond.catalog.storage import ConfiguredStorages
from millpond.catalog.work import Janitor
from millpond.identity.domain import Grants, Principal
from millpond.identity.privileges import Privilege
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, NotFound, PermissionDenied
from millpond.kernel.settings import S3Settings
from millpond.tracking.catalog_models import CatalogModels, MlflowRows
from millpond.tracking.embed import Stores
from millpond.tracking.stores.registry import OwnedRegistryStore
from millpond.tracking.stores.tracking import OwnedTrackingStore
from millpond.tracking.version_uploads import VersionUploads
from tests.tracking.conftest import Asker, person

ANN = person("ann", is_admin=True)
MODEL = ObjectName("main", "ml", "churn")


class Room:
    """A registry on a catalog whose janitor does not wait."""

    def __init__(self, database: Database, tracking: OwnedTrackingStore, asker: Asker, place: Path) -> None:
        root = (place / "artifacts").as_uri()
        asker.principal = ANN
        self.catalog = CatalogService(
            database,
            storages=ConfiguredStorages(S3Settings()),
            storage_root=(place / "tables").as_uri(),
            private_locations=[str(place)],
            find_owner=lambda name: name,
            purge_after=timedelta(0),
        )
        self.catalog.on_models(MlflowRows(self.catalog, root))
        models = CatalogModels(self.catalog, root)
        self.registry = OwnedRegistryStore(tracking._database, asker, models, tracking)
        self.uploads = VersionUploads(models, Stores(tracking=tracking, registry=self.registry))
        self._janitor = Janitor(self.catalog, database)
        self._files = place / "artifacts" / "registry"

    def begin(self, name: ObjectName = MODEL) -> str:
        return str(self.uploads.begin(ANN, name, source="/home/ann/model").version)

    def bring(self, version: str, file: str = "MLmodel") -> None:
        place = self.uploads.resolve(ANN, ("main", "ml", "churn", version, file), True)
        writer = place.tree.writer(place.parts)
        writer.write(b"x")
        writer.commit(overwrite=False)

    def make(self) -> str:
        """A ready version."""
        version = self.begin()
        self.bring(version)
        self.uploads.finalize(ANN, MODEL, version)
        return version

    def left(self) -> int:
        """How many versions have files, after the janitor's round."""
        self._janitor.run_once()
        return sum(any(version.iterdir()) for version in self._files.iterdir())


@pytest.fixture
def room(database: Database, ours: OwnedTrackingStore, asker: Asker, tmp_path: Path) -> Iterator[Room]:
    made = Room(database, ours, asker, tmp_path)
    made.catalog.create_schema(ANN, catalog="main", name="ml")
    made.registry.create_registered_model(str(MODEL))
    yield made
    registry = made.registry  # it listens to MLflow's classes, which the next test has too
    for table, moment, listener in (
        (SqlRegisteredModel, "after_insert", registry._inserted),
        (SqlRegisteredModel, "after_update", registry._updated),
        (SqlRegisteredModel, "after_delete", registry._deleted),
        (SqlModelVersion, "before_insert", registry._stamp_version),
        (SqlModelVersion, "after_update", registry._version_updated),
        (SqlModelVersion, "after_delete", registry._version_deleted),
    ):
        event.remove(table, moment, listener)


def test_versions_begun_at_once_have_numbers_of_their_own(room: Room) -> None:
    with ThreadPoolExecutor(8) as threads:
        numbers = list(threads.map(lambda _: room.begin(), range(16)))
    assert sorted(map(int, numbers)) == list(range(1, 17))


def test_finalizing_needs_the_file_and_may_be_repeated(room: Room) -> None:
    version = room.begin()
    room.bring(version, "conda.yaml")
    with pytest.raises(FailedPrecondition, match="no file MLmodel"):
        room.uploads.finalize(ANN, MODEL, version)
    room.bring(version)
    for _ in range(2):
        assert room.uploads.finalize(ANN, MODEL, version).status == "READY"
    with pytest.raises(FailedPrecondition, match="do not change any more"):
        room.bring(version, "more")
    for other in ("0", "2", "-1", "x", "9" * 30, "\0"):
        with pytest.raises(NotFound):
            room.uploads.finalize(ANN, MODEL, other)


def test_a_version_in_the_making_is_its_makers(room: Room, asker: Asker) -> None:
    """Another who may read the model and make versions of it can neither bring files nor end the upload."""
    version = room.begin()
    room.bring(version)
    model = room.catalog.get_model(ANN, MODEL)
    containers = [
        ("schema", model.schema_id, Privilege.USE_SCHEMA),
        ("catalog", model.catalog_id, Privilege.USE_CATALOG),
    ]
    own = [("model", model.id, privilege) for privilege in (Privilege.EXECUTE, Privilege.CREATE_MODEL_VERSION)]
    asker.principal = bob = replace(person("bob"), grants=Grants([*containers, *own]))
    with pytest.raises(PermissionDenied):
        room.uploads.resolve(bob, ("main", "ml", "churn", version, "MLmodel"), True)
    with pytest.raises(PermissionDenied):
        room.uploads.finalize(bob, MODEL, version)
    assert str(room.uploads.begin(bob, MODEL, source="/home/bob/model").version) == "2"


def test_files_go_with_their_version_or_schema_but_not_before_a_copy(room: Room) -> None:
    first, second = room.make(), room.make()
    assert room.left() == 2
    room.registry.create_registered_model("main.ml.copy")
    room.registry.create_model_version("main.ml.copy", f"models:/{MODEL}/{first}")
    room.registry.delete_model_version(str(MODEL), first)
    room.registry.delete_model_version(str(MODEL), second)
    assert room.left() == 1
    room.registry.delete_registered_model("main.ml.copy")
    assert room.left() == 0
    room.make()
    assert room.left() == 1
    room.catalog.delete_schema(ANN, SchemaName("main", "ml"), force=True)
    assert room.left() == 0


def test_a_renamed_models_files_stay_where_they_are(room: Room, asker: Asker) -> None:
    version = room.make()
    before = room.uploads.location(ANN, MODEL, version, write=False)
    renamed = ObjectName("main", "ml", "left")
    room.registry.rename_registered_model(str(MODEL), str(renamed))
    assert room.uploads.location(ANN, renamed, version, write=False) == before
    with pytest.raises(NotFound):
        room.uploads.location(_as(asker, "eve"), renamed, version, write=False)


def _as(asker: Asker, name: str) -> Principal:
    asker.principal = person(name)
    return asker.principal
