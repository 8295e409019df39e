"""`ai_query` in SQL and in DataFrames: what PySpark and the statements API get, who may ask, and what is kept of it."""

from collections.abc import Iterator
from typing import Any

import pytest
from databricks.sdk.service.serving import AutoCaptureConfigInput
from pyspark.errors.exceptions.base import AnalysisException, PySparkException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tests.clients.scored import TOLD_SIGNATURE, Scored, Told, line, open_scored
from tests.clients.test_sdk_serving import PATIENCE, config_of, sdk_of
from tests.servers import Server, wait_until

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]
ROWS = 10_000


@pytest.fixture(scope="module")
def scored(any_server: Server) -> Iterator[Scored]:
    found = open_scored(any_server)
    model, how = line(2.0)
    found.alias("line", "champion", found.log("line", model, **how))
    found.log("told", Told(), signature=TOLD_SIGNATURE)
    found.sql("CREATE TABLE {s}.rows AS SELECT id, CAST(id AS DOUBLE) AS a, CAST(1 AS DOUBLE) AS b FROM range(10000)")
    yield found
    found.spark.stop()


def endpoint_of(scored: Scored, name: str, **capture: Any) -> str:
    """An endpoint that serves version 1 of a model."""
    endpoint = f"{name}-{scored.schema[-10:]}"
    config = config_of(f"{scored.schema}.{name}", "1")
    config.auto_capture_config = AutoCaptureConfigInput(**capture) if capture else None
    sdk = sdk_of(scored.server, scored.server.token)
    sdk.serving_endpoints.create_and_wait(endpoint, config=config, timeout=PATIENCE)
    return endpoint


def test_a_model_by_its_uri_gives_what_it_predicts_in_batches(scored: Scored) -> None:
    """The type comes from the signature; an alias is one version for the statement; all rows come in a few requests."""
    uri = f"models:/{scored.schema}.line@champion"
    frame = scored.spark.sql(f"SELECT id, ai_query('{uri}', struct(a, b)) AS y FROM {scored.schema}.rows")
    assert frame.dtypes[1] == ("y", "double")
    found = {row.id: row.y for row in frame.collect()}
    assert found == {number: pytest.approx(2.0 * (number + 1)) for number in range(ROWS)}
    table = scored.spark.table(f"{scored.schema}.rows").where("id = 3").drop("id")
    assert table.selectExpr(f"ai_query('{uri}', struct(*), returnType => 'FLOAT') y").dtypes == [("y", "float")]
    request = F.struct("a", "b")
    assert table.select(F.call_function("ai_query", F.lit(uri), request)).first()[0] == pytest.approx(8.0)
    asked = scored.sql(
        "SELECT count(*) FROM system.access.audit WHERE request_params['path'] = '/api/millpond/scoring/invocations' "
        f"AND user_identity.email = '{scored.server.user}'"
    )[0][0]
    assert 0 < asked < 40


