"""Catalogs and schemas: making, finding, renaming, dropping, on both databases."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, text

from millpond.catalog.domain import ObjectName, SchemaName
from millpond.catalog.service import CatalogService, rename_owner
from millpond.kernel.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from millpond.kernel.paging import Page
from tests.catalog.conftest import People, make_table

HOSTILE = [
    "x'; DROP TABLE catalog_catalogs; --",
    'x"; DELETE FROM catalog_schemas; --',
    "%",
    "_",
    "\\",
    "naïve-ß-表-🦆",
    "`tick",
    "${jndi:ldap}",
    "a" * 255,
    "null",
    "' OR '1'='1",
]
"""Names with quotes, patterns and scripts; those that hold a forbidden character have it replaced below."""


def every(list_page: Callable[..., Page[Any]], **options: Any) -> list[Any]:
    """All items of a list, page by page."""
    items, token = [], None
    while True:
        page = list_page(page_token=token, **options)
        items += page.items
        token = page.next_page_token
        if token is None:
            return items


def test_main_and_system_exist_from_the_start(catalog: CatalogService, people: People) -> None:
    """Seen by everybody; `main` has a default schema."""
    assert [item.name for item in catalog.list_catalogs(people.alice).items] == ["main", "system"]
    assert [str(item.name) for item in catalog.list_schemas(people.alice, "main").items] == ["main.default"]


@pytest.mark.parametrize("name", ["main", "system"])
def test_what_is_built_in_stays(catalog: CatalogService, people: People, name: str) -> None:
    """Neither dropped nor renamed, by nobody."""
    with pytest.raises(InvalidArgument, match="built in"):
        catalog.delete_catalog(people.admin, name, force=True)
    with pytest.raises(InvalidArgument, match="built in"):
        catalog.update_catalog(people.admin, name, new_name="other")


def test_a_catalog_keeps_what_it_was_given(catalog: CatalogService, people: People) -> None:
    """Comment, properties, owner and times."""
    made = catalog.create_catalog(people.alice, name="Sales", comment="It's ours", properties={"team": "ä"})
    assert (made.name, made.owner, made.comment, dict(made.properties)) == (
        "sales", people.alice.name, "It's ours", {"team": "ä"},
    )  # fmt: skip
    changed = catalog.update_catalog(people.alice, "SALES", comment="Yours")
    assert changed.comment == "Yours"
    assert dict(changed.properties) == {"team": "ä"}
    assert changed.updated_at >= made.updated_at


def test_a_taken_name_is_refused_in_any_case(catalog: CatalogService, people: People) -> None:
    """Also by somebody who cannot see who has it."""
    catalog.create_catalog(people.alice, name="sales")
    with pytest.raises(AlreadyExists, match="'sales'"):
        catalog.create_catalog(people.bob, name="SALES")


@pytest.mark.parametrize("reserved", ["information_schema", "Information_Schema"])
def test_information_schema_is_reserved(catalog: CatalogService, people: People, reserved: str) -> None:
    """In every catalog, for making and renaming."""
    catalog.create_catalog(people.alice, name="sales")
    with pytest.raises(InvalidArgument, match="reserved"):
        catalog.create_schema(people.alice, catalog="sales", name=reserved)
    with pytest.raises(InvalidArgument, match="reserved"):
        catalog.update_schema(people.alice, SchemaName("sales", "default"), new_name=reserved)


def test_others_neither_see_nor_touch_a_catalog(catalog: CatalogService, people: People) -> None:
    """What one may not see does not exist."""
    catalog.create_catalog(people.alice, name="secret")
    assert "secret" not in [item.name for item in catalog.list_catalogs(people.bob).items]
    refused = [
        lambda: catalog.get_catalog(people.bob, "secret"),
        lambda: catalog.list_schemas(people.bob, "secret"),
        lambda: catalog.create_schema(people.bob, catalog="secret", name="s"),
        lambda: catalog.update_catalog(people.bob, "secret", owner=people.bob.name),
        lambda: catalog.delete_catalog(people.bob, "secret", force=True),
        lambda: catalog.get_schema(people.bob, SchemaName("secret", "default")),
    ]
    for act in refused:
        with pytest.raises(NotFound):
            act()
    with pytest.raises(PermissionDenied):
        catalog.create_schema(people.bob, catalog="main", name="mine")


def test_only_an_owner_or_administrator_moves_ownership(catalog: CatalogService, people: People) -> None:
    """To somebody who exists; then the former owner has none."""
    catalog.create_catalog(people.alice, name="sales")
    with pytest.raises(InvalidArgument, match=r"nobody@example\.com"):
        catalog.update_catalog(people.alice, "sales", owner="nobody@example.com")
    moved = catalog.update_catalog(people.alice, "sales", owner="BOB@example.com")
    assert moved.owner == people.bob.name
    with pytest.raises(NotFound):
        catalog.update_catalog(people.alice, "sales", owner=people.alice.name)
    assert catalog.update_catalog(people.admin, "sales", owner=people.alice.name).owner == people.alice.name


def test_the_owner_of_a_container_may_all_in_it(catalog: CatalogService, people: People) -> None:
    """A schema given to somebody else stays within reach of the catalog's owner."""
    catalog.create_catalog(people.alice, name="sales")
    catalog.create_schema(people.alice, catalog="sales", name="theirs")
    catalog.update_schema(people.alice, SchemaName("sales", "theirs"), owner=people.bob.name)
    make_table(catalog, people.bob, "sales.theirs.t")
    assert catalog.get_table(people.alice, ObjectName.parse("sales.theirs.t")).owner == people.bob.name


