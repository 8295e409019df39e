"""Row filters and column masks in the catalog: who may set them, what they keep in reach, and what they hold on to."""

from typing import Any

import pytest
from databricks.sdk.errors import InvalidParameterValue
from databricks.sdk.errors import PermissionDenied as Refused

from millpond.catalog.domain import ObjectName, SchemaName, Table
from millpond.catalog.service import CatalogService
from millpond.identity.domain import Principal
from millpond.identity.grants import Change
from millpond.identity.privileges import Privilege
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from tests.catalog.conftest import People, Site, make_table

T, F, G = (ObjectName.parse(f"sales.default.{name}") for name in ("t", "f", "g"))


def definition(body: str = "true", returns: str = "boolean") -> dict[str, Any]:
    """Of a function of one text."""
    parameter = {"name": "x", "type_text": "string", "type_name": "STRING", "position": 0}
    return {
        "input_params": {"parameters": [parameter]}, "full_data_type": returns, "routine_body": "SQL",
        "routine_definition": body,
    }  # fmt: skip


@pytest.fixture
def table(catalog: CatalogService, people: People) -> Table:
    """Alice's, with two functions of hers."""
    catalog.create_catalog(people.alice, name="sales")
    for name in (F, G):
        catalog.create_function(people.alice, name, definition=definition())
    return make_table(catalog, people.alice, str(T))


def grant(catalog: CatalogService, people: People, kind: str, name: str, *privileges: Privilege) -> Principal:
    """Bob, as he asks from now on."""
    change = Change(grantee=people.bob.name, add=frozenset(privileges))
    catalog.change_grants(people.alice, kind, name, [change])
    return people.identity.authenticate(people.tokens[people.bob.name])


def let_in(catalog: CatalogService, people: People, *privileges: Privilege) -> Principal:
    grant(catalog, people, "catalog", "sales", Privilege.USE_CATALOG, Privilege.USE_SCHEMA)
    return grant(catalog, people, "table", str(T), *privileges)


def test_they_are_set_seen_and_taken_away(catalog: CatalogService, people: People, table: Table) -> None:
    """With the columns' names as the table writes them."""
    assert not table.guards
    catalog.set_row_filter(people.alice, T, F, ["NAME"])
    found = catalog.set_mask(people.alice, T, "Name", G, ["ID"])
    guards = catalog.guards_of(found)
    assert guards.row_filter is not None
    assert (guards.row_filter.function.name, guards.row_filter.columns) == (F, ("name",))
    assert {column: (mask.function.name, mask.columns) for column, mask in guards.masks.items()} == {
        "name": (G, ("id",))
    }
    catalog.set_mask(people.alice, T, "name", None)
    assert not catalog.set_row_filter(people.alice, T, None).guards


def test_who_sets_them_manages_the_table_and_may_call_the_function(
    catalog: CatalogService, people: People, table: Table
) -> None:
    """Ownership of the one does not do without EXECUTE on the other."""
    bob = let_in(catalog, people, Privilege.SELECT, Privilege.MODIFY)
    with pytest.raises(PermissionDenied):
        catalog.set_row_filter(bob, T, F, ["name"])
    bob = let_in(catalog, people, Privilege.MANAGE)
    with pytest.raises(NotFound, match="Function"):
        catalog.set_row_filter(bob, T, F, ["name"])
    bob = grant(catalog, people, "function", str(F), Privilege.EXECUTE)
    assert catalog.set_row_filter(bob, T, F, ["name"]).guards
    for columns in (["nothing"],):
        with pytest.raises(InvalidArgument, match="no column 'nothing'"):
            catalog.set_row_filter(bob, T, F, columns)


def test_the_files_are_for_nobody_by_path_and_for_the_engines_of_managers(
    catalog: CatalogService, people: People, table: Table
) -> None:
    """As whoever manages the table may take the filter away."""
    bob = let_in(catalog, people, Privilege.SELECT, Privilege.MODIFY)
    assert catalog.may_reach(bob, table.storage_location, write=True)
    catalog.set_row_filter(people.alice, T, F, ["name"])
    bob = people.identity.authenticate(people.tokens[bob.name])
    for who in (people.alice, people.admin, bob):
        with pytest.raises(PermissionDenied, match="row filter or column masks"):
            catalog.check_path(who, table.storage_location, write=False)
        assert catalog.may_reach(who, table.storage_location, write=False) == (who is not bob)


