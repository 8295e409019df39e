"""The Unity Catalog REST API through the unmodified databricks-sdk, on both databases."""

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import AlreadyExists, BadRequest, InvalidParameterValue, NotFound, ResourceAlreadyExists
from databricks.sdk.service import catalog as uc

from millpond.catalog.domain import ObjectName, TableType
from tests.catalog.conftest import LONG, TEXT, Site, catalog, data_dir, database, make_table, people, site

__all__ = ["catalog", "data_dir", "database", "people", "site"]


@pytest.fixture
def w(site: Site) -> WorkspaceClient:
    """The SDK as alice, with a catalog of hers."""
    client = site.client(site.people.alice)
    client.catalogs.create(name="sales", comment="All sales", properties={"team": "shop"})
    return client


def test_catalogs(site: Site, w: WorkspaceClient) -> None:
    """Made, read, changed, renamed, listed and dropped."""
    found = w.catalogs.get("SALES")
    assert (found.name, found.comment, found.owner) == ("sales", "All sales", site.people.alice.name)
    assert found.properties == {"team": "shop"}
    assert found.catalog_type is uc.CatalogType.MANAGED_CATALOG
    assert found.created_at is not None
    assert found.created_at > 1_700_000_000_000
    w.catalogs.update("sales", new_name="shop", comment="Renamed")
    assert [item.name for item in w.catalogs.list(max_results=1)] == ["main", "shop", "system"]
    w.schemas.create(name="s", catalog_name="shop")
    with pytest.raises(BadRequest, match="not empty"):
        w.catalogs.delete("shop")
    w.catalogs.delete("shop", force=True)
    with pytest.raises(NotFound, match="'shop' does not exist"):
        w.catalogs.get("shop")


def test_schemas(w: WorkspaceClient) -> None:
    """Made, read, changed, renamed, listed and dropped."""
    made = w.schemas.create(name="Gold", catalog_name="sales", comment="Best", properties={"a": "b"})
    assert (made.full_name, made.catalog_name, made.name) == ("sales.gold", "sales", "gold")
    assert w.schemas.update("sales.gold", new_name="platinum", comment="Better").full_name == "sales.platinum"
    assert [item.name for item in w.schemas.list("sales")] == ["default", "platinum"]
    w.schemas.delete("sales.platinum")
    with pytest.raises(NotFound):
        w.schemas.get("sales.platinum")


def test_a_taken_name_and_a_wrong_one_are_the_sdks_errors(w: WorkspaceClient) -> None:
    """Which its users catch by class."""
    with pytest.raises((AlreadyExists, ResourceAlreadyExists), match="already exists"):
        w.catalogs.create(name="Sales")
    with pytest.raises(InvalidParameterValue, match="not allowed in names"):
        w.catalogs.create(name="a.b")
    with pytest.raises(InvalidParameterValue, match="reserved"):
        w.schemas.create(name="information_schema", catalog_name="sales")
    with pytest.raises(NotFound):
        w.schemas.create(name="s", catalog_name="nowhere")


def test_tables(site: Site, w: WorkspaceClient) -> None:
    """Read with their columns, listed by pages, summarised, given away and dropped."""
    for number in range(5):
        make_table(
            site.catalog, site.people.alice, f"sales.default.t{number}", comment="A table", properties={"k": "v"}
        )
    found = w.tables.get("sales.default.T0")
    assert (found.full_name, found.table_type, found.comment) == ("sales.default.t0", uc.TableType.MANAGED, "A table")
    assert (found.data_source_format, found.properties) == (uc.DataSourceFormat.DELTA, {"k": "v"})
    first, second = found.columns or []
    assert (first.name, first.type_name, first.type_text, first.nullable, first.position) == (
        "id", uc.ColumnTypeName.LONG, "bigint", False, 0,
    )  # fmt: skip
    assert (second.comment, second.type_json) == (
        "What it is called",
        '{"name":"name","type":"string","nullable":true,"metadata":{"comment":"What it is called"}}',
    )
    listed = list(w.tables.list("sales", "default", max_results=2, omit_columns=True, omit_properties=True))
    assert [item.name for item in listed] == [f"t{number}" for number in range(5)]
    assert not listed[0].columns
    summaries = w.tables.list_summaries("sales", schema_name_pattern="def%", table_name_pattern="t_", max_results=2)
    assert [item.full_name for item in summaries] == [f"sales.default.t{number}" for number in range(5)]
    assert w.tables.exists("sales.default.t1").table_exists is True
    assert w.tables.exists("sales.default.nope").table_exists is False
    w.tables.update("sales.default.t1", owner=site.people.bob.name)
    assert w.tables.get("sales.default.t1").owner == site.people.bob.name
    w.tables.delete("sales.default.t1")
    assert w.tables.exists("sales.default.t1").table_exists is False


