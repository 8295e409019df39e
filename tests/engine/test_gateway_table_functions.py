"""Functions of the catalog that return tables, through Spark Connect."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pyspark.errors.exceptions.base import PySparkException
from tests.engine.gateways import RunningGateway

_RUN = uuid.uuid4().hex[:8]
ANN, BOB = (f"{name}-tf-{_RUN}@example.com" for name in ("ann", "bob"))
C = f"tf_{_RUN}"


def run(session: Any, *statements: str) -> None:
    for statement in statements:
        session.sql(statement).collect()


def rows(frame: Any) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in frame.collect())


@pytest.fixture(scope="module")
def ann(gateway: RunningGateway) -> Iterator[Any]:
    session = gateway.spark(ANN)
    gateway.token(BOB)
    run(
        session,
        f"CREATE CATALOG {C}",
        f"USE {C}.default",
        "CREATE TABLE sales AS SELECT * FROM VALUES ('EU', 1), ('EU', 2), ('US', 4) AS t(region, amount)",
        "CREATE FUNCTION sold(area STRING, least INT DEFAULT 0) "
        "RETURNS TABLE (where STRING COMMENT 'a region', much BIGINT) COMMENT 'by region' "
        "RETURN SELECT region, amount FROM sales WHERE region = area AND amount > least",
        f"GRANT USE CATALOG, USE SCHEMA, EXECUTE ON CATALOG {C} TO `{BOB}`",
    )
    yield session
    session.stop()


@pytest.fixture(scope="module")
def bob(gateway: RunningGateway, ann: Any) -> Iterator[Any]:
    session = gateway.spark(BOB)
    yield session
    session.stop()


def test_it_stands_where_a_table_may(ann: Any) -> None:
    """By any name, with its defaults, an alias, in joins, subqueries, CTEs, views and inserts."""
    assert rows(ann.sql("SELECT * FROM sold('EU')")) == [("EU", 1), ("EU", 2)]
    assert ann.sql("SELECT * FROM sold('EU')").dtypes == [("where", "string"), ("much", "bigint")]
    assert rows(ann.sql(f"SELECT s.much FROM {C}.default.sold('EU', least => 1) AS s")) == [(2,)]
    joined = "SELECT a.much, b.amount FROM sold('US') a JOIN sales b ON a.much = b.amount, sold('EU', 1) AS c"
    assert rows(ann.sql(joined)) == [(4, 4)]
    assert rows(ann.sql("WITH q AS (SELECT * FROM sold(upper('eu'))) SELECT max(much) FROM q")) == [(2,)]
    assert rows(ann.sql("SELECT count(*) FROM sales WHERE amount IN (SELECT much FROM sold('EU'))")) == [(2,)]
    run(ann, "CREATE VIEW eu AS SELECT much FROM sold('EU')", "CREATE TABLE kept AS SELECT * FROM sold('US')")
    assert rows(ann.table("eu")) == [(1,), (2,)]
    assert rows(ann.table("kept")) == [("US", 4)]
    assert rows(ann.sql("SELECT * FROM sold(:area)", args={"area": "US"})) == [("US", 4)]


def test_its_columns_may_be_those_of_the_query(ann: Any) -> None:
    run(ann, "CREATE FUNCTION two(a INT) RETURNS TABLE RETURN SELECT a AS x, array(a) AS `z 1`")
    found = ann.sql("SELECT * FROM two(3)")
    assert (found.columns, found.first()["z 1"]) == (["x", "z 1"], [3])
    told = [row[0] for row in ann.sql("DESCRIBE FUNCTION two").collect()]
    assert "Type:          TABLE" in told
    assert "Returns:       x INT, z 1 ARRAY<INT>" in told


def test_it_reads_with_the_rights_of_whoever_calls(ann: Any, bob: Any) -> None:
    with pytest.raises(PySparkException, match=r"NOT_FOUND|INSUFFICIENT_PERMISSIONS"):
        rows(bob.sql(f"SELECT * FROM {C}.default.sold('EU')"))
    run(ann, f"GRANT SELECT ON TABLE sales TO `{BOB}`")
    assert rows(bob.sql(f"SELECT * FROM {C}.default.sold('EU')")) == [("EU", 1), ("EU", 2)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("CREATE FUNCTION b() RETURNS TABLE (x INT) RETURN SELECT 1, 2", "RETURN_COLUMN_COUNT_MISMATCH"),
        ("CREATE FUNCTION b() RETURNS TABLE (x INT) RETURN SELECT 1) UNION (SELECT 2", "one query"),
        ("CREATE FUNCTION b() RETURNS TABLE (x INT) RETURN SELECT * FROM none", "TABLE_OR_VIEW_NOT_FOUND"),
        ("SELECT * FROM sold()", "WRONG_NUM_ARGS"),
        ("SELECT * FROM no_such('a')", "UNRESOLVABLE_TABLE_VALUED_FUNCTION"),
        ("SELECT * FROM sold('EU'), read_files('/etc')", "UNRESOLVABLE_TABLE_VALUED_FUNCTION"),
        ("ALTER TABLE sales SET ROW FILTER two ON (amount)", "returns a table"),
        ("CREATE FUNCTION b() RETURNS TABLE (x INT) LANGUAGE PYTHON AS $$return 1$$", "RETURNS"),
    ],
)
def test_what_is_none_is_refused(ann: Any, text: str, told: str) -> None:
    with pytest.raises(PySparkException, match=told):
        run(ann, text)


def test_a_name_of_the_engines_own_is_not_let_through_beside_one_of_the_catalogs(ann: Any) -> None:
    """However the two stand together: each call in the place of a table has to be known."""
    run(ann, "CREATE FUNCTION range_of(n INT) RETURNS TABLE (x INT) RETURN SELECT n", f"CREATE SCHEMA {C}.other")
    run(ann, f"CREATE FUNCTION {C}.other.read_files(n STRING) RETURNS TABLE (x STRING) RETURN SELECT n")
    assert rows(ann.sql(f"SELECT * FROM {C}.other.read_files('a')")) == [("a",)]
    with pytest.raises(PySparkException, match="UNRESOLVABLE_TABLE_VALUED_FUNCTION"):
        rows(ann.sql(f"SELECT * FROM {C}.other.read_files('a') AS a, read_files('/etc') AS b"))
