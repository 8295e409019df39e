"""What tasks of jobs read and wrote is told of their runs, tables and models; and their tokens end with them."""

import io
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.jobs import Run, RunLifeCycleState, SparkPythonTask, SqlTask, SqlTaskFile, Task
from databricks.sdk.service.workspace import ImportFormat
from pyspark.sql import SparkSession

from tests.clients.gated import plain_version
from tests.clients.mlflow_session import signed_in
from tests.servers import Server, wait_until

SCRIPT = """
import os, sys
import mlflow
from pyspark.sql import SparkSession

where = sys.argv[1]
spark = SparkSession.builder.getOrCreate()
spark.conf.set("spark.millpond.entity", "JOB:1")
spark.table(f"{where}.orders").filter("amount > 1").write.saveAsTable(f"{where}.large")
print(spark.table(f"{where}.prices").count())
client = mlflow.MlflowClient()
run = client.create_run(client.create_experiment(where)).info.run_id
client.log_text(run, "", "model/MLmodel")
client.create_registered_model(f"{where}.model")
client.create_model_version(f"{where}.model", f"runs:/{run}/model", run)
print(client.get_model_version_download_uri(f"{where}.old", "1"))
print("token", os.environ["DATABRICKS_TOKEN"][::-1])
"""
MORE = "CREATE TABLE {where}.more AS SELECT amount FROM {where}.large"


@dataclass(frozen=True, kw_only=True)
class World:
    """Somebody with a schema, whose job has run."""

    server: Server
    w: WorkspaceClient
    token: str
    where: str
    job_id: int
    run: Run

    def get(self, path: str, *, token: str | None = None, **query: Any) -> Any:
        """The answer of a GET, as who made all of this."""
        text = "&".join(f"{key}={value}" for key, value in query.items())
        status, body = self.server.call("GET", f"{path}?{text}", token=token or self.token)
        assert status == 200, body
        return body

    def uses(self, *, token: str | None = None) -> list[dict[str, Any]]:
        """What the run read and wrote."""
        found: list[dict[str, Any]] = self.get(f"/api/millpond/jobs/runs/{self.run.run_id}/lineage", token=token)[
            "lineage"
        ]
        return found

    def table(self, name: str, *, token: str | None = None) -> Any:
        """A table's lineage, with what ran."""
        path = "/api/2.0/lineage-tracking/table-lineage"
        return self.get(path, token=token, table_name=f"{self.where}.{name}", include_entity_lineage="true")


def ended(w: WorkspaceClient, run_id: int) -> Run:
    over = RunLifeCycleState.TERMINATED
    return wait_until(
        lambda: run if (run := w.jobs.get_run(run_id)).state.life_cycle_state is over else None, timeout_s=180
    )


@pytest.fixture(scope="module")
def world(any_server: Server) -> World:
    name = f"lin-{uuid.uuid4().hex[:6]}@x.org"
    token = any_server.new_user(name)
    w = WorkspaceClient(host=any_server.url, token=token, auth_type="pat")
    where = f"jl_{uuid.uuid4().hex[:8]}.s"
    w.catalogs.create(where[:-2])
    w.schemas.create("s", where[:-2])
    w.volumes.create(where[:-2], "s", "v", VolumeType.MANAGED)
    spark = SparkSession.builder.remote(any_server.spark_remote.replace(any_server.token, token)).create()
    for table in ("orders", "prices"):
        spark.sql(f"CREATE TABLE {where}.{table} AS SELECT 2 AS amount")
    spark.stop()
    old_version(any_server, token, f"{where}.old")
    volume = f"/Volumes/{where[:-2]}/s/v"
    w.files.upload(f"{volume}/s.py", io.BytesIO(SCRIPT.encode()))
    w.workspace.upload(
        f"/Users/{name}/more.sql", io.BytesIO(MORE.format(where=where).encode()), format=ImportFormat.AUTO
    )
    sql = SqlTask(warehouse_id="starter", file=SqlTaskFile(path=f"/Users/{name}/more.sql"))
    job_id = w.jobs.create(
        name="nightly",
        tasks=[
            Task("load", spark_python_task=SparkPythonTask(f"{volume}/s.py", parameters=[where])),
            Task("more", sql_task=sql),
        ],
    ).job_id
    assert job_id is not None
    run = ended(w, w.jobs.run_now(job_id, only=["load"]).run_id)
    assert run.state.result_state.value == "SUCCESS", w.jobs.get_run_output(run.tasks[0].run_id)
    return World(server=any_server, w=w, token=token, where=where, job_id=job_id, run=run)


def old_version(server: Server, token: str, name: str) -> None:
    """A model with a version that no job made."""
    with signed_in(server, token=token) as client:
        client.create_registered_model(name)
        plain_version(client, name)


