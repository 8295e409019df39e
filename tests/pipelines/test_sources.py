"""What sources may say, and what streams may be done with."""

import json
import urllib.request

import pytest
from pyspark.sql import SparkSession

from tests.pipelines.pipelines import Pipeline

pytestmark = pytest.mark.timeout(300)

EVERYTHING = """
    -- COMMAND ----------
    SET spark.sql.session.timeZone = UTC;
    CREATE OR REPLACE TEMPORARY VIEW `odd ones` AS SELECT * FROM STREAM(main.{s}.numbers) WHERE n % 2 = 1;
    CREATE OR REFRESH PRIVATE STREAMING TABLE joined
      TBLPROPERTIES ('quality' = 'gold', pipelines.reset.allowed = false)
      CLUSTER BY (kind)
      AS SELECT o.n, names.kind, o.n + ${{by}} AS more FROM STREAM `odd ones` AS o LEFT JOIN names ON o.n = names.n;
    CREATE STREAMING TABLE sums;
    CREATE FLOW first COMMENT 'of all; and more' AS INSERT INTO ONCE sums BY NAME
      SELECT 'before' AS word, sum(n) AS n FROM numbers;
    CREATE FLOW second AS INSERT INTO sums BY NAME
      SELECT n, 'a;b' AS word FROM STREAM(numbers) WHERE n > 2 UNION ALL SELECT m.n, 'twice' FROM STREAM(numbers) m
    -- COMMAND ----------
    CREATE MATERIALIZED VIEW renamed (a COMMENT 'the first', b) COMMENT 'Named'
      AS WITH w AS (SELECT * FROM joined) SELECT n, kind FROM w;
    CREATE LIVE TABLE older AS SELECT count(*) AS n FROM LIVE.joined;
"""


def test_sql_says_all_of_it(pipeline: Pipeline) -> None:
    pipeline.sql("CREATE TABLE numbers (n BIGINT)")
    pipeline.sql("INSERT INTO numbers VALUES (1), (2), (3)")
    pipeline.sql("CREATE TABLE names AS SELECT CAST(1 AS BIGINT) AS n, 'one' AS kind")
    pipeline.python(EVERYTHING.format(s=pipeline.schema), path="/p/all.sql", kind="notebook")
    for _ in range(2):
        done = pipeline.updated(configuration={"by": "10"})
    assert sorted(pipeline.sql("SELECT n, kind, more FROM joined")) == [(1, "one", 11), (3, None, 13)]
    expected = [("a;b", 3), ("before", 6), ("twice", 1), ("twice", 2), ("twice", 3)]
    assert sorted(pipeline.sql("SELECT word, n FROM sums")) == expected
    assert sorted(pipeline.sql("SELECT a, b FROM renamed")) == [(1, "one"), (3, None)]
    assert pipeline.sql("SELECT n FROM older") == [(2,)]
    info = pipeline.info("renamed")
    assert (info["comment"], info["columns"][0]["comment"]) == ("Named", "the first")
    assert pipeline.info("joined")["properties"]["pipelines.reset.allowed"] == "false"
    flows = {each["origin"]["flow_name"]: each for each in done.events if each["event_type"] == "flow_definition"}
    assert flows["second"]["details"]["flow_definition"]["flow_type"] == "APPEND"
    edges = next(each for each in done.events if each["event_type"] == "graph_created")["details"]["graph_created"]
    assert {"from": "odd ones", "to": f"main.{pipeline.schema}.joined", "flow": f"main.{pipeline.schema}.joined"} in (
        edges["edges"]
    )


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("CREATE STREAMING TABLE a AS SELECT DISTINCT n FROM STREAM(numbers)", "DISTINCT over a stream"),
        ("CREATE STREAMING TABLE a AS SELECT max(n) AS m FROM STREAM(numbers)", "looks at more than one row"),
        ("\n\nCREATE TABLE a AS SELECT 1", "line 3"),
        ("CREATE STREAMING TABLE a (x INT, y) AS SELECT 1", "all columns a type"),
        ("CREATE MATERIALIZED VIEW a AS SELECT ${none}", "${none}"),
        ("CREATE STREAMING TABLE a; APPLY CHANGES INTO a FROM STREAM(numbers) KEYS (m) SEQUENCE BY n", "no column 'm'"),
        ("CREATE MATERIALIZED VIEW a (m INT) AS SELECT n FROM numbers", "has the column 'n'"),
        ("CREATE STREAMING TABLE a", "No flow writes"),
    ],
)
def test_sql_that_cannot_be_is_refused_with_its_place(pipeline: Pipeline, text: str, piece: str) -> None:
    pipeline.sql("CREATE TABLE numbers (n BIGINT)")
    error = pipeline.sql_file(text).update(validate_only=True).error
    assert piece in str(error)
    assert "/p/flows.sql, line" in str(error) or piece.startswith("$")


