"""Policies in the catalog: what decides about a table for whom, what stays out of reach, and what they hold on to."""

import dataclasses
from typing import Any

import pytest

from millpond.catalog.domain import Constant, ObjectName, SchemaName, Table
from millpond.catalog.policies import MatchColumn, PolicyArgument, PolicyType, Terms, constant
from millpond.catalog.service import CatalogService, rename_owner
from millpond.identity.directory import DirectoryService
from millpond.identity.domain import Draft, Principal, PrincipalKind
from millpond.identity.grants import Change
from millpond.identity.privileges import Privilege
from millpond.kernel.errors import FailedPrecondition, NotFound, PermissionDenied
from tests.catalog.conftest import People, make_table
from tests.catalog.test_guards import definition

T, F, G = (ObjectName.parse(f"sales.{name}") for name in ("default.t", "f.mask", "f.filter"))
COLUMN = f"{T}.name"


def terms(**other: Any) -> Terms:
    """A mask of columns that are tagged `pii`, for everybody."""
    made = Terms(
        name="hide", type=PolicyType.COLUMN_MASK, function=F, to=("account users",),
        columns=(MatchColumn(alias="c", condition="has_tag('pii')"),), on_column="c",
    )  # fmt: skip
    return dataclasses.replace(made, **other)


FILTER: dict[str, Any] = {"name": "rows", "type": PolicyType.ROW_FILTER, "function": G, "on_column": ""}


def again(people: People, who: Principal) -> Principal:
    """Somebody, as they ask from now on."""
    return people.identity.authenticate(people.tokens[who.name])


@pytest.fixture
def bob(catalog: CatalogService, people: People) -> Principal:
    """Owns the schema `default` of Alice's catalog, where functions are in another; two tags are governed."""
    catalog.create_catalog(people.alice, name="sales")
    catalog.create_schema(people.alice, catalog="sales", name="f")
    catalog.create_function(people.alice, F, definition=definition("'***'", "string"))
    catalog.create_function(people.alice, G, definition=definition("x = 'a'"))
    for key in ("pii", "area"):
        catalog.create_tag_policy(people.admin, key)
    granted = Change(grantee=people.bob.name, add=frozenset({Privilege.USE_CATALOG, Privilege.USE_SCHEMA}))
    catalog.change_grants(people.alice, "catalog", "sales", [granted])
    catalog.update_schema(people.alice, SchemaName("sales", "default"), owner=people.bob.name)
    return again(people, people.bob)


@pytest.fixture
def table(catalog: CatalogService, people: People, bob: Principal) -> Table:
    """Bob's, with a tagged column."""
    made = make_table(catalog, bob, str(T))
    catalog.set_tags(people.admin, "column", COLUMN, {"pii": ""})
    return made


def seen(catalog: CatalogService, who: Principal) -> tuple[str | None, dict[str, str]]:
    """The function that filters the table for somebody, and those that mask its columns."""
    found = catalog.look_up_table(T)
    assert found is not None
    guards = catalog.guards_for(who, found)
    assert guards.refused is None
    masks = {column: str(mask.function.name) for column, mask in guards.masks.items()}
    return str(guards.row_filter.function.name) if guards.row_filter else None, masks


@pytest.mark.usefixtures("table")
def test_it_counts_for_whom_it_names_where_the_tags_match(
    catalog: CatalogService, people: People, bob: Principal
) -> None:
    """On the catalog, the schema or the table; the exempt, and tables without the tag, are left alone."""
    plain = make_table(catalog, bob, "sales.default.plain")
    for kind, name in (("catalog", "sales"), ("schema", "sales.default"), ("table", str(T))):
        catalog.create_policy(people.admin, kind, name, terms(exempt=(people.alice.name,)))
        assert seen(catalog, bob) == (None, {"name": str(F)})
        assert seen(catalog, again(people, people.alice)) == (None, {})
        assert not catalog.guards_for(bob, plain)
        catalog.delete_policy(people.admin, kind, name, "HIDE")
    assert seen(catalog, bob) == (None, {})


@pytest.mark.usefixtures("table")
def test_a_condition_on_the_table_is_asked_of_what_it_inherits_too(
    catalog: CatalogService, people: People, bob: Principal
) -> None:
    """Not so one on columns, which inherit nothing; and what is nearer counts more."""
    catalog.create_policy(people.alice, "catalog", "sales", terms(**FILTER, columns=(), when="has_tag('area')",
                                                                   using=(PolicyArgument(constant="a"),)))  # fmt: skip
    assert seen(catalog, bob) == (None, {})
    catalog.set_tags(people.admin, "catalog", "sales", {"area": ""})
    assert seen(catalog, bob) == (str(G), {})
    catalog.create_policy(people.alice, "catalog", "sales", terms(
        columns=(MatchColumn(alias="c", condition="has_tag('area')"),)))  # fmt: skip
    assert seen(catalog, bob) == (str(G), {})


def test_files_are_for_whom_it_leaves_alone_or_who_could_take_it_away(
    catalog: CatalogService, people: People, bob: Principal, table: Table
) -> None:
    """Not for the owner of the table, or of its schema; nor once it was dropped."""
    place, home = table.storage_location, table.storage_location.rpartition("/")[0]
    assert home in catalog.homes(bob)
    catalog.create_policy(people.alice, "catalog", "sales", terms())
    for who, holds in ((bob, False), (again(people, people.alice), True), (people.admin, True)):
        assert catalog.may_reach(who, place, write=False) is holds, who.name
    assert home not in catalog.homes(bob)
    for who in (bob, again(people, people.alice)):
        with pytest.raises(PermissionDenied, match="files are for nobody"):
            catalog.check_path(who, place, write=False)
    catalog.drop_table(bob, T)
    assert not {home, place} & catalog.homes(bob)
    catalog.undrop_table(bob, T)
    assert seen(catalog, bob) == (None, {"name": str(F)})
    exempt = terms(exempt=(bob.name,))
    catalog.create_policy(people.alice, "catalog", "sales", exempt, or_replace=True)
    assert catalog.may_reach(bob, place, write=False)
    assert home in catalog.homes(bob)


