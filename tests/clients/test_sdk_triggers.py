"""The unmodified Databricks SDK on what starts jobs by itself: the clock, files, tables, models, and their own end."""

import io
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidParameterValue, NotFound, PermissionDenied
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.jobs import (
    BaseRun,
    Condition,
    ConditionTask,
    ConditionTaskOp,
    Continuous,
    CronSchedule,
    FileArrivalTriggerConfiguration,
    JobRunAs,
    JobSettings,
    ModelTriggerConfiguration,
    ModelTriggerConfigurationCondition,
    PauseStatus,
    Run,
    RunResultState,
    TableUpdateTriggerConfiguration,
    Task,
    TriggerSettings,
    TriggerType,
)

from tests.servers import Server, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' warnings are not ours


@pytest.fixture
def w(any_server: Server) -> WorkspaceClient:
    return WorkspaceClient(host=any_server.url, token=any_server.token, auth_type="pat")


@pytest.fixture
def schema(w: WorkspaceClient) -> str:
    """A schema of one's own."""
    name = f"triggers_{uuid.uuid4().hex[:8]}"
    w.schemas.create(name, "main")
    return f"main.{name}"


def says(text: str) -> Task:
    """A task that needs no process, whose resolved text can be read from the run."""
    return Task("says", condition_task=ConditionTask(op=ConditionTaskOp.NOT_EQUAL, left=text, right=""))


def said(w: WorkspaceClient, run: BaseRun) -> str:
    return w.jobs.get_run(run.run_id).tasks[0].condition_task.left


def ended(w: WorkspaceClient, job_id: int, count: int) -> list[BaseRun]:
    """The job's runs, once as many have ended, the newest first."""

    def found() -> list[BaseRun]:
        runs = list(w.jobs.list_runs(job_id=job_id, completed_only=True))
        return runs if len(runs) >= count else []

    return wait_until(found, what=f"{count} runs of job {job_id}")


def test_a_cron_schedule_fires_in_its_time_zone_and_rests_while_it_is_paused(w: WorkspaceClient) -> None:
    every_second = CronSchedule("* * * * * ?", "America/New_York")
    job = w.jobs.create(name="cron", schedule=every_second, max_concurrent_runs=9, tasks=[says("{{job.trigger.type}}")])
    runs = ended(w, job.job_id, 2)
    assert {run.trigger for run in runs} == {TriggerType.PERIODIC}
    assert said(w, runs[0]) == "periodic"
    nightly = CronSchedule("0 30 6 ? * MON-FRI", "Europe/Berlin")
    w.jobs.update(job.job_id, new_settings=JobSettings(schedule=nightly))
    found = w.jobs.get(job.job_id, include_trigger_state=True)
    assert found.settings.schedule.quartz_cron_expression == "0 30 6 ? * MON-FRI"
    state = found.as_dict()["trigger_details"][0]["state"]
    assert state["pause_status"] == "UNPAUSED"
    raw = w.api_client.do("GET", "/api/2.2/jobs/get", query={"job_id": job.job_id, "include_trigger_state": "true"})
    fires = datetime.fromtimestamp(raw["trigger_details"][0]["state"]["schedule"]["next_run_time"] / 1000, UTC)
    assert (fires.minute, fires.hour in (4, 5), fires.isoweekday() <= 5) == (30, True, True)
    paused = CronSchedule("* * * * * ?", "UTC", pause_status=PauseStatus.PAUSED)
    w.jobs.update(job.job_id, new_settings=JobSettings(schedule=paused))
    found = w.jobs.get(job.job_id, include_trigger_state=True)
    assert found.trigger_state.pause_status is PauseStatus.PAUSED
    with pytest.raises(InvalidParameterValue, match=r"schedule\.quartz_cron_expression: '61' is no seconds"):
        w.jobs.create(schedule=CronSchedule("61 * * * * ?", "UTC"), tasks=[says("x")])


def test_files_that_arrive_in_a_volume_start_a_run_and_others_do_not(w: WorkspaceClient, schema: str) -> None:
    catalog, name = schema.split(".")
    w.volumes.create(catalog, name, "landing", VolumeType.MANAGED)
    place = f"/Volumes/{catalog}/{name}/landing"
    w.files.upload(f"{place}/old.csv", io.BytesIO(b"1"))
    trigger = TriggerSettings(file_arrival=FileArrivalTriggerConfiguration(url=f"{place}/"))
    job = w.jobs.create(name="files", trigger=trigger, tasks=[says("{{job.trigger.file_arrival.location}}")])
    w.files.upload(f"{place}/old.csv", io.BytesIO(b"2"), overwrite=True)
    looked = looks(w, job.job_id)
    wait_until(lambda: looks(w, job.job_id) > looked, what="another look")
    assert list(w.jobs.list_runs(job_id=job.job_id)) == []
    w.files.create_directory(f"{place}/2026/11")
    w.files.upload(f"{place}/2026/11/new.csv", io.BytesIO(b"3"))
    [run] = ended(w, job.job_id, 1)
    assert (run.trigger, said(w, run)) == (TriggerType.FILE_ARRIVAL, f"{place}/")
    w.files.upload(f"{place}/second.csv", io.BytesIO(b"3"))
    assert len(ended(w, job.job_id, 2)) == 2
    w.jobs.update(job.job_id, new_settings=JobSettings(trigger=TriggerSettings(
        file_arrival=trigger.file_arrival, pause_status=PauseStatus.PAUSED)))  # fmt: skip
    w.files.upload(f"{place}/third.csv", io.BytesIO(b"3"))
    w.jobs.update(job.job_id, new_settings=JobSettings(trigger=trigger))
    w.files.upload(f"{place}/fourth.csv", io.BytesIO(b"3"))
    assert len(ended(w, job.job_id, 3)) == 3, "what came while it was paused is not made up for"


