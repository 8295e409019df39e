"""The unmodified Databricks SDK on jobs: made, run, looked at, cancelled, repaired."""

import io
import uuid
from dataclasses import dataclass
from datetime import timedelta

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
from databricks.sdk.service.jobs import (
    ConditionTask,
    ConditionTaskOp,
    ForEachTask,
    JobAccessControlRequest,
    JobEnvironment,
    JobParameterDefinition,
    JobPermissionLevel,
    JobRunAs,
    JobSettings,
    NotebookTask,
    PerformanceTarget,
    QueueSettings,
    Run,
    RunIf,
    RunJobTask,
    RunLifeCycleState,
    RunResultState,
    SparkJarTask,
    SparkPythonTask,
    SubmitTask,
    Task,
    TaskDependency,
)

from tests.servers import Server, wait_until

SUCCESS, FAILED = RunResultState.SUCCESS, RunResultState.FAILED
LONG = timedelta(seconds=120)


@dataclass
class Shop:
    """A server, its administrator's client, and a volume for scripts."""

    server: Server
    w: WorkspaceClient
    volume: str

    def script(self, text: str) -> SparkPythonTask:
        """A task that runs this text with `$1`, ... as its parameters' names."""
        path = f"{self.volume}/s{uuid.uuid4().hex[:10]}.py"
        self.w.files.upload(path, io.BytesIO(text.encode()))
        return SparkPythonTask(python_file=path)

    def with_parameters(self, text: str, *parameters: str) -> SparkPythonTask:
        """The same with parameters."""
        task = self.script(text)
        task.parameters = list(parameters)
        return task

    def client(self, name: str) -> WorkspaceClient:
        """Somebody else's client."""
        token = self.server.new_user(name)
        return WorkspaceClient(host=self.server.url, token=token, auth_type="pat")

    def log(self, run: Run, key: str) -> str:
        """What a task of a run printed."""
        task = [each for each in run.tasks or () if each.task_key == key][-1]
        return self.w.jobs.get_run_output(task.run_id).logs or ""


@pytest.fixture(scope="module")
def shop(any_server: Server) -> Shop:
    w = WorkspaceClient(host=any_server.url, token=any_server.token, auth_type="pat")
    schema = f"jobs_{uuid.uuid4().hex[:8]}"
    w.schemas.create(schema, "main")
    w.volumes.create("main", schema, "v", VolumeType.MANAGED)
    return Shop(server=any_server, w=w, volume=f"/Volumes/main/{schema}/v")


def results(run: Run) -> dict[str, str]:
    """How each task's last attempt ended."""
    return {task.task_key: task.state.result_state.value for task in run.tasks or ()}


def after(*keys: str, outcome: str | None = None) -> list[TaskDependency]:
    return [TaskDependency(task_key=key, outcome=outcome) for key in keys]


