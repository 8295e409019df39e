"""The unmodified Databricks SDK on pipelines: made, changed, brought up to date, stopped, and as tasks of jobs."""

import io
import json
import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    Aborted,
    BadRequest,
    InvalidParameterValue,
    InvalidState,
    NotFound,
    NotImplemented,
    OperationFailed,
    PermissionDenied,
    ResourceAlreadyExists,
)
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.iam import AccessControlRequest, PermissionLevel
from databricks.sdk.service.jobs import (
    PipelineParams,
    PipelineTask,
    RunLifeCycleState,
    RunResultState,
    SparkPythonTask,
    SubmitTask,
    Task,
)
from databricks.sdk.service.pipelines import (
    EventLogSpec,
    FileLibrary,
    IngestionPipelineDefinition,
    NotebookLibrary,
    Notifications,
    PathPattern,
    PipelineAccessControlRequest,
    PipelineCluster,
    PipelineLibrary,
    PipelinePermissionLevel,
    PipelineState,
    RewindSpec,
    RunAs,
    StartUpdateCause,
    UpdateInfoState,
)
from databricks.sdk.service.workspace import ImportFormat

from tests.servers import Server, wait_until

LONG = timedelta(seconds=180)
NUMBERS = """
from pyspark import pipelines as dp
from pyspark.sql import SparkSession

spark = SparkSession.active()

@dp.materialized_view(comment="the first numbers")
def numbers():
    return spark.range(int(spark.conf.get("rows", "3")))

@dp.materialized_view
def doubled():
    return spark.table("numbers").selectExpr("id * 2 AS twice")
"""
BROKEN = """
from pyspark import pipelines as dp
from pyspark.sql import SparkSession

@dp.materialized_view
def broken():
    return SparkSession.active().sql("SELECT * FROM nothing_of_this_name")
"""
FORGING = """
import os, urllib.error, urllib.request
headers = {"Authorization": "Bearer " + os.environ["DATABRICKS_TOKEN"], "Content-Type": "application/json"}
url = os.environ["DATABRICKS_HOST"] + "/api/millpond/pipelines/updates/events"
try:
    urllib.request.urlopen(urllib.request.Request(url, data=b'{"events": []}', headers=headers))
except urllib.error.HTTPError as error:
    print("answered", error.code)
"""
SLOW = """
import time
from pyspark import pipelines as dp
from pyspark.sql import SparkSession

print("sleeps", flush=True)
time.sleep(SECONDS)

@dp.materialized_view
def late():
    return SparkSession.active().range(1)
"""


@dataclass
class Shop:
    """A server, its administrator's client, and a schema with a volume for sources."""

    server: Server
    w: WorkspaceClient
    schema: str

    def source(self, text: str, end: str = ".py") -> list[PipelineLibrary]:
        """A source in the volume."""
        path = f"/Volumes/main/{self.schema}/v/s{uuid.uuid4().hex[:10]}{end}"
        self.w.files.upload(path, io.BytesIO(text.encode()))
        return [PipelineLibrary(file=FileLibrary(path=path))]

    def pipeline(self, text: str = NUMBERS, **settings: Any) -> str:
        """A pipeline of one source, in a schema of its own."""
        schema = f"{self.schema}_{uuid.uuid4().hex[:8]}"
        self.w.schemas.create(schema, "main")
        given = {"name": f"p {schema}", "catalog": "main", "schema": schema, **settings}
        return str(self.w.pipelines.create(libraries=self.source(text), **given).pipeline_id)

    def home(self, pipeline_id: str) -> str:
        """The schema of a pipeline."""
        spec = self.w.pipelines.get(pipeline_id).spec
        return str(spec.schema or spec.target)

    def change(self, pipeline_id: str, libraries: list[PipelineLibrary]) -> None:
        """Give a pipeline other sources, and nothing else but its name and schema."""
        spec = self.w.pipelines.get(pipeline_id).spec
        self.w.pipelines.update(pipeline_id, name=spec.name, catalog="main", schema=spec.schema, libraries=libraries)

    def done(self, pipeline_id: str, update_id: str | None = None, **asked: Any) -> UpdateInfoState:
        """How an update ends that is started, or goes on."""
        update_id = update_id or self.w.pipelines.start_update(pipeline_id, **asked).update_id
        return wait_until(lambda: self.ended(pipeline_id, str(update_id)), timeout_s=180, what="the update's end")

    def ended(self, pipeline_id: str, update_id: str) -> UpdateInfoState | None:
        """How it ended, if it has."""
        state = self.w.pipelines.get_update(pipeline_id, update_id).update.state
        return state if state.value in ("COMPLETED", "FAILED", "CANCELED") else None

    def rows(self, pipeline_id: str, table: str) -> list[int]:
        """The values of a table's first column, in order."""
        name = f"main.{self.home(pipeline_id)}.{table}"
        done = self.w.statement_execution.execute_statement(f"SELECT * FROM {name} ORDER BY 1", "starter")
        assert done.result, done.status.error
        return [int(row[0]) for row in done.result.data_array or ()]

    def client(self, name: str) -> WorkspaceClient:
        """Somebody else's client."""
        token = self.server.new_user(name)
        return WorkspaceClient(host=self.server.url, token=token, auth_type="pat")

    def state(self, pipeline_id: str) -> PipelineState:
        """Where a pipeline stands."""
        return self.w.pipelines.get(pipeline_id).state

    def sleeping(self, pipeline_id: str) -> int:
        """The process of an update, once its source sleeps."""
        active = wait_until(lambda: self.w.pipelines.list_updates(pipeline_id).updates, what="an update")[0]
        update = self.w.api_client.do("GET", f"/api/2.0/pipelines/{pipeline_id}/updates/{active.update_id}")
        run = self.w.jobs.get_run(update["update"]["job_run_id"])
        task_id = run.tasks[-1].run_id

        def found() -> int | None:
            if "sleeps" not in (self.w.jobs.get_run_output(task_id).logs or ""):
                return None
            listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
            return next(iter(_pids_in(str(task_id), listed)), None)

        return int(wait_until(found, timeout_s=120, what="the update's process"))