def told(uses: list[dict[str, Any]], where: str) -> set[tuple[str, str, str]]:
    return {(each["way"], each["kind"], each["name"].removeprefix(f"{where}.")) for each in uses}


def jobs_of(found: list[dict[str, Any]]) -> set[tuple[str, int, int]]:
    """Name, job and run of those that did it themselves."""
    infos = [info for each in found if set(each) == {"jobInfos"} for info in each["jobInfos"]]
    return {(info["job_name"], info["job_id"], info["job_run_id"]) for info in infos}


def test_a_run_tells_which_tables_and_models_its_tasks_read_and_wrote(world: World) -> None:
    wanted = {
        ("read", "table", "orders"), ("read", "table", "prices"), ("write", "table", "large"),
        ("read", "model_version", "old/1"), ("write", "model_version", "model/1"),
    }  # fmt: skip
    wait_until(lambda: told(world.uses(), world.where) == wanted, what=f"{world.uses()}")
    assert {(each["task_key"], each["task_run_id"]) for each in world.uses()} == {("load", world.run.tasks[0].run_id)}


def test_a_task_of_sql_tells_the_same(world: World) -> None:
    run = ended(world.w, world.w.jobs.run_now(world.job_id, only=["more"]).run_id)

    def found() -> set[tuple[str, str, str]]:
        return told(world.get(f"/api/millpond/jobs/runs/{run.run_id}/lineage")["lineage"], world.where)

    wait_until(lambda: found() == {("read", "table", "large"), ("write", "table", "more")}, what="its lineage")


def test_a_tables_lineage_names_the_job_to_whoever_may_see_it(world: World) -> None:
    job = ("nightly", world.job_id, world.run.run_id)
    wait_until(lambda: job in jobs_of(world.table("orders")["downstreams"]), what="the job that has read it")
    large = world.table("large")
    assert jobs_of(large["upstreams"]) == {job}
    [orders] = [each for each in large["upstreams"] if "tableInfo" in each]
    assert [(info["job_id"], info["job_run_id"]) for info in orders["jobInfos"]] == [job[1:]]
    stranger = f"str-{uuid.uuid4().hex[:6]}@x.org"
    token = world.server.new_user(stranger)
    for kind, name, right in (("catalog", world.where[:-2], "USE_CATALOG"), ("schema", world.where, "USE_SCHEMA"),
                              ("schema", world.where, "SELECT")):  # fmt: skip
        world.w.api_client.do(
            "PATCH", f"/api/2.1/unity-catalog/permissions/{kind}/{name}",
            body={"changes": [{"principal": stranger, "add": [right]}]},
        )  # fmt: skip
    theirs = world.table("large", token=token)
    assert [each for each in theirs["upstreams"] if "tableInfo" in each]
    assert "jobInfos" not in str(theirs)


def test_the_system_table_names_the_job_by_its_credential_and_nothing_that_a_client_claims(world: World) -> None:
    wait_until(lambda: jobs_of(world.table("large")["upstreams"]), what="the job that has written it")
    spark = SparkSession.builder.remote(world.server.spark_remote.replace(world.server.token, world.token)).create()
    spark.conf.set("spark.millpond.entity", f"JOB:{world.job_id}")
    spark.sql(f"CREATE TABLE {world.where}.claimed AS SELECT amount FROM {world.where}.orders")
    spark.stop()
    wait_until(lambda: len(world.table("claimed")["upstreams"]) == 1, what="its lineage")
    assert "jobInfos" not in str(world.table("claimed")["upstreams"])
    admin = SparkSession.builder.remote(world.server.spark_remote).create()
    rows = admin.sql(
        "SELECT target_table_name, entity_type, entity_id, entity_run_id FROM system.access.table_lineage "
        f"WHERE source_table_full_name = '{world.where}.orders' AND target_table_name IN ('large', 'claimed')"
    ).collect()
    admin.stop()
    assert {tuple(row) for row in rows} == {
        ("large", "JOB", str(world.job_id), str(world.run.run_id)),
        ("claimed", "EXTERNAL_JOB", str(world.job_id), str(world.job_id)),
    }


def test_a_token_that_a_task_gave_away_is_good_for_nothing_once_it_has_ended(world: World) -> None:
    logs = world.w.jobs.get_run_output(world.run.tasks[0].run_id).logs or ""
    token = logs.partition("token ")[2].strip()[::-1]
    assert token.count(".") == 2
    status, body = world.server.call("GET", "/api/2.0/preview/scim/v2/Me", token=token)
    assert (status, "deleted or expired" in str(body)) == (401, True)
    spark = SparkSession.builder.remote(world.server.spark_remote.replace(world.server.token, token)).create()
    with pytest.raises(Exception, match="deleted or expired"):
        spark.sql("SELECT 1").collect()
    spark.stop()  # else it is the active one of tests to come
