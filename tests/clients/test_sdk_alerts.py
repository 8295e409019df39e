"""The unmodified Databricks SDK on alerts: on saved queries, on texts, in the older form, and as tasks of jobs."""

import io
import json
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import InvalidParameterValue, NotFound, PermissionDenied
from databricks.sdk.service import sql
from databricks.sdk.service.iam import AccessControlRequest, PermissionLevel
from databricks.sdk.service.jobs import (
    AlertEvaluationState,
    AlertTask,
    AlertTaskSubscriber,
    RunLifeCycleState,
    SparkPythonTask,
    SqlAlertState,
    SqlTask,
    SqlTaskAlert,
    SqlTaskSubscription,
    SubmitTask,
    Task,
)
from databricks.sdk.service.settings import Config, GenericWebhookConfig
from databricks.sdk.service.workspace import ImportFormat

from millpond.kernel.clock import utc_now
from tests.receivers import Receiver, receiving
from tests.servers import Server, wait_until


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as state:
        yield state


@pytest.fixture
def w(any_server: Server) -> WorkspaceClient:
    return WorkspaceClient(host=any_server.url, token=any_server.token, auth_type="pat")


def somebody(server: Server) -> tuple[str, WorkspaceClient]:
    name = f"al-{uuid.uuid4().hex[:8]}@x.org"
    return name, WorkspaceClient(host=server.url, token=server.new_user(name), auth_type="pat")


def hook(w: WorkspaceClient, receiver: Receiver) -> str:
    config = Config(generic_webhook=GenericWebhookConfig(url=receiver.url))
    return str(w.notification_destinations.create(display_name="hook", config=config).id)


def query(w: WorkspaceClient, text: str) -> str:
    asked = sql.CreateQueryRequestQuery(display_name="q", query_text=text, warehouse_id="starter")
    return str(w.queries.create(query=asked).id)


def over(column: str, value: float) -> sql.AlertCondition:
    return sql.AlertCondition(
        op=sql.AlertOperator.GREATER_THAN,
        operand=sql.AlertConditionOperand(column=sql.AlertOperandColumn(name=column)),
        threshold=sql.AlertConditionThreshold(value=sql.AlertOperandValue(double_value=value)),
        empty_result_state=sql.AlertState.OK,
    )


def text_alert(text: str, *, destination: str | None = None, cron: str = "0 0 3 * * ?", **more: Any) -> sql.AlertV2:
    told = [sql.AlertV2Subscription(destination_id=destination)] if destination else []
    return sql.AlertV2(
        display_name="late",
        query_text=text,
        warehouse_id="starter",
        evaluation=sql.AlertV2Evaluation(
            source=sql.AlertV2OperandColumn(name="n", aggregation=sql.Aggregation.SUM),
            comparison_operator=sql.ComparisonOperator.GREATER_THAN,
            threshold=sql.AlertV2Operand(value=sql.AlertV2OperandValue(double_value=10)),
            empty_result_state=sql.AlertEvaluationState.OK,
            notification=sql.AlertV2Notification(subscriptions=told, notify_on_ok=True),
        ),
        schedule=sql.CronSchedule(quartz_cron_schedule=cron, timezone_id="Europe/Vienna"),
        **more,
    )


def evaluated(server: Server, alert_id: str, token: str | None = None) -> dict[str, Any]:
    """What an evaluation that is asked for now finds."""
    status, begun = server.call("POST", f"/api/millpond/alerts/{alert_id}/evaluate", token=token)
    assert status == 200, begun

    def ended() -> dict[str, Any] | None:
        status, found = server.call("GET", f"/api/millpond/alerts/{alert_id}/evaluations", token=token)
        assert status == 200, found
        known = {each["evaluation_id"]: each for each in found["evaluations"]}
        one = known[begun["evaluation_id"]]
        return one if one["state"] != "PENDING" else None

    return wait_until(ended, timeout_s=60, what="the evaluation")  # type: ignore[no-any-return]


