"""Commands as a user types them, on a real catalog and real Delta tables: results, and what the catalog then knows."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from tests.engine.sql_room import ORDERS, Sql

from millpond.catalog.domain import ObjectName, TableType
from millpond.kernel.errors import InvalidArgument, PermissionDenied

# -- session ------------------------------------------------------------------------------------------------------


def test_use_moves_the_session_and_names_resolve_from_there(sql: Sql) -> None:
    assert sql.rows("SHOW CURRENT SCHEMA") == [("shop", "sales")]
    sql("CREATE TABLE t (a INT)")
    sql("USE main.default")
    assert sql.rows("DESCRIBE shop.sales.t") == [("a", "int", None)]
    sql("USE CATALOG shop")
    assert sql.rows("SHOW CURRENT DATABASE") == [("shop", "default")]
    assert sql.rows("DESCRIBE sales.t") == [("a", "int", None)]
    sql("USE sales")
    sql("USE main")
    assert sql.rows("SHOW CURRENT NAMESPACE") == [("main", "default")]
    sql.refuses("USE nowhere", "SCHEMA_NOT_FOUND")
    sql.refuses("USE CATALOG nowhere", "CATALOG_NOT_FOUND")
    sql.refuses("USE nowhere.x", "CATALOG_NOT_FOUND")


# -- containers ---------------------------------------------------------------------------------------------------


def test_catalogs_and_schemas_come_and_go(sql: Sql) -> None:
    sql.refuses("CREATE CATALOG shop", "CATALOG_ALREADY_EXISTS")
    sql("CREATE CATALOG IF NOT EXISTS shop")
    sql.refuses("CREATE SCHEMA sales", "SCHEMA_ALREADY_EXISTS")
    sql.refuses("CREATE SCHEMA nowhere.x", "CATALOG_NOT_FOUND")
    sql("CREATE DATABASE IF NOT EXISTS shop.extra COMMENT 'more' WITH DBPROPERTIES (k = 'v')")
    assert sql.rows("SHOW SCHEMAS IN shop") == [("default",), ("extra",), ("information_schema",), ("sales",)]
    assert sql.rows("SHOW DATABASES LIKE 'e*|S*'") == [("extra",), ("sales",)]
    assert ("shop",) in sql.rows("SHOW CATALOGS")
    assert sql("DESCRIBE SCHEMA EXTENDED extra").to_pylist()[-1] == {
        "database_description_item": "Properties",
        "database_description_value": "((k,v))",
    }
    assert sql.rows("DESCRIBE CATALOG shop")[1] == ("Comment", "mine")
    sql("COMMENT ON CATALOG shop IS 'ours'")
    assert sql.rows("DESCRIBE CATALOG EXTENDED shop")[1] == ("Comment", "ours")
    sql("ALTER SCHEMA extra SET DBPROPERTIES (a = 'b')")
    sql("ALTER DATABASE extra UNSET DBPROPERTIES (k)")
    assert sql.rows("DESCRIBE SCHEMA EXTENDED extra")[-1] == ("Properties", "((a,b))")
    sql("CREATE TABLE extra.t (a INT)")
    sql.refuses("DROP SCHEMA extra", "SCHEMA_NOT_EMPTY")
    sql("DROP SCHEMA extra CASCADE")
    sql.refuses("DROP SCHEMA extra", "SCHEMA_NOT_FOUND")
    sql("DROP SCHEMA IF EXISTS extra")
    sql.refuses("DROP CATALOG shop", "CATALOG_NOT_EMPTY")
    sql("DROP CATALOG shop CASCADE")
    sql.refuses("DESCRIBE CATALOG shop", "CATALOG_NOT_FOUND")


def test_show_table_extended_tells_of_tables_as_spark_does(sql: Sql) -> None:
    sql(
        """CREATE TABLE t (id BIGINT NOT NULL, day DATE, s STRUCT<x: INT, m: MAP<STRING, ARRAY<DECIMAL(5,1)>>>)
        PARTITIONED BY (day) COMMENT 'all: of it' TBLPROPERTIES ('k' = 'v')"""
    )
    sql("CREATE TABLE other (a INT)")
    rows = sql("SHOW TABLE EXTENDED IN shop.sales LIKE 'T|tmp'").to_pylist()
    assert [[row[name] for name in ("database", "tableName", "isTemporary")] for row in rows] == [["sales", "t", False]]
    of_table = rows[0]["information"]
    for line in ("Catalog: shop", "Database: sales", "Table: t", "Type: MANAGED", "Provider: delta", "Owner: ",
                 "Table Properties: [k=v]", "Partition Columns: [`day`]"):  # fmt: skip
        assert line in of_table
    assert of_table.endswith("""
