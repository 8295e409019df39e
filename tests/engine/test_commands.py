"""Commands as a user types them, on a real catalog and real Delta tables: results, rights and what is left behind."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.catalog.conftest import People, build_catalog, build_people
from tests.conftest import BACKENDS
from tests.postgres import fresh_database

from millpond.catalog.domain import ObjectName, Table, TableType
from millpond.catalog.service import CatalogService
from millpond.engine.commands import CommandContext, execute, reconcile_columns
from millpond.engine.errors import AnalysisError, SparkError
from millpond.engine.statements import parse_command
from millpond.engine.syntax import model
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, NotFound, PermissionDenied
from millpond.kernel.migrations import ensure_schema


@dataclass
class FakeSession:
    """The part of a gateway's session that commands use."""

    current_catalog: str = "main"
    current_schema: str = "default"
    settings: dict[str, str] = field(default_factory=dict)
    temp_views: dict[str, bytes] = field(default_factory=dict)

    def setting(self, key: str) -> str | None:
        return self.settings.get(key)


@dataclass(frozen=True)
class Sql:
    """Runs statements as somebody."""

    context: CommandContext
    people: People

    def __call__(self, text: str) -> pa.Table:
        command = parse_command(text)
        assert command is not None, f"not a command: {text}"
        return execute(command, self.context)

    def rows(self, text: str) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in self(text).to_pylist()]

    def refuses(self, text: str, error_class: str) -> None:
        with pytest.raises(SparkError) as caught:
            self(text)
        assert caught.value.error_class == error_class, str(caught.value)

    def as_bob(self) -> "Sql":
        return replace(self, context=replace(self.context, principal=self.people.bob))

    def table(self, name: str) -> Table:
        full = self.context.object_name(tuple(name.split(".")))
        return self.context.catalog.get_table(self.context.principal, full)

    def delta(self, name: str) -> DeltaTable:
        return DeltaTable(self.table(name).storage_location)

    def insert(self, name: str, **columns: list[Any]) -> None:
        """Append rows as another engine would."""
        table = self.delta(name)
        schema = pa.schema(table.schema().to_arrow())
        rows = pa.table({key: pa.array(values, schema.field(key).type) for key, values in columns.items()})
        write_deltalake(table, rows, mode="append")

    def select(self, name: str) -> list[dict[str, Any]]:
        return pa.table(self.delta(name).scan().read_all()).to_pylist()


@pytest.fixture(scope="module", params=BACKENDS)
def room(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[CatalogService, People]]:
    """One catalog service over each kind of database; each test makes a catalog of its own in it."""
    data_dir = tmp_path_factory.mktemp("data")
    with ExitStack() as stack:
        url = f"sqlite:///{data_dir / 'millpond.db'}"
        if request.param == "postgresql":
            url = stack.enter_context(fresh_database(request.getfixturevalue("postgres_url")))
        database = Database(url)
        stack.callback(database.dispose)
        ensure_schema(database)
        people = build_people(database)
        yield build_catalog(database, people, data_dir), people


@pytest.fixture
def sql(room: tuple[CatalogService, People]) -> Iterator[Sql]:
    """Alice, in an empty catalog of her own with an empty schema."""
    catalog, people = room
    made = Sql(CommandContext(principal=people.alice, catalog=catalog, session=FakeSession()), people)
    for statement in ("CREATE CATALOG shop COMMENT 'mine'", "USE CATALOG shop", "CREATE SCHEMA sales", "USE sales"):
        made(statement)
    yield made
    made("DROP CATALOG IF EXISTS shop CASCADE")


ORDERS = """CREATE TABLE orders (
    id BIGINT NOT NULL COMMENT 'the key', day DATE, amount DECIMAL(10,2) DEFAULT 1.5, note VARCHAR(20),
    CONSTRAINT positive CHECK (ID > 0)) PARTITIONED BY (day) COMMENT 'all orders' TBLPROPERTIES ('team' = 'risk')"""


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
    assert sql.rows("SHOW SCHEMAS IN shop") == [("default",), ("extra",), ("sales",)]
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
        ("CREATE TABLE t (Id INT, CHECK (id > 0))", "DELTA_UNSUPPORTED_CHECK_CONSTRAINT"),
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
    parquet.write_table(pa.table({"a": [1, 2]}), place / "p=1" / "x.parquet")
    with pytest.raises(PermissionDenied):
        sql(f"CONVERT TO DELTA parquet.`{place}` PARTITIONED BY (p INT)")
    admin = replace(sql, context=replace(sql.context, principal=sql.people.admin))
    admin(f"CONVERT TO DELTA parquet.`{place}` PARTITIONED BY (p INT)")
    found = pa.table(DeltaTable(place).scan().read_all()).to_pylist()
    assert sorted(found, key=lambda row: row["a"]) == [{"a": 1, "p": 1}, {"a": 2, "p": 1}]
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
        "RENAME COLUMN",
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
    sql.refuses("UNDROP TABLE archive.old", "UNSUPPORTED_FEATURE")


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
    sql("ALTER VIEW v SET TBLPROPERTIES (k = 'v')")
    assert sql.rows("SHOW TBLPROPERTIES v") == [("k", "v")]
    for statement in ("DROP TABLE v", "OPTIMIZE v", "DESCRIBE HISTORY v", "TRUNCATE TABLE v"):
        sql.refuses(statement, "WRONG_COMMAND_FOR_OBJECT_TYPE")
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
    checked = name == name.lower() and "." not in name
    check = f", CHECK ({quoted(name)} <> 'x')" if checked else ""
    sql(f"CREATE TABLE odd (id INT, {quoted(name)} STRING{check})")
    sql.insert("odd", **{"id": [1], name: ["v"]})
    assert sql.rows("DESCRIBE odd")[1][0] == name
    created = sql.rows("SHOW CREATE TABLE odd")[0][0]
    assert isinstance(parse_command(created), model.CreateTable)
    if checked:
        sql("ALTER TABLE odd DROP CONSTRAINT odd_check_1")
    sql(f"ALTER TABLE odd RENAME COLUMN {quoted(name)} TO {quoted(new_name)}")
    assert sql.select("odd") == [{"id": 1, new_name: "v"}]
    sql(f"ALTER TABLE odd DROP COLUMN {quoted(new_name)}")
    assert sql.select("odd") == [{"id": 1}]