def test_an_alert_on_a_saved_query_is_made_changed_evaluated_and_put_away(
    any_server: Server, w: WorkspaceClient
) -> None:
    asked = query(w, "SELECT id AS n FROM range(5, 8)")
    made = w.alerts.create(
        alert=sql.CreateAlertRequestAlert(
            display_name="rows", query_id=asked, condition=over("N", 4), seconds_to_retrigger=60, custom_subject="S"
        )
    )
    assert made.state is sql.AlertState.UNKNOWN
    assert (made.owner_user_name, made.lifecycle_state) == (any_server.user, sql.LifecycleState.ACTIVE)
    found = evaluated(any_server, made.id)
    assert (found["state"], found["value"], found["run_as"]) == ("TRIGGERED", "5", any_server.user)
    shown = w.alerts.get(made.id)
    assert (shown.state, bool(shown.trigger_time)) == (sql.AlertState.TRIGGERED, True)
    changed = w.alerts.update(
        made.id, "display_name,condition.threshold,custom_subject",
        alert=sql.UpdateAlertRequestAlert(display_name="more rows", condition=over("x", 6)),
    )  # fmt: skip
    assert (changed.display_name, changed.custom_subject, changed.seconds_to_retrigger) == ("more rows", None, 60)
    assert changed.condition.operand.column.name == "N"
    assert changed.condition.threshold.value.double_value == 6
    assert changed.state is sql.AlertState.UNKNOWN
    assert evaluated(any_server, made.id)["state"] == "OK"
    assert made.id in [each.id for each in w.alerts.list(page_size=1)]
    with pytest.raises(InvalidParameterValue, match="update_mask"):
        w.alerts.update(made.id, "colour", alert=sql.UpdateAlertRequestAlert())
    with pytest.raises(InvalidParameterValue, match=r"condition\.op"):
        w.api_client.do("PATCH", f"/api/2.0/sql/alerts/{made.id}", body={
            "alert": {"condition": {"op": "LIKE"}}, "update_mask": "condition.op"})  # fmt: skip
    with pytest.raises(NotFound, match=r"w\.alerts,"):
        w.alerts_v2.get_alert(made.id)
    w.alerts.delete(made.id)
    assert w.alerts.get(made.id).lifecycle_state is sql.LifecycleState.TRASHED
    assert made.id not in [each.id for each in w.alerts.list()]
    assert any_server.call("POST", f"/api/millpond/alerts/{made.id}/evaluate")[0] == 400


def test_the_older_form_is_the_same_alert(any_server: Server, w: WorkspaceClient) -> None:
    asked = query(w, "SELECT 'red' AS light")
    options = sql.AlertOptions(column="light", op="==", value="red", muted=True)
    made = w.alerts_legacy.create("light", options, asked, rearm=30)
    assert evaluated(any_server, made.id)["state"] == "TRIGGERED"
    shown = w.alerts_legacy.get(made.id)
    assert (shown.state, shown.options.op, shown.rearm) == (sql.LegacyAlertState.TRIGGERED, "==", 30)
    assert w.alerts.get(made.id).condition.threshold.value.string_value == "red"
    options.value = "green"
    w.alerts_legacy.update(made.id, "light", options, asked)
    assert evaluated(any_server, made.id)["state"] == "OK"
    assert made.id in [each.id for each in w.alerts_legacy.list()]
    w.alerts_legacy.delete(made.id)
    with pytest.raises(NotFound):
        w.alerts_legacy.get(made.id)