def test_a_renamed_group_keeps_what_it_owns(catalog: CatalogService, people: People) -> None:
    """The hook that identity calls in its transaction."""
    catalog.create_catalog(people.alice, name="sales")
    with catalog.database.write() as connection:
        rename_owner(connection, people.alice.name, "analysts")
    assert catalog.get_catalog(people.admin, "sales").owner == "analysts"


def test_a_catalog_that_holds_something_is_dropped_only_by_force(catalog: CatalogService, people: People) -> None:
    """An empty `default` schema does not count."""
    catalog.create_catalog(people.alice, name="sales")
    catalog.create_schema(people.alice, catalog="sales", name="s")
    make_table(catalog, people.alice, "sales.s.t")
    with pytest.raises(FailedPrecondition, match="not empty"):
        catalog.delete_catalog(people.alice, "sales")
    with pytest.raises(FailedPrecondition, match="holds tables"):
        catalog.delete_schema(people.alice, SchemaName("sales", "s"))
    catalog.delete_schema(people.alice, SchemaName("sales", "s"), force=True)
    catalog.delete_catalog(people.alice, "sales")
    with pytest.raises(NotFound):
        catalog.get_catalog(people.alice, "sales")


def test_force_takes_everything_along(catalog: CatalogService, people: People) -> None:
    """Tables, volumes and functions; their managed files are left to the janitor."""
    catalog.create_catalog(people.alice, name="sales")
    make_table(catalog, people.alice, "sales.default.t")
    catalog.create_volume(people.alice, ObjectName.parse("sales.default.v"))
    catalog.create_function(people.alice, ObjectName.parse("sales.default.f"), definition={"routine_definition": "1"})
    catalog.delete_catalog(people.alice, "sales", force=True)
    with catalog.database.read() as connection:
        left = {name: connection.execute(text(f"SELECT count(*) FROM catalog_{name}")).scalar() for name in _KINDS}
    assert left == {"tables": 0, "volumes": 0, "functions": 0, "purges": 2}


_KINDS = ("tables", "volumes", "functions", "purges")


