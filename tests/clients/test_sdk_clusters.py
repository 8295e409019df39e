"""The unmodified Databricks SDK on clusters: made, used, limited by policies, ended."""

import io
import os
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    BadRequest,
    InvalidParameterValue,
    NotFound,
    NotImplemented,
    PermissionDenied,
)
from databricks.sdk.service import compute
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.compute import (
    AutoScale,
    ClusterAccessControlRequest,
    ClusterDetails,
    ClusterPermissionLevel,
    ClusterPolicyAccessControlRequest,
    ClusterPolicyPermissionLevel,
    CommandStatus,
    Language,
    ListClustersFilterBy,
    Results,
    ResultType,
    State,
)
from databricks.sdk.service.jobs import JobCluster, RunResultState, SparkPythonTask, SubmitTask, Task, TaskDependency
from databricks.sdk.service.workspace import ImportFormat
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from millpond.kernel.sandbox import landlock_abi
from tests.servers import Server, wait_until

NODE = "local.1c2g"
VERSION = "1.0.x-scala2.12"
SOON = timedelta(seconds=90)
RED = "red 1 [REDACTED] 2048\n"


@dataclass
class Shop:
    """A server with its administrator's client, and a user who may attach to a cluster that runs."""

    server: Server
    w: WorkspaceClient
    ann: WorkspaceClient
    name: str
    cluster: ClusterDetails

    def client(self, name: str) -> WorkspaceClient:
        """Somebody else's client."""
        return WorkspaceClient(host=self.server.url, token=self.server.new_user(name), auth_type="pat")

    def new(self, **options: Any) -> ClusterDetails:
        """A cluster that runs."""
        given = {"num_workers": 0, "node_type_id": NODE, "spark_version": VERSION} | options
        return self.w.clusters.create(**given).result(SOON)

    def events(self, cluster_id: str) -> list[str]:
        """What happened to a cluster, the last first."""
        return [event.type.value for event in self.w.clusters.events(cluster_id) if event.type]


@pytest.fixture(scope="module")
def shop(any_server: Server) -> Iterator[Shop]:
    w = WorkspaceClient(host=any_server.url, token=any_server.token, auth_type="pat")
    name = f"ann{uuid.uuid4().hex[:8]}@clusters.org"
    ann = WorkspaceClient(host=any_server.url, token=any_server.new_user(name), auth_type="pat")
    cluster = w.clusters.create(
        VERSION, cluster_name="shared", num_workers=0, node_type_id=NODE, autotermination_minutes=60,
        spark_env_vars={"TEAM": "blue"}, custom_tags={"team": "blue"},
    ).result(SOON)  # fmt: skip
    assert cluster.cluster_id
    level = ClusterPermissionLevel.CAN_ATTACH_TO
    w.clusters.update_permissions(
        cluster.cluster_id,
        access_control_list=[ClusterAccessControlRequest(user_name=name, permission_level=level)],
    )
    yield Shop(server=any_server, w=w, ann=ann, name=name, cluster=cluster)
    w.clusters.permanent_delete(cluster.cluster_id)


@pytest.fixture(autouse=True)
def _leaves_no_clusters(shop: Shop) -> Iterator[None]:
    yield
    for each in shop.w.clusters.list():
        if each.cluster_id != shop.cluster.cluster_id:
            shop.w.clusters.permanent_delete(each.cluster_id)


def run(
    client: WorkspaceClient, cluster_id: str, context_id: str, text: str, language: Language = Language.PYTHON
) -> Results:
    """The results of a command."""
    done = client.command_execution.execute(
        cluster_id=cluster_id, context_id=context_id, command=text, language=language
    ).result(SOON)
    assert done.results is not None
    return done.results


