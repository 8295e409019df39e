"""Python functions of the catalog through Spark Connect: what they give, where they run, and where they may not."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pyspark.errors.exceptions.base import PySparkException
from pyspark.sql import functions as F
from tests.engine.gateways import RunningGateway

_RUN = uuid.uuid4().hex[:8]
ANN, BOB = (f"{name}-py-{_RUN}@example.com" for name in ("ann", "bob"))
C = f"py_{_RUN}"

GREET = f"""CREATE FUNCTION {C}.default.greet(name STRING, n INT DEFAULT 2) RETURNS STRING
  LANGUAGE PYTHON NOT DETERMINISTIC COMMENT 'says it''s you' AS $$
  import math  # not run before it's called; a "quote", a `tick` and a ; are part of it

  def twice(text):
      return text * n

  return None if name is None else f"{{twice('hi ')}}{{name}} {{math.floor(2.7)}} $"
$$"""


def run(session: Any, *statements: str) -> None:
    for statement in statements:
        session.sql(statement).collect()


@pytest.fixture(scope="module")
def ann(gateway: RunningGateway) -> Iterator[Any]:
    session = gateway.spark(ANN)
    gateway.token(BOB)
    run(session, f"CREATE CATALOG {C}", f"USE {C}.default", GREET)
    run(session, f"GRANT USE CATALOG, USE SCHEMA, SELECT ON CATALOG {C} TO `{BOB}`")
    run(session, "CREATE TABLE people AS SELECT * FROM VALUES (1, 'ann'), (2, NULL) AS t(id, name)")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def bob(gateway: RunningGateway, ann: Any) -> Iterator[Any]:
    session = gateway.spark(BOB)
    yield session
    session.stop()


def rows(frame: Any) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in frame.collect()), key=str)


def test_it_is_called_in_sql_and_in_dataframes(ann: Any) -> None:
    """With defaults, names, nulls, in a WHERE, an aggregate and a view of one's own."""
    assert ann.sql("SELECT greet('bob')").first()[0] == "hi hi bob 2 $"
    assert ann.sql(f"SELECT {C}.default.greet(n => 1, name => 'bob') AS x").first()["x"] == "hi bob 2 $"
    assert rows(ann.sql("SELECT id, greet(name, id) FROM people")) == [(1, "hi ann 2 $"), (2, None)]
    assert rows(ann.sql("SELECT count(greet(name)) FROM people WHERE greet(name) LIKE 'hi%'")) == [(1,)]
    assert rows(ann.table("people").select(F.call_function(f"{C}.default.greet", "name", F.lit(1)))) == [
        ("hi ann 2 $",), (None,)
    ]  # fmt: skip
    run(ann, "CREATE VIEW greeted AS SELECT id, greet(name, 1) AS g FROM people")
    assert rows(ann.table("greeted")) == [(1, "hi ann 2 $"), (2, None)]
    run(ann, "CREATE TABLE kept AS SELECT greet(name, 1) AS g FROM people")
    assert rows(ann.table("kept")) == [("hi ann 2 $",), (None,)]


@pytest.mark.parametrize(
    ("kind", "body", "value"),
    [
        ("INT", "return 1 + 1", 2),
        ("BIGINT", "return 2 ** 40", 2**40),
        ("DOUBLE", "return 1.5", 1.5),
        ("BOOLEAN", "return True", True),
        ("ARRAY<STRING>", "return ['a', 'b']", ["a", "b"]),
        ("MAP<STRING, INT>", "return {'a': 1}", {"a": 1}),
        ("DATE", "import datetime\nreturn datetime.date(2026, 1, 2)", __import__("datetime").date(2026, 1, 2)),
        (
            "DECIMAL(10, 2)",
            "from decimal import Decimal\nreturn Decimal('1.25')",
            __import__("decimal").Decimal("1.25"),
        ),
    ],
)
def test_types_of_what_it_returns(ann: Any, kind: str, body: str, value: Any) -> None:
    name = f"f_{uuid.uuid4().hex[:8]}"
    run(ann, f"CREATE FUNCTION {name}() RETURNS {kind} LANGUAGE PYTHON AS $$\n{body}\n$$")
    assert ann.sql(f"SELECT {name}()").first()[0] == value


def test_a_new_body_counts_from_the_next_call(ann: Any) -> None:
    for number in (1, 2):
        run(ann, f"CREATE OR REPLACE FUNCTION number() RETURNS INT LANGUAGE PYTHON AS $$return {number}$$")
        assert ann.sql("SELECT number()").first()[0] == number


