"""Bringing dropped tables back: as they were, for who may, for seven days."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from millpond.catalog.domain import ObjectName, SchemaName, Table, TableType
from millpond.catalog.service import CatalogService
from millpond.catalog.store.schema import dropped_tables, purges, tags
from millpond.catalog.work import Janitor
from millpond.identity.domain import Principal
from millpond.identity.grants import Change
from millpond.identity.privileges import Privilege
from millpond.kernel.clock import utc_now
from millpond.kernel.errors import AlreadyExists, NotFound, PermissionDenied
from tests.catalog.conftest import LONG, People, make_table

T = ObjectName.parse("shop.default.t")
PLACE = SchemaName("shop", "default")


@pytest.fixture
def shop(catalog: CatalogService, people: People) -> CatalogService:
    """A catalog of alice's with a table, which bob may read."""
    catalog.create_catalog(people.alice, name="shop")
    make_table(catalog, people.alice, str(T), comment="mine", properties={"k": "v"})
    way_in = frozenset({Privilege.USE_CATALOG, Privilege.USE_SCHEMA})
    catalog.change_grants(people.alice, "catalog", "shop", [Change(grantee=people.bob.name, add=way_in)])
    reads = Change(grantee=people.bob.name, add=frozenset({Privilege.SELECT}))
    catalog.change_grants(people.alice, "table", str(T), [reads])
    catalog.set_tags(people.alice, "column", f"{T}.name", {"pii": ""})
    return catalog


def bob(people: People) -> Principal:
    """Bob, as his next request has him."""
    return people.identity.authenticate(people.tokens[people.bob.name])


def dropped_names(catalog: CatalogService, who: Principal) -> list[str]:
    return [str(each.table.name) for each in catalog.list_dropped(who, PLACE)]


def test_a_table_comes_back_as_it_was(shop: CatalogService, people: People) -> None:
    """With its place, grants and tags; nothing of it was to be found meanwhile, and its files will not go."""
    before = shop.get_table(people.alice, T)
    shop.drop_table(people.alice, T)
    with pytest.raises(NotFound):
        shop.get_table(people.alice, T)
    assert dropped_names(shop, people.alice) == [str(T)]
    assert shop.undrop_table(people.alice, T) == before
    assert shop.get_table(bob(people), T).comment == "mine"
    assert [tag.key for tag in shop.tags_on(people.alice, "column", f"{T}.name")] == ["pii"]
    assert dropped_names(shop, people.alice) == []
    with shop.database.read() as connection:
        assert connection.execute(select(purges)).all() == []


def test_only_who_may_manage_it_knows_of_it_and_brings_it_back(shop: CatalogService, people: People) -> None:
    shop.drop_table(people.alice, T)
    assert dropped_names(shop, bob(people)) == []
    with pytest.raises(NotFound):
        shop.undrop_table(bob(people), T)
    with shop.database.read() as connection:
        [table_id] = connection.execute(select(dropped_tables.c.id)).scalars()
    with pytest.raises(NotFound):
        shop.undrop_table_with_id(bob(people), table_id)
    assert shop.undrop_table_with_id(people.admin, table_id).name == T


def test_who_owns_it_but_may_not_create_there_may_not(shop: CatalogService, people: People) -> None:
    shop.update_table(people.alice, T, owner=people.bob.name)
    shop.drop_table(bob(people), T)
    with pytest.raises(PermissionDenied, match="CREATE TABLE"):
        shop.undrop_table(bob(people), T)


def test_a_taken_name_or_place_is_refused(shop: CatalogService, people: People, tmp_path: Path) -> None:
    shop.drop_table(people.alice, T)
    make_table(shop, people.alice, str(T))
    with pytest.raises(AlreadyExists):
        shop.undrop_table(people.alice, T)
    first = external(shop, people.admin, tmp_path, "shop.default.e")
    shop.drop_table(people.admin, first.name)
    external(shop, people.admin, tmp_path, "shop.default.other")
    with pytest.raises(AlreadyExists, match="location"):
        shop.undrop_table(people.admin, first.name)


def external(catalog: CatalogService, who: Principal, place: Path, name: str) -> Table:
    staged = catalog.stage_table(who, ObjectName.parse(name), str(place / "elsewhere"))
    return catalog.register_table(who, staged, [LONG], TableType.EXTERNAL)


def test_after_seven_days_it_is_gone_with_its_grants_and_tags(shop: CatalogService, people: People) -> None:
    shop.drop_table(people.alice, T)
    janitor = Janitor(shop, shop.database)
    janitor.run_once()
    assert dropped_names(shop, people.alice) == [str(T)]
    with shop.database.write() as connection:
        old = utc_now() - timedelta(days=7)
        connection.execute(update(dropped_tables).values(dropped_at=old))
    with pytest.raises(NotFound):
        shop.undrop_table(people.alice, T)
    janitor.run_once()
    with shop.database.read() as connection:
        assert connection.execute(select(dropped_tables)).all() == connection.execute(select(tags)).all() == []


def test_what_was_dropped_goes_with_its_schema(shop: CatalogService, people: People) -> None:
    """Also without force: a dropped table makes no schema full."""
    shop.drop_table(people.alice, T)
    shop.delete_schema(people.alice, PLACE)
    shop.create_schema(people.alice, catalog="shop", name="default")
    assert dropped_names(shop, people.alice) == []


def test_an_engine_of_its_maker_does_not_reach_what_somebody_else_dropped(shop: CatalogService, people: People) -> None:
    """Given away, then dropped: the files are still there, and no longer the maker's."""
    table = shop.get_table(people.alice, T)
    home = table.storage_location.rpartition("/")[0]
    assert home in shop.homes(people.alice)
    shop.update_catalog(people.admin, "shop", owner=people.admin.name)
    shop.update_schema(people.admin, PLACE, owner=people.admin.name)
    shop.update_table(people.admin, T, owner=people.admin.name)
    shop.drop_table(people.admin, T)
    assert not any(table.storage_location.startswith(place) for place in shop.homes(people.alice))
