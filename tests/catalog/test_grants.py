"""What privileges let others do in the catalog, and that lists in SQL show exactly what the rule lets one see."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from millpond.catalog.domain import ObjectName, SchemaName
from millpond.catalog.search import Wanted
from millpond.catalog.service import CatalogService
from millpond.catalog.store.objects import select_objects
from millpond.catalog.store.reach import Reach
from millpond.catalog.store.rows import function_of, model_of, table_of, volume_of
from millpond.catalog.store.schema import catalogs, functions, models, schemas, tables, volumes
from millpond.identity.access import Act, allows
from millpond.identity.domain import Principal
from millpond.identity.grants import Change
from millpond.identity.privileges import GRANTABLE, Privilege
from millpond.identity.store.grants import held
from millpond.kernel.errors import NotFound, PermissionDenied
from tests.catalog.conftest import LONG, People, Site, make_table

P = Privilege
TABLE = ObjectName("shop", "sales", "orders")


def again(people: People, who: Principal) -> Principal:
    """Somebody as the next request has them."""
    return people.identity.authenticate(people.tokens[who.name])


class Room:
    """A catalog of the administrator's, in which others get privileges."""

    def __init__(self, catalog: CatalogService, people: People) -> None:
        self.catalog, self.people = catalog, people
        catalog.create_catalog(people.admin, name="shop")
        catalog.create_schema(people.admin, catalog="shop", name="sales")
        make_table(catalog, people.admin, str(TABLE))

    def grant(self, kind: str, name: str, who: str, *privileges: Privilege) -> None:
        change = Change(grantee=who, add=frozenset(privileges))
        self.catalog.change_grants(self.people.admin, kind, name, [change])

    def revoke(self, kind: str, name: str, who: str, *privileges: Privilege) -> None:
        change = Change(grantee=who, remove=frozenset(privileges))
        self.catalog.change_grants(self.people.admin, kind, name, [change])

    @property
    def alice(self) -> Principal:
        return again(self.people, self.people.alice)

    @property
    def held(self) -> set[tuple[str, str, Privilege]]:
        """Everything that alice was granted."""
        with self.catalog.database.read() as connection:
            return set(held(connection, [self.people.alice.id]))

    def let_in(self) -> None:
        self.grant("catalog", "shop", self.people.alice.name, P.USE_CATALOG, P.USE_SCHEMA)


@pytest.fixture
def room(catalog: CatalogService, people: People) -> Iterator[Room]:
    return Room(catalog, people)


def test_a_table_is_found_once_the_way_to_it_is_open(room: Room) -> None:
    """SELECT alone shows nothing; with USE CATALOG and USE SCHEMA it is found, listed and searched."""
    room.grant("table", str(TABLE), room.people.alice.name, P.SELECT)
    with pytest.raises(NotFound):
        room.catalog.get_table(room.alice, TABLE)
    with pytest.raises(NotFound):
        room.catalog.list_tables(room.alice, TABLE.schema_name)
    assert room.catalog.search(room.alice, Wanted(text="orders")) == ()
    room.let_in()
    assert room.catalog.get_table(room.alice, TABLE).name == TABLE
    assert [item.name for item in room.catalog.list_tables(room.alice, TABLE.schema_name).items] == [TABLE]
    assert [item.full_name for item in room.catalog.search(room.alice, Wanted(text="orders"))] == [str(TABLE)]
    room.revoke("table", str(TABLE), room.people.alice.name, P.SELECT)
    with pytest.raises(NotFound):
        room.catalog.get_table(room.alice, TABLE)
    assert room.catalog.list_tables(room.alice, TABLE.schema_name).items == ()


def test_browse_shows_all_and_opens_nothing(room: Room) -> None:
    """Without USE CATALOG."""
    room.grant("catalog", "shop", room.people.alice.name, P.BROWSE)
    table = room.catalog.get_table(room.alice, TABLE)
    assert "shop" in {item.name for item in room.catalog.list_catalogs(room.alice).items}
    assert [item.name.schema for item in room.catalog.list_schemas(room.alice, "shop").items] == ["default", "sales"]
    assert not allows(room.alice, Act.READ, table.securable)
    with pytest.raises(PermissionDenied):
        room.catalog.drop_table(room.alice, TABLE)