def _pids_in(task_id: str, listed: str) -> Iterator[int]:
    """Processes whose working directory is the task's."""
    for line in listed.splitlines()[1:]:
        pid = int(line.split()[0])
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/cwd").rpartition("/")[2] == task_id:
                yield pid


@pytest.fixture(scope="module")
def shop(any_server: Server) -> Shop:
    w = WorkspaceClient(host=any_server.url, token=any_server.token, auth_type="pat")
    schema = f"pipes_{uuid.uuid4().hex[:8]}"
    w.schemas.create(schema, "main")
    w.volumes.create("main", schema, "v", VolumeType.MANAGED)
    return Shop(server=any_server, w=w, schema=schema)


# -- definitions ------------------------------------------------------------------------------------------------------


def test_pipelines_are_made_found_changed_and_deleted(shop: Shop) -> None:
    w, tail = shop.w, uuid.uuid4().hex[:8]
    given: dict[str, Any] = {
        "name": f"100%_{tail}", "catalog": "main", "schema": shop.schema, "tags": {"team": "a"},
        "configuration": {"rows": "5"}, "parameters": {"day": "monday"}, "development": True, "photon": True,
        "channel": "CURRENT", "edition": "ADVANCED", "clusters": [PipelineCluster(label="default", num_workers=1)],
        "libraries": [PipelineLibrary(notebook=NotebookLibrary("/Users/x/n")),
                      PipelineLibrary(glob=PathPattern("/Users/x/all/**"))],
    }  # fmt: skip
    dry = w.pipelines.create(dry_run=True, **given)
    assert (dry.pipeline_id, dry.effective_settings.schema) == (None, shop.schema)
    made = str(w.pipelines.create(**given).pipeline_id)
    with pytest.raises(ResourceAlreadyExists, match="allow_duplicate_names"):
        w.pipelines.create(**given)
    twin = str(w.pipelines.create(allow_duplicate_names=True, **given).pipeline_id)
    found = w.pipelines.get(made)
    assert (found.state, found.run_as_user_name, found.creator_user_name) == (
        PipelineState.IDLE, shop.server.user, shop.server.user,
    )  # fmt: skip
    assert found.spec.id == made
    assert found.spec.clusters[0].num_workers == 1
    assert (found.spec.configuration, found.parameters) == ({"rows": "5"}, {"day": "monday"})
    assert found.spec.libraries[1].glob.include == "/Users/x/all/**"

    def listed(**asked: Any) -> list[str]:
        return [str(each.pipeline_id) for each in w.pipelines.list_pipelines(**asked)]

    like = f"name LIKE '100\\%\\_{tail}'"
    assert listed(filter=like) == sorted([made, twin])
    assert listed(filter=like, order_by=["id desc"], max_results=1) == sorted([made, twin], reverse=True)
    assert made in listed(filter="notebook='/Users/x/n'")
    assert listed(filter=f"name LIKE 'x{tail}'") == []

    with pytest.raises(Aborted, match="changed meanwhile"):
        w.pipelines.update(made, expected_last_modified=1, **given)
    given |= {"name": f"other {tail}", "tags": None}
    w.pipelines.update(made, expected_last_modified=found.last_modified, **given)
    after = w.pipelines.get(made)
    assert (after.name, after.spec.tags) == (f"other {tail}", None)
    acts = [each.message for each in w.pipelines.list_pipeline_events(made)]
    assert acts == [f"{shop.server.user} edited the pipeline.", f"{shop.server.user} created the pipeline."]
    for each in (made, twin):
        w.pipelines.delete(each)
    with pytest.raises(NotFound):
        w.pipelines.get(made)
    w.pipelines.delete(w.pipelines.create(**given).pipeline_id)  # whose name is free again


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"ingestion_definition": IngestionPipelineDefinition(connection_name="c")}, NotImplemented, "ingestion_def"),
        ({"event_log": EventLogSpec(name="e")}, NotImplemented, "event_log"),
        ({"libraries": [PipelineLibrary(jar="/x.jar")]}, NotImplemented, "jar"),
        ({"libraries": [PipelineLibrary(glob=PathPattern("/a/*.py"))]}, InvalidParameterValue, "glob.include"),
        ({"schema": None}, InvalidParameterValue, "schema and target"),
        ({"catalog": None}, InvalidParameterValue, "catalog"),
        ({"configuration": {"a": "{{secrets/none/k}}"}}, NotFound, "none"),
        ({"configuration": {"pipelines.numUpdateRetryAttempts": "often"}}, InvalidParameterValue, "numUpdateRetry"),
        ({"notifications": [Notifications(alerts=["on-boredom"], email_recipients=[])]}, InvalidParameterValue,
         "alerts"),
    ],
)  # fmt: skip
def test_what_is_not_here_is_refused_by_its_name(shop: Shop, wrong: Any, error: type[Exception], words: str) -> None:
    given = {"name": uuid.uuid4().hex, "catalog": "main", "schema": shop.schema, **wrong}
    with pytest.raises(error, match=words):
        shop.w.pipelines.create(**given)