def test_files_wait_while_the_job_has_as_many_runs_as_it_may(w: WorkspaceClient, schema: str) -> None:
    catalog, name = schema.split(".")
    w.volumes.create(catalog, name, "landing", VolumeType.MANAGED)
    place = f"/Volumes/{catalog}/{name}/landing"
    fails = ConditionTask(op=ConditionTaskOp.LESS_THAN, left="a", right="1")
    job = w.jobs.create(
        name="busy",
        trigger=TriggerSettings(file_arrival=FileArrivalTriggerConfiguration(url=place)),
        tasks=[Task("waits", condition_task=fails, max_retries=-1, min_retry_interval_millis=600_000)],
    ).job_id
    w.files.upload(f"{place}/one.csv", io.BytesIO(b"1"))
    first = wait_until(lambda: list(w.jobs.list_runs(job_id=job)), what="the first run")[0].run_id
    w.files.upload(f"{place}/two.csv", io.BytesIO(b"2"))
    wait_until(lambda: "as many runs as it may" in history(w, job)["last_not_triggered"]["description"])
    assert len(list(w.jobs.list_runs(job_id=job))) == 1
    w.jobs.cancel_run(first)
    wait_until(lambda: len(list(w.jobs.list_runs(job_id=job))) == 2, what="the run for the second file")
    w.jobs.delete(job)


def looks(w: WorkspaceClient, job_id: int) -> int:
    """When the trigger was last looked at without starting a run."""
    details = w.jobs.get(job_id, include_trigger_state=True).trigger_details[0]
    last = details.history.last_not_triggered if details.history else None
    return last.timestamp if last else 0


def test_new_versions_of_tables_start_a_run_that_knows_them(
    w: WorkspaceClient, schema: str, any_server: Server
) -> None:
    names = [f"{schema}.one", f"{schema}.two"]
    for name in names:
        sql(w, f"CREATE TABLE {name} (a INT)")
    told = "{{job.trigger.table_update.updated_tables}} {{job.trigger.table_update.NAME.version}}"

    def job_of(condition: Condition) -> int:
        watched = TableUpdateTriggerConfiguration(table_names=names, condition=condition)
        return w.jobs.create(
            trigger=TriggerSettings(table_update=watched),
            tasks=[says(told.replace("NAME", names[0]))],
        ).job_id

    any_of, all_of = job_of(Condition.ANY_UPDATED), job_of(Condition.ALL_UPDATED)
    sql(w, f"INSERT INTO {names[0]} VALUES (1)")
    [run] = ended(w, any_of, 1)
    assert run.trigger is TriggerType.TABLE
    assert said(w, run).startswith(f'["{names[0]}"] ')
    assert said(w, run).split()[-1].isdecimal()

    def updated() -> dict[str, bool]:
        state = w.jobs.get(all_of, include_trigger_state=True).trigger_state.table
        return {each.table_name: bool(each.has_seen_updates) for each in state.last_seen_table_states}

    wait_until(lambda: updated() == {names[0]: True, names[1]: False}, what="the first of two updates")
    sql(w, f"INSERT INTO {names[1]} VALUES (1)")
    [run] = ended(w, all_of, 1)
    assert said(w, run).startswith(str(names).replace("'", '"'))
    w.jobs.delete(any_of)
    w.jobs.delete(all_of)


def sql(w: WorkspaceClient, statement: str) -> None:
    warehouse = next(iter(w.warehouses.list())).id
    done = w.statement_execution.execute_statement(statement, warehouse, wait_timeout="50s")
    assert done.status.state.value == "SUCCEEDED", done.status


