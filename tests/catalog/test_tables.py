"""Tables and views: staging, registering, changing, dropping, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from millpond.catalog.domain import Column, ObjectName, SchemaName, Table, TableConstraint, TableType
from millpond.catalog.service import CatalogService
from millpond.kernel.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)
from tests.catalog.conftest import LONG, TEXT, People, make_table
from tests.catalog.test_containers import every

T = ObjectName.parse("sales.default.t")


@pytest.fixture(autouse=True)
def sales(catalog: CatalogService, people: People) -> None:
    """A catalog of alice's."""
    catalog.create_catalog(people.alice, name="sales")


def test_a_staged_table_is_invisible_until_it_is_registered(catalog: CatalogService, people: People) -> None:
    """Then it is whole."""
    staged = catalog.stage_table(people.alice, T)
    assert catalog.find_table(people.alice, T) is None
    table = catalog.register_table(
        people.alice, staged, [LONG, TEXT], TableType.MANAGED, comment="All", properties={"k": "v"}
    )
    assert table == catalog.get_table(people.alice, ObjectName.parse("SALES.Default.`T`"))
    assert (table.columns, table.comment, dict(table.properties)) == ((LONG, TEXT), "All", {"k": "v"})
    assert table.storage_location == staged.storage_location
    assert "sales" not in table.storage_location


def test_two_who_stage_one_name_get_two_places_and_one_wins(catalog: CatalogService, people: People) -> None:
    """The loser's place is not the winner's."""
    first, second = (catalog.stage_table(people.alice, T) for _ in range(2))
    assert first.storage_location != second.storage_location
    catalog.register_table(people.alice, second, [LONG], TableType.MANAGED)
    with pytest.raises(AlreadyExists, match=r"sales\.default\.t"):
        catalog.register_table(people.alice, first, [LONG], TableType.MANAGED)


def test_one_of_many_creators_of_a_table_wins(catalog: CatalogService, people: People) -> None:
    """At the same time, from many threads."""

    def create(_: int) -> str:
        try:
            return make_table(catalog, people.alice, str(T)).id
        except AlreadyExists:
            return ""

    with ThreadPoolExecutor(8) as pool:
        ids = [found for found in pool.map(create, range(8)) if found]
    assert ids == [catalog.get_table(people.alice, T).id]


def test_a_place_is_registered_once(catalog: CatalogService, people: People) -> None:
    """A staging that is used up, or given up, makes no second table."""
    staged = catalog.stage_table(people.alice, T)
    catalog.register_table(people.alice, staged, [LONG], TableType.MANAGED)
    with pytest.raises(FailedPrecondition, match="expired"):
        catalog.register_table(
            people.alice, replace(staged, name=ObjectName.parse("sales.default.u")), [LONG], TableType.MANAGED
        )
    other = catalog.stage_table(people.alice, ObjectName.parse("sales.default.v"))
    catalog.abandon_table(people.alice, other)
    catalog.abandon_table(people.alice, other)
    with pytest.raises(FailedPrecondition, match="expired"):
        catalog.register_table(people.alice, other, [LONG], TableType.MANAGED)


def test_a_schema_dropped_meanwhile_is_named(catalog: CatalogService, people: People) -> None:
    """And nothing is registered."""
    catalog.create_schema(people.alice, catalog="sales", name="s")
    staged = catalog.stage_table(people.alice, ObjectName.parse("sales.s.t"))
    catalog.delete_schema(people.alice, SchemaName("sales", "s"))
    with pytest.raises(NotFound, match=r"sales\.s"):
        catalog.register_table(people.alice, staged, [LONG], TableType.MANAGED)


@pytest.mark.parametrize(
    ("table_type", "options", "problem"),
    [
        (TableType.VIEW, {}, "definition"),
        (TableType.MANAGED, {"view_definition": "SELECT 1"}, "definition"),
        (TableType.EXTERNAL, {}, "without a location"),
        (TableType.MANAGED, {"data_source_format": "CSV"}, "must be DELTA"),
        (TableType.MANAGED, {"data_source_format": "XLSX"}, "not known"),
    ],
)
def test_kinds_that_do_not_go_together_are_refused(
    catalog: CatalogService, people: People, table_type: TableType, options: dict[str, str], problem: str
) -> None:
    """With what is wrong."""
    staged = catalog.stage_table(people.alice, T)
    with pytest.raises(InvalidArgument, match=problem):
        catalog.register_table(people.alice, staged, [LONG], table_type, **options)