# -- updates ----------------------------------------------------------------------------------------------------------


def test_an_update_makes_tables_and_tells_how_it_goes(shop: Shop) -> None:
    w = shop.w
    made = shop.pipeline(configuration={"rows": "4"})
    validated = w.pipelines.start_update(made, validate_only=True, cause=StartUpdateCause.USER_ACTION).update_id
    assert shop.done(made, validated) is UpdateInfoState.COMPLETED
    assert list(w.tables.list("main", shop.home(made))) == []
    first = str(w.pipelines.start_update(made).update_id)
    with pytest.raises(InvalidState, match=first):
        w.pipelines.start_update(made)
    with pytest.raises(NotImplemented, match="rewind_spec"):
        w.pipelines.start_update(made, rewind_spec=RewindSpec(rewind_timestamp="2026-01-01T00:00:00Z"))
    assert w.pipelines.wait_get_pipeline_idle(made, LONG).state is PipelineState.IDLE
    assert shop.rows(made, "doubled") == [0, 2, 4, 6]
    update = w.pipelines.get_update(made, first).update
    assert (update.state, update.config.configuration) == (UpdateInfoState.COMPLETED, {"rows": "4"})
    second = w.pipelines.start_update(made, full_refresh_selection=["numbers"]).update_id
    assert shop.done(made, second) is UpdateInfoState.COMPLETED

    listed = w.pipelines.list_updates(made, max_results=2)
    assert [each.update_id for each in listed.updates] == [second, first]
    rest = w.pipelines.list_updates(made, page_token=listed.next_page_token)
    assert [(each.update_id, each.validate_only) for each in rest.updates] == [(validated, True)]
    until = w.pipelines.list_updates(made, until_update_id=first)
    assert [each.update_id for each in until.updates] == [first, validated]
    assert [each.update_id for each in w.pipelines.get(made).latest_updates] == [second, first, validated]

    events = list(w.pipelines.list_pipeline_events(made, order_by=["timestamp asc"], max_results=7))
    numbers = [each.sequence.control_plane_seq_no for each in events]
    assert numbers == list(range(1, len(events) + 1))
    newest = [each.id for each in w.pipelines.list_pipeline_events(made)]
    assert newest == [each.id for each in reversed(events)]
    of_first = [each for each in events if each.origin.update_id == first]
    states = [each.message.split(" is ")[1].rstrip(".") for each in of_first if each.event_type == "update_progress"]
    assert (states[0], states[-1]) == ("QUEUED", "COMPLETED")
    assert {"INITIALIZING", "RUNNING"} <= set(states)
    flows = {each.origin.dataset_name for each in of_first if each.event_type == "flow_progress"}
    assert flows == {f"main.{shop.home(made)}.{name}" for name in ("numbers", "doubled")}
    assert rows_told(shop, made, first) == {"numbers": 4, "doubled": 4}
    assert list(w.pipelines.list_pipeline_events(made, filter="level in ('ERROR', 'WARN')")) == []
    middle = events[len(events) // 2]
    later = list(w.pipelines.list_pipeline_events(made, filter=f"timestamp > '{middle.timestamp}' AND level='INFO'"))
    assert {each.id for each in later} == {each.id for each in events if each.timestamp > middle.timestamp}
    assert [each.id for each in w.pipelines.list_pipeline_events(made, filter=f"id='{middle.id}'")] == [middle.id]
    with pytest.raises(InvalidParameterValue, match="is none of"):
        list(w.pipelines.list_pipeline_events(made, filter="message = 'x'"))


def rows_told(shop: Shop, pipeline_id: str, update_id: str) -> dict[str, int]:
    """How many rows each dataset's flow says that it wrote."""
    filter_ = f"update_id = '{update_id}'"
    path, query = f"/api/2.0/pipelines/{pipeline_id}/events", {"filter": filter_, "max_results": 250}
    found: dict[str, int] = {}
    for each in shop.w.api_client.do("GET", path, query=query)["events"]:
        told = each.get("details", {}).get("flow_progress", {}).get("metrics", {}).get("num_output_rows")
        if told is not None:
            found[each["origin"]["dataset_name"].rpartition(".")[2]] = told
    return found


def test_an_update_that_fails_says_why_and_another_may_follow(shop: Shop) -> None:
    w = shop.w
    made = shop.pipeline(BROKEN, development=True)
    assert shop.done(made) is UpdateInfoState.FAILED
    found = w.pipelines.get(made)
    assert found.state is PipelineState.FAILED
    assert "nothing_of_this_name" in found.cause
    with pytest.raises(OperationFailed, match="nothing_of_this_name"):
        w.pipelines.wait_get_pipeline_idle(made)
    failed = list(w.pipelines.list_pipeline_events(made, filter="level = 'ERROR'"))
    assert failed[0].event_type == "update_progress"
    assert "nothing_of_this_name" in failed[0].error.exceptions[0].message
    assert w.pipelines.stop_and_wait(made).state is PipelineState.IDLE
    shop.change(made, shop.source(NUMBERS))
    assert shop.done(made) is UpdateInfoState.COMPLETED
    missing = [PipelineLibrary(file=FileLibrary(path=f"/Volumes/main/{shop.schema}/v/none.py"))]
    shop.change(made, missing)
    assert shop.done(made) is UpdateInfoState.FAILED
    assert "does not exist" in w.pipelines.get(made).cause


def test_one_that_runs_is_stopped_killed_and_deleted(shop: Shop) -> None:
    w = shop.w
    made = shop.pipeline(SLOW.replace("SECONDS", "600"))
    first = w.pipelines.start_update(made).update_id
    shop.sleeping(made)
    assert w.pipelines.stop_and_wait(made, LONG).state is PipelineState.IDLE
    assert shop.ended(made, first) is UpdateInfoState.CANCELED
    second = str(w.pipelines.start_update(made).update_id)
    os.kill(shop.sleeping(made), signal.SIGKILL)
    assert shop.done(made, second) is UpdateInfoState.FAILED
    assert "ended with code -9" in w.pipelines.get(made).cause
    w.pipelines.start_update(made)
    pid = shop.sleeping(made)
    with pytest.raises(NotImplemented, match="cascade"):
        w.pipelines.delete(made, cascade=True)
    w.pipelines.delete(made)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), timeout_s=20, what="the process of a deleted pipeline")
    assert made not in [each.pipeline_id for each in w.pipelines.list_pipelines()]


