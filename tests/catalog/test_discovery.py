"""Finding objects by what is said about them and by change, for who may see them."""

from dataclasses import replace
from typing import Any

import pytest

from millpond.catalog.domain import ObjectName
from millpond.catalog.search import Wanted
from millpond.catalog.service import CatalogService
from millpond.catalog.tags import CERTIFICATION
from millpond.identity.domain import Principal
from tests.catalog.conftest import LONG, TEXT, People, make_table


def names(catalog: CatalogService, who: Principal, text: str = "", **wanted: Any) -> list[str]:
    """Full names of what somebody finds, the best first."""
    return [item.full_name for item in catalog.search(who, Wanted(text=text, **wanted))]


@pytest.fixture
def shop(catalog: CatalogService, people: People) -> CatalogService:
    """A catalog of alice's with two tables."""
    catalog.create_catalog(people.alice, name="shop", comment="All that we SELL")
    make_table(catalog, people.alice, "shop.default.orders", comment="Who bought what, by Größe")
    make_table(catalog, people.alice, "shop.default.reorders")
    return catalog


def test_search_finds_by_any_part_of_the_full_name_whatever_its_case(shop: CatalogService, people: People) -> None:
    found = [(item.kind, item.full_name) for item in shop.search(people.alice, Wanted(text="HOP"))]
    assert found == [
        ("catalog", "shop"), ("schema", "shop.default"), ("table", "shop.default.orders"),
        ("table", "shop.default.reorders"),
    ]  # fmt: skip
    assert names(shop, people.alice, "shop.default.orders") == ["shop.default.orders"]


def test_search_looks_into_comments_columns_tags_and_owners(shop: CatalogService, people: People) -> None:
    """Each word somewhere; the better place first."""
    alice = people.alice
    assert names(shop, alice, "größe") == ["shop.default.orders"]
    assert names(shop, alice, "sell") == ["shop"]
    assert names(shop, alice, "called default") == ["shop.default.orders", "shop.default.reorders"]
    assert names(shop, alice, "orders bought") == ["shop.default.orders"]
    assert names(shop, alice, "orders nothing") == []
    assert "shop.default.orders" in names(shop, alice, "alice@example")
    shop.set_tags(alice, "table", "shop.default.reorders", {"Team": "Risk"})
    shop.set_tags(alice, "column", "shop.default.orders.name", {"pii": "yes"})
    assert names(shop, alice, "risk") == ["shop.default.reorders"]
    assert names(shop, alice, "pii=yes") == ["shop.default.orders"]
    [found] = shop.search(alice, Wanted(text="risk"))
    assert (found.tags, found.columns, found.owner) == ({"Team": "Risk"}, (), alice.name)
    [found] = shop.search(alice, Wanted(text="orders name", kinds=frozenset({"table"})), limit=1)
    assert found.columns == ("name",)


def test_changes_are_found_at_once(shop: CatalogService, people: People) -> None:
    table = shop.get_table(people.alice, ObjectName("shop", "default", "orders"))
    shop.record_columns(people.alice, table, [LONG, replace(TEXT, name="Zebra", comment="stripes")])
    assert names(shop, people.alice, "zebra") == names(shop, people.alice, "stripes") == ["shop.default.orders"]
    shop.rename_table(people.alice, table.name, ObjectName("shop", "default", "gone"))
    assert names(shop, people.alice, "gone") == ["shop.default.gone"]


def test_filters_narrow_by_kind_tag_owner_and_mark(shop: CatalogService, people: People) -> None:
    admin = people.admin
    shop.set_tags(admin, "table", "shop.default.orders", {"team": "risk", CERTIFICATION: "deprecated"})
    shop.set_tags(admin, "table", "shop.default.reorders", {"team": "sales", CERTIFICATION: "certified"})
    assert names(shop, admin, "shop", kinds=frozenset({"schema"})) == ["shop.default"]
    assert set(names(shop, admin, tag="team")) == {"shop.default.orders", "shop.default.reorders"}
    assert names(shop, admin, tag="team = risk") == ["shop.default.orders"]
    assert names(shop, admin, certification="certified") == ["shop.default.reorders"]
    assert names(shop, admin, "orders", owner="ALICE@example.com")[0] == "shop.default.reorders"  # certified before
    assert names(shop, admin, "orders", owner="nobody") == []
    assert [item.certification for item in shop.search(admin, Wanted(text="orders"))] == ["certified", "deprecated"]


def test_search_takes_wildcards_as_what_they_are(catalog: CatalogService, people: People) -> None:
    catalog.create_catalog(people.alice, name="shop")
    make_table(catalog, people.alice, "shop.default.a_b")
    make_table(catalog, people.alice, "shop.default.acb")
    assert names(catalog, people.alice, "a_b") == ["shop.default.a_b"]
    for hostile in ("%", "' OR 1=1 --", "\\", "/", ""):
        assert names(catalog, people.alice, hostile) == []


def test_search_does_not_tell_of_what_one_may_not_see(shop: CatalogService, people: People) -> None:
    shop.set_tags(people.alice, "column", "shop.default.orders.name", {"pii": "yes"})
    for text in ("orders", "größe", "pii", "called", "alice", "shop"):
        assert names(shop, people.bob, text) == []
    assert names(shop, people.bob, tag="pii") == names(shop, people.bob, owner=people.alice.name) == []
    assert names(shop, people.admin, "orders") == ["shop.default.orders", "shop.default.reorders"]


def test_others_objects_do_not_use_up_the_limit(catalog: CatalogService, people: People) -> None:
    for owner, name in ((people.alice, "a"), (people.bob, "b")):
        catalog.create_catalog(owner, name=name)
        catalog.create_schema(owner, catalog=name, name="s")
    for number in range(4):
        make_table(catalog, people.alice, f"a.s.orders{number}")
    make_table(catalog, people.bob, "b.s.all_the_orders")
    assert names(catalog, people.bob, "orders") == ["b.s.all_the_orders"]
    assert [item.full_name for item in catalog.search(people.bob, Wanted(text="orders"), limit=1)] == names(
        catalog, people.bob, "orders"
    )
    assert [str(table.name) for table in catalog.recent_tables(people.bob, limit=1)] == ["b.s.all_the_orders"]


def test_recent_tables_come_last_changed_first(catalog: CatalogService, people: People) -> None:
    catalog.create_catalog(people.alice, name="shop")
    for name in ("first", "second"):
        make_table(catalog, people.alice, f"shop.default.{name}")
    catalog.update_table(people.alice, catalog.recent_tables(people.alice, limit=2)[1].name, comment="again")
    assert [table.name.name for table in catalog.recent_tables(people.alice, limit=2)] == ["first", "second"]
