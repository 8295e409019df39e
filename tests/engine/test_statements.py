"""Parsing of commands: what is ours, what is the engine's, and what hostile text does (a ParseError, nothing else)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.engine.errors import ParseError, SparkError, UnsupportedError
from millpond.engine.statements import parse_command
from millpond.engine.syntax import model
from millpond.engine.syntax.model import AlterColumn, AlterTable, ColumnSpec, Constraint, TableRef

T = TableRef(name=("t",))

# any character that a backticked name may hold; lone surrogates cannot be sent over the wire
any_name = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30)
any_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=60)


def backticked(*parts: str) -> str:
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)


def literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@pytest.mark.parametrize(
    "sql",
    [
        "",
        ";",
        "SELECT 1",
        "select * from t -- SHOW TABLES",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "INSERT INTO t VALUES (1)",
        "CREATE TABLE t AS SELECT 1",
        "CREATE TABLE t USING delta PARTITIONED BY (a) AS SELECT 1 AS a",
        "CREATE TABLE t (SELECT 1)",
        "CREATE OR REPLACE TABLE t WITH x AS (SELECT 1) SELECT * FROM x",
        "CREATE VIEW v AS SELECT 1",
        "CREATE OR REPLACE TEMP VIEW v AS SELECT 1",
        "ALTER VIEW v AS SELECT 2",
        "DESCRIBE SELECT 1",
        "SET spark.sql.shuffle.partitions = 4",
        "DROP TEMPORARY VARIABLE x",
        "`SHOW` TABLES",
        "(SELECT 1)",
    ],
)
def test_the_engines_statements_are_not_ours(sql: str) -> None:
    assert parse_command(sql) is None


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "DESCRIBE HISTORY a.b.`c.d` LIMIT 10;",
            model.DescribeHistory(table=TableRef(name=("a", "b", "c.d")), limit=10),
        ),
        ("desc history delta.`/tmp/x`", model.DescribeHistory(table=TableRef(path="/tmp/x"))),
        ("DESCRIBE DETAIL '/tmp/x'", model.DescribeDetail(table=TableRef(path="/tmp/x"))),
        ("DESCRIBE history", model.DescribeTable(table=TableRef(name=("history",)))),
        ("DESCRIBE TABLE EXTENDED t c", model.DescribeTable(table=T, extended=True, column=("c",))),
        ("DESCRIBE EXTENDED t AS JSON", model.DescribeTable(table=T, extended=True, as_json=True)),
        ("DESCRIBE DATABASE EXTENDED a.b", model.DescribeObject(kind="SCHEMA", name=("a", "b"), extended=True)),
        ("OPTIMIZE t", model.Optimize(table=T)),
        (
            "OPTIMIZE t WHERE d >= '2020' AND x IN (1, 2) ZORDER BY (a, b.c)",
            model.Optimize(table=T, where="d >= '2020' AND x IN (1, 2)", zorder_by=("a", "b.c")),
        ),
        ("VACUUM t DRY RUN RETAIN 0.5 HOURS LITE", model.Vacuum(table=T, retain_hours=0.5, dry_run=True, lite=True)),
        ("RESTORE t TO VERSION AS OF 3", model.RestoreTable(table=T, as_of=model.AsOf(version=3))),
        ("RESTORE TABLE t TIMESTAMP AS OF 'x'", model.RestoreTable(table=T, as_of=model.AsOf(timestamp="x"))),
        ("TRUNCATE TABLE t", model.TruncateTable(table=T)),
        ("DROP TABLE IF EXISTS a.b.c PURGE", model.Drop(kind="TABLE", name=("a", "b", "c"), if_exists=True)),
        ("DROP DATABASE s CASCADE", model.Drop(kind="SCHEMA", name=("s",), cascade=True)),
        ("COMMENT ON TABLE t IS 'it''s'", model.CommentOn(kind="TABLE", name=("t",), comment="its")),
        ("COMMENT ON COLUMN t.c IS NULL", model.CommentOn(kind="COLUMN", name=("t", "c"), comment=None)),
        (
            "CREATE CATALOG IF NOT EXISTS c COMMENT 'x'",
            model.CreateCatalog(catalog="c", if_not_exists=True, comment="x"),
        ),
        (
            "CREATE SCHEMA a.b MANAGED LOCATION 's3://x' WITH DBPROPERTIES (k = 'v')",
            model.CreateSchema(name=("a", "b"), managed_location="s3://x", properties={"k": "v"}),
        ),
        ("CREATE EXTERNAL VOLUME v LOCATION '/x'", model.CreateVolume(name=("v",), external=True, location="/x")),
        ("USE CATALOG c", model.UseCatalog(catalog="c")),
        ("USE SCHEMA a.b", model.UseSchema(name=("a", "b"))),
        ("USE catalog", model.Use(name=("catalog",))),
        ("SET CATALOG c", model.UseCatalog(catalog="c")),
        ("SHOW TABLES FROM a.b LIKE '*x*'", model.Show(what="TABLES", scope=("a", "b"), pattern="*x*")),
        ("SHOW DATABASES", model.Show(what="SCHEMAS")),
        ("SHOW TABLES IN ALL CATALOGS LIKE 'x'", model.ShowAcross(what="TABLES", pattern="x")),
        (
            "SHOW COLUMNS IN CATALOG c SCHEMA LIKE 's' TABLE LIKE 't' LIKE '%'",
            model.ShowAcross(what="COLUMNS", catalog="c", schema_pattern="s", table_pattern="t", pattern="%"),
        ),
        ("SHOW COLUMNS IN catalog", model.ShowColumns(table=TableRef(name=("catalog",)))),
        ("SHOW COLUMNS IN t FROM s", model.ShowColumns(table=TableRef(name=("s", "t")))),
        ("SHOW TBLPROPERTIES t (a.b)", model.ShowTableProperties(table=T, key="a.b")),
        ("SHOW PARTITIONS t PARTITION (a = -1)", model.ShowPartitions(table=T, where={"a": "-1"})),
        ("/* c */ SHOW -- x\n CREATE /* y */ TABLE t", model.ShowCreateTable(table=T)),
        ("DESCRIBE DETAIL IDENTIFIER('a.b')", model.DescribeDetail(table=TableRef(name=("a", "b")))),
    ],
)
def test_a_command_is_read_as_data(sql: str, expected: model.Command) -> None:
    assert parse_command(sql) == expected


@pytest.mark.parametrize(
    ("sql", "action"),
    [
        (
            "ADD COLUMNS (a INT COMMENT 'x' FIRST, b.c STRING AFTER q)",
            model.AddColumns(
                columns=(
                    ColumnSpec(path=("a",), type="integer", comment="x", first=True),
                    ColumnSpec(path=("b", "c"), type="string", after="q"),
                )
            ),
        ),
        ("ADD COLUMN a DOUBLE", model.AddColumns(columns=(ColumnSpec(path=("a",), type="double"),))),
        ("RENAME COLUMN a TO `b.c`", model.RenameColumn(path=("a",), new_name="b.c")),
        ("DROP COLUMN IF EXISTS a", model.DropColumns(paths=(("a",),), if_exists=True)),
        ("DROP COLUMNS (a, b.c)", model.DropColumns(paths=(("a",), ("b", "c")))),
        ("ALTER COLUMN a DROP NOT NULL", AlterColumn(path=("a",), drop_not_null=True)),
        ("CHANGE COLUMN a TYPE BIGINT", AlterColumn(path=("a",), type="long")),
        ("ALTER a SET DEFAULT 1 + 2", AlterColumn(path=("a",), default="1 + 2")),
        (
            "SET TBLPROPERTIES ('a' = 'b', c.d = 1, e = true)",
            model.SetProperties(properties={"a": "b", "c.d": "1", "e": "true"}),
        ),
        ("UNSET TBLPROPERTIES IF EXISTS (a)", model.UnsetProperties(keys=("a",), if_exists=True)),
        (
            "ADD CONSTRAINT k CHECK (a > 0 /* why */ AND (b <= 1))",
            model.AddConstraint(constraint=Constraint(name="k", kind="CHECK", expression="a > 0 AND (b <= 1)")),
        ),
        ("DROP CONSTRAINT IF EXISTS k", model.DropConstraint(name="k", if_exists=True)),
        ("RENAME TO s.u", model.RenameTable(new_name=("s", "u"))),
        ("OWNER TO `ann@example.com`", model.SetOwner(owner="ann@example.com")),
        ("CLUSTER BY (a, b)", model.ClusterBy(columns=("a", "b"))),
        ("CLUSTER BY NONE", model.ClusterBy(columns=())),
    ],
)
def test_alter_table_is_read_as_data(sql: str, action: model.AlterAction) -> None:
    assert parse_command("ALTER TABLE t " + sql) == AlterTable(table=T, action=action)


def test_create_table_keeps_every_clause() -> None:
    command = parse_command(
        "CREATE OR REPLACE TABLE s.t (id BIGINT NOT NULL COMMENT 'the key', amount DECIMAL(10, 2) DEFAULT 1.5 NOT NULL,"
        " day DATE GENERATED ALWAYS AS (CAST(at AS DATE)), at TIMESTAMP, name VARCHAR(20),"
        " tags MAP<STRING, ARRAY<STRUCT<a: INT, `b c` STRING NOT NULL COMMENT 'x'>>>,"
        " CONSTRAINT positive CHECK (amount > 0), PRIMARY KEY (id))"
        " USING DELTA PARTITIONED BY (day) COMMENT 'facts' TBLPROPERTIES ('k' = 'v') LOCATION '/x'"
    )
    assert isinstance(command, model.CreateTable)
    assert [(c.path, c.type, c.nullable) for c in command.columns[:2]] == [
        (("id",), "long", False),
        (("amount",), "decimal(10,2)", False),
    ]
    assert command.columns[1].default == "1.5"
    assert command.columns[2].generated == "CAST(at AS DATE)"
    assert command.columns[4].varchar == "varchar(20)"
    assert command.columns[5].type == {
        "type": "map",
        "keyType": "string",
        "valueContainsNull": True,
        "valueType": {
            "type": "array",
            "containsNull": True,
            "elementType": {
                "type": "struct",
                "fields": [
                    {"name": "a", "type": "integer", "nullable": True, "metadata": {}},
                    {"name": "b c", "type": "string", "nullable": False, "metadata": {"comment": "x"}},
                ],
            },
        },
    }
    assert [(c.name, c.kind, c.expression) for c in command.constraints] == [
        ("positive", "CHECK", "amount > 0"),
        (None, "PRIMARY KEY", ""),
    ]
    assert (command.using, command.partitioned_by, command.comment) == ("DELTA", ("day",), "facts")
    assert (command.properties, command.location, command.or_replace) == ({"k": "v"}, "/x", True)


def test_hive_style_partition_columns_become_columns() -> None:
    command = parse_command("CREATE TABLE t (a INT) PARTITIONED BY (b STRING)")
    assert isinstance(command, model.CreateTable)
    assert [column.path for column in command.columns] == [("a",), ("b",)]
    assert command.partitioned_by == ("b",)


@pytest.mark.parametrize(
    ("sql", "near"),
    [
        ("DROP TABLE a b", "b"),
        ("SHOW TABLES; DROP TABLE x", ";"),
        ("VACUUM t RETAIN 1 HOURS DRY RUN DRY RUN", "end of input"),
        ("DESCRIBE HISTORY t LIMIT -1", "-"),
        ("OPTIMIZE", "end of input"),
        ("ALTER TABLE t ADD CONSTRAINT c CHECK (a > (1)", "end of input"),
        ("CREATE TABLE t (a INT,)", ")"),
        ("CREATE TABLE a.b.c.d (x INT)", "a"),
        ("DROP TABLE ``", "``"),
        ("DROP TABLE a-b", "-"),
        ("DROP TABLE 'a'", "'a'"),
        ("ALTER TABLE t FROBNICATE", "FROBNICATE"),
    ],
)
def test_what_only_looks_like_a_command_is_a_parse_error(sql: str, near: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_command(sql)
    assert caught.value.error_class == "PARSE_SYNTAX_ERROR"
    assert caught.value.sql_state == "42601"
    assert near in caught.value.parameters["error"]
    assert "== SQL ==" in str(caught.value)


def test_a_parse_error_points_at_the_place() -> None:
    with pytest.raises(ParseError) as caught:
        parse_command("SHOW TABLES\n  IN a LIKE b")
    assert (caught.value.line, caught.value.column) == (2, 12)
    assert "  IN a LIKE b\n------------^^^" in str(caught.value)


def test_hostile_nesting_is_an_error_and_not_a_crash() -> None:
    with pytest.raises(ParseError, match="nested deeper"):
        parse_command("CREATE TABLE t (a " + "ARRAY<" * 5000 + "INT" + ">" * 5000 + ")")


@pytest.mark.parametrize(
    "sql", ["MSCK REPAIR TABLE t", "ALTER TABLE t DROP PARTITION (a = 1)", "CREATE TABLE t (a VARIANT)"]
)
def test_known_statements_that_delta_lacks_are_refused_by_name(sql: str) -> None:
    with pytest.raises(UnsupportedError):
        parse_command(sql)


@given(st.lists(any_name, min_size=1, max_size=3), any_name)
def test_any_quoted_name_survives_parsing(parts: list[str], column: str) -> None:
    name = tuple(parts)
    assert parse_command(f"DROP TABLE {backticked(*parts)}") == model.Drop(kind="TABLE", name=name)
    described = parse_command(f"DESCRIBE TABLE {backticked(*parts)} {backticked(column)}")
    assert isinstance(described, model.DescribeTable)
    assert described.column == (column,)
    altered = parse_command(f"ALTER TABLE t RENAME COLUMN {backticked(column)} TO {backticked(parts[0])}")
    assert isinstance(altered, AlterTable)
    assert altered.action == model.RenameColumn(path=(column,), new_name=parts[0])


@given(any_text)
def test_any_string_literal_survives_parsing(text: str) -> None:
    command = parse_command(f"COMMENT ON TABLE t IS {literal(text)}")
    assert command == model.CommentOn(kind="TABLE", name=("t",), comment=text)


_WORDS = """DROP TABLE VIEW SCHEMA IF EXISTS CREATE ALTER ADD COLUMN SHOW TABLES LIKE DESCRIBE HISTORY OPTIMIZE
WHERE ZORDER BY VACUUM RETAIN HOURS NOT NULL COMMENT INT STRUCT ARRAY SET EXTENDED a b . , ; ( ) < > ' ` " -- /* */ 1
1.5 = 'x' `y`"""
_FRAGMENTS = st.sampled_from(_WORDS.split())


@given(st.lists(st.one_of(_FRAGMENTS, any_text), max_size=12))
def test_any_text_is_a_command_or_none_or_an_error_that_spark_users_know(fragments: list[str]) -> None:
    sql = " ".join(fragments)
    try:
        command = parse_command(sql)
    except SparkError as error:
        command = None if error.error_class else error
    assert command is None or isinstance(command, model.Command)