def test_columns_are_numbered_and_unique(catalog: CatalogService, people: People) -> None:
    """Names are compared without regard to case."""
    staged = catalog.stage_table(people.alice, T)
    with pytest.raises(InvalidArgument, match="twice"):
        catalog.register_table(people.alice, staged, [LONG, replace(LONG, name="ID")], TableType.MANAGED)
    table = catalog.register_table(people.alice, staged, [replace(TEXT, position=9), LONG], TableType.MANAGED)
    assert [(column.name, column.position) for column in table.columns] == [("name", 0), ("id", 1)]


def test_columns_follow_the_log(catalog: CatalogService, people: People) -> None:
    """After a schema change of ours, and after one that an outside writer made."""
    table = make_table(catalog, people.alice, str(T))
    added = Column(name="Größe", type_text="double", type_json='"double"', position=2)
    changed = catalog.record_columns(people.alice, table, [*table.columns, added], properties={"a": "b"})
    assert [column.name for column in changed.columns] == ["id", "name", "Größe"]
    refreshed = catalog.refresh_table(people.alice, changed, lambda _table: [LONG])
    assert refreshed.columns == (LONG,)
    assert catalog.get_table(people.alice, T) == refreshed
    assert dict(refreshed.properties) == {"a": "b"}


def test_a_refresh_that_finds_nothing_new_writes_nothing(catalog: CatalogService, people: People) -> None:
    """So it is cheap enough to be called before each read."""
    table = make_table(catalog, people.alice, str(T))
    assert catalog.refresh_table(people.alice, table, lambda found: found.columns) is table


def test_recording_columns_of_a_dropped_table_is_a_conflict(catalog: CatalogService, people: People) -> None:
    """It does not come back."""
    table = make_table(catalog, people.alice, str(T))
    catalog.drop_table(people.alice, T)
    with pytest.raises(Conflict, match="dropped"):
        catalog.record_columns(people.alice, table, [LONG])


def test_a_view_is_replaced_in_place(catalog: CatalogService, people: People) -> None:
    """And a table is never replaced by one."""
    staged = catalog.stage_table(people.alice, T)
    made = catalog.register_table(people.alice, staged, [LONG], TableType.VIEW, view_definition="SELECT 1 AS id")
    assert (made.storage_location, made.data_source_format) == ("", "")
    new = catalog.replace_view(people.alice, T, view_definition="SELECT 2 AS id", columns=[LONG])
    assert (new.id, new.view_definition) == (made.id, "SELECT 2 AS id")
    make_table(catalog, people.alice, "sales.default.real")
    with pytest.raises(InvalidArgument, match="not a view"):
        catalog.replace_view(
            people.alice, ObjectName.parse("sales.default.real"), view_definition="SELECT 1", columns=[LONG]
        )


def test_a_rename_moves_within_the_catalog_only(catalog: CatalogService, people: People) -> None:
    """Into a schema in which one may create, to a free name."""
    table = make_table(catalog, people.alice, str(T))
    catalog.create_schema(people.alice, catalog="sales", name="gold")
    moved = catalog.rename_table(people.alice, T, ObjectName.parse("sales.gold.T2"))
    assert (str(moved.name), moved.id, moved.storage_location) == ("sales.gold.t2", table.id, table.storage_location)
    make_table(catalog, people.alice, str(T))
    with pytest.raises(AlreadyExists):
        catalog.rename_table(people.alice, T, moved.name)
    with pytest.raises(InvalidArgument, match="within a catalog"):
        catalog.rename_table(people.alice, T, ObjectName.parse("main.default.t"))
    with pytest.raises(NotFound, match=r"sales\.nowhere"):
        catalog.rename_table(people.alice, T, ObjectName.parse("sales.nowhere.t"))


def test_a_dropped_name_is_free_at_once(catalog: CatalogService, people: People) -> None:
    """With a place of its own."""
    first = make_table(catalog, people.alice, str(T))
    assert catalog.drop_table(people.alice, T) == first
    second = make_table(catalog, people.alice, str(T))
    assert second.storage_location != first.storage_location
    with pytest.raises(NotFound):
        catalog.drop_table(people.alice, ObjectName.parse("sales.default.other"))


