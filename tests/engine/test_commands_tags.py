"""SET TAG, UNSET TAG and the tags in ALTER, as a user types them, on both databases."""

from collections.abc import Mapping
from typing import Any

import pytest
from tests.engine.sql_room import Sql

from millpond.catalog.domain import ObjectName
from millpond.catalog.information import information_rows
from millpond.kernel.errors import InvalidArgument


@pytest.fixture
def sql(sql: Sql) -> Sql:
    """Alice, with a table and a volume."""
    sql("CREATE TABLE tagged (id BIGINT, Email STRING)")
    sql("CREATE VOLUME files")
    return sql


def tags(sql: Sql, kind: str, name: str) -> Mapping[str, str]:
    return {tag.key: tag.value for tag in sql.context.catalog.tags_on(sql.context.principal, kind, name)}


def information(sql: Sql, relation: str) -> list[tuple[Any, ...]]:
    name = ObjectName("shop", "information_schema", relation)
    return information_rows(sql.context.catalog, sql.context.principal, name)


def test_set_tag_and_unset_tag_for_every_kind(sql: Sql) -> None:
    """Keys and values are names or strings; a tag may have no value; unsetting what is not there is harmless."""
    for kind, name, full_name in (
        ("CATALOG", "shop", "shop"),
        ("DATABASE", "sales", "shop.sales"),
        ("TABLE", "tagged", "shop.sales.tagged"),
        ("COLUMN", "tagged.email", "shop.sales.tagged.email"),
        ("VOLUME", "IDENTIFIER('sales.files')", "shop.sales.files"),
    ):
        stored = {"DATABASE": "schema"}.get(kind, kind.lower())
        sql(f"SET TAG ON {kind} {name} cost = `hr`")
        sql(f"set tag on {kind} {name} `two words`")
        sql(f"SET TAG ON {kind} {name} 'cost' = 'it'")
        assert tags(sql, stored, full_name) == {"cost": "it", "two words": ""}
        sql(f"UNSET TAG ON {kind} {name} `two words`")
        sql(f"UNSET TAG ON {kind} {name} nothing")
        assert tags(sql, stored, full_name) == {"cost": "it"}
        sql(f"UNSET TAG ON {kind} {name} cost")


def test_tags_in_alter(sql: Sql) -> None:
    sql("ALTER TABLE tagged SET TAGS ('a' = '1', 'b')")
    sql("ALTER TABLE tagged ALTER COLUMN `Email` SET TAGS ('pii' = 'yes')")
    sql("ALTER TABLE tagged CHANGE id SET TAGS ('x')")
    sql("ALTER TABLE tagged UNSET TAGS ('b')")
    sql("ALTER SCHEMA sales SET TAGS ('s' = '1')")
    sql("ALTER VOLUME files SET TAGS ('v' = '1')")
    sql("ALTER CATALOG shop SET TAGS ('c' = '1')")
    assert information(sql, "table_tags") == [("shop", "sales", "tagged", "a", "1")]
    assert sorted(information(sql, "column_tags")) == [
        ("shop", "sales", "tagged", "Email", "pii", "yes"),
        ("shop", "sales", "tagged", "id", "x", ""),
    ]
    assert information(sql, "schema_tags") == [("shop", "sales", "s", "1")]
    assert information(sql, "volume_tags") == [("shop", "sales", "files", "v", "1")]
    assert information(sql, "catalog_tags") == [("shop", "c", "1")]
    sql("ALTER SCHEMA sales UNSET TAGS ('s')")
    assert information(sql, "schema_tags") == []


def test_a_renamed_column_carries_its_tags_and_a_dropped_one_hides_them(sql: Sql) -> None:
    """For who reads an earlier version, by `tags_of`, the old name has them still."""
    sql("SET TAG ON COLUMN tagged.email pii = yes")
    sql("ALTER TABLE tagged RENAME COLUMN email TO mail")
    assert information(sql, "column_tags") == [("shop", "sales", "tagged", "mail", "pii", "yes")]
    sql("ALTER TABLE tagged DROP COLUMN mail")
    assert information(sql, "column_tags") == []
    sql.refuses("SET TAG ON COLUMN tagged.mail pii = yes", "UNRESOLVED_COLUMN.WITH_SUGGESTION")
    catalog = sql.context.catalog
    found = catalog.tags_of(catalog.get_table(sql.context.principal, ObjectName("shop", "sales", "tagged")))
    assert found.columns == {"email": {"pii": "yes"}, "mail": {"pii": "yes"}}


def test_a_rename_that_fails_leaves_the_tags_where_they_are(sql: Sql) -> None:
    sql("SET TAG ON COLUMN tagged.email pii = yes")
    sql.refuses("ALTER TABLE tagged RENAME COLUMN email TO id", "FIELD_ALREADY_EXISTS")
    assert information(sql, "column_tags") == [("shop", "sales", "tagged", "Email", "pii", "yes")]


def test_what_cannot_be_tagged_is_refused(sql: Sql) -> None:
    sql.refuses("SET TAG ON TABLE nope k = v", "TABLE_OR_VIEW_NOT_FOUND")
    sql.refuses("SET TAG ON COLUMN nope.c k = v", "TABLE_OR_VIEW_NOT_FOUND")
    sql.refuses("SET TAG ON SCHEMA nope k = v", "SCHEMA_NOT_FOUND")
    sql.refuses("SET TAG ON CATALOG nope k = v", "CATALOG_NOT_FOUND")
    sql.refuses("SET TAG ON VOLUME nope k = v", "VOLUME_NOT_FOUND")
    sql.refuses("SET TAG ON COLUMN email k = v", "PARSE_SYNTAX_ERROR")
    sql.refuses("SET TAG ON TABLE tagged k =", "PARSE_SYNTAX_ERROR")
    sql.refuses("ALTER TABLE tagged SET TAGS ()", "PARSE_SYNTAX_ERROR")
    sql.refuses("ALTER TABLE tagged SET TAGS ('a' = '1', 'a' = '2')", "DUPLICATE_KEY")
    sql.refuses("ALTER TABLE tagged ALTER COLUMN a.b SET TAGS ('x')", "UNSUPPORTED_FEATURE")
    with pytest.raises(InvalidArgument, match="holds"):
        sql("SET TAG ON TABLE tagged `a.b` = v")


def test_tags_stay_when_a_table_is_replaced(sql: Sql) -> None:
    sql("SET TAG ON TABLE tagged a = `1`")
    sql("SET TAG ON COLUMN tagged.email pii = yes")
    sql("CREATE OR REPLACE TABLE tagged (email STRING, other INT)")
    assert tags(sql, "table", "shop.sales.tagged") == {"a": "1"}
    assert information(sql, "column_tags") == [("shop", "sales", "tagged", "email", "pii", "yes")]
    sql("DROP TABLE tagged")
    assert information(sql, "column_tags") == []
    sql("UNDROP TABLE tagged")
    assert information(sql, "column_tags") == [("shop", "sales", "tagged", "email", "pii", "yes")]