def test_a_dag_hands_values_and_references_on_and_takes_the_branch_of_its_condition(shop: Shop) -> None:
    job = shop.w.jobs.create(
        name="dag",
        tags={"team": "a"},
        parameters=[JobParameterDefinition(name="least", default="10")],
        performance_target=PerformanceTarget.STANDARD,
        tasks=[
            Task("count", spark_python_task=shop.with_parameters(
                "import sys\ndbutils.jobs.taskValues.set('rows', 12)\nprint('run', sys.argv[1])", "{{job.run_id}}")),
            Task("enough", depends_on=after("count"), condition_task=ConditionTask(
                op=ConditionTaskOp.GREATER_THAN, left="{{tasks.count.values.rows}}", right="{{job.parameters.least}}")),
            Task("train", depends_on=after("enough", outcome="true"), spark_python_task=shop.script(
                "print('got', dbutils.jobs.taskValues.get('count', 'rows'))")),
            Task("alert", depends_on=after("enough", outcome="false"), spark_python_task=shop.script("print(1)")),
        ],
    )  # fmt: skip
    run = shop.w.jobs.run_now_and_wait(job.job_id, timeout=LONG)
    assert (run.state.life_cycle_state, run.state.result_state) == (RunLifeCycleState.TERMINATED, SUCCESS)
    assert results(run) == {"count": "SUCCESS", "enough": "SUCCESS", "train": "SUCCESS", "alert": "EXCLUDED"}
    assert (shop.log(run, "count"), shop.log(run, "train")) == (f"run {run.run_id}\n", "got 12\n")
    assert next(task for task in run.tasks if task.task_key == "enough").condition_task.outcome == "true"
    count = next(task for task in run.tasks if task.task_key == "count")
    assert count.setup_duration > 0
    assert count.setup_duration + count.execution_duration == count.run_duration
    assert run.run_page_url == f"{shop.server.url}/jobs/runs/{run.run_id}"
    assert count.run_page_url == f"{run.run_page_url}/tasks/count?attempt={count.run_id}"
    other = shop.w.jobs.run_now_and_wait(job.job_id, job_parameters={"least": "12"}, timeout=LONG)
    assert results(other) == {"count": "SUCCESS", "enough": "SUCCESS", "train": "EXCLUDED", "alert": "SUCCESS"}
    assert [each.run_id for each in shop.w.jobs.list_runs(job_id=job.job_id, limit=1)] == [other.run_id, run.run_id]


def test_tasks_for_each_input_and_of_another_job(shop: Shop) -> None:
    inner = shop.w.jobs.create(
        name="inner",
        parameters=[JobParameterDefinition(name="word", default="none")],
        tasks=[Task("say", spark_python_task=shop.with_parameters(
            "import sys\nprint(sys.argv[1])", "{{job.parameters.word}}"))],
    )  # fmt: skip
    each = Task("one", spark_python_task=shop.with_parameters(
        "import sys\nprint(sys.argv[1])\nsys.exit(int(sys.argv[1] == '3'))", "{{input}}"))  # fmt: skip
    job = shop.w.jobs.create(
        name="outer",
        tasks=[
            Task("spread", for_each_task=ForEachTask(inputs="[1, 2, 3]", concurrency=2, task=each)),
            Task("call", run_job_task=RunJobTask(job_id=inner.job_id, job_parameters={"word": "hello"})),
        ],
    )
    run = shop.w.jobs.run_now_and_wait(job.job_id, timeout=LONG)
    assert results(run) == {"spread": "FAILED", "call": "SUCCESS"}
    spread, call = run.tasks
    stats = spread.for_each_task.stats.task_run_stats
    assert (stats.succeeded_iterations, stats.failed_iterations) == (2, 1)
    assert len(shop.w.jobs.get_run(spread.run_id).iterations) == 3
    child = shop.w.jobs.get_run(shop.w.jobs.get_run_output(call.run_id).run_job_output.run_id)
    assert (shop.log(child, "say"), child.trigger.value) == ("hello\n", "RUN_JOB_TASK")


def test_a_failed_task_is_tried_again_and_a_repair_runs_only_what_failed(shop: Shop) -> None:
    mark = f"{shop.volume}/mark"
    fails = f"""
from databricks.sdk import WorkspaceClient
print("x" * 3)
WorkspaceClient().files.download("{mark}")
"""
    job = shop.w.jobs.create(
        name="repair",
        tasks=[
            Task("good", spark_python_task=shop.script("print('once')")),
            Task("bad", depends_on=after("good"), max_retries=1, spark_python_task=shop.script(fails)),
            Task("next", depends_on=after("bad"), spark_python_task=shop.script("print(2)")),
            Task("always", depends_on=after("bad"), run_if=RunIf.ALL_DONE, spark_python_task=shop.script("print(3)")),
        ],
    )
    run = shop.w.jobs.run_now_and_wait(job.job_id, timeout=LONG)
    assert run.state.result_state is FAILED
    assert [(task.task_key, task.attempt_number) for task in run.tasks if task.task_key == "bad"] == [
        ("bad", 0),
        ("bad", 1),
    ]
    assert results(run) == {"good": "SUCCESS", "bad": "FAILED", "next": "UPSTREAM_FAILED", "always": "SUCCESS"}
    bad = next(task for task in run.tasks if task.task_key == "bad")
    assert "does not exist" in shop.w.jobs.get_run_output(bad.run_id).error
    assert "Traceback" in shop.w.jobs.get_run_output(bad.run_id).error_trace
    shop.w.files.upload(mark, io.BytesIO(b"there"))
    repaired = shop.w.jobs.repair_run_and_wait(run.run_id, rerun_all_failed_tasks=True, timeout=LONG)
    assert repaired.state.result_state is SUCCESS
    assert sum(task.task_key == "good" for task in repaired.tasks) == 1
    assert [each.type.value for each in repaired.repair_history] == ["ORIGINAL", "REPAIR"]


