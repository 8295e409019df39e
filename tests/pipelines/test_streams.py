"""What SQL may do with a stream: each row is answered by itself, whatever stands around it."""

import pytest

from tests.pipelines.pipelines import Pipeline

pytestmark = pytest.mark.timeout(300)

REFUSED = {
    "SELECT id FROM STREAM(a) UNION ALL SELECT id FROM c": "union of a stream and a table",
    "SELECT x.id FROM STREAM(a) x JOIN STREAM(b) y ON x.id = y.id": "join of two streams",
    "SELECT x.id FROM STREAM(a) x, STREAM(b) y": "join of two streams",
    "WITH s AS (SELECT id FROM STREAM(a)), t AS (SELECT count(*) AS id FROM s) SELECT id FROM t": "over a stream",
    "WITH s AS (SELECT id FROM STREAM(a)) SELECT c.id FROM c LEFT JOIN s ON s.id = c.id": "stream on the right",
    "SELECT c.id FROM (c LEFT JOIN STREAM(a) s ON s.id = c.id)": "stream on the right",
    "SELECT id FROM c WHERE id NOT IN (SELECT id FROM STREAM(a))": "subquery",
    "SELECT id FROM c WHERE EXISTS (SELECT 1 FROM STREAM(a) s WHERE s.id = c.id)": "subquery",
    "SELECT id FROM STREAM(a) OFFSET 1": "OFFSET over a stream",
    "SELECT id FROM STREAM(a) UNION ALL SELECT id FROM STREAM(b) LIMIT 1": "LIMIT over a stream",
}
ALLOWED = (
    "WITH s AS (SELECT id FROM STREAM(a)), g AS (SELECT k, count(*) AS n FROM c GROUP BY k) "
    "SELECT s.id FROM s LEFT JOIN g ON s.id = g.k",
    "SELECT id FROM STREAM(a) WHERE id NOT IN (SELECT id FROM c ORDER BY id LIMIT 1)",
    "SELECT s.id FROM c RIGHT JOIN STREAM(a) s ON c.id = s.id",
    "SELECT id FROM STREAM(a) UNION ALL (SELECT id FROM STREAM(b)) UNION ALL SELECT id FROM STREAM(a)",
)


def test_sql_that_looks_at_more_than_a_row_of_a_stream_is_refused(pipeline: Pipeline) -> None:
    for name in "abc":
        pipeline.sql(f"CREATE TABLE {name} (id BIGINT, k BIGINT)")
    for text, said in REFUSED.items():
        error = pipeline.sql_file(f"CREATE STREAMING TABLE t AS {text}").update(validate_only=True).error
        assert said in str(error), (text, error)
    for text in ALLOWED:
        pipeline.sql_file(f"CREATE STREAMING TABLE t AS {text}").updated(validate_only=True)


VIEWS = """
    import dlt

    @dlt.view
    @dlt.expect("small", "id < 100")
    @dlt.expect_or_fail("no loss", "id >= 0")
    def seen():
        return spark.readStream.table("numbers")

    @dlt.table
    def both():
        late = spark.readStream.option("startingVersion", 2).table("numbers").selectExpr("id + 1000 AS id")
        return late.union(dlt.read_stream("seen"))

    dlt.create_streaming_table("now")
    dlt.apply_changes(target="now", source="seen", keys=["id"], sequence_by="id")
"""


def test_expectations_of_views_are_those_of_all_flows_and_change_no_stream(pipeline: Pipeline) -> None:
    pipeline.sql("CREATE TABLE numbers (id BIGINT)")
    for number in (1, 100):
        pipeline.sql(f"INSERT INTO numbers VALUES ({number})")
    done = pipeline.python(VIEWS).updated()
    assert sorted(pipeline.sql("SELECT id FROM both")) == [(1,), (100,), (1100,)]
    assert done.counts("now")["failed"] == {"small": 1, "no loss": 0}
    pipeline.sql("INSERT INTO numbers VALUES (-1)")
    error = pipeline.update(refresh_selection=["now"]).error
    assert "'no loss' (id >= 0), which fails the update" in str(error)
    assert len(pipeline.sql("SELECT id FROM now")) == 2
