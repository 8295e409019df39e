"""Finding objects by name and by change, for who may see them."""

from millpond.catalog.service import CatalogService
from tests.catalog.conftest import People, make_table


def test_search_finds_by_any_part_of_the_full_name_whatever_its_case(catalog: CatalogService, people: People) -> None:
    catalog.create_catalog(people.alice, name="shop")
    make_table(catalog, people.alice, "shop.default.orders")
    found = {(item.kind, item.full_name) for item in catalog.search(people.alice, "HOP")}
    assert found == {("catalog", "shop"), ("schema", "shop.default"), ("table", "shop.default.orders")}


def test_search_takes_wildcards_as_what_they_are(catalog: CatalogService, people: People) -> None:
    catalog.create_catalog(people.alice, name="shop")
    make_table(catalog, people.alice, "shop.default.a_b")
    make_table(catalog, people.alice, "shop.default.acb")
    assert [item.full_name for item in catalog.search(people.alice, "a_b")] == ["shop.default.a_b"]
    assert catalog.search(people.alice, "%") == ()
    assert catalog.search(people.alice, "' OR 1=1 --") == ()


def test_search_does_not_tell_of_what_one_may_not_see(catalog: CatalogService, people: People) -> None:
    catalog.create_catalog(people.alice, name="shop")
    make_table(catalog, people.alice, "shop.default.orders")
    assert catalog.search(people.bob, "orders") == ()
    assert [item.full_name for item in catalog.search(people.admin, "orders")] == ["shop.default.orders"]


def test_others_objects_do_not_use_up_the_limit(catalog: CatalogService, people: People) -> None:
    for owner, name in ((people.alice, "a"), (people.bob, "b")):
        catalog.create_catalog(owner, name=name)
        catalog.create_schema(owner, catalog=name, name="s")
    for number in range(4):
        make_table(catalog, people.alice, f"a.s.orders{number}")
    make_table(catalog, people.bob, "b.s.all_the_orders")
    assert [item.full_name for item in catalog.search(people.bob, "orders", limit=1)] == ["b.s.all_the_orders"]
    assert [str(table.name) for table in catalog.recent_tables(people.bob, limit=1)] == ["b.s.all_the_orders"]


def test_recent_tables_come_last_changed_first(catalog: CatalogService, people: People) -> None:
    catalog.create_catalog(people.alice, name="shop")
    for name in ("first", "second"):
        make_table(catalog, people.alice, f"shop.default.{name}")
    catalog.update_table(people.alice, catalog.recent_tables(people.alice, limit=2)[1].name, comment="again")
    assert [table.name.name for table in catalog.recent_tables(people.alice, limit=2)] == ["first", "second"]