def test_a_task_that_is_cancelled_or_ends_leaves_no_process_behind(shop: Shop) -> None:
    forks = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""
    run = shop.w.jobs.submit(run_name="long", tasks=[SubmitTask("long", spark_python_task=shop.script(forks))])
    task = shop.w.jobs.get_run(run.run_id).tasks[0]
    pid = wait_until(lambda: shop.w.jobs.get_run_output(task.run_id).logs, what="the child's number").strip()
    ended = shop.w.jobs.cancel_run_and_wait(run.run_id, timeout=LONG)
    assert ended.state.result_state is RunResultState.CANCELED
    assert not _sleeps(pid)
    ends = shop.script(forks.rpartition("time.sleep")[0])
    done = shop.w.jobs.submit_and_wait(tasks=[SubmitTask("short", spark_python_task=ends)], timeout=LONG)
    assert results(done) == {"short": "SUCCESS"}
    assert not _sleeps(shop.log(done, "short").strip())
    shop.w.jobs.delete_run(run.run_id)
    with pytest.raises(NotFound):
        shop.w.jobs.get_run(run.run_id)


def _sleeps(pid: str) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline") as stream:
            return "time.sleep(600)" in stream.read()
    except FileNotFoundError:
        return False


def test_a_task_over_its_time_ends_and_one_over_the_limit_of_runs_waits_or_is_skipped(shop: Shop) -> None:
    sleeps = shop.script("import time\ntime.sleep(600)")
    late = shop.w.jobs.submit_and_wait(
        tasks=[SubmitTask("late", spark_python_task=sleeps, timeout_seconds=1)], timeout=LONG
    )
    assert results(late) == {"late": "TIMEDOUT"}
    job = shop.w.jobs.create(name="one", tasks=[Task("long", spark_python_task=sleeps)]).job_id
    first = shop.w.jobs.run_now(job).run_id
    skipped = shop.w.jobs.run_now_and_wait(job, timeout=LONG)
    assert skipped.state.life_cycle_state is RunLifeCycleState.SKIPPED
    waits = shop.w.jobs.run_now(job, queue=QueueSettings(enabled=True)).run_id
    assert shop.w.jobs.get_run(waits).state.life_cycle_state is RunLifeCycleState.QUEUED
    shop.w.jobs.cancel_run_and_wait(first, timeout=LONG)
    wait_until(lambda: shop.w.jobs.get_run(waits).state.life_cycle_state is RunLifeCycleState.RUNNING)
    shop.w.jobs.cancel_all_runs(job_id=job)
    wait_until(lambda: not list(shop.w.jobs.list_runs(job_id=job, active_only=True)), what="the end of all runs")