def test_others_neither_see_nor_touch_a_table(catalog: CatalogService, people: People) -> None:
    """Not in a list, not by name, not by id."""
    table = make_table(catalog, people.alice, str(T))
    refused = [
        lambda: catalog.get_table(people.bob, T),
        lambda: catalog.get_table_by_id(people.bob, table.id),
        lambda: catalog.list_tables(people.bob, SchemaName("sales", "default")),
        lambda: catalog.drop_table(people.bob, T),
        lambda: catalog.rename_table(people.bob, T, ObjectName.parse("sales.default.x")),
        lambda: catalog.update_table(people.bob, T, owner=people.bob.name),
        lambda: catalog.record_columns(people.bob, table, [LONG]),
        lambda: catalog.stage_table(people.bob, ObjectName.parse("sales.default.x")),
    ]
    for act in refused:
        with pytest.raises(NotFound):
            act()


def test_a_list_shows_only_what_one_may_see(catalog: CatalogService, people: People) -> None:
    """In a schema that everybody sees."""
    make_table(catalog, people.admin, "main.default.theirs")
    mine = make_table(catalog, people.admin, "main.default.mine")
    catalog.update_table(people.admin, mine.name, owner=people.bob.name)
    seen = every(lambda **q: catalog.list_tables(people.bob, SchemaName("main", "default"), **q), max_results=1)
    assert [str(table.name) for table in seen] == ["main.default.mine"]


def test_declared_keys_are_kept_and_checked(catalog: CatalogService, people: People) -> None:
    """One primary key, of columns that exist."""
    make_table(catalog, people.alice, str(T))
    key = TableConstraint(name="pk", columns=("id",), timeseries_columns=("id",))
    assert catalog.add_constraint(people.alice, T, key).constraints == (key,)
    with pytest.raises(AlreadyExists, match="primary key"):
        catalog.add_constraint(people.alice, T, replace(key, name="pk2"))
    with pytest.raises(InvalidArgument, match="'nope'"):
        catalog.add_constraint(people.alice, T, TableConstraint(name="fk", columns=("nope",), parent_table="a.b.c"))
    assert catalog.drop_constraint(people.alice, T, "PK").constraints == ()
    with pytest.raises(NotFound):
        catalog.drop_constraint(people.alice, T, "pk")


def external(catalog: CatalogService, people: People, name: str, place: Path | str) -> Table:
    """An external table of the administrator's."""
    staged = catalog.stage_table(people.admin, ObjectName.parse(name), str(place))
    return catalog.register_table(people.admin, staged, [LONG], TableType.EXTERNAL)


def test_external_places_do_not_overlap(catalog: CatalogService, people: People, tmp_path: Path) -> None:
    """Neither above nor below, nor at the same place in another spelling."""
    table = external(catalog, people, "sales.default.e", tmp_path / "lake" / "e")
    assert table.storage_location == (tmp_path / "lake" / "e").as_uri()
    for place in (f"{tmp_path}/lake//e/", tmp_path / "lake", tmp_path / "lake" / "e" / "part", table.storage_location):
        with pytest.raises(InvalidArgument, match="overlaps"):
            catalog.stage_table(people.admin, T, str(place))
    external(catalog, people, "sales.default.sibling", tmp_path / "lake" / "e2")


def test_external_places_are_outside_the_servers(catalog: CatalogService, people: People, data_dir: Path) -> None:
    """Also through a symbolic link; and for an administrator only."""
    link = data_dir.parent / "link"
    link.symlink_to(data_dir)
    for place in (data_dir, data_dir / "tables" / "x", data_dir.parent, link / "tables"):
        with pytest.raises(PermissionDenied):
            catalog.stage_table(people.admin, T, str(place))
    with pytest.raises(PermissionDenied):
        catalog.stage_table(people.alice, T, str(data_dir.parent / "mine"))
    (data_dir.parent / "elsewhere").symlink_to(data_dir.parent / "mine")
    with pytest.raises(InvalidArgument, match="symbolic link"):
        catalog.stage_table(people.admin, T, str(data_dir.parent / "elsewhere"))
    with pytest.raises(InvalidArgument, match="pattern"):
        catalog.stage_table(people.admin, T, str(data_dir.parent / "*"))