def test_of_many_who_start_a_pipeline_at_once_one_does(shop: Shop) -> None:
    made = shop.pipeline(SLOW.replace("SECONDS", "600"))

    def start(_: int) -> str:
        try:
            return str(shop.w.pipelines.start_update(made).update_id)
        except InvalidState:
            return ""

    with ThreadPoolExecutor(8) as threads:
        started = [each for each in threads.map(start, range(8)) if each]
    assert started == [each.update_id for each in shop.w.pipelines.list_updates(made).updates]
    assert len(started) == 1
    shop.w.pipelines.delete(made)


@pytest.mark.long
def test_a_killed_update_is_tried_again_as_its_configuration_says(shop: Shop) -> None:
    mark = f"/Volumes/main/{shop.schema}/v/mark-{uuid.uuid4().hex[:8]}"
    shop.w.files.create_directory(mark)
    pause = f"0 if [*WorkspaceClient().files.list_directory_contents({mark!r})] else 600"
    text = "from databricks.sdk import WorkspaceClient\n" + SLOW.replace("SECONDS", pause)
    made = shop.pipeline(text, configuration={"pipelines.numUpdateRetryAttempts": "1"})
    update_id = shop.w.pipelines.start_update(made).update_id
    pid = shop.sleeping(made)
    shop.w.files.upload(f"{mark}/there", io.BytesIO(b"x"))
    os.kill(pid, signal.SIGKILL)
    assert shop.done(made, update_id) is UpdateInfoState.COMPLETED
    assert shop.rows(made, "late") == [0]