@pytest.mark.usefixtures("table")
def test_a_policy_is_for_who_manages_the_object_and_may_call_the_function(
    catalog: CatalogService, people: People, bob: Principal
) -> None:
    """The owner of a schema sets them there, not above, and drops none that is set above."""
    with pytest.raises(PermissionDenied):
        catalog.create_policy(bob, "catalog", "sales", terms())
    with pytest.raises(NotFound, match="Function"):
        catalog.create_policy(bob, "schema", "sales.default", terms())
    executes = Change(grantee=bob.name, add=frozenset({Privilege.EXECUTE}))
    catalog.change_grants(people.alice, "function", str(F), [executes])
    bob = again(people, bob)
    made = catalog.create_policy(bob, "schema", "sales.default", terms())
    above = catalog.create_policy(people.alice, "catalog", "sales", terms())
    assert catalog.list_policies(bob, "table", str(T), inherited=True) == (made, above)
    assert catalog.list_policies(bob, "table", str(T)) == ()
    with pytest.raises(PermissionDenied):
        catalog.delete_policy(bob, "catalog", "sales", "hide")


@pytest.mark.usefixtures("table")
def test_what_it_is_made_of_stays(catalog: CatalogService, people: People, bob: Principal) -> None:
    """The function, alone and with its schema, and the tag's policy; what goes with all of it is no obstacle."""
    catalog.create_policy(people.alice, "schema", "sales.default", terms())
    for go in (
        lambda: catalog.drop_function(people.alice, F),
        lambda: catalog.delete_schema(people.alice, F.schema_name, force=True),
        lambda: catalog.replace_function(people.alice, F, definition=definition("1", "int")),
        lambda: catalog.delete_tag_policy(people.admin, "pii"),
    ):
        with pytest.raises(FailedPrecondition, match="'hide'"):
            go()
    catalog.drop_function(people.alice, G)
    catalog.delete_tag_policy(people.admin, "area")
    catalog.delete_schema(bob, SchemaName("sales", "default"), force=True)
    catalog.drop_function(people.alice, F)
    catalog.delete_tag_policy(people.admin, "pii")
    catalog.create_function(people.alice, F, definition=definition("'***'", "string"))
    catalog.create_tag_policy(people.admin, "pii")
    catalog.create_policy(people.alice, "catalog", "sales", terms())
    catalog.delete_catalog(people.alice, "sales", force=True)


@pytest.mark.usefixtures("table")
def test_a_group_keeps_its_policies_under_another_name(catalog: CatalogService, people: People, bob: Principal) -> None:
    """In whom it is for, and whom it exempts."""
    directory = DirectoryService(catalog.database, group_renamed=[rename_owner])
    draft = Draft(name="staff", display_name="staff", member_ids=frozenset({bob.id}))
    group = directory.create(people.admin, PrincipalKind.GROUP, draft)
    catalog.create_policy(people.alice, "catalog", "sales", terms(to=("STAFF",)))
    assert seen(catalog, again(people, bob)) == (None, {"name": str(F)})
    renamed = dataclasses.replace(draft, name="crew", display_name="crew")
    directory.update(people.admin, PrincipalKind.GROUP, group.account.id, lambda _: renamed)
    assert seen(catalog, again(people, bob)) == (None, {"name": str(F)})
    assert catalog.get_policy(people.alice, "catalog", "sales", "hide").terms.to == ("crew",)


def test_who_asks_gets_another_snapshot_whenever_what_they_see_may_change(
    catalog: CatalogService, people: People, bob: Principal, table: Table
) -> None:
    """So an engine that reaches a table's files is looked at again."""

    def changes(*work: Any) -> list[bool]:
        found = []
        for each in work:
            before = again(people, bob).grants
            each()
            found.append(again(people, bob).grants is not before)
        return found

    assert all(
        changes(
            lambda: catalog.create_policy(people.alice, "catalog", "sales", terms()),
            lambda: catalog.unset_tags(people.admin, "column", COLUMN, ["pii"]),
            lambda: catalog.set_tags(people.admin, "column", COLUMN, {"pii": ""}),
            lambda: make_table(catalog, bob, "sales.default.another"),
            lambda: catalog.record_columns(bob, table, table.columns),
            lambda: catalog.delete_policy(people.alice, "catalog", "sales", "hide"),
        )
    )
    assert not any(changes(lambda: catalog.set_tags(people.admin, "column", COLUMN, {"free": ""})))


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        ("4", "4"), ("-1.5e3", "-1.5e3"), ("true", "true"), ("NULL", "NULL"), ("'a'", "'a'"), ("a b", "'a b'"),
        ('"a"', "'a'"), ("it's", r"'it\'s'"), (r"'it\'s'", r"'it\'s'"), ("1; DROP", "'1; DROP'"), ("\\", r"'\\'"),
        ("'", r"'\''"), ("') OR (1=1", r"'\') OR (1=1'"),
    ],
)  # fmt: skip
def test_a_constant_is_one_literal_whatever_is_written(text: str, sql: str) -> None:
    """So that it cannot be more of a query than that."""
    assert constant(text) == Constant(sql=sql)