def test_a_view_has_its_definition_and_no_place(site: Site, w: WorkspaceClient) -> None:
    """As the SDK knows views."""
    staged = site.catalog.stage_table(site.people.alice, ObjectName.parse("sales.default.v"))
    site.catalog.register_table(
        site.people.alice, staged, [LONG, TEXT], TableType.VIEW, view_definition="SELECT 1 AS id, '' AS name"
    )
    found = w.tables.get("sales.default.v")
    assert (found.table_type, found.view_definition) == (uc.TableType.VIEW, "SELECT 1 AS id, '' AS name")
    assert (found.storage_location, found.data_source_format) == (None, None)


def test_table_constraints(site: Site, w: WorkspaceClient) -> None:
    """A primary key with its time column, and a foreign key."""
    make_table(site.catalog, site.people.alice, "sales.default.t")
    key = uc.PrimaryKeyConstraint(name="pk", child_columns=["id"], timeseries_columns=["id"])
    w.table_constraints.create("sales.default.t", uc.TableConstraint(primary_key_constraint=key))
    kept = (w.tables.get("sales.default.t").table_constraints or [])[0].primary_key_constraint
    assert kept is not None
    assert (kept.name, kept.child_columns, kept.timeseries_columns) == ("pk", ["id"], ["id"])
    w.table_constraints.delete("sales.default.t", "pk", cascade=False)
    assert not w.tables.get("sales.default.t").table_constraints


def test_volumes(site: Site, w: WorkspaceClient) -> None:
    """Made, read, renamed, listed and dropped."""
    made = w.volumes.create("sales", "default", "Raw", uc.VolumeType.MANAGED, comment="Files")
    assert (made.full_name, made.volume_type, made.comment) == ("sales.default.raw", uc.VolumeType.MANAGED, "Files")
    assert w.volumes.update("sales.default.raw", new_name="landing").storage_location == made.storage_location
    assert [item.name for item in w.volumes.list("sales", "default")] == ["landing"]
    w.volumes.delete("sales.default.landing")
    with pytest.raises(NotFound):
        w.volumes.read("sales.default.landing")


def test_functions(w: WorkspaceClient) -> None:
    """Kept as they were given."""
    parameter = uc.FunctionParameterInfo(
        name="x", type_text="double", type_json='"double"', type_name=uc.ColumnTypeName.DOUBLE, position=0
    )
    info = uc.CreateFunction(
        name="Twice",
        catalog_name="sales",
        schema_name="default",
        input_params=uc.FunctionParameterInfos(parameters=[parameter]),
        data_type=uc.ColumnTypeName.DOUBLE,
        full_data_type="DOUBLE",
        routine_body=uc.CreateFunctionRoutineBody.SQL,
        routine_definition="x * 2",
        parameter_style=uc.CreateFunctionParameterStyle.S,
        is_deterministic=True,
        sql_data_access=uc.CreateFunctionSqlDataAccess.NO_SQL,
        is_null_call=False,
        security_type=uc.CreateFunctionSecurityType.DEFINER,
        specific_name="twice",
        properties='{"a": "b"}',
    )
    w.functions.create(info)
    found = w.functions.get("sales.default.twice")
    assert (found.full_name, found.routine_definition, found.properties) == (
        "sales.default.twice", "x * 2", '{"a": "b"}',
    )  # fmt: skip
    assert found.input_params is not None
    assert [item.name for item in found.input_params.parameters or []] == ["x"]
    assert [item.name for item in w.functions.list("sales", "default")] == ["twice"]
    w.functions.delete("sales.default.twice")
    with pytest.raises(NotFound):
        w.functions.get("sales.default.twice")


def test_the_metastore(w: WorkspaceClient) -> None:
    """One, and always the same."""
    assignment, summary = w.metastores.current(), w.metastores.summary()
    assert assignment.metastore_id == summary.metastore_id
    assert assignment.workspace_id == w.get_workspace_id()
    assert assignment.default_catalog_name == "main"
    assert [item.metastore_id for item in w.metastores.list()] == [summary.metastore_id]


def test_others_see_none_of_it(site: Site, w: WorkspaceClient) -> None:
    """Through the API as in the service."""
    make_table(site.catalog, site.people.alice, "sales.default.t")
    other = site.client(site.people.bob)
    assert [item.name for item in other.catalogs.list()] == ["main", "system"]
    for act in (
        lambda: other.catalogs.get("sales"),
        lambda: other.tables.get("sales.default.t"),
        lambda: other.tables.exists("sales.default.t"),
        lambda: list(other.tables.list("sales", "default")),
        lambda: other.catalogs.delete("sales", force=True),
    ):
        with pytest.raises(NotFound):
            act()