def test_settings_change_and_what_is_not_here_is_refused_by_name(shop: Shop) -> None:
    w = shop.w
    task = Task("a", spark_python_task=shop.script("print(1)"))
    name = f"change {uuid.uuid4().hex[:6]}"
    job = w.jobs.create(name=name, tasks=[task]).job_id
    second = Task("b", depends_on=after("a"), spark_python_task=task.spark_python_task)
    w.jobs.update(job, new_settings=JobSettings(tags={"x": "y"}, tasks=[second]))
    assert [each.task_key for each in w.jobs.get(job).settings.tasks] == ["a", "b"]
    w.jobs.update(job, fields_to_remove=["tags", "tasks/b"])
    assert (w.jobs.get(job).settings.tags, len(w.jobs.get(job).settings.tasks)) == (None, 1)
    w.jobs.reset(job, new_settings=JobSettings(name=name + " new", tasks=[task]))
    assert [each.job_id for each in w.jobs.list(name=name.upper() + " NEW")] == [job]
    with pytest.raises(NotImplemented, match="spark_jar_task"):
        w.jobs.create(
            tasks=[
                Task("n", spark_jar_task=SparkJarTask(main_class_name="a.B"), spark_python_task=task.spark_python_task)
            ]
        )
    with pytest.raises(InvalidParameterValue, match="exactly one"):
        w.jobs.create(tasks=[Task("n", notebook_task=NotebookTask("/x"), spark_python_task=task.spark_python_task)])
    with pytest.raises(NotFound, match="Cluster 'c' does not exist"):
        w.jobs.create(tasks=[Task("n", existing_cluster_id="c", spark_python_task=task.spark_python_task)])
    with pytest.raises(InvalidParameterValue, match="circle"):
        w.jobs.create(tasks=[Task(one, depends_on=after(two), spark_python_task=task.spark_python_task)
                             for one, two in ("ab", "ba")])  # fmt: skip
    token = uuid.uuid4().hex
    runs = {w.jobs.run_now(job, idempotency_token=token).run_id for _ in range(3)}
    assert len(runs) == 1
    w.jobs.delete(job)
    with pytest.raises(NotFound):
        w.jobs.get(job)


def test_packages_of_an_environment_are_there_and_the_servers_are_not(shop: Shop) -> None:
    looks = shop.script("import six, importlib.util\nprint(six.__version__, importlib.util.find_spec('mlflow'))")
    packages = JobEnvironment("six", compute.Environment(environment_version="1", dependencies=["six==1.17.0"]))
    run = shop.w.jobs.submit_and_wait(
        environments=[packages],
        tasks=[SubmitTask("six", environment_key="six", spark_python_task=looks)],
        timeout=LONG,
    )
    assert shop.log(run, "six") == "1.17.0 None\n"


def test_rights_on_a_job_are_those_of_its_permissions(shop: Shop) -> None:
    w = shop.w
    name = f"reader-{uuid.uuid4().hex[:6]}@jobs.org"
    them = shop.client(name)
    job = w.jobs.create(name="mine", tasks=[Task("a", spark_python_task=shop.script("print(1)"))]).job_id
    run = w.jobs.run_now_and_wait(job, timeout=LONG)
    for act in (
        lambda: them.jobs.get(job),
        lambda: them.jobs.run_now(job),
        lambda: them.jobs.get_run(run.run_id),
        lambda: them.jobs.get_run_output(run.tasks[0].run_id),
        lambda: them.jobs.cancel_run(run.run_id),
        lambda: them.jobs.delete(job),
    ):
        with pytest.raises(NotFound):
            act()
    assert (list(them.jobs.list()), list(them.jobs.list_runs())) == ([], [])

    def give(level: JobPermissionLevel) -> None:
        asked = JobAccessControlRequest(user_name=name, permission_level=level)
        w.jobs.update_permissions(str(job), access_control_list=[asked])

    give(JobPermissionLevel.CAN_VIEW)
    assert them.jobs.get_run_output(run.tasks[0].run_id).logs == "1\n"
    for act in (lambda: them.jobs.run_now(job), lambda: them.jobs.repair_run(run.run_id, rerun_tasks=["a"])):
        with pytest.raises(PermissionDenied):
            act()
    give(JobPermissionLevel.CAN_MANAGE_RUN)
    theirs = them.jobs.run_now_and_wait(job, timeout=LONG)
    assert theirs.state.result_state is SUCCESS
    with pytest.raises(PermissionDenied):
        them.jobs.reset(job, JobSettings(name="theirs"))
    give(JobPermissionLevel.CAN_MANAGE)
    them.jobs.update(job, new_settings=JobSettings(name="theirs"))
    assert w.jobs.get(job).settings.name == "theirs"
    levels = {each.permission_level.value for each in w.jobs.get_permission_levels(str(job)).permission_levels}
    w.jobs.set_permissions(str(job), access_control_list=[])
    with pytest.raises(NotFound):  # else they could still run it, as its owner
        them.jobs.repair_run(theirs.run_id, rerun_tasks=["a"])
    assert levels == {"CAN_VIEW", "CAN_MANAGE_RUN", "CAN_MANAGE", "IS_OWNER"}


