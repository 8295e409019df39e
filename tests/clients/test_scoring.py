"""Tables are scored by Python, the CLI, jobs and streams: what is new, once, also after kill -9."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlflow
import pytest
from databricks.sdk.service.catalog import VolumeType
from pyspark.errors.exceptions.base import PySparkException
from pyspark.sql.connect.session import SparkSession as ConnectSession
from sklearn.linear_model import LinearRegression

from millpond.features import FeatureEngineeringClient, FeatureLookup
from millpond.features.connection import Connection
from millpond.sdk.scoring import Outcome, _resolved, _Scoring, score_table
from tests.clients.mlflow_session import signed_in
from tests.clients.scored import Scored, line, open_scored
from tests.clients.test_sdk_serving import PATIENCE, config_of, sdk_of
from tests.servers import MILLPOND, Server

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def scored(any_server: Server) -> Iterator[Scored]:
    found = open_scored(any_server)
    for slope in (2.0, 3.0):
        model, how = line(slope)
        found.log("line", model, **how)
    found.alias("line", "champion", "1")
    yield found
    found.spark.stop()


def make_source(scored: Scored, name: str, *, key: bool = True) -> str:
    """A table with rows 0 to 9."""
    primary = ", PRIMARY KEY (id)" if key else ""
    scored.sql(f"CREATE TABLE {{s}}.{name} (id BIGINT NOT NULL, a DOUBLE, b DOUBLE, note STRING{primary})")
    insert(scored, name, 0, 10)
    return f"{scored.schema}.{name}"


def insert(scored: Scored, name: str, first: int, last: int) -> None:
    scored.sql(f"INSERT INTO {{s}}.{name} SELECT id, CAST(id AS DOUBLE), 1D, 'n' FROM range({first}, {last})")


@contextmanager
def as_client(scored: Scored) -> Iterator[None]:
    """The variables of `millpond env`, and the session of the tests."""
    before = getattr(ConnectSession._active_session, "session", None)
    ConnectSession._active_session.session = scored.spark
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATABRICKS_HOST", "DATABRICKS_TOKEN", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN"):
            patch.setenv(name, scored.server.client_env()[name])
        yield
    ConnectSession._active_session.session = before


def score(scored: Scored, source: str, target: str, model: str = "line@champion", **how: Any) -> Outcome:
    with as_client(scored):
        uri = f"models:/{scored.schema}.{model}" if "@" in model or "/" in model else model
        return score_table(source, f"{scored.schema}.{target}", uri, **how)


def predictions(scored: Scored, target: str) -> dict[int, tuple[float, str]]:
    """Prediction and version by id; each id once."""
    rows = scored.sql(f"SELECT id, round(prediction, 6), model_version FROM {{s}}.{target}")
    found = {row[0]: row[1:] for row in rows}
    assert len(found) == len(rows)
    return found


def expected(ids: Any, slope: float = 2.0, version: str = "1") -> dict[int, tuple[float, str]]:
    return {number: (slope * (number + 1), version) for number in ids}


def test_rows_are_scored_once_as_they_come_change_and_go(scored: Scored) -> None:
    source = make_source(scored, "events")
    first = score(scored, source, "scored_events", columns=["note"])
    assert (first.rows, first.since_version, first.model_version) == (10, None, "1")
    assert predictions(scored, "scored_events") == expected(range(10))
    assert scored.spark.table(f"{scored.schema}.scored_events").columns == [
        "id", "note", "prediction", "model_name", "model_version", "source_version", "scored_at"
    ]  # fmt: skip
    when = scored.sql("SELECT id, scored_at FROM {s}.scored_events ORDER BY id")
    assert score(scored, source, "scored_events").rows == 0
    insert(scored, "events", 10, 15)
    insert(scored, "events", 15, 20)
    assert score(scored, source, "scored_events").rows == 10
    scored.sql("OPTIMIZE {s}.events")
    assert score(scored, source, "scored_events").rows == 0
    assert scored.sql("SELECT id, scored_at FROM {s}.scored_events WHERE id < 10 ORDER BY id") == when

    scored.sql("UPDATE {s}.events SET b = 5 WHERE id IN (3, 12)")
    scored.sql("DELETE FROM {s}.events WHERE id = 4")
    insert(scored, "events", 20, 22)
    assert score(scored, source, "scored_events").rows == 4
    rest = expected(set(range(22)) - {4}) | {3: (2.0 * 8, "1"), 12: (2.0 * 17, "1")}
    assert predictions(scored, "scored_events") == rest
    assert scored.sql("SELECT id, scored_at FROM {s}.scored_events WHERE id IN (0, 9) ORDER BY id") == [
        when[0], when[9]
    ]  # fmt: skip
    metadata = scored.sql("DESCRIBE HISTORY {s}.scored_events LIMIT 1")
    assert "source_version" in str(metadata)


def test_a_new_version_goes_on_or_scores_all(scored: Scored) -> None:
    source = make_source(scored, "moved")
    score(scored, source, "moved_scored", "line/1")
    insert(scored, "moved", 10, 12)
    went_on = score(scored, source, "moved_scored", "line/2")
    assert (went_on.rows, went_on.since_version) == (2, 1)
    assert predictions(scored, "moved_scored") == expected(range(10)) | expected(range(10, 12), 3.0, "2")
    again = score(scored, source, "moved_scored", "line/2", on_new_version="rescore")
    assert (again.rows, again.since_version) == (12, None)
    assert predictions(scored, "moved_scored") == expected(range(12), 3.0, "2")
    assert score(scored, source, "moved_scored", "line/2").rows == 0
    insert(scored, "moved", 12, 14)
    back = score(scored, source, "moved_scored", "line/1")
    assert (back.rows, back.since_version) == (2, 2)
    assert predictions(scored, "moved_scored") == expected(range(12), 3.0, "2") | expected(range(12, 14))
    assert score(scored, source, "moved_scored", "line/1", on_new_version="rescore").rows == 14
    assert predictions(scored, "moved_scored") == expected(range(14))
    fresh = score(scored, source, "moved_fresh", "line/1")
    assert fresh.rows == 14
    assert score(scored, source, "moved_fresh", "line/2", on_new_version="rescore").rows == 14
    assert predictions(scored, "moved_fresh") == expected(range(14), 3.0, "2")


def test_scorings_at_once_write_each_row_once(scored: Scored) -> None:
    """The second one has read where the first one was before that ended."""
    source = make_source(scored, "raced")
    score(scored, source, "raced_scored")
    insert(scored, "raced", 10, 12)
    with as_client(scored):
        connection = Connection()
        task = _resolved(connection, source, f"{scored.schema}.raced_scored", f"models:/{scored.schema}.line/1",
                         (), (), None)  # fmt: skip
        slow = _Scoring(connection, task)
        start = slow._scored_up_to(rescore=False)
        assert score(scored, source, "raced_scored", "line/2").rows == 2
        insert(scored, "raced", 12, 13)
        with pytest.raises(PySparkException, match="DELTA_CONCURRENT_WRITE"):
            slow._score(start, slow._newest())
    assert score(scored, source, "raced_scored").rows == 1
    found = expected(range(10)) | expected(range(10, 12), 3.0, "2") | expected([12])
    assert predictions(scored, "raced_scored") == found


def test_what_cannot_be_scored_is_refused_with_a_reason(scored: Scored) -> None:
    source = make_source(scored, "keyless", key=False)
    assert score(scored, source, "keyless_scored", columns="id").rows == 10
    insert(scored, "keyless", 10, 11)
    assert score(scored, source, "keyless_scored", columns="id").rows == 1
    insert(scored, "keyless", 11, 12)
    scored.sql("OPTIMIZE {s}.keyless")
    assert score(scored, source, "keyless_scored", columns="id").rows == 1
    assert predictions(scored, "keyless_scored") == expected(range(12))
    with pytest.raises(ValueError, match=r"predictions of .*line for another table"):
        score(scored, make_source(scored, "second"), "keyless_scored")
    scored.sql("DELETE FROM {s}.keyless WHERE id = 1")
    with pytest.raises(ValueError, match="no primary key"):
        score(scored, source, "keyless_scored", columns="id")
    with pytest.raises(ValueError, match="has no column nothing"):
        score(scored, source, "x", keys="nothing")
    with pytest.raises(ValueError, match="no version of a model"):
        score(scored, source, "x", "line@nobody")
    with pytest.raises(ValueError, match="does not exist"):
        score(scored, f"{scored.schema}.none", "x")
    with pytest.raises(ValueError, match="continue, rescore"):
        score(scored, source, "x", on_new_version="sometimes")
    scored.sql("CREATE TABLE {s}.other (id BIGINT, c DOUBLE)")
    with pytest.raises(ValueError, match="lacks the columns a, b"):
        score(scored, f"{scored.schema}.other", "x")


@pytest.mark.long
def test_a_job_scores_with_the_rights_of_whom_it_runs_as(scored: Scored) -> None:
    source = make_source(scored, "jobs")
    sdk = sdk_of(scored.server, scored.server.token)
    task = {
        "task_key": "score",
        "model_scoring_task": {
            "source_table": source,
            "target_table": f"{scored.schema}.jobs_scored",
            "model": f"models:/{scored.schema}.line@champion",
        },
    }
    made = sdk.api_client.do("POST", "/api/2.2/jobs/create", body={"name": "score", "tasks": [task]})
    run = sdk.jobs.run_now_and_wait(made["job_id"], timeout=PATIENCE)
    assert run.state.result_state.value == "SUCCESS", sdk.jobs.get_run_output(run.tasks[0].run_id)
    assert predictions(scored, "jobs_scored") == expected(range(10))
    kept = sdk.api_client.do("GET", "/api/2.2/jobs/get", query={"job_id": made["job_id"]})
    assert kept["settings"]["tasks"][0]["model_scoring_task"] == task["model_scoring_task"]
    other = sdk_of(scored.server, scored.server.new_user(f"scorer-{scored.schema[-6:]}@example.com"))
    made = other.api_client.do("POST", "/api/2.2/jobs/create", body={"name": "score", "tasks": [task]})
    run = other.jobs.run_now_and_wait(made["job_id"], timeout=PATIENCE)
    assert run.state.result_state.value == "FAILED"
    assert "does not exist, or you may not see it" in other.jobs.get_run_output(run.tasks[0].run_id).error


@pytest.mark.long
def test_features_are_looked_up_for_a_model_that_was_logged_with_them(scored: Scored) -> None:
    source = make_source(scored, "keyed")
    scored.sql("CREATE TABLE {s}.facts (id BIGINT NOT NULL, c DOUBLE, PRIMARY KEY (id))")
    scored.sql("INSERT INTO {s}.facts SELECT id, CAST(10 * id AS DOUBLE) FROM range(20)")
    with as_client(scored), signed_in(scored.server):
        fe = FeatureEngineeringClient()
        labels = scored.spark.sql(f"SELECT id, a, 2 * a + 20 * id AS y FROM {source}")
        lookup = FeatureLookup(table_name=f"{scored.schema}.facts", lookup_key="id")
        training = fe.create_training_set(df=labels, feature_lookups=[lookup], label="y", exclude_columns=["id"])
        rows = training.load_df().toPandas()
        model = LinearRegression().fit(rows[["a", "c"]], rows["y"])
        with mlflow.start_run():
            fe.log_model(
                model=model, name="m", flavor=mlflow.sklearn, training_set=training,
                registered_model_name=f"{scored.schema}.featured", pip_requirements=["mlflow", "scikit-learn"],
            )  # fmt: skip
        assert score(scored, source, "keyed_scored", "featured/1").rows == 10
    found = predictions(scored, "keyed_scored")
    assert found == {number: (pytest.approx(22.0 * number, abs=1e-4), "1") for number in range(10)}


@pytest.mark.long
def test_a_stream_asks_a_model_for_what_was_added(scored: Scored) -> None:
    make_source(scored, "streamed")
    sdk = sdk_of(scored.server, scored.server.token)
    catalog, schema = scored.schema.split(".")
    sdk.volumes.create(catalog, schema, "checkpoints", VolumeType.MANAGED)

    def run() -> None:
        rows = scored.spark.readStream.table(f"{scored.schema}.streamed")
        call = f"ai_query('models:/{scored.schema}.line@champion', struct(a, b)) AS prediction"
        query = rows.selectExpr("id", call, "'1' AS model_version").writeStream.trigger(availableNow=True)
        place = f"/Volumes/{catalog}/{schema}/checkpoints/q"
        assert query.option("checkpointLocation", place).toTable(f"{scored.schema}.stream_scored").awaitTermination(120)

    run()
    insert(scored, "streamed", 10, 13)
    run()
    assert predictions(scored, "stream_scored") == expected(range(13))


@pytest.mark.long
def test_killed_at_any_time_each_row_is_scored_once(scored: Scored) -> None:
    source, target = make_source(scored, "killed"), f"{scored.schema}.killed_scored"
    uri = f"models:/{scored.schema}.line@champion"
    for number in range(1, 12):
        insert(scored, "killed", 10 * number, 10 * number + 10)
        if number % 4 == 0:
            scored.sql(f"UPDATE {{s}}.killed SET b = {number} WHERE id % 10 = 0")
        running = subprocess.Popen([MILLPOND, "score", source, target, uri], env=scored.server.client_env())
        time.sleep(0.6 + 0.4 * number)  # another moment each time: there is nothing to wait for
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    score(scored, source, "killed_scored")
    wanted = scored.sql("SELECT id, round(2 * (a + b), 6) FROM {s}.killed ORDER BY id")
    assert scored.sql("SELECT id, round(prediction, 6) FROM {s}.killed_scored ORDER BY id") == wanted


@pytest.mark.long
def test_an_endpoint_scores_a_table_too(scored: Scored) -> None:
    source, sdk = make_source(scored, "asked"), sdk_of(scored.server, scored.server.token)
    endpoint = f"line-{scored.schema[-8:]}"
    sdk.serving_endpoints.create_and_wait(endpoint, config=config_of(f"{scored.schema}.line", "1"), timeout=PATIENCE)
    done = subprocess.run(
        [MILLPOND, "score", source, f"{scored.schema}.asked_scored", endpoint],
        env=scored.server.client_env(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "10 rows scored by" in done.stdout
    assert predictions(scored, "asked_scored") == expected(range(10))
    sdk.serving_endpoints.delete(endpoint)