def test_an_alert_on_a_text_asks_by_its_schedule_and_tells_who_subscribed(
    any_server: Server, w: WorkspaceClient, receiver: Receiver
) -> None:
    table = f"al_{uuid.uuid4().hex[:8]}.s.t"
    catalog, schema, _ = table.split(".")
    w.catalogs.create(catalog)
    w.schemas.create(schema, catalog)

    def run(text: str) -> None:
        done = w.statement_execution.execute_statement(text, "starter", wait_timeout="50s")
        assert done.status.state is sql.StatementState.SUCCEEDED, done.status

    run(f"CREATE TABLE {table} AS SELECT 4 AS n")
    text = f"SELECT n FROM {table} WHERE n > :least"
    cron = f"{(utc_now() + timedelta(seconds=4)).second} * * * * ?"
    made = w.alerts_v2.create_alert(
        text_alert(
            text, destination=hook(w, receiver), cron=cron,
            parameters=[sql.AlertStatementParameter(name="least", value="0", type="INT")],
            custom_summary="{{ALERT_STATUS}} {{QUERY_RESULT_VALUE}}",
        )
    )  # fmt: skip
    assert (made.effective_run_as.user_name, made.schedule.timezone_id) == (any_server.user, "Europe/Vienna")
    wait_until(
        lambda: w.alerts_v2.get_alert(made.id).evaluation.state is sql.AlertEvaluationState.OK, timeout_s=120, what="OK"
    )
    paused = w.alerts_v2.update_alert(
        made.id,
        sql.AlertV2.from_dict({"schedule": {"pause_status": "PAUSED"}}),
        "schedule.pause_status",
    )
    assert paused.schedule.pause_status is sql.SchedulePauseStatus.PAUSED
    assert paused.schedule.quartz_cron_schedule == cron
    assert not receiver.got
    run(f"INSERT INTO {table} VALUES (8)")
    assert evaluated(any_server, made.id)["state"] == "TRIGGERED"
    wait_until(lambda: receiver.got, what="the message")
    body = json.loads(receiver.got[0][1])
    assert (body["event_type"], body["subject"]) == ("alert.triggered", "TRIGGERED 12")
    assert body["url"].endswith(f"/sql/alerts/{made.id}")
    run(f"DELETE FROM {table} WHERE n = 8")
    assert evaluated(any_server, made.id)["state"] == "OK"
    wait_until(lambda: len(receiver.got) > 1, what="the message that it is OK")
    assert json.loads(receiver.got[1][1])["event_type"] == "alert.ok"
    run(f"DROP TABLE {table}")
    assert evaluated(any_server, made.id)["state"] == "ERROR"
    wait_until(lambda: len(receiver.got) > 2, what="the message that it cannot be evaluated")
    assert json.loads(receiver.got[2][1])["event_type"] == "alert.error"
    assert len(receiver.got) == 3
    w.alerts_v2.trash_alert(made.id)
    assert w.alerts_v2.get_alert(made.id).lifecycle_state is sql.AlertLifecycleState.DELETED
    w.alerts_v2.trash_alert(made.id, purge=True)
    with pytest.raises(NotFound):
        w.alerts_v2.get_alert(made.id)


def test_an_alert_asks_as_whoever_made_it_or_changed_what_it_asks(any_server: Server, w: WorkspaceClient) -> None:
    ann, anns = somebody(any_server)
    bob, bobs = somebody(any_server)
    _eve, eves = somebody(any_server)
    catalog = f"al_{uuid.uuid4().hex[:8]}"
    anns.catalogs.create(catalog)
    anns.schemas.create("s", catalog)
    done = anns.statement_execution.execute_statement(
        f"CREATE TABLE {catalog}.s.t AS SELECT 11 AS n", "starter", wait_timeout="50s"
    )
    assert done.status.state is sql.StatementState.SUCCEEDED
    made = anns.alerts_v2.create_alert(text_alert(f"SELECT n FROM {catalog}.s.t"))
    for act in (
        lambda: eves.alerts_v2.get_alert(made.id),
        lambda: eves.alerts_v2.trash_alert(made.id),
        lambda: eves.alerts_v2.update_alert(made.id, text_alert("SELECT 1 AS n"), "*"),
    ):
        with pytest.raises(NotFound):
            act()
    assert made.id not in [each.id for each in eves.alerts_v2.list_alerts()]
    assert any_server.call("POST", f"/api/millpond/alerts/{made.id}/evaluate", token=eves.config.token)[0] == 404

    def let(level: PermissionLevel) -> None:
        entry = AccessControlRequest(user_name=bob, permission_level=level)
        anns.permissions.set("alertsv2", made.id, access_control_list=[entry])

    let(PermissionLevel.CAN_READ)
    assert bobs.alerts_v2.get_alert(made.id).query_text.endswith(".s.t")
    assert any_server.call("POST", f"/api/millpond/alerts/{made.id}/evaluate", token=bobs.config.token)[0] == 403
    let(PermissionLevel.CAN_RUN)
    found = evaluated(any_server, made.id, bobs.config.token)
    assert (found["state"], found["run_as"]) == ("TRIGGERED", ann)
    with pytest.raises(PermissionDenied):
        bobs.alerts_v2.update_alert(made.id, text_alert("SELECT 1 AS n"), "display_name")
    let(PermissionLevel.CAN_EDIT)
    named = bobs.alerts_v2.update_alert(made.id, sql.AlertV2.from_dict({"display_name": "x"}), "display_name")
    assert named.effective_run_as.user_name == ann
    change = text_alert(f"SELECT n FROM {catalog}.s.t WHERE n > 1", run_as=sql.AlertV2RunAs(user_name=ann))
    with pytest.raises(PermissionDenied, match="run as"):
        bobs.alerts_v2.update_alert(made.id, change, "query_text,run_as")
    assert bobs.alerts_v2.update_alert(made.id, change, "query_text").effective_run_as.user_name == bob
    found = evaluated(any_server, made.id, bobs.config.token)
    assert (found["state"], found["value"]) == ("ERROR", "")
    with pytest.raises(PermissionDenied):
        bobs.alerts_v2.trash_alert(made.id)
    assert w.alerts_v2.update_alert(made.id, change, "run_as").effective_run_as.user_name == ann
    with pytest.raises(NotFound):
        bobs.alerts.create(
            alert=sql.CreateAlertRequestAlert(query_id=query(anns, "SELECT 1 AS n"), condition=over("n", 1))
        )