def test_a_cluster_is_processes_with_cores_and_memory_and_says_what_happened(shop: Shop) -> None:
    found = shop.w.clusters.get(shop.cluster.cluster_id)
    assert found.state is State.RUNNING
    assert (found.cluster_cores, found.cluster_memory_mb) == (1.0, 2048)
    assert found.custom_tags == {"team": "blue"}
    assert found.spark_context_id
    assert shop.events(found.cluster_id)[-3:] == ["DRIVER_HEALTHY", "RUNNING", "CREATING"]
    context = shop.w.command_execution.create(cluster_id=found.cluster_id, language=Language.PYTHON).result(SOON)
    told = run(
        shop.w, found.cluster_id, context.id,
        "import os, resource\nprint(len(os.sched_getaffinity(0)), resource.getrlimit(resource.RLIMIT_DATA)[0] >> 20, "
        "os.environ['TEAM'], 'MILLPOND_SECRET_KEY' in os.environ)",
    )  # fmt: skip
    assert told.data == "1 2048 blue False"


@pytest.mark.long
def test_commands_share_names_in_a_context_and_give_texts_tables_images_and_errors(shop: Shop) -> None:
    cluster = shop.cluster.cluster_id
    mine = shop.ann.command_execution.create(cluster_id=cluster, language=Language.PYTHON).result(SOON)
    other = shop.ann.command_execution.create(cluster_id=cluster, language=Language.PYTHON).result(SOON)
    assert run(shop.ann, cluster, mine.id, "x = 20\nprint('made')\nx + 1").data == "made\n21"
    assert run(shop.ann, cluster, mine.id, "x * 2").data == "40"
    wrong = run(shop.ann, cluster, other.id, "x * 2")
    assert wrong.result_type is ResultType.ERROR
    assert "name 'x' is not defined" in (wrong.summary or "")
    assert "NameError" in (wrong.cause or "")
    table = run(
        shop.ann, cluster, mine.id, "import pandas as pd\ndisplay(pd.DataFrame({'a': [1, 2], 'b': ['u', None]}))"
    )
    assert table.result_type is ResultType.TABLE
    assert table.data == [[1, "u"], [2, None]]
    assert [column["name"] for column in table.schema or ()] == ["a", "b"]
    image = run(shop.ann, cluster, mine.id, "import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    assert image.result_type is ResultType.IMAGE
    assert (image.file_name or "").startswith("data:image/png;base64,")
    shop.ann.command_execution.destroy(cluster, other.id)
    with pytest.raises(NotFound):
        shop.ann.command_execution.context_status(cluster, other.id)
    with pytest.raises(NotFound):
        shop.w.command_execution.context_status(cluster, mine.id)


def test_commands_run_as_who_sends_them_so_that_grants_hold(shop: Shop) -> None:
    table = f"main.default.t{uuid.uuid4().hex[:8]}"
    cluster = shop.cluster.cluster_id
    admins = shop.w.command_execution.create(cluster_id=cluster, language=Language.SQL).result(SOON)
    anns = shop.ann.command_execution.create(cluster_id=cluster, language=Language.SQL).result(SOON)
    made = run(shop.w, cluster, admins.id, f"CREATE TABLE {table} AS SELECT 1 AS a, 'x' AS b", Language.SQL)
    assert made.result_type is ResultType.TABLE
    read = run(shop.w, cluster, admins.id, f"SELECT * FROM {table}", Language.SQL)
    assert (read.data, read.schema) == (
        [[1, "x"]],
        [
            {"name": "a", "type": '"integer"', "metadata": "{}"},
            {"name": "b", "type": '"string"', "metadata": "{}"},
        ],
    )
    hidden = run(shop.ann, cluster, anns.id, f"SELECT * FROM {table}", Language.SQL)
    assert hidden.result_type is ResultType.ERROR
    assert table.split(".")[2] in (hidden.summary or "")
    who = "from databricks.sdk import WorkspaceClient\nWorkspaceClient().current_user.me().user_name"
    assert run(shop.ann, cluster, anns.id, who).data == f"'{shop.name}'"


@pytest.mark.long
def test_a_command_is_interrupted_and_its_context_goes_on(shop: Shop) -> None:
    cluster = shop.cluster.cluster_id
    context = shop.w.command_execution.create(cluster_id=cluster, language=Language.PYTHON).result(SOON)
    run(shop.w, cluster, context.id, "kept = 1")
    sent = shop.w.command_execution.execute(
        cluster_id=cluster, context_id=context.id, command="import time\ntime.sleep(600)", language=Language.PYTHON
    )

    def status() -> CommandStatus | None:
        return shop.w.command_execution.command_status(cluster, context.id, sent.command_id).status

    wait_until(lambda: status() is CommandStatus.RUNNING, what="it runs")
    shop.w.command_execution.cancel(cluster_id=cluster, context_id=context.id, command_id=sent.command_id).result(SOON)
    assert run(shop.w, cluster, context.id, "kept").data == "1"
    died = shop.w.command_execution.execute(
        cluster_id=cluster, context_id=context.id, command="import os\nos._exit(3)", language=Language.PYTHON
    ).result(SOON)
    assert died.status is CommandStatus.ERROR
    assert "ended with code 3" in (died.results.summary or "")
    with pytest.raises(BadRequest, match="has ended"):
        run(shop.w, cluster, context.id, "1")


def test_what_does_not_run_is_refused_by_name(shop: Shop) -> None:
    cluster = shop.cluster.cluster_id
    with pytest.raises(NotImplemented, match="Scala"):
        shop.w.command_execution.create(cluster_id=cluster, language=Language.SCALA)
    one = {"spark_version": VERSION, "node_type_id": NODE, "num_workers": 0}
    with pytest.raises(NotImplemented, match="init_scripts"):
        shop.w.clusters.create(
            **one, init_scripts=[compute.InitScriptInfo(workspace=compute.WorkspaceStorageInfo("/a.sh"))]
        )
    with pytest.raises(InvalidParameterValue, match=r"local\.1c2g"):
        shop.w.clusters.create(**{**one, "node_type_id": "i3.xlarge"})
    with pytest.raises(InvalidParameterValue, match="larger than this machine"):
        shop.w.clusters.create(**{**one, "num_workers": 900})
    with pytest.raises(NotImplemented, match=r"spark\.remote"):
        shop.w.clusters.create(**one, spark_conf={"spark.remote": "sc://elsewhere"})
    for library in (compute.Library(jar="/a.jar"), compute.Library(maven=compute.MavenLibrary("a:b:1"))):
        with pytest.raises(NotImplemented, match="JVM"):
            shop.w.libraries.install(cluster, [library])


def test_levels_let_attach_restart_and_manage(shop: Shop) -> None:
    cluster = shop.cluster.cluster_id
    assert [each.cluster_id for each in shop.ann.clusters.list()] == [cluster]
    with pytest.raises(PermissionDenied, match="CAN_RESTART"):
        shop.ann.clusters.delete(cluster)
    with pytest.raises(PermissionDenied, match="CAN_MANAGE"):
        shop.ann.clusters.resize(cluster, num_workers=1)
    bob = shop.client(f"bob{uuid.uuid4().hex[:8]}@clusters.org")
    with pytest.raises(NotFound):
        bob.clusters.get(cluster)
    with pytest.raises(NotFound):
        bob.command_execution.create(cluster_id=cluster, language=Language.PYTHON)
    levels = shop.w.clusters.get_permission_levels(cluster).permission_levels or []
    assert [each.permission_level.value for each in levels if each.permission_level] == [
        "CAN_ATTACH_TO", "CAN_RESTART", "CAN_MANAGE",
    ]  # fmt: skip


@pytest.mark.long
def test_a_cluster_ends_starts_anew_changes_and_goes(shop: Shop) -> None:
    token = uuid.uuid4().hex
    body = {
        "spark_version": VERSION, "node_type_id": NODE, "num_workers": 0, "cluster_name": "short",
        "idempotency_token": token,
    }  # fmt: skip
    _, made = shop.server.call("POST", "/api/2.0/clusters/create", body)
    assert shop.server.call("POST", "/api/2.1/clusters/create", body)[1] == made
    one = made["cluster_id"]
    first = shop.w.clusters.wait_get_cluster_running(one, SOON)
    shop.w.clusters.resize(one, num_workers=1).result(SOON)
    assert shop.w.clusters.get(one).cluster_cores == 2.0
    again = shop.w.clusters.restart(one).result(SOON)
    assert again.spark_context_id != first.spark_context_id
    shop.w.clusters.edit(
        one,
        VERSION,
        node_type_id=NODE,
        autoscale=AutoScale(min_workers=0, max_workers=1),
        cluster_name="long",
        autotermination_minutes=30,
    ).result(SOON)
    ended = shop.w.clusters.delete(one).result(SOON)
    assert (ended.cluster_name, ended.termination_reason.code.value) == ("long", "USER_REQUEST")
    with pytest.raises(BadRequest, match="TERMINATED"):
        shop.w.clusters.restart(one)
    terminated = ListClustersFilterBy(cluster_states=[State.TERMINATED])
    assert one in [each.cluster_id for each in shop.w.clusters.list(filter_by=terminated, page_size=1)]
    shop.w.clusters.pin(one)
    assert [each.cluster_id for each in shop.w.clusters.list(filter_by=ListClustersFilterBy(is_pinned=True))] == [one]
    shop.w.clusters.change_owner(one, shop.name)
    assert shop.w.clusters.get(one).creator_user_name == shop.name
    shop.w.clusters.ensure_cluster_is_running(one)
    assert {"EDITED", "RESTARTING", "RESIZING", "UPSIZE_COMPLETED", "PINNED", "TERMINATING", "STARTING"} < set(
        shop.events(one)
    )
    shop.w.clusters.permanent_delete(one)
    with pytest.raises(NotFound):
        shop.w.clusters.get(one)


@pytest.mark.long
def test_a_driver_that_is_killed_ends_its_cluster_and_who_runs_on_it(shop: Shop) -> None:
    cluster = shop.new()
    context = shop.w.command_execution.create(cluster_id=cluster.cluster_id, language=Language.PYTHON).result(SOON)
    parent = int(run(shop.w, cluster.cluster_id, context.id, "import os\nos.getppid()").data)
    os.kill(parent, signal.SIGKILL)
    ended = shop.w.clusters.wait_get_cluster_terminated(cluster.cluster_id, SOON)
    assert ended.termination_reason.code.value == "DRIVER_UNREACHABLE"
    assert "DRIVER_UNAVAILABLE" in shop.events(cluster.cluster_id)


@pytest.mark.long
def test_a_cluster_does_not_shrink_below_what_it_uses(shop: Shop) -> None:
    cluster = shop.new(num_workers=1)
    context = shop.w.command_execution.create(cluster_id=cluster.cluster_id, language=Language.PYTHON).result(SOON)
    assert run(shop.w, cluster.cluster_id, context.id, "kept = b'x' * (2200 << 20); len(kept) >> 20").data == "2200"
    kept = shop.w.clusters.resize(cluster.cluster_id, num_workers=0).result(SOON)
    assert (kept.cluster_memory_mb, "of memory, more than the 2048 MiB" in kept.state_message) == (4096, True)
    assert run(shop.w, cluster.cluster_id, context.id, "size = len(kept); del kept; size >> 20").data == "2200"
    wait_until(
        lambda: shop.w.clusters.resize(cluster.cluster_id, num_workers=0).result(SOON).cluster_memory_mb == 2048,
        what="a look that finds less used",
    )
    shop.w.clusters.permanent_delete(cluster.cluster_id)


@pytest.mark.long
def test_more_than_the_machine_has_waits_for_room(shop: Shop) -> None:
    cores = os.cpu_count() or 1
    taken = [shop.new() for _ in range(2 * cores - 1)]
    waits = shop.w.clusters.create(VERSION, num_workers=0, node_type_id=NODE)

    def waiting() -> bool:
        found = shop.w.clusters.get(waits.cluster_id)
        return found.state is State.PENDING and (found.state_message or "").startswith("Waits for room")

    wait_until(waiting, timeout_s=90, what="it says that it waits")
    shop.w.clusters.delete(taken[0].cluster_id)
    assert shop.w.clusters.wait_get_cluster_running(waits.cluster_id, SOON)
    for each in (*taken, waits):
        shop.w.clusters.permanent_delete(each.cluster_id)


def test_tasks_whose_clusters_wait_for_room_keep_no_other_task_waiting(shop: Shop) -> None:
    """More of them than a server does at once; and when their run ends, nobody waits for room any more."""
    pool = shop.w.instance_pools.create(f"p-{uuid.uuid4().hex[:8]}", NODE, max_capacity=1, min_idle_instances=0)
    wanted = {"spark_version": VERSION, "instance_pool_id": pool.instance_pool_id, "num_workers": 1}
    path = f"/Users/{shop.w.current_user.me().user_name}/room-{uuid.uuid4().hex[:8]}.py"
    shop.w.workspace.mkdirs(path.rpartition("/")[0])
    shop.w.workspace.upload(path, b"print('done')", format=ImportFormat.AUTO)
    script = {"spark_python_task": {"python_file": path}}
    waiting = [{"task_key": f"w{number}", "new_cluster": wanted, **script} for number in range(9)]
    runs = "/api/2.2/jobs/runs"
    waits = shop.server.call("POST", f"{runs}/submit", {"tasks": waiting})[1]["run_id"]

    def going() -> list[str]:
        found = [each for each in shop.w.clusters.list() if (each.cluster_name or "").startswith(f"job-run-{waits}-")]
        return [each.state_message or "" for each in found if each.state is not State.TERMINATED]

    wait_until(lambda: sum("Waits for room" in each for each in going()) == 9, what="all of them to wait")
    other = shop.server.call("POST", f"{runs}/submit", {"tasks": [{"task_key": "a", **script}]})[1]["run_id"]
    assert shop.w.jobs.wait_get_run_job_terminated_or_skipped(other, SOON).state.result_state.value == "SUCCESS"
    told = {task.state.state_message for task in shop.w.jobs.get_run(waits).tasks or ()}
    assert all((message or "").startswith("Waits for cluster") for message in told)
    shop.w.jobs.cancel_run(waits).result(SOON)
    wait_until(lambda: not going(), what="their clusters to end")
    shop.w.instance_pools.delete(pool.instance_pool_id)


def test_a_policy_limits_what_its_users_make(shop: Shop) -> None:
    one = {"spark_version": VERSION, "node_type_id": NODE, "num_workers": 0}
    with pytest.raises(PermissionDenied, match="policy"):
        shop.ann.clusters.create(**one)
    policy = shop.w.cluster_policies.create(
        name=f"small-{uuid.uuid4().hex[:8]}", max_clusters_per_user=1,
        definition='{"num_workers": {"type": "range", "maxValue": 1}, "autotermination_minutes": {"type": "fixed", '
        '"value": 20}, "spark_conf.*": {"type": "forbidden"}, "custom_tags.team": {"type": "unlimited"}}',
    )  # fmt: skip
    with pytest.raises(NotFound):
        shop.ann.clusters.create(**one, policy_id=policy.policy_id)
    who = ClusterPolicyAccessControlRequest(user_name=shop.name, permission_level=ClusterPolicyPermissionLevel.CAN_USE)
    shop.w.cluster_policies.set_permissions(policy.policy_id, access_control_list=[who])
    assert policy.policy_id in [each.policy_id for each in shop.ann.cluster_policies.list()]
    wrong = {"num_workers": 2, "spark_conf": {"spark.sql.ansi.enabled": "true"}, "policy_id": policy.policy_id}
    with pytest.raises(InvalidParameterValue) as refused:
        shop.ann.clusters.create(**(one | wrong))
    assert "num_workers must be at most 1 and is 2 (range)" in str(refused.value)
    assert "spark_conf.spark.sql.ansi.enabled must not be set (forbidden by the rule of spark_conf.*)" in str(
        refused.value
    )
    assert "custom_tags.team must be set (unlimited)" in str(refused.value)
    mine = shop.ann.clusters.create(**one, policy_id=policy.policy_id, custom_tags={"team": "a"}).result(SOON)
    assert mine.autotermination_minutes == 20
    with pytest.raises(BadRequest, match="max_clusters_per_user"):
        shop.ann.clusters.create(**one, policy_id=policy.policy_id, custom_tags={"team": "a"})
    shop.w.cluster_policies.edit(
        policy.policy_id,
        name=f"other-{uuid.uuid4().hex[:8]}",
        definition='{"num_workers": {"type": "fixed", "value": 1}}',
    )
    standing = shop.w.policy_compliance_for_clusters.get_compliance(mine.cluster_id)
    assert (standing.is_compliant, set(standing.violations or {})) == (False, {"num_workers"})
    shop.ann.clusters.permanent_delete(mine.cluster_id)
    shop.w.cluster_policies.delete(policy.policy_id)
    families = {each.policy_family_id for each in shop.w.policy_families.list()}
    assert {"personal-vm", "job-cluster"} <= families
    personal = shop.w.cluster_policies.create(
        name=f"personal-{uuid.uuid4().hex[:8]}", policy_family_id="personal-vm",
        policy_family_definition_overrides='{"autotermination_minutes": {"type": "fixed", "value": 10}}',
    )  # fmt: skip
    with pytest.raises(InvalidParameterValue, match="num_workers is fixed to 0 and is 1"):
        shop.w.clusters.create(**(one | {"num_workers": 1}), policy_id=personal.policy_id)
    with pytest.raises(PermissionDenied):
        shop.ann.cluster_policies.create(name="mine", definition="{}")


@pytest.mark.long
def test_a_pool_has_drivers_that_wait(shop: Shop) -> None:
    pool = shop.w.instance_pools.create(
        f"pool-{uuid.uuid4().hex[:8]}", NODE, min_idle_instances=1, max_capacity=1
    ).instance_pool_id

    def idle() -> int:
        stats = shop.w.instance_pools.get(pool).stats
        return (stats.idle_count if stats else 0) or 0

    wait_until(lambda: idle() == 1, what="a driver waits")
    one = shop.w.clusters.create(VERSION, instance_pool_id=pool, num_workers=0).result(SOON)
    assert one.node_type_id == NODE
    stats = shop.w.instance_pools.get(pool).stats
    assert (stats.used_count, stats.idle_count) == (1, 0)
    more = shop.w.clusters.create(VERSION, instance_pool_id=pool, num_workers=0)
    wait_until(lambda: "instance pool" in (shop.w.clusters.get(more.cluster_id).state_message or ""))
    with pytest.raises(BadRequest, match="used by 1"):
        shop.w.instance_pools.delete(pool)
    for each in (one.cluster_id, more.cluster_id):
        shop.w.clusters.delete(each).result(SOON)
    shop.w.instance_pools.delete(pool)
    with pytest.raises(NotFound):
        shop.w.instance_pools.get(pool)


def test_names_of_versions_and_nodes_are_found_as_the_sdk_looks_for_them(shop: Shop) -> None:
    assert shop.w.clusters.select_spark_version(long_term_support=True) == VERSION
    assert shop.w.clusters.select_spark_version(ml=True) == "1.0.x-cpu-ml-scala2.12"
    assert shop.w.clusters.select_node_type(min_cores=1, min_memory_gb=2) == NODE
    assert shop.w.clusters.list_zones().default_zone == "local"


def test_a_context_sees_no_files_of_others(shop: Shop) -> None:
    if landlock_abi() == 0:
        pytest.fail("this test needs Landlock")
    cluster = shop.cluster.cluster_id
    context = shop.ann.command_execution.create(cluster_id=cluster, language=Language.PYTHON).result(SOON)
    key = Path(shop.server.data_dir, "credentials.json")
    told = run(shop.ann, cluster, context.id, f"open({str(key)!r}).read()")
    assert "PermissionError" in (told.summary or "")


@pytest.mark.long
def test_a_library_is_installed_or_says_why_not(shop: Shop) -> None:
    cluster = shop.cluster.cluster_id
    there = compute.Library(pypi=compute.PythonPyPiLibrary("toolz"))
    none = compute.Library(pypi=compute.PythonPyPiLibrary("toolz==0.0.0.1"))
    shop.w.libraries.install(cluster, [there, none])

    def statuses() -> dict[str, str]:
        found = shop.w.libraries.cluster_status(cluster)
        return {each.library.pypi.package: each.status.value for each in found if each.library and each.status}

    wait_until(lambda: set(statuses().values()) == {"INSTALLED", "FAILED"}, timeout_s=120, what="both have an end")
    assert statuses() == {"toolz": "INSTALLED", "toolz==0.0.0.1": "FAILED"}
    context = shop.w.command_execution.create(cluster_id=cluster, language=Language.PYTHON).result(SOON)
    assert run(shop.w, cluster, context.id, "import toolz\ntoolz.__name__").data == "'toolz'"
    shop.w.libraries.uninstall(cluster, [there, none])
    assert set(statuses().values()) == {"UNINSTALL_ON_RESTART"}


def test_tasks_of_jobs_run_on_clusters_made_for_them_or_there_already(shop: Shop) -> None:
    schema = f"cl_{uuid.uuid4().hex[:8]}"
    shop.w.schemas.create(schema, "main")
    shop.w.volumes.create("main", schema, "v", VolumeType.MANAGED)
    path = f"/Volumes/main/{schema}/v/s.py"
    shop.w.secrets.create_scope(schema)
    shop.w.secrets.put_secret(schema, "key", string_value="hidden-word")
    text = "import os, resource; print(os.environ['TEAM'], len(os.sched_getaffinity(0)), os.environ.get('KEY'), "
    shop.w.files.upload(path, io.BytesIO((text + "resource.getrlimit(resource.RLIMIT_DATA)[0] >> 20)").encode()))
    script = SparkPythonTask(path)
    spec = compute.ClusterSpec(
        spark_version=VERSION, node_type_id=NODE, num_workers=0,
        spark_env_vars={"TEAM": "red", "KEY": f"{{{{secrets/{schema}/key}}}}"},
    )  # fmt: skip
    job = shop.w.jobs.create(
        name="on clusters", job_clusters=[JobCluster("small", spec)],
        tasks=[
            Task("first", job_cluster_key="small", spark_python_task=script),
            Task("second", job_cluster_key="small", spark_python_task=script, depends_on=[TaskDependency("first")]),
            Task("there", existing_cluster_id=shop.cluster.cluster_id, spark_python_task=script),
        ],
    )  # fmt: skip
    done = shop.w.jobs.run_now_and_wait(job.job_id, timeout=SOON)
    tasks = {task.task_key: task for task in done.tasks or ()}
    assert {key: task.state.result_state for key, task in tasks.items()} == dict.fromkeys(
        ("first", "second", "there"), RunResultState.SUCCESS
    ), done.state
    logs = {key: shop.w.jobs.get_run_output(task.run_id).logs for key, task in tasks.items()}
    assert logs == {"first": RED, "second": RED, "there": "blue 1 None 2048\n"}
    made = tasks["first"].cluster_instance.cluster_id
    assert (tasks["second"].cluster_instance.cluster_id, tasks["there"].cluster_instance.cluster_id) == (
        made, shop.cluster.cluster_id,
    )  # fmt: skip
    ended = shop.w.clusters.wait_get_cluster_terminated(made, SOON)
    assert (ended.cluster_source.value, ended.termination_reason.code.value) == ("JOB", "JOB_FINISHED")
    assert shop.w.clusters.get(shop.cluster.cluster_id).state is State.RUNNING
    ends = shop.new(spark_env_vars={"TEAM": "red"}).cluster_id
    shop.w.clusters.delete(ends)
    task = SubmitTask("t", existing_cluster_id=ends, spark_python_task=SparkPythonTask(path))
    again = shop.w.jobs.submit_and_wait(run_name="on one that ends", tasks=[task], timeout=SOON)
    assert again.state.result_state is RunResultState.SUCCESS
    assert shop.w.clusters.get(ends).state is State.RUNNING
    shop.w.clusters.permanent_delete(ends)


def test_policies_and_rights_hold_for_clusters_of_jobs(shop: Shop) -> None:
    spec = compute.ClusterSpec(spark_version=VERSION, node_type_id=NODE, num_workers=0)
    script = SparkPythonTask("/Volumes/main/default/v/s.py")
    with pytest.raises(PermissionDenied, match="policy"):
        shop.ann.jobs.create(name="no", tasks=[Task("a", new_cluster=spec, spark_python_task=script)])
    policy = shop.w.cluster_policies.create(
        name=f"jobs-{uuid.uuid4().hex[:8]}", definition='{"cluster_type": {"type": "fixed", "value": "all-purpose"}}'
    )
    spec.policy_id = policy.policy_id
    with pytest.raises(InvalidParameterValue, match="cluster_type is fixed to all-purpose and is job"):
        shop.w.jobs.create(name="no", tasks=[Task("a", new_cluster=spec, spark_python_task=script)])
    bob = shop.client(f"bob{uuid.uuid4().hex[:8]}@clusters.org")
    theirs = Task("a", existing_cluster_id=shop.cluster.cluster_id, spark_python_task=script)
    with pytest.raises(NotFound):
        bob.jobs.create(name="no", tasks=[theirs])
    with pytest.raises(InvalidParameterValue, match="which the job has not"):
        shop.w.jobs.create(name="no", tasks=[Task("a", job_cluster_key="b", spark_python_task=script)])


@pytest.mark.long
def test_spark_runs_on_a_cluster_that_its_client_names(shop: Shop) -> None:
    cluster = shop.new(spark_conf={"spark.sql.session.timeZone": "Asia/Tokyo"})
    remote = f"{shop.server.spark_remote};x-databricks-cluster-id={cluster.cluster_id}"
    spark = SparkSession.builder.remote(remote).create()
    try:
        assert spark.conf.get("spark.sql.session.timeZone") == "Asia/Tokyo"
        assert spark.range(10).count() == 10
        noted = shop.server.data_dir / "run" / "compute" / cluster.cluster_id / "engines"
        [pid] = [int(each.name) for each in noted.glob("[0-9]*")]
        wait_until(lambda: len(os.sched_getaffinity(pid)) == 1, what="its engine runs on the cluster's core")
        shop.w.clusters.delete(cluster.cluster_id).result(SOON)
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), what="its engine has ended with it")
        with pytest.raises(PySparkException, match="TERMINATED"):
            wait_until(lambda: spark.range(10).count() != 10, what="Spark refuses")
    finally:
        spark.stop()
    bobs = shop.server.new_user(f"bob{uuid.uuid4().hex[:8]}@clusters.org")
    bob = SparkSession.builder.remote(
        f"{shop.server.spark_remote.replace(shop.server.token, bobs)};x-databricks-cluster-id={shop.cluster.cluster_id}"
    ).create()
    try:
        with pytest.raises(PySparkException, match="does not exist"):
            bob.range(1).count()
    finally:
        bob.stop()  # else it is the session of who asks for any
