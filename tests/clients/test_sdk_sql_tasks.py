"""The unmodified Databricks SDK on tasks of SQL: saved queries and files, on a warehouse, as whoever they run as."""

import io
import uuid

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidParameterValue, NotFound, NotImplemented
from databricks.sdk.service.jobs import (
    Run,
    RunLifeCycleState,
    SqlTask,
    SqlTaskDashboard,
    SqlTaskFile,
    SqlTaskQuery,
    SubmitTask,
    Task,
)
from databricks.sdk.service.sql import CreateQueryRequestQuery
from databricks.sdk.service.workspace import ImportFormat

from tests.servers import Server, wait_until


def done(w: WorkspaceClient, run_id: int) -> Run:
    ended = RunLifeCycleState.TERMINATED
    return wait_until(
        lambda: run if (run := w.jobs.get_run(run_id)).state.life_cycle_state is ended else None, timeout_s=120
    )


def test_queries_and_files_run_on_a_warehouse_as_whoever_the_task_runs_as(any_server: Server) -> None:
    name = f"sue-{uuid.uuid4().hex[:6]}@x.org"
    w = WorkspaceClient(host=any_server.url, token=any_server.new_user(name), auth_type="pat")
    catalog, path = f"sq_{uuid.uuid4().hex[:8]}", f"/Users/{name}/load.sql"
    w.catalogs.create(catalog)
    w.schemas.create("s", catalog)
    text = f"""-- one; two
        USE {catalog}.s;
        CREATE TABLE t AS SELECT ';' AS mark, :day AS day;
        SELECT * FROM t;
    """
    w.workspace.upload(path, io.BytesIO(text.encode()), format=ImportFormat.AUTO)
    asked = CreateQueryRequestQuery(
        display_name="q", query_text=f"SELECT count(*) FROM {catalog}.s.t", warehouse_id="starter"
    )
    query = w.queries.create(query=asked).id
    load = SqlTask(warehouse_id="starter", file=SqlTaskFile(path=path), parameters={"day": "{{job.name}}", "more": "x"})
    count = SqlTask(warehouse_id="starter", query=SqlTaskQuery(query))
    missing = SqlTask(warehouse_id="starter", query=SqlTaskQuery("none"))
    job = w.jobs.create(name="daily", tasks=[Task("load", sql_task=load)]).job_id
    run = done(w, w.jobs.run_now(job).run_id)
    output = w.jobs.get_run_output(run.tasks[0].run_id)
    told = output.sql_output.file_output
    assert [each.name for each in told.query_result.columns] == ["mark", "day"]
    assert [value.string_value for value in told.query_result.rows[0].values] == [";", "daily"]
    assert len(told.sql_statements) == 3
    assert w.statement_execution.get_statement(told.sql_statements[2].lookup_key).status.state.value == "SUCCEEDED"
    again = done(w, w.jobs.run_now(job, sql_params={"day": "x"}).run_id)
    assert "already exists" in again.tasks[0].state.state_message
    run = done(w, w.jobs.submit(tasks=[
        SubmitTask("count", sql_task=count), SubmitTask("missing", sql_task=missing)]).run_id)  # fmt: skip
    ended = {task.task_key: task.state for task in run.tasks}
    assert ended["count"].result_state.value == "SUCCESS"
    assert "does not exist" in ended["missing"].state_message
    output = w.jobs.get_run_output(next(task.run_id for task in run.tasks if task.task_key == "count"))
    assert output.sql_output.query_output.warehouse_id == "starter"
    other = WorkspaceClient(host=any_server.url, token=any_server.new_user("o" + name), auth_type="pat")
    run = done(
        other, other.jobs.submit(tasks=[SubmitTask("load", sql_task=load), SubmitTask("count", sql_task=count)]).run_id
    )
    assert all("does not exist" in task.state.state_message for task in run.tasks)
    with pytest.raises(NotFound):
        other.jobs.get_run_output(output.metadata.run_id)


def test_what_a_sql_task_does_not_have_is_refused_by_name(any_server: Server) -> None:
    w = WorkspaceClient(host=any_server.url, token=any_server.token, auth_type="pat")
    with pytest.raises(NotImplemented, match="dashboard"):
        w.jobs.create(tasks=[Task("a", sql_task=SqlTask(warehouse_id="starter", dashboard=SqlTaskDashboard("x")))])
    with pytest.raises(InvalidParameterValue, match="one of query, file and alert"):
        w.jobs.create(tasks=[Task("a", sql_task=SqlTask(warehouse_id="starter"))])


def test_a_statement_that_takes_too_long_is_cancelled(any_server: Server) -> None:
    w = WorkspaceClient(host=any_server.url, token=any_server.token, auth_type="pat")
    slow = "SELECT count(*) FROM range(100000000) a CROSS JOIN range(100000) b WHERE a.id * b.id % 7 = 3"
    asked = CreateQueryRequestQuery(display_name="slow", query_text=slow, warehouse_id="starter")
    task = SqlTask(warehouse_id="starter", query=SqlTaskQuery(w.queries.create(query=asked).id))
    run = done(w, w.jobs.submit(tasks=[SubmitTask("a", sql_task=task, timeout_seconds=1)]).run_id)
    assert run.tasks[0].state.result_state.value == "TIMEDOUT"
    lookup = w.jobs.get_run_output(run.tasks[0].run_id).sql_output.query_output.sql_statements[0].lookup_key
    assert w.statement_execution.get_statement(lookup).status.state.value == "CANCELED"