def test_what_an_alert_cannot_be_is_said(w: WorkspaceClient) -> None:
    with pytest.raises(InvalidParameterValue, match="reads"):
        w.alerts_v2.create_alert(text_alert("DROP TABLE x"))
    with pytest.raises(InvalidParameterValue, match="no Quartz cron"):
        w.alerts_v2.create_alert(text_alert("SELECT 1 AS n", cron="*/5 * * * *"))
    with pytest.raises(InvalidParameterValue, match="Notification destination"):
        w.alerts_v2.create_alert(text_alert("SELECT 1 AS n", destination="nowhere"))
    with pytest.raises(NotFound, match="Warehouse"):
        w.api_client.do("POST", "/api/2.0/alerts", body={
            **text_alert("SELECT 1 AS n").as_dict(), "warehouse_id": "none"})  # fmt: skip
    with pytest.raises(InvalidParameterValue, match="evaluation"):
        w.api_client.do("POST", "/api/2.0/alerts", body={
            "display_name": "x", "query_text": "SELECT 1", "warehouse_id": "starter"})  # fmt: skip


# -- as a task --------------------------------------------------------------------------------------------------------


def test_a_job_evaluates_an_alert_as_whoever_that_runs_as(
    any_server: Server, w: WorkspaceClient, receiver: Receiver
) -> None:
    name, theirs = somebody(any_server)
    asked = query(theirs, "SELECT 7 AS n")
    alert = theirs.alerts.create(
        alert=sql.CreateAlertRequestAlert(display_name="late", query_id=asked, condition=over("n", 5))
    )
    told = [SqlTaskSubscription(destination_id=hook(w, receiver))]

    def run(who: WorkspaceClient, **more: Any) -> Any:
        task = SqlTask(warehouse_id="starter", alert=SqlTaskAlert(alert_id=alert.id, **more))
        begun = who.jobs.submit(tasks=[SubmitTask("a", sql_task=task)])
        ended = RunLifeCycleState.TERMINATED
        found = wait_until(
            lambda: run if (run := who.jobs.get_run(begun.run_id)).state.life_cycle_state is ended else None,
            timeout_s=120,
        )
        return found.tasks[0]

    done = run(theirs, subscriptions=told)
    assert done.state.result_state.value == "SUCCESS", done.state
    output = theirs.jobs.get_run_output(done.run_id).sql_output.alert_output
    assert output.alert_state is SqlAlertState.TRIGGERED
    assert (output.query_text, output.warehouse_id, len(output.sql_statements)) == ("SELECT 7 AS n", "starter", 1)
    wait_until(lambda: receiver.got, what="the message")
    run(theirs, subscriptions=told)
    wait_until(lambda: len(receiver.got) > 1, what="the message of the second run")
    theirs.alerts.update(alert.id, "condition", alert=sql.UpdateAlertRequestAlert(condition=over("n", 6)))
    run(theirs, subscriptions=told, pause_subscriptions=True)
    assert theirs.alerts.get(alert.id).state is sql.AlertState.TRIGGERED
    assert len(receiver.got) == 2
    theirs.alerts.update(alert.id, "condition", alert=sql.UpdateAlertRequestAlert(condition=over("m", 6)))
    failed = run(theirs)
    assert "no column 'm'" in failed.state.state_message
    assert theirs.alerts.get(alert.id).state is sql.AlertState.UNKNOWN
    theirs.alerts.update(alert.id, "condition", alert=sql.UpdateAlertRequestAlert(condition=over("n", 6)))
    other, others = somebody(any_server)
    assert "does not exist" in run(others).state.state_message
    for level, word in ((PermissionLevel.CAN_READ, "may not use"), (PermissionLevel.CAN_RUN, "")):
        entry = AccessControlRequest(user_name=other, permission_level=level)
        theirs.permissions.set("alerts", alert.id, access_control_list=[entry])
        done = run(others)
        assert word in done.state.state_message
    output = others.jobs.get_run_output(done.run_id).sql_output.alert_output
    assert (output.alert_state, output.query_text) == (SqlAlertState.TRIGGERED, "")
    status, found = any_server.call("GET", f"/api/millpond/alerts/{alert.id}/evaluations")
    assert {(each["cause"], each["run_as"]) for each in found["evaluations"]} == {("job", name)}, status


