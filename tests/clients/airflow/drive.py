"""A DAG of Airflow that drives a server through its Databricks provider; run as a script in Airflow's environment.

SCRIPT, NOTEBOOK and WAREHOUSE are on the server; MARK is a file that the script leaves the first time, when it fails.
"""

import os
import sys

import pendulum
from airflow.providers.databricks.hooks.databricks import DatabricksHook
from airflow.providers.databricks.operators.databricks import (
    DatabricksCreateJobsOperator,
    DatabricksNotebookOperator,
    DatabricksRunNowOperator,
    DatabricksSQLStatementsOperator,
    DatabricksSubmitRunOperator,
    DatabricksTaskOperator,
)
from airflow.providers.databricks.operators.databricks_workflow import DatabricksWorkflowTaskGroup
from airflow.sdk import DAG, task
from airflow.sdk.definitions.template import literal

SCRIPT, NOTEBOOK, WAREHOUSE = os.environ["SCRIPT"], os.environ["NOTEBOOK"], os.environ["WAREHOUSE"]
CONNECTION = "databricks_default"
OFTEN = {"polling_period_seconds": 1}


@task
def told(run: int) -> None:
    """What a run ended with, by the hook."""
    hook = DatabricksHook()
    output = hook.get_run_output(hook.get_run(run)["tasks"][-1]["run_id"])
    assert hook.get_run_state_str(run) == "State: TERMINATED. Result: SUCCESS. ", hook.get_run_state_str(run)
    assert output["notebook_output"]["result"] == "for single", output


@task
def connected() -> None:
    """The connection is tested, as by the button of Airflow's page."""
    assert DatabricksHook().test_connection() == (True, "Connection successfully tested")


@task
def cancelled() -> None:
    """A run is cancelled by the hook."""
    hook = DatabricksHook()
    body = {"python_file": SCRIPT, "parameters": ["sleep"]}
    run_id = hook.submit_run({"run_name": "long", "tasks": [{"task_key": "a", "spark_python_task": body}]})
    hook.cancel_run(run_id)
    assert ended(hook, run_id) == "CANCELED"


@task
def repaired() -> None:
    """A run that failed is repaired by the hook, and deleted."""
    hook = DatabricksHook()
    job_id = hook.find_job_id_by_name("made by airflow")
    run_id = hook.run_now({"job_id": job_id, "job_parameters": {"how": os.environ["MARK"]}})
    assert ended(hook, run_id) == "FAILED"
    assert hook.get_latest_repair_id(run_id) is None
    repair_id = hook.repair_run({"run_id": run_id, "rerun_all_failed_tasks": True})
    assert ended(hook, run_id) == "SUCCESS"
    assert hook.get_latest_repair_id(run_id) == repair_id
    hook.delete_run(run_id)


def ended(hook: DatabricksHook, run_id: int) -> str:
    """How a run ended; Airflow ends the task that waits for too long."""
    while not hook.get_run_state(run_id).is_terminal:
        pass
    return hook.get_run_state_result(run_id)


with DAG("drive", start_date=pendulum.datetime(2026, 1, 1), schedule=None) as dag:
    connected()
    cancelled()
    script = {"python_file": SCRIPT, "parameters": ["{{ dag.dag_id }}"]}
    DatabricksSubmitRunOperator(
        task_id="deferred", tasks=[{"task_key": "a", "spark_python_task": script}], deferrable=True, **OFTEN
    )
    single = DatabricksSubmitRunOperator(
        task_id="single", notebook_task={"notebook_path": NOTEBOOK, "base_parameters": {"who": "single"}}, **OFTEN
    )
    told(single.output["run_id"])
    DatabricksSQLStatementsOperator(task_id="statement", statement="SELECT 1", warehouse_id=WAREHOUSE, **OFTEN)
    body = {"python_file": SCRIPT, "parameters": [literal("{{job.parameters.how}}")]}
    job = DatabricksCreateJobsOperator(
        task_id="job",
        name="made by airflow",
        tasks=[{"task_key": "a", "spark_python_task": body}],
        json={"parameters": [{"name": "how", "default": "well"}]},
        access_control_list=[{"group_name": "users", "permission_level": "CAN_VIEW"}],
    )
    now = DatabricksRunNowOperator(
        task_id="now", job_name="made by airflow", job_parameters={"how": "as asked"}, **OFTEN
    )
    job >> now >> repaired()
    with DatabricksWorkflowTaskGroup(group_id="flow", databricks_conn_id=CONNECTION, notebook_params={"who": "flow"}):
        first = DatabricksNotebookOperator(
            task_id="first", notebook_path=NOTEBOOK, source="WORKSPACE", databricks_conn_id=CONNECTION, **OFTEN
        )
        second = DatabricksTaskOperator(
            task_id="second", task_config={"spark_python_task": script}, databricks_conn_id=CONNECTION,
            max_retries=1, **OFTEN,
        )  # fmt: skip
        first >> second

if __name__ == "__main__":
    sys.exit(dag.test().state != "success")