def test_columns_params_and_errors_by_row(scored: Scored) -> None:
    uri = f"models:/{scored.schema}.told/1"
    (row,) = scored.spark.sql(f"SELECT ai_query('{uri}', 4.5D) AS told").collect()  # its only input
    assert row.told.asDict() == {"twice": 9.0, "word": "w"}
    by = "modelParameters => named_struct('by', 10)"
    assert scored.sql(f"SELECT ai_query('{uri}', named_struct('x', 1D), {by}).twice") == [(10.0,)]
    assert scored.sql(f"SELECT ai_query('{uri}', named_struct('x', 1D), 'STRING') AS t") == [
        ('{"twice": 2.0, "word": "w"}',)
    ]
    rows = scored.spark.sql(
        f"SELECT a, ai_query('{uri}', named_struct('x', IF(a = 77, -1D, a)), failOnError => false) AS told "
        f"FROM {scored.schema}.rows WHERE id < 200"
    ).collect()
    wrong = [row.a for row in rows if row.told.errorMessage is not None]
    assert (wrong, len(rows)) == ([77.0], 200)
    assert all(row.told.result.twice == 2 * row.a for row in rows if row.a != 77)
    with pytest.raises(PySparkException, match="a negative number"):
        scored.sql(f"SELECT ai_query('{uri}', -1D)")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("ai_query('no-such-endpoint', a)", "no-such-endpoint"),
        ("ai_query('models:/{s}.line@nobody', struct(a, b))", "alias 'nobody'"),
        ("ai_query('models:/{s}.line', struct(a, b))", "is no model version"),
        ("ai_query('models:/{s}.line/1')", "requires endpoint and request"),
        ("ai_query(concat('x', a), a)", "endpoint is a text"),
        ("ai_query('models:/{s}.line/1', a, responseFormat => 'x')", "responseFormat"),
        ("ai_query('models:/{s}.line/1', a, modelParameters => a)", "modelParameters is a named_struct"),
        ("ai_query('models:/{s}.line/1', a)", "takes the columns a, b"),
        ("ai_query('models:/{s}.line/1', struct(a))", r"missing inputs \['b'\]"),
        ("ai_query('models:/{s}.line/1', struct(a, b), 'ARRAY<STRUCT<x: INT>>')", "another returnType"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_reason(scored: Scored, call: str, message: str) -> None:
    with pytest.raises(PySparkException, match=message):
        scored.sql(f"SELECT {call} FROM {{s}}.rows LIMIT 1")


def test_an_endpoint_is_asked_as_whoever_queries_and_keeps_what_it_answered(scored: Scored) -> None:
    """With its inference table, the rights of the asker, and lineage from table and endpoint to table."""
    schema = scored.schema.partition(".")[2]
    endpoint = endpoint_of(scored, "line", catalog_name="main", schema_name=schema, table_name_prefix="line")
    token = scored.server.new_user(f"asker-{endpoint}@example.com")
    other = SparkSession.builder.remote(scored.server.spark_remote.replace(scored.server.token, token)).create()
    call = f"SELECT ai_query('{endpoint}', named_struct('a', 1D, 'b', 2D)) AS y"
    with pytest.raises(AnalysisException, match=endpoint):
        other.sql(call).collect()
    sdk = sdk_of(scored.server, scored.server.token)
    found = sdk.serving_endpoints.get(endpoint)
    user = f"asker-{endpoint}@example.com"
    path = f"/api/2.0/permissions/serving-endpoints/{found.id}"
    levels = {"access_control_list": [{"user_name": user, "permission_level": "CAN_QUERY"}]}
    assert scored.server.call("PATCH", path, levels)[0] == 200
    assert other.sql(call).first().y == pytest.approx(6.0)
    with pytest.raises(AnalysisException, match="line"):
        other.sql(call.replace(endpoint, f"models:/{scored.schema}.line/1")).collect()
    other.stop()

    statement = f"INSERT INTO {{s}}.predicted SELECT id, ai_query('{endpoint}', struct(a, b)) FROM {{s}}.rows"
    scored.sql("CREATE TABLE {s}.predicted (id BIGINT, y DOUBLE)")
    done = sdk.statement_execution.execute_statement(
        statement.replace("{s}", scored.schema), warehouse_id="starter", wait_timeout="50s"
    )
    assert done.status.state.value == "SUCCEEDED", done.status
    assert scored.sql("SELECT count(*), max(y) FROM {s}.predicted") == [(ROWS, pytest.approx(2.0 * ROWS))]
    kept = f"SELECT sum(size(predictions)), collect_set(requester) FROM {scored.schema}.line_payload"
    total, who = wait_until(
        lambda: next((each for each in scored.sql(kept) if (each[0] or 0) > ROWS), None), what="the inference table"
    )
    assert (total, set(who)) == (ROWS + 1, {user, scored.server.user})
    graph = f"/api/millpond/lineage/graph?table_name={scored.schema}.predicted"
    sources = {("endpoint", endpoint), ("table", f"{scored.schema}.rows")}

    def known() -> set[tuple[str, str]]:
        return {(node["kind"], node["name"]) for node in scored.server.call("GET", graph)[1]["nodes"]}

    wait_until(lambda: sources <= known(), what="lineage, which is told beside the statement")
    sdk.serving_endpoints.delete(endpoint)