def test_who_may_execute_it_runs_it_as_themselves(gateway: RunningGateway, ann: Any, bob: Any) -> None:
    """In an engine of their own, without what its owner may reach."""
    run(ann, "CREATE TABLE hers AS SELECT 1 AS a", f"REVOKE SELECT ON CATALOG {C} FROM `{BOB}`")
    place = ann.sql("DESCRIBE DETAIL hers").first()["location"].removeprefix("file://")
    body = f"import os\ntry:\n  return str(len(os.listdir({place!r})))\nexcept OSError:\n  return 'out of reach'"
    run(ann, f"CREATE FUNCTION look() RETURNS STRING LANGUAGE PYTHON AS $$\n{body}\n$$")
    assert ann.sql("SELECT look()").first()[0].isdecimal()
    with pytest.raises(PySparkException, match="UNRESOLVED_ROUTINE"):
        run(bob, f"SELECT {C}.default.greet('x')")
    run(ann, f"GRANT EXECUTE ON SCHEMA {C}.default TO `{BOB}`")
    assert bob.sql(f"SELECT {C}.default.greet('x')").first()[0] == "hi hi x 2 $"
    assert bob.sql(f"SELECT {C}.default.look()").first()[0] == "out of reach"
    run(ann, f"GRANT SELECT ON CATALOG {C} TO `{BOB}`")


def test_a_text_of_somebody_elses_cannot_call_it_as_you(ann: Any, bob: Any) -> None:
    """Neither a view nor a function, nor a row filter, mask or policy."""
    run(ann, f"GRANT EXECUTE ON SCHEMA {C}.default TO `{BOB}`")
    run(ann, "CREATE VIEW lure AS SELECT greet('x') AS g", "CREATE FUNCTION bait() RETURNS STRING RETURN greet('x')")
    assert ann.table("lure").first()[0] == "hi hi x 2 $"
    for text in (f"SELECT * FROM {C}.default.lure", f"SELECT {C}.default.bait()"):
        with pytest.raises(PySparkException, match=r"UNSUPPORTED|RESULT_OF_OTHERS_FAILED"):
            run(bob, text)
    run(ann, "CREATE FUNCTION yes(v STRING) RETURNS BOOLEAN LANGUAGE PYTHON AS $$return True$$")
    for text in (
        "ALTER TABLE people SET ROW FILTER yes ON (name)",
        "ALTER TABLE people ALTER COLUMN name SET MASK greet",
        f"CREATE POLICY p ON CATALOG {C} ROW FILTER yes TO `{BOB}` FOR TABLES USING COLUMNS ('a')",
    ):
        with pytest.raises(PySparkException, match="not of SQL"):
            run(ann, text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("CREATE FUNCTION b() RETURNS INT LANGUAGE PYTHON AS $$return 1 +$$", "INVALID_PYTHON_FUNCTION"),
        ("CREATE FUNCTION b() LANGUAGE PYTHON AS $$return 1$$", "RETURNS"),
        ("CREATE FUNCTION b(`class` INT) RETURNS INT LANGUAGE PYTHON AS $$return 1$$", "names of Python"),
        ("CREATE FUNCTION b() RETURNS INT LANGUAGE PYTHON RETURN 1", "after AS"),
        ("CREATE FUNCTION b() RETURNS INT LANGUAGE JAVA AS $$1$$", "only SQL and PYTHON"),
        ("CREATE FUNCTION b() RETURNS INT LANGUAGE PYTHON AS $$return 1$$ x", "extra input"),
        ("SELECT greet()", "WRONG_NUM_ARGS"),
        ("SELECT greet('a', 1, 2)", "WRONG_NUM_ARGS"),
    ],
)
def test_what_is_none_is_refused(ann: Any, text: str, told: str) -> None:
    with pytest.raises(PySparkException, match=told):
        run(ann, text)


def test_an_error_in_a_body_is_told(ann: Any) -> None:
    run(ann, "CREATE FUNCTION fails() RETURNS INT LANGUAGE PYTHON AS $$raise ValueError('of mine')$$")
    with pytest.raises(PySparkException, match="of mine"):
        run(ann, "SELECT fails()")


def test_its_body_is_described(ann: Any) -> None:
    told = "\n".join(row[0] for row in ann.sql(f"DESCRIBE FUNCTION EXTENDED {C}.default.greet").collect())
    assert "def twice(text):" in told
    assert "Language:      PYTHON" in told