def test_models_that_get_versions_and_aliases_start_runs(w: WorkspaceClient, schema: str) -> None:
    catalog, name = schema.split(".")
    moved = ModelTriggerConfigurationCondition.MODEL_ALIAS_SET
    watched = {
        "made": (ModelTriggerConfigurationCondition.MODEL_CREATED, schema, None),
        "moved": (moved, f"{schema}.churn", ["champion"]),
    }
    w.registered_models.create(catalog_name=catalog, schema_name=name, name="churn")
    jobs = {
        key: w.jobs.create(
            name=key,
            tasks=[says("{{job.trigger.model.updates}}")],
            trigger=TriggerSettings(model=ModelTriggerConfiguration(condition, aliases=aliases, securable_name=scope)),
        ).job_id
        for key, (condition, scope, aliases) in watched.items()
    }
    w.registered_models.create(catalog_name=catalog, schema_name=name, name="other")
    [run] = ended(w, jobs["made"], 1)
    assert said(w, run) == f'[{{"full_name": "{schema}.other"}}]'
    version(w, f"{schema}.churn")
    w.registered_models.set_alias(f"{schema}.churn", "challenger", 1)
    w.registered_models.set_alias(f"{schema}.churn", "champion", 1)
    [run] = ended(w, jobs["moved"], 1)
    told = said(w, run)
    assert f'"full_name": "{schema}.churn"' in told
    assert '"version": 1' in told
    assert '"alias_name": "champion"' in told


def version(w: WorkspaceClient, model: str) -> None:
    """A ready version without files, as MLflow makes it of a run."""
    client = "/api/2.0/mlflow"
    run = w.api_client.do("POST", f"{client}/runs/create", body={"experiment_id": "0"})["run"]["info"]
    source = run["artifact_uri"]
    w.api_client.do("POST", f"{client}/model-versions/create", body={
        "name": model, "source": source, "run_id": run["run_id"],
    })  # fmt: skip


def test_a_continuous_job_goes_on_until_it_is_paused(w: WorkspaceClient) -> None:
    job = w.jobs.create(name="always", continuous=Continuous(), tasks=[says("{{job.trigger.type}}")]).job_id
    runs = ended(w, job, 3)
    assert {run.trigger for run in runs} == {TriggerType.CONTINUOUS}
    paused = JobSettings(continuous=Continuous(pause_status=PauseStatus.PAUSED))
    w.jobs.update(job, new_settings=paused)
    wait_until(lambda: not list(w.jobs.list_runs(job_id=job, active_only=True)), what="the last run's end")
    fails = ConditionTask(op=ConditionTaskOp.LESS_THAN, left="a", right="b")
    failing = w.jobs.create(name="fails", continuous=Continuous(), tasks=[Task("f", condition_task=fails)]).job_id
    [run] = ended(w, failing, 1)
    assert run.state.result_state is RunResultState.FAILED
    ends = w.jobs.get(failing, include_trigger_state=True)
    assert ends.settings.continuous is not None
    assert len(ended(w, failing, 1)) == 1, "after a failure it waits"
    w.jobs.delete(failing)
    w.jobs.delete(job)


def test_a_trigger_sees_what_whoever_the_job_runs_as_may_see(
    any_server: Server, w: WorkspaceClient, schema: str
) -> None:
    catalog, name = schema.split(".")
    w.volumes.create(catalog, name, "secret", VolumeType.MANAGED)
    w.registered_models.create(catalog_name=catalog, schema_name=name, name="hidden")
    user = f"watcher-{uuid.uuid4().hex[:6]}@jobs.org"
    them = WorkspaceClient(host=any_server.url, token=any_server.new_user(user), auth_type="pat")

    def make(**trigger: Any) -> Any:
        return them.jobs.create(trigger=TriggerSettings(**trigger), tasks=[says("x")])

    with pytest.raises((NotFound, PermissionDenied)):
        make(file_arrival=FileArrivalTriggerConfiguration(url=f"/Volumes/{catalog}/{name}/secret/"))
    with pytest.raises((NotFound, PermissionDenied)):
        make(table_update=TableUpdateTriggerConfiguration(table_names=[f"{schema}.nothing"]))
    ready = ModelTriggerConfigurationCondition.MODEL_VERSION_READY
    with pytest.raises((NotFound, PermissionDenied)):
        make(model=ModelTriggerConfiguration(ready, securable_name=f"{schema}.hidden"))
    with pytest.raises(PermissionDenied):
        make(model=ModelTriggerConfiguration(ready))
    place = f"/Volumes/{catalog}/{name}/secret"
    mine = w.jobs.create(
        trigger=TriggerSettings(file_arrival=FileArrivalTriggerConfiguration(url=place)), tasks=[says("x")]
    ).job_id
    with pytest.raises((NotFound, PermissionDenied)):  # would start runs of it with rights that they do not have
        w.jobs.update(mine, new_settings=JobSettings(run_as=JobRunAs(user_name=user)))
    w.volumes.delete(f"{schema}.secret")
    failed = wait_until(lambda: history(w, mine).get("last_failed"), what="the failed look")
    assert "does not exist" in failed["description"]
    w.jobs.delete(mine)


def history(w: WorkspaceClient, job_id: int) -> dict[str, Any]:
    return w.jobs.get(job_id, include_trigger_state=True).as_dict()["trigger_details"][0].get("history", {})


def test_a_run_is_what_the_sdk_says_it_is(w: WorkspaceClient) -> None:
    job = w.jobs.create(name="plain", tasks=[says("{{job.trigger.type}}")]).job_id
    run: Run = w.jobs.run_now_and_wait(job)
    assert (run.trigger, run.tasks[0].condition_task.left) == (TriggerType.ONE_TIME, "one_time")