def test_a_task_has_the_rights_of_whom_it_runs_as_and_no_way_to_more(shop: Shop) -> None:
    name = f"attacker-{uuid.uuid4().hex[:6]}@jobs.org"
    them = shop.client(name)
    with pytest.raises(NotFound):  # a script that its owner may not read
        them.files.download(script := shop.script("print(1)").python_file)
    stolen = them.jobs.submit_and_wait(tasks=[SubmitTask("a", spark_python_task=SparkPythonTask(script))], timeout=LONG)
    assert results(stolen) == {"a": "FAILED"}
    with pytest.raises(PermissionDenied, match="run as"):
        them.jobs.submit(
            tasks=[SubmitTask("a", spark_python_task=SparkPythonTask(script))],
            run_as=JobRunAs(user_name=shop.server.user),
        )
    schema = ".".join(shop.volume.split("/")[2:4])
    tries = f"""
import os, socket
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.ml import RegistryWebhookEvent
from databricks.sdk.service.workspace import AclPermission
w = WorkspaceClient()
from pyspark.sql import SparkSession
spark = SparkSession.builder.getOrCreate
grant = "GRANT SELECT ON SCHEMA {schema} TO `account users`"
print(w.current_user.me().user_name)
for what in (lambda: w.tokens.create(comment="stays"), lambda: open("{shop.server.data_dir}/credentials.json"),
             lambda: socket.create_connection(("1.1.1.1", 53), 2), lambda: w.jobs.create(name="stays"),
             lambda: w.grants.update("schema", "{schema}", changes=[]),
             lambda: w.secrets.put_acl("none", "users", AclPermission.MANAGE),
             lambda: w.model_registry.create_webhook([RegistryWebhookEvent.MODEL_VERSION_CREATED]),
             lambda: w.statement_execution.execute_statement(grant, "starter").status,
             lambda: spark().sql(grant),
             lambda: w.schemas.update("{schema}", owner=w.current_user.me().user_name),
             ):
    try:
        print("changes no rights" in str(told := what()) or told)
    except Exception as error:
        print("changes no rights" in str(error) or type(error).__name__)
print(os.environ["DATABRICKS_TOKEN"])
"""
    run = shop.w.jobs.submit_and_wait(tasks=[SubmitTask("t", spark_python_task=shop.script(tries))], timeout=LONG)
    me, *refused, token = shop.log(run, "t").splitlines()
    assert (me, token) == (shop.server.user, "[REDACTED]")
    assert refused == ["PermissionDenied", "PermissionError", "OSError", *["PermissionDenied"] * 4, *["True"] * 3]


def test_a_bad_reference_or_condition_fails_its_task_with_the_reason(shop: Shop) -> None:
    run = shop.w.jobs.submit_and_wait(
        tasks=[
            SubmitTask("c", condition_task=ConditionTask(op=ConditionTaskOp.LESS_THAN, left="a", right="1")),
            SubmitTask("v", spark_python_task=shop.with_parameters("print(1)", "{{tasks.c.values.none}}")),
        ],
        timeout=LONG,
    )
    assert results(run) == {"c": "FAILED", "v": "FAILED"}
    assert "compares numbers" in run.tasks[0].state.state_message
    assert "leads to no value" in run.tasks[1].state.state_message
    with pytest.raises(BadRequest):
        shop.w.jobs.get_run_output(run.run_id)