@pytest.mark.long
def test_a_continuous_pipeline_is_started_again_until_it_is_stopped(shop: Shop) -> None:
    w = shop.w
    made = shop.pipeline(SLOW.replace("SECONDS", "600"), continuous=True)
    os.kill(shop.sleeping(made), signal.SIGKILL)
    wait_until(lambda: len(w.pipelines.list_updates(made).updates) == 2, timeout_s=60, what="another update")
    shop.sleeping(made)
    assert w.pipelines.stop_and_wait(made, LONG).state is PipelineState.IDLE
    other = shop.pipeline(continuous=True)
    wait_until(lambda: w.pipelines.list_updates(other).updates, timeout_s=60, what="the start of what was made later")
    assert shop.state(made) is PipelineState.IDLE
    w.pipelines.delete(other)
    w.pipelines.start_update(made)
    shop.sleeping(made)
    shop.change(made, shop.source(NUMBERS))  # no more a continuous one
    wait_until(lambda: shop.state(made) is PipelineState.IDLE, timeout_s=30, what="the end of the last update")
    w.pipelines.delete(made)


def test_sources_are_notebooks_sql_and_modules_below_a_root(shop: Shop) -> None:
    w, me = shop.w, shop.server.user
    root = f"/Users/{me}/p{uuid.uuid4().hex[:8]}"
    w.workspace.mkdirs(f"{root}/transformations/more")
    w.workspace.mkdirs(f"{root}/tools")

    def keep(path: str, text: str) -> None:
        w.workspace.upload(f"{root}/{path}", io.BytesIO(text.encode()), format=ImportFormat.AUTO, overwrite=True)

    keep("tools/__init__.py", "")
    keep("tools/sizes.py", "MANY = 7")
    keep("transformations/a.py", NUMBERS.replace('int(spark.conf.get("rows", "3"))', "MANY")
         .replace("from pyspark import", "from tools.sizes import MANY\nfrom pyspark import", 1))  # fmt: skip
    keep(
        "transformations/more/b.sql",
        "CREATE OR REFRESH MATERIALIZED VIEW small AS SELECT * FROM doubled WHERE twice < 4",
    )
    keep("transformations/readme.md", "no source")
    made = str(w.pipelines.create(
        name=f"tree {uuid.uuid4().hex[:8]}", catalog="main", target=shop.schema, root_path=root,
        libraries=[PipelineLibrary(glob=PathPattern(f"{root}/transformations/**"))],
    ).pipeline_id)  # fmt: skip
    assert shop.done(made) is UpdateInfoState.COMPLETED, w.pipelines.get(made).cause
    assert (shop.rows(made, "numbers"), shop.rows(made, "small")) == (list(range(7)), [0, 2])


# -- rights -----------------------------------------------------------------------------------------------------------


