"""Files on volumes through the unmodified databricks-sdk, on both databases."""

import io
import os
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    AlreadyExists,
    BadRequest,
    NotFound,
    ResourceAlreadyExists,
    ResourceExhausted,
)
from databricks.sdk.service import catalog as uc

from millpond.catalog import locations
from tests.catalog.conftest import Site, catalog, data_dir, database, people, site
from tests.catalog.test_storage import MIB, no_file_larger_than

__all__ = ["catalog", "data_dir", "database", "people", "site"]
V = "/Volumes/sales/default/v"


@pytest.fixture
def w(site: Site) -> WorkspaceClient:
    """The SDK as alice, with a volume of hers."""
    client = site.client(site.people.alice)
    client.catalogs.create(name="sales")
    client.volumes.create("sales", "default", "v", uc.VolumeType.MANAGED)
    return client


def leftovers(w: WorkspaceClient) -> list[Path]:
    """What uploads have left in the volume's housekeeping."""
    root = locations.local_path(w.volumes.read("sales.default.v").storage_location or "")
    return list((root / ".millpond").iterdir())


def test_a_small_file_goes_up_and_down(w: WorkspaceClient) -> None:
    """With a name that needs encoding."""
    w.files.upload(f"{V}/a dir/ü+%2F?.txt", io.BytesIO(b"hello"))
    with w.files.download(f"{V}/a dir/ü+%2F?.txt").contents as contents:  # type: ignore[union-attr]
        assert contents.read() == b"hello"
    found = w.files.get_metadata(f"{V}/a dir/ü+%2F?.txt")
    assert (found.content_length, found.content_type) == (5, "application/octet-stream")
    assert found.last_modified


def test_a_file_is_overwritten_only_when_asked(w: WorkspaceClient) -> None:
    """The SDK's own error otherwise."""
    w.files.upload(f"{V}/x", io.BytesIO(b"1"))
    with pytest.raises((AlreadyExists, ResourceAlreadyExists)):
        w.files.upload(f"{V}/x", io.BytesIO(b"2"))
    w.files.upload(f"{V}/x", io.BytesIO(b"3"), overwrite=True)
    assert w.files.download(f"{V}/x").contents.read() == b"3"  # type: ignore[union-attr]


@pytest.mark.parametrize("parallel", [False, True])
def test_a_large_file_goes_up_in_parts(w: WorkspaceClient, tmp_path: Path, parallel: bool) -> None:
    """One after the other, and several at once; then down again."""
    data = os.urandom(MIB) * 61 + b"tail"
    (tmp_path / "up").write_bytes(data)
    threads = 4 if parallel else None
    w.files.upload_from(f"{V}/big", str(tmp_path / "up"), use_parallel=parallel, parallelism=threads)
    w.files.download_to(f"{V}/big", str(tmp_path / "down"), use_parallel=parallel, parallelism=threads)
    assert (tmp_path / "down").read_bytes() == data
    assert leftovers(w) == []


def test_directories(w: WorkspaceClient) -> None:
    """Made with those above, listed by pages, removed when empty."""
    w.files.create_directory(f"{V}/a/b")
    w.files.create_directory(f"{V}/a/b")
    w.files.get_directory_metadata(f"{V}/a/b")
    for number in range(5):
        w.files.upload(f"{V}/a/f{number}", io.BytesIO(b"x" * number))
    entries = list(w.files.list_directory_contents(f"{V}/a", page_size=2))
    assert [(entry.name, entry.is_directory, entry.file_size) for entry in entries] == [
        ("b", True, None), *((f"f{number}", False, number) for number in range(5)),
    ]  # fmt: skip
    assert entries[1].path == f"{V}/a/f0"
    with pytest.raises(BadRequest, match="not empty"):
        w.files.delete_directory(f"{V}/a")
    w.files.delete_directory(f"{V}/a/b")
    with pytest.raises(NotFound):
        w.files.get_directory_metadata(f"{V}/a/b")


def test_what_is_not_there_is_not_found(w: WorkspaceClient) -> None:
    """For each call."""
    for act in (
        lambda: w.files.download(f"{V}/nope"),
        lambda: w.files.get_metadata(f"{V}/nope"),
        lambda: w.files.delete(f"{V}/nope"),
        lambda: list(w.files.list_directory_contents(f"{V}/nope")),
        lambda: w.files.download("/Volumes/sales/default/other/x"),
    ):
        with pytest.raises(NotFound):
            act()


def test_a_full_disk_is_said_at_once(w: WorkspaceClient) -> None:
    """Not after minutes of retries, for small files and for those in parts; nothing stays."""
    with no_file_larger_than(5 * MIB):
        for size in (6 * MIB, 60 * MIB):
            with pytest.raises(ResourceExhausted, match="no room left"):
                w.files.upload(f"{V}/x", io.BytesIO(b"x" * size))
    assert list(w.files.list_directory_contents(V)) == []
    assert leftovers(w) == []