def test_a_notebook_of_jupyter(pipeline: Pipeline) -> None:
    cells = [
        ["from pyspark import pipelines as dp\n", "x = 2"],
        ["%sql\n", "CREATE MATERIALIZED VIEW of_sql AS SELECT 1 AS n"],
        [
            "@dp.materialized_view\n@dp.expect('fine', 'n > 0')\ndef of_python():\n",
            "    return spark.range(x).toDF('n')",
        ],
    ]
    notebook = {"cells": [{"cell_type": "code", "source": each} for each in cells], "metadata": {}}
    done = pipeline.python(json.dumps(notebook), path="/p/n.ipynb", kind="notebook").updated()
    assert pipeline.sql("SELECT n FROM of_sql") == [(1,)]
    assert done.counts("of_python") == {"written": 2, "dropped": 0, "failed": {"fine": 1}, "passed": {"fine": 1}}


COPY = "CREATE STREAMING TABLE copied AS SELECT n FROM STREAM(numbers)"


def test_what_only_moved_is_not_new_and_what_was_changed_is_refused(pipeline: Pipeline) -> None:
    pipeline.sql("CREATE TABLE numbers (n BIGINT)")
    for number in (1, 2):
        pipeline.sql(f"INSERT INTO numbers VALUES ({number})")
    pipeline.sql_file(COPY).updated()
    pipeline.sql("INSERT INTO numbers VALUES (3)")
    pipeline.sql("OPTIMIZE numbers")
    assert pipeline.updated().counts("copied")["written"] == 1
    pipeline.sql("UPDATE numbers SET n = 5 WHERE n = 2")
    assert "skipChangeCommits" in str(pipeline.update().error)
    pipeline.python(
        "import dlt\n@dlt.table\ndef copied():\n"
        "    return spark.readStream.option('skipChangeCommits', True).table('numbers')",
        path="/p/flows.sql",
    )
    pipeline.sql("INSERT INTO numbers VALUES (4)")
    assert pipeline.updated().counts("copied")["written"] == 1
    assert sorted(pipeline.sql("SELECT n FROM copied")) == [(1,), (2,), (3,), (4,)]
    pipeline.sql("DROP TABLE numbers")
    pipeline.sql("CREATE TABLE numbers AS SELECT CAST(9 AS BIGINT) AS n")
    assert "another table than when it began" in str(pipeline.update().error)
    pipeline.updated(full_refresh=True)
    assert pipeline.sql("SELECT n FROM copied") == [(9,)]


FLAKY = """
    import builtins, dlt
    builtins.tries = 0

    @dlt.table
    def flaky():
        builtins.tries += 1
        if builtins.tries == 2:
            raise OSError("the weather")
        return spark.range(1)
"""


def test_in_production_a_flow_is_tried_again(pipeline: Pipeline) -> None:
    pipeline.python(FLAKY)
    assert "OSError: the weather" in str(pipeline.update().error)
    done = pipeline.updated(development=False)
    assert any("Attempt 1 of 3" in each["message"] for each in done.events)
    assert len(pipeline.sql("SELECT * FROM flaky")) == 1


GUARDED = """
    CREATE STREAMING TABLE copied (CONSTRAINT odd EXPECT (n % 2 = 1) ON VIOLATION DROP ROW) AS
    SELECT n FROM STREAM(numbers);
    CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM numbers
"""