def test_only_who_may_sees_starts_and_changes_a_pipeline(shop: Shop) -> None:
    w, tail = shop.w, uuid.uuid4().hex[:8]
    ann, bob = shop.client(f"ann-{tail}@p.org"), shop.client(f"bob-{tail}@p.org")
    made = shop.pipeline()
    spec = {"name": f"bobs {tail}", "catalog": "main", "schema": shop.schema}

    def refused(error: type[Exception], *acts: Callable[[], Any]) -> None:
        for act in acts:
            with pytest.raises(error):
                act()

    def give(who: WorkspaceClient, level: PipelinePermissionLevel) -> None:
        name = who.current_user.me().user_name
        w.pipelines.update_permissions(
            made, access_control_list=[PipelineAccessControlRequest(user_name=name, permission_level=level)]
        )

    assert made not in [each.pipeline_id for each in bob.pipelines.list_pipelines()]
    refused(
        NotFound, lambda: bob.pipelines.get(made), lambda: bob.pipelines.start_update(made),
        lambda: bob.pipelines.stop(made), lambda: bob.pipelines.delete(made),
        lambda: bob.pipelines.update(made, **spec), lambda: bob.pipelines.list_updates(made),
        lambda: list(bob.pipelines.list_pipeline_events(made)),
    )  # fmt: skip
    give(bob, PipelinePermissionLevel.CAN_VIEW)
    assert bob.pipelines.get(made).state is PipelineState.IDLE
    refused(PermissionDenied, lambda: bob.pipelines.start_update(made), lambda: bob.pipelines.stop(made))
    give(bob, PipelinePermissionLevel.CAN_RUN)
    update_id = str(bob.pipelines.start_update(made).update_id)
    assert shop.done(made, update_id) is UpdateInfoState.COMPLETED  # as the owner, as who may not even read the source
    refused(PermissionDenied, lambda: bob.pipelines.update(made, **spec), lambda: bob.pipelines.delete(made))
    job_id = w.jobs.create(name="refresh", tasks=[Task("a", pipeline_task=PipelineTask(made))]).job_id
    w.permissions.update("jobs", str(job_id), access_control_list=[
        AccessControlRequest(user_name=f"bob-{tail}@p.org", permission_level=PermissionLevel.CAN_MANAGE_RUN),
    ])  # fmt: skip
    code = {"x": "1) UNION (SELECT 2"}
    by_job = {"job_id": job_id, "pipeline_params": {"parameters": code}}
    refused(
        PermissionDenied, lambda: bob.pipelines.start_update(made, parameters=code),
        lambda: bob.api_client.do("POST", "/api/2.2/jobs/run-now", body=by_job),
    )  # fmt: skip
    run_id = w.api_client.do("GET", f"/api/2.0/pipelines/{made}/updates/{update_id}")["update"]["job_run_id"]
    assert bob.jobs.get_run(run_id).run_id == run_id
    refused(BadRequest, lambda: w.jobs.repair_run(run_id, rerun_all_failed_tasks=True))
    assert run_id not in [each.run_id for each in w.jobs.list_runs()]
    refused(NotFound, lambda: ann.jobs.get_run(run_id))
    levels = {each.permission_level.value for each in w.pipelines.get_permission_levels(made).permission_levels}
    assert levels == {"CAN_VIEW", "CAN_RUN", "CAN_MANAGE", "IS_OWNER"}

    w.permissions.update("pipelines", made, access_control_list=[
        AccessControlRequest(user_name=ann.current_user.me().user_name, permission_level=PermissionLevel.IS_OWNER),
    ])  # fmt: skip
    assert ann.pipelines.get(made).creator_user_name == f"ann-{tail}@p.org"
    assert ann.jobs.get_run(run_id).run_id == run_id
    assert w.pipelines.get(made).run_as_user_name == shop.server.user
    refused(PermissionDenied, lambda: ann.pipelines.create(run_as=RunAs(user_name=shop.server.user), **spec))