class Recorder:
    """What the tracking room is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def deleted(self, connection: Connection, names: Sequence[ObjectName]) -> None:
        """Models went."""
        self.told.append([str(name) for name in names])

    def renamed(self, connection: Connection, names: Sequence[tuple[ObjectName, ObjectName]]) -> None:
        """Models moved."""
        self.told.append([(str(old), str(new)) for old, new in names])


def add_model(catalog: CatalogService, people: People, name: str) -> None:
    """A model's row, in a transaction as the tracking room's."""
    with catalog.database.write() as connection:
        catalog.create_model_in(connection, people.alice, ObjectName.parse(name))


def test_models_follow_their_schema_and_catalog(catalog: CatalogService, people: People) -> None:
    """The tracking room is told of new names and of models that go."""
    recorder = Recorder()
    catalog.on_models(recorder)
    catalog.create_catalog(people.alice, name="sales")
    add_model(catalog, people, "sales.default.m")
    catalog.update_schema(people.alice, SchemaName("sales", "default"), new_name="ml")
    catalog.update_catalog(people.alice, "sales", new_name="shop")
    catalog.delete_catalog(people.alice, "shop", force=True)
    assert recorder.told == [
        [("sales.default.m", "sales.ml.m")],
        [("sales.ml.m", "shop.ml.m")],
        ["shop.ml.m"],
    ]


def test_models_are_not_orphaned_where_nobody_keeps_them(catalog: CatalogService, people: People) -> None:
    """A process without the tracking room's hooks refuses, and nothing is half done."""
    catalog.create_catalog(people.alice, name="sales")
    make_table(catalog, people.alice, "sales.default.t")
    add_model(catalog, people, "sales.default.m")
    with pytest.raises(FailedPrecondition, match="model"):
        catalog.delete_catalog(people.alice, "sales", force=True)
    assert catalog.get_table(people.alice, ObjectName.parse("sales.default.t"))


def test_renames_keep_everything(catalog: CatalogService, people: People) -> None:
    """The same table, the same files, under the new names."""
    catalog.create_catalog(people.alice, name="sales")
    before = make_table(catalog, people.alice, "sales.default.t")
    catalog.update_catalog(people.alice, "sales", new_name="Shop")
    catalog.update_schema(people.alice, SchemaName("shop", "default"), new_name="Gold")
    after = catalog.get_table(people.alice, ObjectName.parse("shop.gold.t"))
    assert (after.id, after.storage_location) == (before.id, before.storage_location)
    with pytest.raises(NotFound):
        catalog.get_catalog(people.alice, "sales")


def test_a_rename_to_a_taken_name_changes_nothing(catalog: CatalogService, people: People) -> None:
    """For catalogs and schemas."""
    for name in ("one", "two"):
        catalog.create_catalog(people.alice, name=name)
    catalog.create_schema(people.alice, catalog="one", name="s")
    with pytest.raises(AlreadyExists):
        catalog.update_catalog(people.alice, "one", new_name="two")
    with pytest.raises(AlreadyExists):
        catalog.update_schema(people.alice, SchemaName("one", "s"), new_name="default")
    assert catalog.get_schema(people.alice, SchemaName("one", "s"))


def test_one_of_many_creators_wins(catalog: CatalogService, people: People) -> None:
    """The others are told that it exists, and its default schema is there once."""

    def create(_: int) -> str:
        try:
            catalog.create_catalog(people.alice, name="contested")
        except AlreadyExists:
            return "taken"
        return "won"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(create, range(8)))
    assert sorted(outcomes) == ["taken"] * 7 + ["won"]
    assert len(catalog.list_schemas(people.alice, "contested").items) == 1


