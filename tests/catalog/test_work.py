"""The janitor: what it removes, what it leaves, and that a crash in between costs nothing."""

import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from millpond.catalog import locations
from millpond.catalog.domain import ObjectName, Table, TableType, VolumeType
from millpond.catalog.files import Files
from millpond.catalog.service import CatalogService
from millpond.catalog.store.schema import purges, staged, uploads
from millpond.catalog.work import Janitor
from millpond.kernel.clock import utc_now
from millpond.kernel.errors import FailedPrecondition
from tests.catalog.conftest import LONG, People, make_table

T = ObjectName.parse("sales.default.t")


@pytest.fixture
def janitor(catalog: CatalogService, people: People) -> Janitor:
    """A janitor, over a catalog of alice's."""
    catalog.create_catalog(people.alice, name="sales")
    return Janitor(catalog, catalog.database)


def later(catalog: CatalogService, table: Any, column: str) -> None:
    """Let the time of all notes of a kind have come."""
    with catalog.database.write() as connection:
        connection.execute(update(table).values({column: utc_now() - timedelta(days=2)}))


def write_files(location: str) -> Path:
    """Some files at a location; its directory."""
    path = locations.local_path(location)
    (path / "_delta_log").mkdir(parents=True)
    (path / "_delta_log" / "0.json").write_text("{}")
    return path


def external(catalog: CatalogService, people: People, place: Path) -> Table:
    """An external table of the administrator's."""
    staged_table = catalog.stage_table(people.admin, ObjectName.parse("sales.default.e"), str(place))
    return catalog.register_table(people.admin, staged_table, [LONG], TableType.EXTERNAL)


def test_files_of_a_dropped_table_go_when_their_time_has_come(
    catalog: CatalogService, people: People, janitor: Janitor
) -> None:
    """Not before; and those of other tables stay."""
    gone = write_files(make_table(catalog, people.alice, str(T)).storage_location)
    kept = write_files(make_table(catalog, people.alice, "sales.default.kept").storage_location)
    catalog.drop_table(people.alice, T)
    assert janitor.run_once().purged == 0
    assert gone.exists()
    later(catalog, purges, "due_at")
    assert janitor.run_once().purged == 1
    assert (gone.exists(), kept.exists()) == (False, True)
    assert janitor.run_once().purged == 0


def test_files_of_external_tables_and_volumes_stay(
    catalog: CatalogService, people: People, janitor: Janitor, tmp_path: Path
) -> None:
    """Also when a whole catalog is dropped."""
    table = write_files(external(catalog, people, tmp_path / "lake").storage_location)
    (tmp_path / "raw").mkdir()
    catalog.create_volume(
        people.admin,
        ObjectName.parse("sales.default.v"),
        volume_type=VolumeType.EXTERNAL,
        location=str(tmp_path / "raw"),
    )
    catalog.delete_catalog(people.alice, "sales", force=True)
    later(catalog, purges, "due_at")
    assert janitor.run_once().purged == 0
    assert table.exists()
    assert (tmp_path / "raw").exists()


def test_a_purge_cut_off_is_done_again(
    catalog: CatalogService, people: People, janitor: Janitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the files gone, the note still there."""
    path = write_files(make_table(catalog, people.alice, str(T)).storage_location)
    catalog.drop_table(people.alice, T)
    later(catalog, purges, "due_at")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", _half_a_removal)
        assert janitor.run_once().purged == 0
    assert path.exists()
    assert janitor.run_once().purged == 1
    assert not path.exists()


def _half_a_removal(path: Path, *_: Any, **__: Any) -> None:
    (path / "_delta_log" / "0.json").unlink()
    raise OSError(5, "Input/output error")


def test_a_purge_of_a_place_in_use_removes_nothing(catalog: CatalogService, people: People, janitor: Janitor) -> None:
    """Whatever wrote such a note."""
    table = make_table(catalog, people.alice, str(T))
    path = write_files(table.storage_location)
    with catalog.database.write() as connection:
        values = {
            "id": "x",
            "location": table.storage_location,
            "what": "wrong",
            "due_at": utc_now() - timedelta(days=1),
        }
        connection.execute(purges.insert().values(values))
    assert janitor.run_once().purged == 0
    assert path.exists()


def test_a_place_never_registered_is_removed(catalog: CatalogService, people: People, janitor: Janitor) -> None:
    """After a day; and cannot be registered any more."""
    staging = catalog.stage_table(people.alice, T)
    path = write_files(staging.storage_location)
    assert janitor.run_once().staged == 0
    later(catalog, staged, "created_at")
    swept = janitor.run_once()
    assert (swept.staged, swept.purged) == (1, 1)
    assert not path.exists()
    with pytest.raises(FailedPrecondition, match="expired"):
        catalog.register_table(people.alice, staging, [LONG], TableType.MANAGED)


def test_an_external_place_never_registered_keeps_its_files(
    catalog: CatalogService, people: People, janitor: Janitor, tmp_path: Path
) -> None:
    """They are not ours."""
    staging = catalog.stage_table(people.admin, T, str(tmp_path / "lake"))
    path = write_files(staging.storage_location)
    later(catalog, staged, "created_at")
    swept = janitor.run_once()
    assert (swept.staged, swept.purged) == (1, 0)
    assert path.exists()


def test_uploads_that_nobody_finished_are_forgotten(catalog: CatalogService, people: People, janitor: Janitor) -> None:
    """With their parts, and with what a killed server left of plain uploads."""
    volume = catalog.create_volume(people.alice, ObjectName.parse("sales.default.v"))
    files = Files(catalog, catalog.database)
    path = "/Volumes/sales/default/v/x"
    files.begin_upload(people.alice, path, overwrite=False)
    writer = files.writer(people.alice, path, overwrite=False)
    writer.write(b"half")
    housekeeping = locations.local_path(volume.storage_location) / ".millpond"
    assert len(list(housekeeping.iterdir())) == 2
    assert janitor.run_once().leftovers == 0
    later(catalog, uploads, "expires_at")
    for item in housekeeping.iterdir():
        os.utime(item, (0, 0))
    swept = janitor.run_once()
    assert (swept.uploads, swept.leftovers) == (1, 2)
    assert list(housekeeping.iterdir()) == []
    writer.abort()


def test_a_round_that_fails_is_not_the_last(
    catalog: CatalogService, janitor: Janitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread goes on, and ends when told to."""
    rounds = threading.Semaphore(0)

    def fail() -> None:
        rounds.release()
        raise RuntimeError("broken")

    monkeypatch.setattr(janitor, "run_once", fail)
    with janitor.at_work(interval_s=0.001):
        assert all(rounds.acquire(timeout=20) for _ in range(3))
    assert not [thread for thread in threading.enumerate() if thread.name == "catalog-janitor"]