Comment: all: of it
Schema: root
 |-- id: long (nullable = false)
 |-- day: date (nullable = true)
 |-- s: struct (nullable = true)
 |    |-- x: integer (nullable = true)
 |    |-- m: map (nullable = true)
 |    |    |-- key: string
 |    |    |-- value: array (valueContainsNull = true)
 |    |    |    |-- element: decimal(5,1) (containsNull = true)

""")
    sql.refuses("SHOW TABLE EXTENDED IN nowhere LIKE '*'", "SCHEMA_NOT_FOUND")
    sql.refuses("SHOW TABLE EXTENDED IN sales", "PARSE_SYNTAX_ERROR")


def test_volumes_come_and_go(sql: Sql) -> None:
    sql("CREATE VOLUME raw COMMENT 'files'")
    sql.refuses("CREATE VOLUME raw", "VOLUME_ALREADY_EXISTS")
    sql.refuses("CREATE VOLUME nowhere.raw", "SCHEMA_NOT_FOUND")
    assert sql.rows("SHOW VOLUMES IN shop.sales") == [("sales", "raw")]
    sql("ALTER VOLUME raw RENAME TO landing")
    assert sql("DESCRIBE VOLUME landing").to_pylist()[0]["comment"] == "files"
    sql("DROP VOLUME landing")
    sql.refuses("DROP VOLUME landing", "VOLUME_NOT_FOUND")
    sql("DROP VOLUME IF EXISTS landing")


# -- creating -----------------------------------------------------------------------------------------------------


def test_create_table_is_in_the_log_and_in_the_catalog(sql: Sql) -> None:
    sql(ORDERS)
    table = sql.table("orders")
    assert (table.table_type, table.comment, table.properties["team"]) == (TableType.MANAGED, "all orders", "risk")
    assert [(c.name, c.type_text, c.nullable, c.comment, c.partition_index) for c in table.columns] == [
        ("id", "bigint", False, "the key", None),
        ("day", "date", True, None, 0),
        ("amount", "decimal(10,2)", True, None, None),
        ("note", "varchar(20)", True, None, None),
    ]
    metadata = sql.delta("orders").metadata()
    assert metadata.partition_columns == ["day"]
    assert metadata.configuration["delta.constraints.positive"] == "id > 0"
    assert sql.delta("orders").protocol().min_writer_version == 3
    assert sql.rows("SHOW TABLES") == [("sales", "orders", False)]
    sql.refuses(ORDERS, "TABLE_OR_VIEW_ALREADY_EXISTS")
    sql(ORDERS.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"))


@pytest.mark.parametrize(
    ("text", "error_class"),
    [
        ("CREATE TABLE t (a INT, A STRING)", "COLUMN_ALREADY_EXISTS"),
        ("CREATE TABLE t (a INT) PARTITIONED BY (b)", "UNRESOLVED_COLUMN.WITH_SUGGESTION"),
        ("CREATE TABLE t (a INT) PARTITIONED BY (a)", "ALL_PARTITION_COLUMNS_NOT_ALLOWED"),
        ("CREATE TABLE t (a ARRAY<INT>, b INT) PARTITIONED BY (a)", "INVALID_PARTITION_COLUMN_DATA_TYPE"),
        ("CREATE TABLE t", "DELTA_SCHEMA_NOT_PROVIDED"),
        ("CREATE TABLE t (a INT) USING iceberg", "DATA_SOURCE_NOT_FOUND"),
        ("CREATE TABLE t (a INT) USING parquet", "UNSUPPORTED_FEATURE"),
        ("CREATE TABLE nowhere.t (a INT)", "SCHEMA_NOT_FOUND"),
        ("CREATE TABLE nowhere.x.t (a INT)", "CATALOG_NOT_FOUND"),
        ("CREATE TABLE t (a INT, CHECK (b > 0))", "UNRESOLVED_COLUMN.WITH_SUGGESTION"),
        ("CREATE TABLE t (a INT, CHECK (frob(a)))", "DELTA_INVALID_CHECK_CONSTRAINT"),
        ("CREATE TABLE t (a INT, b INT DEFAULT a)", "INVALID_DEFAULT_VALUE.NOT_CONSTANT"),
        ("CREATE TABLE t (a INT, b INT GENERATED ALWAYS AS (nope))", "UNRESOLVED_COLUMN.WITH_SUGGESTION"),
        (
            "CREATE TABLE t (a INT) TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')",
            "DELTA_UNSUPPORTED_FEATURES_FOR_WRITE",
        ),
        ("CREATE TABLE t (a INT) PARTITIONED BY (a) CLUSTER BY (a)", "ALL_PARTITION_COLUMNS_NOT_ALLOWED"),
    ],
)
def test_a_table_that_cannot_be_is_refused_and_leaves_nothing(sql: Sql, text: str, error_class: str) -> None:
    sql.refuses(text, error_class)
    assert sql.rows("SHOW TABLES") == []


def test_generated_columns_are_filled_by_writers(sql: Sql) -> None:
    sql("CREATE TABLE t (id BIGINT, next BIGINT GENERATED ALWAYS AS (ID + 1))")
    write_deltalake(sql.delta("t"), pa.table({"id": [1]}), mode="append")
    assert sql.select("t") == [{"id": 1, "next": 2}]


def test_create_or_replace_keeps_the_history_and_nothing_else(sql: Sql) -> None:
    sql(ORDERS)
    sql.insert("orders", id=[1], amount=[None], note=["x"], day=[None])
    sql("CREATE OR REPLACE TABLE orders (name STRING) COMMENT 'new'")
    assert sql.rows("DESCRIBE orders") == [("name", "string", None)]
    assert sql.select("orders") == []
    assert sql.rows("DESCRIBE HISTORY orders LIMIT 1")[0][4] == "CREATE OR REPLACE TABLE"
    assert len(sql.rows("DESCRIBE HISTORY orders")) == 3
    assert (sql.table("orders").comment, sql.table("orders").properties) == ("new", {})
    assert "delta.constraints.positive" not in sql.delta("orders").metadata().configuration


def test_create_like_and_deep_clone_copy_what_they_should(sql: Sql) -> None:
    sql(ORDERS)
    sql.insert("orders", id=[1, 2], amount=[None, None], note=["x", "y"], day=[None, None])
    sql("CREATE TABLE empty LIKE orders TBLPROPERTIES (k = 'v')")
    assert sql.select("empty") == []
    assert sql.rows("DESCRIBE empty") == sql.rows("DESCRIBE orders")
    assert sql.table("empty").properties["k"] == "v"
    copied = sql("CREATE TABLE twin DEEP CLONE orders").to_pylist()[0]
    assert copied["source_num_of_files"] == copied["num_copied_files"] == 1
    assert sql.select("twin") == sql.select("orders")
    assert sql.delta("twin").metadata().configuration == sql.delta("orders").metadata().configuration | {
        "delta.minWriterVersion": "3"
    }
    assert sql("CREATE TABLE before CLONE orders VERSION AS OF 0").to_pylist()[0]["num_copied_files"] == 0
    sql.refuses("CREATE TABLE s SHALLOW CLONE orders", "UNSUPPORTED_FEATURE")
    assert sql.rows("DESCRIBE HISTORY twin LIMIT 1")[0][4] == "CLONE"


def test_declared_keys_inform_and_are_kept_in_the_catalog(sql: Sql) -> None:
    sql("CREATE TABLE a (id INT, PRIMARY KEY (id))")
    sql("CREATE TABLE b (id INT, a_id INT, CONSTRAINT to_a FOREIGN KEY (a_id) REFERENCES a (id))")
    assert sql.table("a").constraints[0].columns == ("id",)
    assert sql.table("b").constraints[0].parent_table == "shop.sales.a"
    assert "REFERENCES shop.sales.a (id)" in sql.rows("SHOW CREATE TABLE b")[0][0]
    sql.refuses("ALTER TABLE a RENAME COLUMN id TO key", "DELTA_CONSTRAINT_DEPENDENT_COLUMN_CHANGE")
    sql("ALTER TABLE b DROP CONSTRAINT to_a")
    assert sql.table("b").constraints == ()
    sql("CREATE TABLE tree (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES tree (id))")
    assert sql.table("tree").constraints[1].parent_table == "shop.sales.tree"


def test_a_primary_key_may_hold_the_time_of_its_values(sql: Sql) -> None:
    sql("CREATE TABLE a (id INT, at TIMESTAMP, CONSTRAINT a_key PRIMARY KEY (id, at TIMESERIES))")
    assert sql.table("a").constraints[0].timeseries_columns == ("at",)
    assert "CONSTRAINT a_key PRIMARY KEY (id, at TIMESERIES)" in sql.rows("SHOW CREATE TABLE a")[0][0]
    sql("CREATE TABLE b (id INT, at TIMESTAMP, day DATE)")
    for wrong in ("at TIMESERIES, day TIMESERIES", "id, nothing TIMESERIES"):
        with pytest.raises(InvalidArgument):
            sql(f"ALTER TABLE b ADD CONSTRAINT k PRIMARY KEY ({wrong})")
    sql("ALTER TABLE b ADD CONSTRAINT k PRIMARY KEY (id, at TIMESERIES)")
    assert sql.table("b").constraints[0].columns == ("id", "at")


def test_a_table_is_never_there_without_the_key_it_was_made_with(sql: Sql) -> None:
    with pytest.raises(InvalidArgument):
        sql("CREATE TABLE a (id INT, PRIMARY KEY (id, nothing))")
    sql.refuses("DESCRIBE a", "TABLE_OR_VIEW_NOT_FOUND")


def test_external_tables_and_files_are_for_administrators(sql: Sql, tmp_path: Path) -> None:
    place = (tmp_path / "outside").as_uri()
    other_place = (tmp_path / "elsewhere").as_uri()
    for url in (place, other_place):
        write_deltalake(url, pa.table({"a": [1]}))
    with pytest.raises(PermissionDenied):
        sql(f"CREATE TABLE ext LOCATION '{place}'")
    admin = replace(sql, context=replace(sql.context, principal=sql.people.admin))
    admin(f"CREATE TABLE ext LOCATION '{place}'")
    assert admin.table("ext").table_type is TableType.EXTERNAL
    assert admin.rows("DESCRIBE ext") == [("a", "bigint", None)]
    admin.refuses(f"CREATE TABLE ext2 (b INT) LOCATION '{other_place}'", "DELTA_CREATE_TABLE_SCHEME_MISMATCH")
    other = (tmp_path / "csv").as_uri()
    admin(f"CREATE TABLE files (a INT) USING csv OPTIONS (header = 'true') LOCATION '{other}'")
    assert admin.table("files").properties == {"option.header": "true"}
    admin.refuses("DESCRIBE HISTORY files", "DELTA_TABLE_ONLY_OPERATION")
    admin.refuses(
        f"CREATE TABLE bad (a INT) USING csv OPTIONS (password = 'x') LOCATION '{tmp_path.as_uri()}/bad'",
        "INSUFFICIENT_PERMISSIONS",
    )


def test_convert_makes_a_log_for_parquet_files(sql: Sql, tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    place = tmp_path / "lake"
    (place / "p=1").mkdir(parents=True)
    parquet.write_table(pa.table({"a": [1, 2], "x": [float("nan"), 5.0]}), place / "p=1" / "x.parquet")
    with pytest.raises(PermissionDenied):
        sql(f"CONVERT TO DELTA parquet.`{place}` PARTITIONED BY (p INT)")
    admin = replace(sql, context=replace(sql.context, principal=sql.people.admin))
    admin(f"CONVERT TO DELTA parquet.`{place}` PARTITIONED BY (p INT)")
    table = DeltaTable(place)
    found = pa.table(table.scan().read_all()).select(["a", "p"]).to_pylist()
    assert sorted(found, key=lambda row: row["a"]) == [{"a": 1, "p": 1}, {"a": 2, "p": 1}]
    assert {"min.a", "min.x"} & set(table.get_add_actions(flatten=True).schema.names) == {"min.a"}
    assert admin.rows(f"DESCRIBE HISTORY delta.`{place}`")[0][3] == sql.people.admin.name


# -- altering -----------------------------------------------------------------------------------------------------


def test_schema_changes_reach_the_log_and_the_catalog(sql: Sql) -> None:
    sql("CREATE TABLE t (id BIGINT, x INT, s STRUCT<a: INT>)")
    sql.insert("t", id=[1], x=[7], s=[{"a": 5}])
    for statement in (
        "ALTER TABLE t ADD COLUMNS (note STRING COMMENT 'n' AFTER id, s.b DOUBLE)",
        "ALTER TABLE t RENAME COLUMN x TO y",
        "ALTER TABLE t DROP COLUMN s.a",
        "ALTER TABLE t ALTER COLUMN y TYPE BIGINT",
        "ALTER TABLE t ALTER COLUMN y COMMENT 'the y'",
        "ALTER TABLE t ALTER COLUMN y SET NOT NULL",
        "COMMENT ON COLUMN t.id IS 'the key'",
    ):
        sql(statement)
    assert [(c.name, c.type_text, c.nullable, c.comment) for c in sql.table("t").columns] == [
        ("id", "bigint", True, "the key"),
        ("note", "string", True, "n"),
        ("y", "bigint", False, "the y"),
        ("s", "struct<b:double>", True, None),
    ]
    assert sql.select("t") == [{"id": 1, "note": None, "y": 7, "s": {"b": None}}]
    history = sql("DESCRIBE HISTORY t").to_pylist()
    assert [entry["operation"] for entry in history] == [
        *["CHANGE COLUMN"] * 4,
        "DROP COLUMNS",
        "SET TBLPROPERTIES",  # of which columns there are statistics
        "RENAME COLUMN",
        "SET TBLPROPERTIES",
        "ADD COLUMNS",
        "WRITE",
        "CREATE TABLE",
    ]
    assert {entry["userName"] for entry in history if entry["operation"] != "WRITE"} == {"alice@example.com"}


def test_properties_comments_constraints_and_clustering(sql: Sql) -> None:
    sql("CREATE TABLE t (a INT, b INT)")
    sql("ALTER TABLE t SET TBLPROPERTIES ('k' = 'v', 'delta.appendOnly' = 'true')")
    sql("ALTER TABLE t UNSET TBLPROPERTIES ('k')")
    sql("ALTER TABLE t ADD CONSTRAINT c CHECK (A > 0)")
    sql("ALTER TABLE t CLUSTER BY (B)")
    sql("COMMENT ON TABLE t IS 'hi'")
    assert dict(sql.rows("SHOW TBLPROPERTIES t")) == {
        "delta.appendOnly": "true",
        "delta.constraints.c": "a > 0",
        "delta.minReaderVersion": "1",
        "delta.minWriterVersion": "3",
    }
    assert sql.rows("SHOW TBLPROPERTIES t (k)") == [("k", "Table shop.sales.t does not have property: k")]
    assert sql.table("t").comment == "hi"
    detail = sql("DESCRIBE DETAIL t").to_pylist()[0]
    assert (detail["clusteringColumns"], detail["description"]) == (["b"], "hi")
    sql("COMMENT ON TABLE t IS NULL")
    assert sql("DESCRIBE DETAIL t").to_pylist()[0]["description"] is None
    sql("ALTER TABLE t DROP CONSTRAINT c")
    sql.refuses("ALTER TABLE t DROP CONSTRAINT c", "DELTA_CONSTRAINT_DOES_NOT_EXIST")
    sql.refuses("ALTER TABLE t SET TBLPROPERTIES ('millpond.x' = 'y')", "UNSUPPORTED_FEATURE.SET_TABLE_PROPERTY")


def test_rename_and_drop_table(sql: Sql) -> None:
    sql("CREATE SCHEMA archive")
    sql("CREATE TABLE t (a INT)")
    sql("CREATE TABLE u (a INT)")
    sql.refuses("ALTER TABLE t RENAME TO u", "TABLE_OR_VIEW_ALREADY_EXISTS")
    sql("ALTER TABLE t RENAME TO archive.old")
    assert sql.rows("SHOW TABLES IN archive") == [("archive", "old", False)]
    sql("DROP TABLE archive.old")
    sql.refuses("DROP TABLE archive.old", "TABLE_OR_VIEW_NOT_FOUND")
    sql("DROP TABLE IF EXISTS archive.old")
    sql.refuses("DROP VIEW u", "WRONG_COMMAND_FOR_OBJECT_TYPE")


def test_a_dropped_table_is_listed_and_comes_back(sql: Sql) -> None:
    """By its name the one that was dropped last, by its id any of them."""
    for _ in range(2):
        sql("CREATE TABLE lost (a INT) COMMENT 'mine'")
        sql("DROP TABLE lost")
    listed = sql("SHOW TABLES DROPPED").to_pylist()
    assert list(listed[0]) == [
        "catalogName", "schemaName", "tableName", "tableId", "tableType", "deletedAt", "createdAt", "updatedAt",
        "createdBy", "owner", "comment",
    ]  # fmt: skip
    assert [(row["tableName"], row["comment"]) for row in listed] == [("lost", "mine")] * 2
    assert sql("SHOW TABLES DROPPED IN sales LIMIT 1").to_pylist() == listed[:1]
    sql("UNDROP TABLE sales.lost")
    assert sql.table("lost").id == listed[0]["tableId"]
    sql.refuses("UNDROP TABLE lost", "TABLE_OR_VIEW_ALREADY_EXISTS")
    sql("ALTER TABLE lost RENAME TO found")
    sql(f"UNDROP TABLE WITH ID '{listed[1]['tableId']}'")
    assert sql.table("lost").id == listed[1]["tableId"]
    assert sql.rows("SHOW TABLES DROPPED") == []
    sql.refuses("UNDROP TABLE never", "TABLE_OR_VIEW_NOT_FOUND")
    sql.refuses("UNDROP TABLE WITH ID 'x'", "TABLE_OR_VIEW_NOT_FOUND")
    sql.refuses("SHOW TABLES DROPPED IN nowhere", "SCHEMA_NOT_FOUND")
    sql.refuses("UNDROP TABLE", "PARSE_SYNTAX_ERROR")


def test_views_are_described_and_dropped_as_views(sql: Sql) -> None:
    sql("CREATE TABLE t (a INT)")
    staged = sql.context.catalog.stage_table(sql.context.principal, ObjectName("shop", "sales", "v"))
    columns = sql.table("t").columns
    sql.context.catalog.register_table(
        sql.context.principal, staged, columns, TableType.VIEW, "", comment="c", view_definition="SELECT a FROM t"
    )
    assert sql.rows("SHOW VIEWS") == [("sales", "v", False, False)]
    assert sql.rows("DESCRIBE v") == [("a", "int", None)]
    assert ("View Text", "SELECT a FROM t", "") in sql.rows("DESCRIBE EXTENDED v")
    assert sql.rows("SHOW CREATE TABLE v")[0][0].endswith("AS SELECT a FROM t\n")
    assert "\nType: VIEW\n" in sql.rows("SHOW TABLE EXTENDED LIKE 'v'")[0][3]
    sql("ALTER VIEW v SET TBLPROPERTIES (k = 'v')")
    assert sql.rows("SHOW TBLPROPERTIES v") == [("k", "v")]
    for statement in ("DROP TABLE v", "OPTIMIZE v", "DESCRIBE HISTORY v", "TRUNCATE TABLE v"):
        sql.refuses(statement, "WRONG_COMMAND_FOR_OBJECT_TYPE")
    sql("COMMENT ON COLUMN v.A IS 'the first'")
    assert sql.rows("DESCRIBE v")[0] == ("a", "int", "the first")
    sql.refuses("COMMENT ON COLUMN v.nope IS 'x'", "UNRESOLVED_COLUMN.WITH_SUGGESTION")
    sql("DROP VIEW v")
    assert sql.rows("SHOW VIEWS") == []


# -- maintenance --------------------------------------------------------------------------------------------------


def test_optimize_vacuum_restore_answer_with_sparks_columns(sql: Sql) -> None:
    sql("CREATE TABLE t (id BIGINT, x INT)")
    for number in (1, 2, 3):
        sql.insert("t", id=[number], x=[number])
    path, metrics = sql.rows("OPTIMIZE t")[0]
    assert path == sql.table("t").storage_location
    assert (metrics["numFilesAdded"], metrics["numFilesRemoved"], metrics["zOrderStats"]) == (1, 3, None)
    assert metrics["filesRemoved"]["totalFiles"] == 3
    assert metrics["endTimeMs"] >= metrics["startTimeMs"] > 0
    nothing_left = sql.rows("OPTIMIZE t")[0][1]
    assert nothing_left["filesAdded"] == {"min": None, "max": None, "avg": 0.0, "totalFiles": 0, "totalSize": 0}
    assert sql.rows("OPTIMIZE t ZORDER BY (x)")[0][1]["zOrderStats"]["strategyName"] == "all"
    assert sql.rows("VACUUM t") == [(path,)]
    sql.refuses("VACUUM t RETAIN 0 HOURS", "DELTA_VACUUM_RETENTION_PERIOD_TOO_SHORT")
    sql.context.session.settings["spark.databricks.delta.retentionDurationCheck.enabled"] = "false"
    listed = sql.rows("VACUUM t RETAIN 0 HOURS DRY RUN")
    assert len(listed) == 4
    assert all(row[0].startswith(path + "/") for row in listed)
    sql("ALTER TABLE t DROP COLUMN x")
    restored = sql("RESTORE TABLE t TO VERSION AS OF 3").to_pylist()[0]
    assert (restored["num_restored_files"], restored["num_of_files_after_restore"]) == (3, 3)
    assert [column.name for column in sql.table("t").columns] == ["id", "x"]
    sql("TRUNCATE TABLE t")
    assert sql.select("t") == []


def test_history_and_detail_have_the_documented_columns(sql: Sql) -> None:
    sql(ORDERS)
    sql.insert("orders", id=[1], amount=[None], note=["x"], day=[None])
    history = sql("DESCRIBE HISTORY orders LIMIT 1")
    assert history.schema.names == [
        "version", "timestamp", "userId", "userName", "operation", "operationParameters", "job", "notebook",
        "clusterId", "readVersion", "isolationLevel", "isBlindAppend", "operationMetrics", "userMetadata", "engineInfo",
    ]  # fmt: skip
    assert history.schema.field("timestamp").type == pa.timestamp("us", tz="UTC")
    assert dict(history.to_pylist()[0]["operationMetrics"])["numOutputRows"] == "1"
    detail = sql("DESCRIBE DETAIL orders").to_pylist()[0]
    assert (detail["format"], detail["name"], detail["numFiles"]) == ("delta", "shop.sales.orders", 1)
    assert (detail["partitionColumns"], detail["tableFeatures"]) == (
        ["day"],
        ["appendOnly", "checkConstraints", "invariants"],
    )
    assert dict(detail["properties"])["team"] == "risk"


# -- describing and showing ---------------------------------------------------------------------------------------


def test_describe_shows_columns_partitions_and_details(sql: Sql) -> None:
    sql(ORDERS)
    plain = sql.rows("DESCRIBE TABLE orders")
    assert plain[:2] == [("id", "bigint", "the key"), ("day", "date", None)]
    assert plain[4:] == [
        ("# Partition Information", "", ""),
        ("# col_name", "data_type", "comment"),
        ("day", "date", None),
    ]
    extended = {row[0]: row[1] for row in sql.rows("DESCRIBE EXTENDED orders")}
    assert (extended["Catalog"], extended["Type"], extended["Owner"]) == ("shop", "MANAGED", "alice@example.com")
    assert sql.rows("DESCRIBE orders ID") == [("col_name", "id"), ("data_type", "bigint"), ("comment", "the key")]
    assert len(sql.rows("DESCRIBE EXTENDED orders note")) == 10
    sql.refuses("DESCRIBE orders nope", "UNRESOLVED_COLUMN.WITH_SUGGESTION")
    sql.refuses("DESCRIBE nope", "TABLE_OR_VIEW_NOT_FOUND")
    as_json = json.loads(sql.rows("DESCRIBE EXTENDED orders AS JSON")[0][0])
    assert as_json["columns"][2]["type"] == {"name": "decimal", "precision": 10, "scale": 2}
    assert (as_json["partition_columns"], as_json["table_name"]) == (["day"], "orders")
    assert sql.rows("SHOW COLUMNS IN orders") == [("id",), ("day",), ("amount",), ("note",)]


def test_show_partitions_has_the_partition_columns(sql: Sql) -> None:
    sql("CREATE TABLE t (id INT, p INT, q STRING) PARTITIONED BY (p, q)")
    sql.insert("t", id=[1, 2, 3, 4], p=[1, 1, None, 2], q=["x", "y/z", "é", None])
    shown = sql("SHOW PARTITIONS t")
    assert shown.schema.field("p").type == pa.int32()
    assert shown.to_pylist() == [
        {"p": None, "q": "é"},
        {"p": 1, "q": "x"},
        {"p": 1, "q": "y/z"},
        {"p": 2, "q": None},
    ]
    assert sql("SHOW PARTITIONS t PARTITION (P = 1, q = 'x')").num_rows == 1
    sql("CREATE TABLE u (id INT)")
    sql.refuses("SHOW PARTITIONS u", "INVALID_PARTITION_OPERATION.PARTITION_SCHEMA_IS_EMPTY")


def test_show_create_table_makes_the_same_table_again(sql: Sql) -> None:
    sql(
        """CREATE TABLE t (id BIGINT NOT NULL COMMENT 'it\\'s \\\\ the key', g BIGINT GENERATED ALWAYS AS (`id` + 1),
        `a b``c` STRUCT<`X y`: INT NOT NULL COMMENT 'in', m: MAP<STRING, ARRAY<DECIMAL(5,1)>>>, v CHAR(3),
        d INT DEFAULT 1 + 1, day DATE, CONSTRAINT `odd name` CHECK (id > 0 AND v <> 'x'))
        PARTITIONED BY (day) COMMENT 'c' TBLPROPERTIES ('k.x' = 'it\\'s', 'delta.appendOnly' = 'true')"""
    )
    first = sql.rows("SHOW CREATE TABLE t")[0][0]
    fields_before = sql.delta("t").schema().to_json()
    configuration = sql.delta("t").metadata().configuration
    sql("DROP TABLE t")
    sql(first)
    assert sql.rows("SHOW CREATE TABLE t")[0][0] == first
    assert json.loads(sql.delta("t").schema().to_json()) == json.loads(fields_before)
    assert sql.delta("t").metadata().configuration == configuration


def test_listings_take_patterns_and_temporary_views(sql: Sql) -> None:
    for name in ("apple", "apricot", "`b[0]`"):
        sql(f"CREATE TABLE {name} (a INT)")
    sql.context.session.temp_views["tmp"] = b""
    assert sql.rows("SHOW TABLES LIKE 'ap*'") == [("sales", "apple", False), ("sales", "apricot", False)]
    assert sql.rows("SHOW TABLES '*PPLE|b[0]'") == [("sales", "apple", False), ("sales", "b[0]", False)]
    assert sql.rows("SHOW TABLES LIKE 'tmp'") == [("", "tmp", True)]
    assert sql.rows("SHOW FUNCTIONS") == []
    sql.refuses("SHOW TABLES IN nowhere", "SCHEMA_NOT_FOUND")
    sql.refuses("SHOW SCHEMAS IN nowhere", "CATALOG_NOT_FOUND")
