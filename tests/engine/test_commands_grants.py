"""GRANT, REVOKE, SHOW GRANTS and OWNER TO as a user types them, on both databases."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine.sql_room import Sql

from millpond.catalog.domain import ObjectName
from millpond.kernel.errors import InvalidArgument, PermissionDenied


@pytest.fixture
def sql(sql: Sql) -> Sql:
    """Alice, with a table."""
    sql("CREATE TABLE IF NOT EXISTS t (a INT)")
    return sql


def bob(sql: Sql) -> Sql:
    """Bob, as his next statement has him."""
    people = sql.people
    principal = people.identity.authenticate(people.tokens[people.bob.name])
    return replace(sql, context=replace(sql.context, principal=principal))


def test_a_grant_opens_and_a_revocation_closes(sql: Sql) -> None:
    """With the columns of Databricks, inherited grants among them."""
    name = sql.people.bob.name
    bob(sql).refuses("DESCRIBE TABLE t", "TABLE_OR_VIEW_NOT_FOUND")
    sql(f"GRANT USE CATALOG, use schema ON CATALOG shop TO `{name}`")
    sql(f"GRANT SELECT ON t TO `{name}`")
    assert bob(sql).rows("DESCRIBE TABLE t")[0][:2] == ("a", "int")
    assert sql("SHOW GRANTS ON TABLE t").column_names == ["Principal", "ActionType", "ObjectType", "ObjectKey"]
    assert set(sql.rows(f"SHOW GRANTS `{name}` ON TABLE shop.sales.t")) == {
        (name, "SELECT", "TABLE", "shop.sales.t"),
        (name, "USE CATALOG", "CATALOG", "shop"),
        (name, "USE SCHEMA", "CATALOG", "shop"),
    }
    with pytest.raises(PermissionDenied, match="without MANAGE"):
        bob(sql)("GRANT MODIFY ON TABLE t TO `account users`")
    sql(f"REVOKE SELECT ON TABLE t FROM `{name}`")
    bob(sql).refuses("DESCRIBE TABLE t", "TABLE_OR_VIEW_NOT_FOUND")
    bob(sql).refuses("SHOW GRANTS ON TABLE t", "TABLE_OR_VIEW_NOT_FOUND")


def test_every_kind_takes_grants(sql: Sql) -> None:
    """Names are those of the session; DATABASE is a schema, a view a table; strings and IDENTIFIER name too."""
    sql("CREATE VOLUME v")
    sql("GRANT ALL PRIVILEGES ON DATABASE sales TO 'account users'")
    sql("GRANT READ VOLUME ON VOLUME v TO `account users`")
    sql("GRANT SELECT ON VIEW IDENTIFIER('t') TO `account users`")
    assert ("account users", "READ VOLUME", "VOLUME", "shop.sales.v") in sql.rows("SHOW GRANTS ON VOLUME v")
    assert ("account users", "ALL PRIVILEGES", "SCHEMA", "shop.sales") in sql.rows("SHOW GRANTS ON VOLUME v")
    sql("REVOKE ALL PRIVILEGES ON SCHEMA sales FROM `account users`")
    assert sql.rows("SHOW GRANTS ON METASTORE") == [("account users", "CREATE CATALOG", "METASTORE", "metastore")]


def test_owners_are_changed_for_every_kind(sql: Sql) -> None:
    """With SET and without."""
    people, catalog = sql.people, sql.context.catalog
    name = people.bob.name
    for kind in ("TABLE t", "VOLUME vo", "MODEL m"):
        _make(sql, kind)
        sql(f"ALTER {kind} SET OWNER TO `{name}`")
    at = ("shop", "sales")
    assert catalog.get_table(people.bob, ObjectName(*at, "t")).owner == name
    assert catalog.get_volume(people.bob, ObjectName(*at, "vo")).owner == name
    assert catalog.get_model(people.bob, ObjectName(*at, "m")).owner == name
    sql(f"ALTER SCHEMA sales OWNER TO `{name}`")
    sql(f"ALTER CATALOG shop OWNER TO `{name}`")
    assert catalog.get_catalog(people.bob, "shop").owner == name
    bob(sql)(f"ALTER CATALOG shop OWNER TO `{people.alice.name}`")
    with catalog.database.write() as connection:
        catalog.delete_model_in(connection, people.bob, ObjectName(*at, "m"))


def test_a_function_or_view_which_reads_with_its_owners_rights_is_not_put_into_anothers_mouth(sql: Sql) -> None:
    """Only an administrator gives it to anybody; others take it or give it to a group of theirs."""
    people, catalog = sql.people, sql.context.catalog
    _make(sql, "FUNCTION f")
    with pytest.raises(PermissionDenied, match="reads with the rights of its owner"):
        sql(f"ALTER FUNCTION f OWNER TO `{people.bob.name}`")
    given = replace(sql, context=replace(sql.context, principal=people.admin))
    given(f"ALTER FUNCTION shop.sales.f OWNER TO `{people.bob.name}`")
    name = ObjectName("shop", "sales", "f")
    assert catalog.get_function(people.bob, name).owner == people.bob.name
    bob(sql)("COMMENT ON FUNCTION f IS 'adds'")
    assert catalog.get_function(people.bob, name).comment == "adds"
    sql("ALTER FUNCTION f OWNER TO `alice@example.com`")
    assert catalog.get_function(people.alice, name).owner == people.alice.name


def _make(sql: Sql, kind: str) -> None:
    who, catalog = sql.context.principal, sql.context.catalog
    word, name = kind.split()
    full_name = ObjectName("shop", "sales", name)
    if word == "VOLUME":
        sql(f"CREATE VOLUME {name}")
    elif word == "FUNCTION":
        catalog.create_function(who, full_name, definition={})
    elif word == "MODEL":
        with catalog.database.write() as connection:
            catalog.create_model_in(connection, who, full_name)


def test_what_makes_no_sense_is_refused(sql: Sql) -> None:
    """By the parser, by the lattice, or because nobody has the name."""
    for text in (
        "GRANT ON TABLE t TO bob", "GRANT SELECT TABLE t TO bob", "GRANT SELECT ON TABLE t", "SHOW GRANTS",
        "REVOKE SELECT ON TABLE t TO bob", "GRANT SELECT ON TABLE t TO bob WITH GRANT OPTION",
    ):  # fmt: skip
        sql.refuses(text, "PARSE_SYNTAX_ERROR")
    for text in ("GRANT FLY ON TABLE t TO `users`", "GRANT EXECUTE ON TABLE t TO `users`",
                 "GRANT SELECT ON TABLE t TO nobody"):  # fmt: skip
        with pytest.raises(InvalidArgument):
            sql(text)
    sql.refuses("GRANT SELECT ON TABLE nothing TO `users`", "TABLE_OR_VIEW_NOT_FOUND")
    sql.refuses("GRANT USE SCHEMA ON SCHEMA nothing TO `users`", "SCHEMA_NOT_FOUND")


def test_altering_goes_with_modify(sql: Sql, tmp_path: Path) -> None:
    """Columns may change with SELECT and MODIFY; keys, names and the table itself stay the owner's."""
    name = sql.people.bob.name
    sql(f"GRANT USE CATALOG, USE SCHEMA, SELECT ON CATALOG shop TO `{name}`")
    with pytest.raises(PermissionDenied, match="without MODIFY"):
        bob(sql)("ALTER TABLE t ADD COLUMN b STRING")
    sql(f"GRANT MODIFY ON TABLE t TO `{name}`")
    bob(sql)("ALTER TABLE t ADD COLUMN b STRING")
    bob(sql)("COMMENT ON TABLE t IS 'counted'")
    for text in ("ALTER TABLE t RENAME TO u", "DROP TABLE t", f"ALTER TABLE t OWNER TO `{name}`",
                 "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)"):  # fmt: skip
        with pytest.raises(PermissionDenied):
            bob(sql)(text)
