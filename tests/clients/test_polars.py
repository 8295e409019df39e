"""Tables through the unmodified `polars.Catalog`, on both databases."""

from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from millpond.catalog.domain import ObjectName, TableType
from tests.catalog.conftest import LONG, Site, catalog, data_dir, database, people, site

__all__ = ["catalog", "data_dir", "database", "people", "site"]
FRAME = pl.DataFrame({"id": [1, 2, 3], "tags": [["a"], [], ["b", "c"]]})
pytestmark = pytest.mark.filterwarnings("ignore::polars.exceptions.UnstableWarning")  # the class calls itself so


@contextmanager
def catalog_of(site: Site) -> Iterator[pl.Catalog]:
    """Polars' catalog as alice."""
    yield pl.Catalog(site.url, bearer_token=site.people.tokens[site.people.alice.name], require_https=False)


def test_polars_makes_writes_and_reads_a_table(site: Site) -> None:
    """From the catalog to the rows, and away again."""
    with catalog_of(site) as polars:
        polars.create_catalog("lake", comment="Of Polars")
        polars.create_namespace("lake", "raw")
        polars.create_table("lake", "raw", "t", schema=FRAME.schema, table_type="MANAGED", data_source_format="DELTA")
        assert polars.scan_table("lake", "raw", "t").collect().is_empty()
        polars.write_table(FRAME, "lake", "raw", "t", delta_mode="append")
        assert_frame_equal(polars.scan_table("lake", "raw", "t").collect(), FRAME)
        found = polars.get_table_info("lake", "raw", "t")
        assert (found.name, found.table_type, found.get_polars_schema()) == ("t", "MANAGED", FRAME.schema)
        polars.delete_table("lake", "raw", "t")
        polars.delete_namespace("lake", "raw")
        polars.delete_catalog("lake")
        assert [item.name for item in polars.list_catalogs()] == ["main", "system"]


def test_polars_lists_tables_and_views(site: Site) -> None:
    """A view in a schema does not spoil the list."""
    alice = site.people.alice
    site.catalog.create_catalog(alice, name="lake")
    staged = site.catalog.stage_table(alice, ObjectName.parse("lake.default.v"))
    site.catalog.register_table(alice, staged, [LONG], TableType.VIEW, view_definition="SELECT 1 AS id")
    with catalog_of(site) as polars:
        assert [item.name for item in polars.list_namespaces("lake")] == ["default"]
        assert [(item.name, item.table_type) for item in polars.list_tables("lake", "default")] == [("v", "VIEW")]