def test_the_home_of_a_maker_who_gave_the_table_away_is_not_handed_over_whole(
    catalog: CatalogService, people: People, table: Table
) -> None:
    """Where the new owner filters rows for whom the maker may still read."""
    home = table.storage_location.rpartition("/")[0]
    other = make_table(catalog, people.alice, "sales.default.other")
    assert home in catalog.homes(people.alice)
    catalog.update_table(people.alice, T, owner=people.bob.name)
    catalog.set_row_filter(people.admin, T, F, ["name"])
    catalog.update_schema(people.alice, SchemaName("sales", "default"), owner=people.bob.name)
    catalog.update_catalog(people.alice, "sales", owner=people.bob.name)
    changes = [Change(grantee=people.alice.name, add=frozenset({Privilege.ALL_PRIVILEGES}))]
    catalog.change_grants(people.bob, "catalog", "sales", changes)
    alice = people.identity.authenticate(people.tokens[people.alice.name])
    assert other.storage_location in catalog.homes(alice)
    assert not {home, table.storage_location} & catalog.homes(alice)


def test_a_function_in_use_stays(catalog: CatalogService, people: People, table: Table) -> None:
    """Alone, with its schema, and as it is called; its text may change."""
    catalog.create_schema(people.alice, catalog="sales", name="functions")
    inner = ObjectName.parse("sales.functions.h")
    catalog.create_function(people.alice, inner, definition=definition())
    catalog.set_mask(people.alice, T, "name", inner)
    with pytest.raises(FailedPrecondition, match=r"sales\.default\.t"):
        catalog.drop_function(people.alice, inner)
    with pytest.raises(FailedPrecondition, match=r"sales\.default\.t"):
        catalog.delete_schema(people.alice, SchemaName("sales", "functions"), force=True)
    with pytest.raises(FailedPrecondition, match="another signature"):
        catalog.replace_function(people.alice, inner, definition=definition(returns="int"))
    changed = catalog.replace_function(people.alice, inner, definition=definition("x = 'a'"))
    assert changed.definition["routine_definition"] == "x = 'a'"
    catalog.delete_catalog(people.alice, "sales", force=True)


def test_who_replaces_the_text_of_anothers_function_owns_it(
    catalog: CatalogService, people: People, table: Table
) -> None:
    """Else it would read with rights that its author does not have."""
    grant(catalog, people, "catalog", "sales", Privilege.USE_CATALOG, Privilege.USE_SCHEMA)
    bob = grant(catalog, people, "function", str(F), Privilege.MANAGE)
    assert catalog.replace_function(people.alice, F, definition=definition("false")).owner == people.alice.name
    assert catalog.replace_function(bob, F, definition=definition("true")).owner == bob.name


def test_clients_see_them_and_get_no_credentials(site: Site, catalog: CatalogService) -> None:
    """TableInfo.row_filter and ColumnInfo.mask as the SDK reads them."""
    people = site.people
    catalog.create_catalog(people.alice, name="sales")
    for name in (F, G):
        catalog.create_function(people.alice, name, definition=definition())
    table = make_table(catalog, people.alice, str(T))
    catalog.set_row_filter(people.alice, T, F, ["name"])
    catalog.set_mask(people.alice, T, "name", G, ["id"])
    w = site.client(people.alice)
    for info in (w.tables.get(str(T)), next(iter(w.tables.list("sales", "default")))):
        assert info.row_filter is not None
        assert info.columns is not None
        assert (info.row_filter.function_name, info.row_filter.input_column_names) == (str(F), ["name"])
        masks = {column.name: column.mask.function_name for column in info.columns if column.mask is not None}
        assert masks == {"name": str(G)}
        assert [column.mask.using_column_names for column in info.columns if column.mask] == [["id"]]
    with pytest.raises(Refused, match="row filter or column masks"):
        w.temporary_table_credentials.generate_temporary_table_credentials(table_id=table.id)
    with pytest.raises(InvalidParameterValue, match="by SQL"):
        w.api_client.do(
            "POST", "/api/2.1/unity-catalog/tables",
            body={"name": "u", "catalog_name": "sales", "schema_name": "default", "table_type": "MANAGED",
                  "data_source_format": "DELTA", "row_filter": {"function_name": str(F), "input_column_names": []}},
        )  # fmt: skip
