"""Paths: who may touch what, and what is no path at all."""

from pathlib import Path

import pytest

from millpond.catalog import locations
from millpond.catalog.domain import ObjectName, Table, Volume
from millpond.catalog.service import CatalogService
from millpond.kernel.errors import InvalidArgument, MillpondError, NotFound, PermissionDenied
from tests.catalog.conftest import People, make_table

V = "/Volumes/sales/default/v"


@pytest.fixture
def table(catalog: CatalogService, people: People) -> Table:
    """A managed table of alice's."""
    catalog.create_catalog(people.alice, name="sales")
    return make_table(catalog, people.alice, "sales.default.t")


@pytest.fixture
def volume(catalog: CatalogService, people: People, table: Table) -> Volume:
    """A managed volume of alice's."""
    return catalog.create_volume(people.alice, ObjectName.parse("sales.default.v"))


def test_an_owner_reaches_the_files_of_a_table(catalog: CatalogService, people: People, table: Table) -> None:
    """By URL and by path, to read and to write."""
    path = str(locations.local_path(table.storage_location))
    for write in (False, True):
        assert catalog.check_path(people.alice, table.storage_location, write=write) == table.storage_location
        assert catalog.check_path(people.alice, f"{path}/part=1/x.parquet", write=write).endswith("/part=1/x.parquet")
        assert catalog.check_path(people.alice, f"file:{path}/*.parquet", write=write)


def test_others_do_not_reach_them(catalog: CatalogService, people: People, table: Table, volume: Volume) -> None:
    """And are told no more than for a path that does not exist."""
    messages = set()
    for url in (table.storage_location, volume.storage_location + "/f", "file:///nowhere/at/all"):
        with pytest.raises(PermissionDenied) as caught:
            catalog.check_path(people.bob, url, write=False)
        messages.add(caught.value.message.replace(url, "URL"))
    assert len(messages) == 1
    with pytest.raises(NotFound):
        catalog.check_path(people.bob, f"{V}/f.csv", write=False)


def test_a_volume_path_leads_to_its_files(catalog: CatalogService, people: People, volume: Volume) -> None:
    """With or without a scheme before it, in any case of its names."""
    expected = locations.join(volume.storage_location, "a b", "ü.csv")
    for url in (f"{V}/a b/ü.csv", f"dbfs:{V}/a b/ü.csv", "/Volumes/SALES/Default/V/a b//ü.csv", f"file:{V}/a b/ü.csv"):
        assert catalog.check_path(people.alice, url, write=True) == expected


@pytest.mark.parametrize(
    "url",
    [
        "relative/path", "", "http://example.com/x", "jdbc:sqlite:x", "gs://bucket/x", "s3://", "s3:///key",
        "file://host/path", "/a/../b", "file:///a/%2e%2e/b", "/a/./b", "/a\x00b", "file:///a%00b", "s3://bucket/a/../b",
        "/Volumes/sales", "/Volumes/sales/default", "/Volumes//x/y/z", f"{V}/../v2/x", f"{V}/a\x00", f"{V}/a\nb",
        f"{V}/.millpond/x", "dbfs:/tmp/x", "/a\\..\\b", "/" + "x" * 3000, f"{V}/{'x' * 256}",
    ],
)  # fmt: skip
def test_what_is_no_plain_path_is_refused(catalog: CatalogService, people: People, volume: Volume, url: str) -> None:
    """For an administrator too."""
    with pytest.raises(InvalidArgument):
        catalog.check_path(people.admin, url, write=False)


def test_nobody_reaches_the_servers_own_directories(
    catalog: CatalogService, people: People, volume: Volume, data_dir: Path
) -> None:
    """Not by name, by pattern, from above, nor through a symbolic link."""
    link = data_dir.parent / "innocent"
    link.symlink_to(data_dir)
    tables = data_dir / "tables"
    urls = [
        data_dir / "millpond.db", data_dir, data_dir.parent, "/", tables, tables / "delta" / "*", tables / "vol*",
        f"{data_dir.parent}/da[t]a/secret.key", link / "secret.key", f"{data_dir.parent}/*/*",
        f"file:{data_dir}/secret.key", f"{data_dir}//secret.key",
    ]  # fmt: skip
    for url in urls:
        with pytest.raises(MillpondError) as caught:
            catalog.check_path(people.admin, str(url), write=False)
        assert isinstance(caught.value, PermissionDenied), url


def test_links_inside_a_volume_are_not_followed(catalog: CatalogService, people: People, volume: Volume) -> None:
    """Wherever they point; a path through one is refused."""
    root = locations.local_path(volume.storage_location)
    (root / "out").symlink_to("/etc")
    (root / "dir").mkdir()
    (root / "dir" / "up").symlink_to("..")
    for path in ("out/passwd", "out", "dir/up/x", "out/*"):
        with pytest.raises(PermissionDenied, match="symbolic link"):
            catalog.check_path(people.alice, f"{V}/{path}", write=False)
        with pytest.raises(PermissionDenied, match="symbolic link"):
            catalog.check_path(people.alice, f"{volume.storage_location}/{path}", write=False)


def test_an_administrator_reaches_other_places(catalog: CatalogService, people: People, tmp_path: Path) -> None:
    """On the machine's disk and in buckets; nobody else does."""
    for url in (str(tmp_path / "raw.csv"), "s3://bucket/raw/x.csv", "s3a://bucket/raw/x.csv"):
        assert catalog.check_path(people.admin, url, write=False)
        with pytest.raises(PermissionDenied):
            catalog.check_path(people.alice, url, write=False)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/a/b", "file:///a/b"),
        ("/a//b/", "file:/a/b"),
        ("/a b/ü", "file:///a%20b/%C3%BC"),
        ("s3a://bucket/a//b/", "s3://bucket/a/b"),
        ("s3://bucket/", "s3://bucket"),
        ("FILE:///a", "/a"),
    ],
)
def test_equal_places_are_equal_locations(one: str, other: str) -> None:
    """However they are written."""
    assert locations.canonical(one) == locations.canonical(other)


def test_ancestors_reach_up_to_the_root() -> None:
    """Of paths and buckets."""
    assert locations.with_ancestors("file:///a/b") == ["file:///a/b", "file:///a"]
    assert locations.with_ancestors("s3://bucket/a/b") == ["s3://bucket/a/b", "s3://bucket/a", "s3://bucket"]