def test_a_task_gives_an_alert_on_a_text_other_parameters(
    any_server: Server, w: WorkspaceClient, receiver: Receiver
) -> None:
    least = sql.AlertStatementParameter(name="least", value="99", type="INT")
    made = w.alerts_v2.create_alert(text_alert("SELECT 20 AS n WHERE 20 > :least", parameters=[least]))
    assert evaluated(any_server, made.id)["state"] == "OK"
    told = [AlertTaskSubscriber(destination_id=hook(w, receiver))]

    def run(**parameters: str) -> Any:
        task = SubmitTask("a", alert_task=AlertTask(alert_id=made.id, parameters=parameters, subscribers=told))
        return w.jobs.submit_and_wait(tasks=[task]).tasks[0]

    done = run(least="3")
    assert w.jobs.get_run_output(done.run_id).alert_output.alert_state is AlertEvaluationState.TRIGGERED
    wait_until(lambda: receiver.got, what="the message")
    found = w.alerts_v2.get_alert(made.id)
    assert (found.parameters, found.evaluation.state) == ([least], sql.AlertEvaluationState.OK)
    assert "no parameter 'most'" in run(most="3").state.state_message
    with pytest.raises(InvalidParameterValue, match="does not exist"):
        w.jobs.submit(tasks=[SubmitTask("a", alert_task=AlertTask(
            alert_id=made.id, subscribers=[AlertTaskSubscriber(destination_id="none")]))])  # fmt: skip


def test_the_code_of_a_task_makes_no_alert_that_would_outlive_it(any_server: Server) -> None:
    name, theirs = somebody(any_server)
    path = f"/Users/{name}/try.py"
    script = """
from databricks.sdk import WorkspaceClient
w = WorkspaceClient()
print(len(list(w.queries.list())), "queries")
for path in ("2.0/sql/alerts", "2.0/preview/sql/alerts", "2.0/alerts", "millpond/alerts/x/evaluate"):
    try:
        w.api_client.do("POST", "/api/" + path, body={})
    except Exception as error:
        print(path, type(error).__name__)
"""
    theirs.workspace.upload(path, io.BytesIO(script.encode()), format=ImportFormat.AUTO)
    task = SubmitTask("a", spark_python_task=SparkPythonTask(python_file=path))
    done = theirs.jobs.submit_and_wait(tasks=[task]).tasks[0]
    told = theirs.jobs.get_run_output(done.run_id).logs
    assert "0 queries" in told
    assert told.count("PermissionDenied") == 4, told


def test_what_a_task_cannot_do_with_an_alert_is_refused(any_server: Server) -> None:
    _, theirs = somebody(any_server)
    for body, message in (
        (SqlTask(warehouse_id="starter", alert=SqlTaskAlert("x"), parameters={"a": "1"}), "asks with its own"),
        (SqlTask(warehouse_id="starter", alert=SqlTaskAlert("x", subscriptions=[SqlTaskSubscription()])), "is one of"),
        (
            SqlTask(
                warehouse_id="starter",
                alert=SqlTaskAlert("x", subscriptions=[SqlTaskSubscription(destination_id="{{job.parameters.to}}")]),
            ),
            "does not exist",
        ),
    ):
        with pytest.raises(InvalidParameterValue, match=message):
            theirs.jobs.create(tasks=[Task("a", sql_task=body)])
