"""What a table's policies read: its tags, its columns', and what its containers pass on."""

from millpond.catalog.domain import ObjectName
from millpond.catalog.service import CatalogService
from tests.catalog.conftest import People, make_table


def test_tags_of_a_table_come_with_what_its_containers_pass_on(catalog: CatalogService, people: People) -> None:
    alice = people.alice
    catalog.create_catalog(alice, name="lake")
    make_table(catalog, alice, "lake.default.t")
    for kind, name, values in (
        ("catalog", "lake", {"a": "catalog", "b": "catalog"}),
        ("schema", "lake.default", {"b": "schema"}),
        ("table", "lake.default.t", {"c": "table"}),
        ("column", "lake.default.t.Name", {"pii": ""}),
    ):
        catalog.set_tags(alice, kind, name, values)
    found = catalog.tags_of(catalog.get_table(alice, ObjectName("lake", "default", "t")))
    assert (found.own, found.inherited) == ({"c": "table"}, {"a": "catalog", "b": "schema"})
    assert found.columns == {"name": {"pii": ""}}
