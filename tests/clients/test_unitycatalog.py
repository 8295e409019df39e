"""Tables through the unmodified `unitycatalog-client`, on both databases."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor

import pytest
import unitycatalog.client as uc

from millpond.catalog.domain import ObjectName, TableType
from tests.catalog.conftest import LONG, Site, catalog, data_dir, database, make_table, people, site

__all__ = ["catalog", "data_dir", "database", "people", "site"]


@pytest.fixture
def lake(site: Site) -> Site:
    """A table and a view of alice's."""
    alice = site.people.alice
    site.catalog.create_catalog(alice, name="lake")
    make_table(site.catalog, alice, "lake.default.t")
    staged = site.catalog.stage_table(alice, ObjectName.parse("lake.default.v"))
    site.catalog.register_table(alice, staged, [LONG], TableType.VIEW, view_definition="SELECT 1 AS id")
    return site


def client(site: Site) -> uc.ApiClient:
    """The client as alice."""
    made = uc.ApiClient(uc.Configuration(host=site.url + "/api/2.1/unity-catalog"))
    made.set_default_header("Authorization", f"Bearer {site.people.tokens[site.people.alice.name]}")
    return made


def _run(work: Coroutine[None, None, None]) -> None:
    """Run it on a loop of its own, in a thread: the browser tests keep one in the main thread."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


def test_it_lists_and_reads_everything(lake: Site) -> None:
    """Views too, of which its enumeration of table types knows nothing."""

    async def read() -> None:
        async with client(lake) as api:
            catalogs = await uc.CatalogsApi(api).list_catalogs()
            assert [item.name for item in catalogs.catalogs] == ["lake", "main", "system"]
            tables = await uc.TablesApi(api).list_tables("lake", "default")
            assert [(item.name, item.table_type) for item in tables.tables] == [("t", "MANAGED"), ("v", None)]
            found = await uc.TablesApi(api).get_table("lake.default.t")
            assert [(column.name, column.type_name) for column in found.columns] == [("id", "LONG"), ("name", "STRING")]

    _run(read())


def test_it_makes_and_drops(lake: Site) -> None:
    """Catalogs, schemas and volumes."""

    async def write() -> None:
        async with client(lake) as api:
            await uc.CatalogsApi(api).create_catalog(uc.CreateCatalog(name="other", comment="hi"))
            await uc.SchemasApi(api).create_schema(uc.CreateSchema(name="s", catalog_name="other"))
            request = uc.CreateVolumeRequestContent(
                catalog_name="other", schema_name="s", name="v", volume_type=uc.VolumeType.MANAGED
            )
            made = await uc.VolumesApi(api).create_volume(request)
            assert made.full_name == "other.s.v"
            await uc.CatalogsApi(api).delete_catalog("other", force=True)

    _run(write())
    assert [item.name for item in lake.catalog.list_catalogs(lake.people.alice).items] == ["lake", "main", "system"]


def test_temporary_credentials_of_local_files_hold_no_key(lake: Site) -> None:
    """And are given for what one may do only."""

    async def ask() -> None:
        async with client(lake) as api:
            table = await uc.TablesApi(api).get_table("lake.default.t")
            request = uc.GenerateTemporaryTableCredential(table_id=table.table_id, operation="READ_WRITE")
            given = await uc.TemporaryCredentialsApi(api).generate_temporary_table_credentials(request)
            assert given.aws_temp_credentials is None
            assert given.expiration_time > 1_700_000_000_000

    _run(ask())
    table = lake.catalog.get_table(lake.people.alice, ObjectName.parse("lake.default.t"))
    with lake.http(lake.people.bob) as other:
        body = {"table_id": table.id, "operation": "READ"}
        assert other.post("/api/2.1/unity-catalog/temporary-table-credentials", json=body).status_code == 404