def test_a_drop_and_creations_in_it_do_not_tear(catalog: CatalogService, people: People) -> None:
    """Whatever the order, the schema is gone with all in it, or stands with what was made."""
    catalog.create_catalog(people.alice, name="sales")
    catalog.create_schema(people.alice, catalog="sales", name="s")

    def act(number: int) -> str:
        try:
            if number == 3:
                catalog.delete_schema(people.alice, SchemaName("sales", "s"), force=True)
            else:
                make_table(catalog, people.alice, f"sales.s.t{number}")
        except (NotFound, FailedPrecondition) as error:
            return type(error).__name__
        return "done"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(act, range(8)))
    assert outcomes[3] == "done"
    assert set(outcomes) <= {"done", "NotFound"}
    with catalog.database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM catalog_tables")).scalar() == 0


def test_pages_show_each_once(catalog: CatalogService, people: People) -> None:
    """Of those one may see; others' catalogs between them cost nothing but pages."""
    for number in range(30):
        catalog.create_catalog(people.alice if number % 5 == 0 else people.bob, name=f"c{number:02}")
    names = [item.name for item in every(lambda **q: catalog.list_catalogs(people.alice, **q), max_results=2)]
    assert names == ["c00", "c05", "c10", "c15", "c20", "c25", "main", "system"]


@pytest.mark.parametrize("token", ["%%%", "AAAA====", "\x00", "AA"])
def test_a_forged_page_token_is_refused_or_harmless(catalog: CatalogService, people: People, token: str) -> None:
    """It names a place in the order of names, nothing more."""
    try:
        page = catalog.list_catalogs(people.alice, page_token=token)
    except InvalidArgument:
        return
    assert {item.name for item in page.items} <= {"main", "system"}


@pytest.mark.parametrize("raw", HOSTILE)
def test_hostile_names_are_only_names(catalog: CatalogService, people: People, raw: str) -> None:
    """Quotes, patterns and other scripts neither inject nor match something else."""
    name = raw.replace(" ", "_").replace("/", "_").replace(".", "_")
    catalog.create_catalog(people.alice, name=name)
    catalog.create_schema(people.alice, catalog=name, name=name)
    table = make_table(catalog, people.alice, ObjectName(name, name, name).quoted, comment=raw, properties={raw: raw})
    assert catalog.get_table(people.alice, ObjectName(name, name, name)) == table
    assert (table.comment, dict(table.properties)) == (raw, {raw: raw})
    assert len(catalog.list_catalogs(people.admin).items) == 3
    catalog.delete_catalog(people.alice, name, force=True)
    assert [item.name for item in catalog.list_catalogs(people.admin).items] == ["main", "system"]


@pytest.mark.parametrize("bad", ["nul\x00", "half\ud800"])
def test_text_that_no_database_keeps_is_refused(catalog: CatalogService, people: People, bad: str) -> None:
    """In comments and properties, before anything is written."""
    for options in ({"comment": bad}, {"properties": {bad: "x"}}, {"properties": {"x": bad}}):
        with pytest.raises(InvalidArgument, match="not text"):
            catalog.create_catalog(people.alice, name="c", **options)


def test_a_managed_location_is_an_administrators_choice(
    catalog: CatalogService, people: People, tmp_path: Any, data_dir: Any
) -> None:
    """Outside of the server's own directories; tables below it go there."""
    with pytest.raises(PermissionDenied):
        catalog.create_catalog(people.alice, name="c", storage_root="s3://bucket/root")
    with pytest.raises(InvalidArgument, match="overlaps"):
        catalog.create_catalog(people.admin, name="c", storage_root=str(data_dir / "tables" / "x"))
    catalog.create_catalog(people.admin, name="c", storage_root=str(tmp_path / "elsewhere"))
    catalog.create_schema(people.admin, catalog="c", name="s", storage_root="s3://bucket/root/")
    inherited = make_table(catalog, people.admin, "c.default.t")
    own = make_table(catalog, people.admin, "c.s.t")
    assert inherited.storage_location.startswith((tmp_path / "elsewhere").as_uri() + "/delta/")
    assert own.storage_location.startswith("s3://bucket/root/delta/")