MAKING: dict[Privilege, Callable[[CatalogService, Principal], Any]] = {
    P.CREATE_TABLE: lambda catalog, who: make_table(catalog, who, "shop.sales.mine"),
    P.CREATE_VOLUME: lambda catalog, who: catalog.create_volume(who, ObjectName.parse("shop.sales.mine")),
    P.CREATE_FUNCTION: lambda catalog, who: catalog.create_function(
        who, ObjectName.parse("shop.sales.mine"), definition={}
    ),
    P.CREATE_MODEL: lambda catalog, who: _create_model(catalog, who),
    P.CREATE_SCHEMA: lambda catalog, who: catalog.create_schema(who, catalog="shop", name="mine"),
}


def _create_model(catalog: CatalogService, who: Principal) -> None:
    with catalog.database.write() as connection:
        catalog.create_model_in(connection, who, ObjectName.parse("shop.sales.mine"))


@pytest.mark.parametrize("privilege", sorted(MAKING), ids=str)
def test_each_kind_is_made_with_its_own_privilege(room: Room, privilege: Privilege) -> None:
    """Not with those of the other kinds."""
    room.let_in()
    others = [each for each in MAKING if each is not privilege]
    room.grant("catalog", "shop", room.people.alice.name, *others)
    with pytest.raises(PermissionDenied, match=privilege.words):
        MAKING[privilege](room.catalog, room.alice)
    room.grant("catalog", "shop", room.people.alice.name, privilege)
    MAKING[privilege](room.catalog, room.alice)


def test_catalogs_are_made_by_everybody_until_that_is_revoked(room: Room) -> None:
    """The metastore's grant to `account users` is one like any other."""
    room.catalog.create_catalog(room.alice, name="hers")
    room.revoke("metastore", "metastore", "account users", P.CREATE_CATALOG)
    try:
        with pytest.raises(PermissionDenied, match="CREATE CATALOG"):
            room.catalog.create_catalog(room.alice, name="hers_too")
    finally:
        room.grant("metastore", "metastore", "account users", P.CREATE_CATALOG)


def test_manage_changes_drops_and_gives_away_but_does_not_read(room: Room) -> None:
    """As on Unity Catalog."""
    room.let_in()
    room.grant("schema", "shop.sales", room.people.alice.name, P.MANAGE)
    table = room.catalog.update_table(room.alice, TABLE, comment="hers to tell")
    assert not allows(room.alice, Act.READ, table.securable)
    renamed = ObjectName("shop", "sales", "sold")
    room.catalog.rename_table(room.alice, TABLE, renamed)
    room.catalog.update_table(room.alice, renamed, owner=room.people.bob.name)
    room.catalog.drop_table(room.alice, renamed)


def test_modify_lets_one_alter_but_not_drop(room: Room) -> None:
    """Columns, properties and comments follow the data; the object itself is its owner's."""
    room.let_in()
    room.grant("table", str(TABLE), room.people.alice.name, P.SELECT, P.MODIFY)
    table = room.catalog.update_table(room.alice, TABLE, comment="counted")
    room.catalog.record_columns(room.alice, table, [LONG])
    for forbidden in (
        lambda: room.catalog.drop_table(room.alice, TABLE),
        lambda: room.catalog.update_table(room.alice, TABLE, owner=room.people.alice.name),
    ):
        with pytest.raises(PermissionDenied):
            forbidden()