def test_secrets_are_shown_to_nobody_and_events_told_by_no_one_else(shop: Shop) -> None:
    w, tail = shop.w, uuid.uuid4().hex[:8]
    w.secrets.create_scope(f"s-{tail}")
    w.secrets.put_secret(f"s-{tail}", "k", string_value=f"hidden-{tail}")
    reference = f"{{{{secrets/s-{tail}/k}}}}"
    bob = shop.client(f"bob-{tail}@q.org")
    with pytest.raises((NotFound, PermissionDenied)):
        bob.pipelines.create(name=f"b {tail}", catalog="main", schema=shop.schema, configuration={"key": reference})
    text = NUMBERS + "\nprint('the key is', spark.conf.get('key'))\nraise ValueError(spark.conf.get('key'))\n"
    made = shop.pipeline(text, configuration={"key": reference}, development=True)
    assert shop.done(made) is UpdateInfoState.FAILED
    run = w.api_client.do("GET", f"/api/2.0/pipelines/{made}/updates")["updates"][0]["job_run_id"]
    logs = w.jobs.get_run_output(w.jobs.get_run(run).tasks[0].run_id).logs
    assert "the key is [REDACTED]" in logs
    path = f"/api/2.0/pipelines/{made}"
    told = [logs, *(json.dumps(w.api_client.do("GET", path + end)) for end in ("", "/updates", "/events"))]
    assert [text for text in told if f"hidden-{tail}" in text] == []
    assert reference in told[1]
    assert "[REDACTED]" in told[3]
    forged = {"events": [{"event_type": "update_progress", "details": {"state": "RUNNING"}, "sequence": 1}]}
    for client in (w, bob):
        with pytest.raises(PermissionDenied, match="Only the process of an update"):
            client.api_client.do("POST", "/api/millpond/pipelines/updates/events", body=forged)
    path = f"/Volumes/main/{shop.schema}/v/forging.py"
    w.files.upload(path, io.BytesIO(FORGING.encode()), overwrite=True)
    task = SubmitTask("forge", spark_python_task=SparkPythonTask(path))
    forged_by = w.jobs.submit_and_wait(run_name="forging", tasks=[task], timeout=LONG)
    assert "answered 404" in w.jobs.get_run_output(forged_by.tasks[0].run_id).logs  # whose token is of no update


# -- jobs -------------------------------------------------------------------------------------------------------------


def test_a_task_of_a_job_runs_a_pipeline_and_ends_as_its_update_does(shop: Shop) -> None:
    w = shop.w
    made, broken = shop.pipeline(), shop.pipeline(BROKEN, development=True)
    job = w.jobs.create(name="refresh", tasks=[
        Task("good", pipeline_task=PipelineTask(made)),
        Task("bad", pipeline_task=PipelineTask(broken), max_retries=1),
        Task("gone", pipeline_task=PipelineTask("none")),
    ])  # fmt: skip
    run = w.jobs.run_now(job.job_id, pipeline_params=PipelineParams(full_refresh=True)).result(LONG)
    ended = [(task.task_key, task.attempt_number, task.state.result_state) for task in run.tasks]
    assert sorted(ended, key=str) == sorted([
        ("good", 0, RunResultState.SUCCESS), ("bad", 0, RunResultState.FAILED), ("bad", 1, RunResultState.FAILED),
        ("gone", 0, RunResultState.FAILED),
    ], key=str)  # fmt: skip
    update = w.pipelines.list_updates(made).updates[0]
    assert (update.cause.value, update.full_refresh, update.state) == ("JOB_TASK", True, UpdateInfoState.COMPLETED)
    assert len(w.pipelines.list_updates(broken).updates) == 2
    good = next(task for task in run.tasks if task.task_key == "good")
    output = w.api_client.do("GET", "/api/2.2/jobs/runs/get-output", query={"run_id": good.run_id})
    assert output["pipeline_output"]["update_id"] == update.update_id
    gone = next(task for task in run.tasks if task.task_key == "gone")
    assert "does not exist" in gone.state.state_message


def test_a_run_that_is_cancelled_stops_the_update_of_its_task(shop: Shop) -> None:
    w = shop.w
    made = shop.pipeline(SLOW.replace("SECONDS", "600"))
    run_id = w.jobs.submit(run_name="once", tasks=[SubmitTask("a", pipeline_task=PipelineTask(made))]).run_id
    wait_until(lambda: w.pipelines.list_updates(made).updates, timeout_s=30, what="the update")
    shop.sleeping(made)
    w.jobs.cancel_run(run_id).result(LONG)
    found = w.jobs.get_run(run_id)
    assert (found.state.life_cycle_state, found.state.result_state) == (
        RunLifeCycleState.TERMINATED, RunResultState.CANCELED,
    )  # fmt: skip
    assert w.pipelines.list_updates(made).updates[0].state is UpdateInfoState.CANCELED
