"""`ai_query` behind a view, before an endpoint that hangs: the statement ends with an error, and the engine goes on."""

import time
from collections.abc import Iterator

import mlflow
import pytest
from databricks.sdk.service.sql import StatementState
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from pyspark.errors.exceptions.base import PySparkException

from tests.clients.mlflow_session import signed_in
from tests.clients.scored import Scored, open_scored
from tests.clients.test_sdk_serving import PATIENCE, PYFUNCS, config_of, sdk_of
from tests.conftest import FOR_TESTS
from tests.servers import running_server

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600), pytest.mark.long]
REQUEST_TIMEOUT_S = 1.0
MOST_REQUESTS = 8
SIGNATURE = ModelSignature(inputs=Schema([ColSpec(DataType.string, "do")]))


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scored]:
    """A server on which a prediction has a second, and an endpoint `obeys` of a model that hangs when it is told to."""
    env = FOR_TESTS | {"MILLPOND_SERVING__REQUEST_TIMEOUT_S": str(REQUEST_TIMEOUT_S)}
    with running_server(tmp_path_factory.mktemp("hanging") / "data", env=env) as server:
        found = open_scored(server)
        name = f"{found.schema}.obedient"
        with signed_in(server) as client, mlflow.start_run(experiment_id=client.create_experiment(found.schema)):
            mlflow.pyfunc.log_model(
                name="model", python_model=str(PYFUNCS / "obedient.py"), registered_model_name=name,
                signature=SIGNATURE, pip_requirements=["mlflow"],
            )  # fmt: skip
        sdk = sdk_of(server, server.token)
        sdk.serving_endpoints.create_and_wait("obeys", config=config_of(name, "1"), timeout=PATIENCE)
        found.sql("CREATE TABLE {s}.rows AS SELECT id, IF(id < 5000, 'hang', 'echo') AS do FROM range(5010)")
        yield found
        found.spark.stop()


@pytest.mark.parametrize("fails", ["true", "false"])
def test_a_statement_over_a_view_ends_and_the_engine_goes_on(scored: Scored, fails: str) -> None:
    call = f"ai_query('obeys', named_struct('do', do), 'STRING', failOnError => {fails})"
    scored.sql(f"CREATE VIEW {{s}}.told_{fails} AS SELECT id, {call} AS told FROM {{s}}.rows")
    before = scored.sql("SELECT count(*) FROM {s}.rows")
    began = time.monotonic()
    with pytest.raises(PySparkException, match=r"ai_query: obeys answered (504|none of 8 requests in a row)"):
        scored.sql(f"SELECT count(told) FROM {{s}}.told_{fails}")
    took_s = time.monotonic() - began
    assert took_s < MOST_REQUESTS * REQUEST_TIMEOUT_S + 30, "no more than its requests, and a start of the model"

    began = time.monotonic()
    assert scored.sql("SELECT count(*) FROM {s}.rows") == before
    assert time.monotonic() - began < 5, "the engine is the one that it was"
    rows = scored.sql(f"SELECT id, CAST(told AS STRING) FROM {{s}}.told_{fails} WHERE id >= 5000")
    assert len(rows) == 10, (
        "what does not hang is answered, by a process that was started in place of the one that does"
    )
    assert all("echo" in told for _, told in rows)


def test_a_statement_over_http_says_the_same(scored: Scored) -> None:
    statement = f"SELECT ai_query('obeys', named_struct('do', do), 'STRING') FROM {scored.schema}.rows WHERE id < 10"
    sdk = sdk_of(scored.server, scored.server.token).statement_execution
    done = sdk.execute_statement(statement, warehouse_id="starter", wait_timeout="50s")
    assert done.status.state is StatementState.FAILED, done.status
    assert "did not answer within 1 s" in done.status.error.message