def test_grants_stay_with_a_renamed_object_and_end_with_a_dropped_one(room: Room) -> None:
    """A new table under the old name starts without any."""
    before = room.held
    room.let_in()
    room.grant("table", str(TABLE), room.people.alice.name, P.SELECT)
    room.catalog.update_catalog(room.people.admin, "shop", new_name="store")
    moved = ObjectName("store", "sales", "orders")
    assert room.catalog.get_table(room.alice, moved).name == moved
    room.catalog.drop_table(room.people.admin, moved)
    make_table(room.catalog, room.people.admin, str(moved))
    with pytest.raises(NotFound):
        room.catalog.get_table(room.alice, moved)
    room.catalog.delete_catalog(room.people.admin, "store", force=True)
    assert room.held == before


def test_new_rights_of_an_owner_count_at_once_and_the_old_owner_loses_them(room: Room) -> None:
    """The epoch moves with owners too, so that whoever keeps what may be reached looks again."""
    before = room.alice
    room.catalog.update_table(room.people.admin, TABLE, owner=room.people.alice.name)
    assert room.alice.grants is not before.grants
    assert room.catalog.get_table(room.alice, TABLE).owner == room.people.alice.name


KINDS = {
    "table": (tables, table_of), "volume": (volumes, volume_of), "function": (functions, function_of),
    "model": (models, model_of),
}  # fmt: skip


def test_lists_in_sql_are_the_rule(site: Site, people: People) -> None:
    """A crowd of objects and random grants: for each kind, act and person the rows are those that the rule allows."""
    crowd = random.Random(7)
    everybody = [people.alice, people.bob]
    _populate(site.catalog, people, crowd)
    for _ in range(4):
        for _ in range(25):
            _grant_something(site.catalog, people, crowd, crowd.choice(everybody))
        for who in [again(people, each) for each in everybody]:
            _compare(site.catalog, who)


def _populate(catalog: CatalogService, people: People, crowd: random.Random) -> None:
    for number in range(3):
        owner = crowd.choice([people.admin, people.admin, people.bob])
        catalog.create_catalog(owner, name=f"c{number}")
        for inner in range(3):
            catalog.create_schema(owner, catalog=f"c{number}", name=f"s{inner}")
            for item in range(3):
                name = f"c{number}.s{inner}.o{item}"
                make_table(catalog, owner, name)
                catalog.create_volume(owner, ObjectName.parse(name))
                catalog.create_function(owner, ObjectName.parse(name), definition={})


def _grant_something(catalog: CatalogService, people: People, crowd: random.Random, who: Principal) -> None:
    kind = crowd.choice(["catalog", "catalog", "schema", "schema", "table", "volume", "function"])
    depth = {"catalog": 1, "schema": 2}.get(kind, 3)
    parts = [f"c{crowd.randrange(3)}", f"s{crowd.randrange(3)}", f"o{crowd.randrange(3)}"][:depth]
    privilege = crowd.choice(sorted(GRANTABLE[kind]))
    change = Change(grantee=crowd.choice([who.name, "users"]), add=frozenset({privilege}))
    catalog.change_grants(people.admin, kind, ".".join(parts), [change])


def _compare(catalog: CatalogService, who: Principal) -> None:
    with catalog.database.read() as connection:
        for kind, (table, convert) in KINDS.items():
            everything = [convert(row) for row in connection.execute(select_objects(table))]
            for act in Act:
                reach = Reach(principal=who, kind=kind, act=act)
                rows = connection.execute(reach.narrow(select_objects(table), table, schemas, catalogs))
                allowed = {item.id for item in everything if allows(who, act, item.securable)}
                assert {row.id for row in rows} == allowed, (who.name, kind, act)
    listed = {item.name for item in catalog.list_catalogs(who).items}
    for name in sorted(listed):
        for schema in catalog.list_schemas(who, name).items:
            found = {item.id for item in catalog.list_tables(who, schema.name).items}
            assert found == _visible_tables(catalog, who, schema.name)


def _visible_tables(catalog: CatalogService, who: Principal, schema: SchemaName) -> set[str]:
    with catalog.database.read() as connection:
        found = [table_of(row) for row in connection.execute(select_objects(tables))]
    return {item.id for item in found if item.name.schema_name == schema and allows(who, Act.SEE, item.securable)}