def test_nobody_can_do_more_than_they_may(pipeline: Pipeline) -> None:
    user = f"{pipeline.schema}@example.com"
    token = pipeline.server.new_user(user)
    pipeline.sql("CREATE FUNCTION low(n BIGINT) RETURNS BOOLEAN RETURN n < 4 OR is_account_group_member('admins')")
    pipeline.sql("CREATE TABLE numbers AS SELECT id AS n FROM range(10)")
    pipeline.sql("ALTER TABLE numbers SET ROW FILTER low ON (n)")
    remote = pipeline.server.spark_remote.replace(pipeline.server.token, token)
    stranger = SparkSession.builder.remote(remote).create()
    try:
        other = Pipeline(
            server=pipeline.server, schema=pipeline.schema, spark=stranger, directory=pipeline.directory, token=token
        ).sql_file(GUARDED)
        assert other.update().error is not None
        assert pipeline.tables() == {"numbers"}
        pipeline.sql(f"GRANT USE CATALOG ON CATALOG main TO `{user}`")
        rights = "USE SCHEMA, CREATE TABLE, SELECT, EXECUTE"
        pipeline.sql(f"GRANT {rights} ON SCHEMA main.{pipeline.schema} TO `{user}`")
        assert other.updated().counts("copied")["dropped"] == 2
    finally:
        stranger.stop()
    assert sorted(pipeline.sql("SELECT n FROM copied")) == [(1,), (3,)]
    assert pipeline.sql("SELECT n FROM counted") == [(4,)]


FILES = """
    import dlt

    @dlt.table
    def of_files():
        return (
            spark.readStream.format("cloudFiles").option("cloudFiles.format", "json").schema("id BIGINT, note STRING")
            .load("/Volumes/main/{s}/v/in")
        )
"""
FILES_OF_SQL = """
    CREATE STREAMING TABLE of_sql AS SELECT id + 1 AS id, f.note
    FROM STREAM(read_files('/Volumes/main/{s}/v/in/*.json', format => 'json')) f WHERE id > 1;
    CREATE MATERIALIZED VIEW whole AS
    SELECT count(*) AS n FROM read_files('/Volumes/main/{s}/v/in', format => 'json')
"""


def test_files_of_a_volume_come_once(pipeline: Pipeline) -> None:
    pipeline.sql("CREATE VOLUME v")
    put(pipeline, "in/a.json", [{"id": 1, "note": "a"}, {"id": 2, "note": "b"}])
    put(pipeline, "in/_hidden.json", [{"id": 7, "note": "h"}])
    pipeline.python(FILES.format(s=pipeline.schema)).sql_file(FILES_OF_SQL.format(s=pipeline.schema)).updated()
    put(pipeline, "in/b.json", [{"id": 3, "note": "c"}])
    done = pipeline.updated()
    assert (done.counts("of_files")["written"], done.counts("of_sql")["written"]) == (1, 1)
    assert pipeline.updated().counts("of_files")["written"] == 0
    assert sorted(pipeline.sql("SELECT id, note FROM of_files")) == [(1, "a"), (2, "b"), (3, "c")]
    assert sorted(pipeline.sql("SELECT id, note FROM of_sql")) == [(3, "b"), (4, "c")]
    assert pipeline.sql("SELECT n FROM whole") == [(3,)]
    pipeline.updated(full_refresh=True)
    assert len(pipeline.sql("SELECT id FROM of_files")) == 3


def put(pipeline: Pipeline, name: str, rows: list[dict[str, object]]) -> None:
    """A file of JSON lines in the volume."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    url = f"{pipeline.server.url}/api/2.0/fs/files/Volumes/main/{pipeline.schema}/v/{name}"
    headers = {"Authorization": f"Bearer {pipeline.server.token}", "Content-Type": "application/octet-stream"}
    request = urllib.request.Request(url, data=text.encode(), method="PUT", headers=headers)
    urllib.request.urlopen(request, timeout=60).close()
