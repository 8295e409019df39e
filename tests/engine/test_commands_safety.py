"""Commands of other users, commands that fail or are killed midway, and commands on hostile names."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.sql_room import FakeSession, Sql

from millpond.engine.commands import reconcile_columns
from millpond.engine.errors import AnalysisError, SparkError
from millpond.engine.statements import parse_command
from millpond.engine.syntax import model
from millpond.kernel.errors import InvalidArgument, NotFound, PermissionDenied

# -- rights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "DESCRIBE shop.sales.t",
        "DESCRIBE HISTORY shop.sales.t",
        "OPTIMIZE shop.sales.t",
        "VACUUM shop.sales.t",
        "TRUNCATE TABLE shop.sales.t",
        "DROP TABLE shop.sales.t",
        "ALTER TABLE shop.sales.t ADD COLUMN x INT",
        "ALTER TABLE shop.sales.t RENAME TO u",
        "CREATE TABLE mine.default.c DEEP CLONE shop.sales.t",
        "CREATE OR REPLACE TABLE shop.sales.t (a INT)",
        "COMMENT ON TABLE shop.sales.t IS 'x'",
        "SHOW CREATE TABLE shop.sales.t",
        "SHOW TABLES IN shop.sales",
        "CREATE TABLE shop.sales.u (a INT)",
        "DROP SCHEMA shop.sales CASCADE",
        "RESTORE TABLE shop.sales.t TO VERSION AS OF 0",
        "USE CATALOG shop",
    ],
)
def test_another_user_sees_and_changes_nothing(sql: Sql, text: str) -> None:
    sql("CREATE TABLE t (a INT)")
    bob = replace(sql.as_bob(), context=replace(sql.as_bob().context, session=FakeSession()))
    bob("CREATE CATALOG IF NOT EXISTS mine")
    with pytest.raises((SparkError, NotFound, PermissionDenied)):
        bob(text)
    assert sql.delta("t").version() == 0


@pytest.mark.parametrize("operation", ["DESCRIBE HISTORY", "DESCRIBE DETAIL", "OPTIMIZE", "VACUUM", "TRUNCATE TABLE"])
def test_a_path_is_reached_only_with_the_right_to_its_table(sql: Sql, operation: str) -> None:
    sql("CREATE TABLE t (a INT)")
    place = sql.table("t").storage_location
    sql(f"{operation} delta.`{place}`")
    with pytest.raises(PermissionDenied):
        sql.as_bob()(f"{operation} delta.`{place}`")
    with pytest.raises((PermissionDenied, InvalidArgument)):
        sql(f"{operation} delta.`{place}/../..`")


# -- crashes ------------------------------------------------------------------------------------------------------


def test_a_failing_create_leaves_nothing_behind(sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise AnalysisError("X", "the disk is full", sql_state="53100")

    with monkeypatch.context() as patched:
        patched.setattr("millpond.engine.commands.create._register", fails)
        sql.refuses("CREATE TABLE t (a INT)", "X")
    assert sql.rows("SHOW TABLES") == []
    sql("CREATE TABLE t (a INT)")


def test_the_log_is_the_truth_when_the_catalog_lags(sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    sql("CREATE TABLE t (a INT)")

    def crashes(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("millpond.engine.commands.alter.record", crashes)
        with pytest.raises(KeyboardInterrupt):
            sql("ALTER TABLE t ADD COLUMN b INT")
    assert [column.name for column in sql.table("t").columns] == ["a"]
    assert [column.name for column in reconcile_columns(sql.context, sql.table("t")).columns] == ["a", "b"]
    assert [column.name for column in sql.table("t").columns] == ["a", "b"]


def test_describe_mends_the_catalog(sql: Sql) -> None:
    sql("CREATE TABLE t (a INT)")
    write_deltalake(
        sql.delta("t"), pa.table({"a": pa.array([1], pa.int32()), "new": ["x"]}), mode="append", schema_mode="merge"
    )
    assert sql.rows("DESCRIBE t") == [("a", "int", None), ("new", "string", None)]
    assert [column.name for column in sql.table("t").columns] == ["a", "new"]


# -- names --------------------------------------------------------------------------------------------------------

column_names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12).filter(
    lambda name: name.strip() == name and name != "id"
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=column_names, new_name=column_names)
def test_any_column_name_survives_create_describe_rename_and_drop(sql: Sql, name: str, new_name: str) -> None:
    def quoted(text: str) -> str:
        return "`" + text.replace("`", "``") + "`"

    sql("DROP TABLE IF EXISTS odd")
    sql(f"CREATE TABLE odd (id INT, {quoted(name)} STRING, CHECK ({quoted(name)} <> 'x'))")
    sql.insert("odd", **{"id": [1], name: ["v"]})
    assert sql.rows("DESCRIBE odd")[1][0] == name
    created = sql.rows("SHOW CREATE TABLE odd")[0][0]
    assert isinstance(parse_command(created), model.CreateTable)
    sql("ALTER TABLE odd DROP CONSTRAINT odd_check_1")
    sql(f"ALTER TABLE odd RENAME COLUMN {quoted(name)} TO {quoted(new_name)}")
    assert sql.select("odd") == [{"id": 1, new_name: "v"}]
    sql(f"ALTER TABLE odd DROP COLUMN {quoted(new_name)}")
    assert sql.select("odd") == [{"id": 1}]
