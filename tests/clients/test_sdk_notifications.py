"""The unmodified Databricks SDK on notification destinations, and on who is told of a job's runs."""

import io
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, InvalidParameterValue, NotFound, NotImplemented, PermissionDenied
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.iam import AccessControlRequest, PermissionLevel
from databricks.sdk.service.jobs import (
    ConditionTask,
    ConditionTaskOp,
    JobEmailNotifications,
    JobNotificationSettings,
    JobsHealthMetric,
    JobsHealthOperator,
    JobsHealthRule,
    JobsHealthRules,
    SparkPythonTask,
    SubmitTask,
    Task,
    TaskNotificationSettings,
    Webhook,
    WebhookNotifications,
)
from databricks.sdk.service.settings import (
    Config,
    DestinationType,
    GenericWebhookConfig,
    PagerdutyConfig,
    SlackConfig,
)

from tests.receivers import Receiver, receiving
from tests.servers import Server, wait_until

FAILS = ConditionTask(op=ConditionTaskOp.LESS_THAN, left="a", right="1")
WORKS = ConditionTask(op=ConditionTaskOp.EQUAL_TO, left="1", right="1")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as state:
        yield state


@pytest.fixture
def w(any_server: Server) -> WorkspaceClient:
    return WorkspaceClient(host=any_server.url, token=any_server.token, auth_type="pat")


def log(server: Server, run_id: int, token: str | None = None) -> list[dict[str, Any]]:
    status, found = server.call("GET", f"/api/millpond/jobs/runs/{run_id}/notifications", token=token)
    return found["notifications"] if status == 200 else [found]


def events(receiver: Receiver) -> list[str]:
    """What came, each as its event and the task that it is about."""
    told = [json.loads(raw) for _, raw in receiver.got]
    return sorted(f"{each['event_type']} {each.get('task', {}).get('task_key', '')}".strip() for each in told)


def test_destinations_are_named_by_administrators_and_keep_their_secrets(
    any_server: Server, w: WorkspaceClient, receiver: Receiver
) -> None:
    config = Config(generic_webhook=GenericWebhookConfig(url=receiver.url, username="mill", password="pond"))
    made = w.notification_destinations.create(display_name="on call", config=config)
    assert made.destination_type is DestinationType.WEBHOOK
    shown = json.dumps(w.notification_destinations.get(made.id).as_dict())
    assert receiver.url not in shown
    assert "pond" not in shown
    hook = w.notification_destinations.get(made.id).config.generic_webhook
    assert (hook.url_set, hook.username_set, hook.password_set) == (True, True, True)
    w.notification_destinations.update(made.id, display_name="day", config=Config(
        generic_webhook=GenericWebhookConfig(password="")))  # fmt: skip
    changed = w.notification_destinations.get(made.id)
    assert (changed.display_name, changed.config.generic_webhook.password_set) == ("day", False)
    assert made.id in [each.id for each in w.notification_destinations.list(page_size=1)]
    for url, kept in ((receiver.url, True), (f"{receiver.url}/moved", False)):
        w.notification_destinations.update(made.id, config=Config(generic_webhook=GenericWebhookConfig(url=url)))
        assert w.notification_destinations.get(made.id).config.generic_webhook.username_set is kept
    them = WorkspaceClient(host=any_server.url, token=any_server.new_user(f"u-{made.id[-8:]}@n.org"), auth_type="pat")
    assert them.notification_destinations.get(made.id).config is None
    for act in (
        lambda: them.notification_destinations.create(display_name="mine", config=config),
        lambda: them.notification_destinations.update(made.id, display_name="mine"),
        lambda: them.notification_destinations.delete(made.id),
    ):
        with pytest.raises(PermissionDenied):
            act()
    with pytest.raises(InvalidParameterValue, match="type WEBHOOK"):
        w.notification_destinations.update(made.id, config=Config(slack=SlackConfig(url=receiver.url)))
    with pytest.raises(InvalidParameterValue, match="not a public address"):
        w.notification_destinations.create(display_name="x", config=Config(slack=SlackConfig(url="http://10.1.1.1/")))
    with pytest.raises(NotImplemented, match="pagerduty"):
        w.notification_destinations.create(display_name="x", config=Config(pagerduty=PagerdutyConfig("key")))
    with pytest.raises(NotImplemented, match="oauth_token"):
        w.notification_destinations.create(
            display_name="x", config=Config(slack=SlackConfig(url=receiver.url, oauth_token="t"))
        )
    w.notification_destinations.delete(made.id)
    with pytest.raises(NotFound):
        w.notification_destinations.get(made.id)


def test_a_job_and_its_tasks_tell_their_destinations_until_these_take_it(
    any_server: Server, w: WorkspaceClient, receiver: Receiver
) -> None:
    hook = Config(generic_webhook=GenericWebhookConfig(url=receiver.url, username="mill", password="pond"))
    told = [Webhook(w.notification_destinations.create(display_name="hook", config=hook).id)]
    slack = [Webhook(w.notification_destinations.create(
        display_name="slack", config=Config(slack=SlackConfig(url=receiver.url + "/slack"))).id)]  # fmt: skip
    receiver.answers = [500]  # the first message is sent again
    fails = Task(
        "bad",
        condition_task=FAILS,
        max_retries=1,
        webhook_notifications=WebhookNotifications(on_start=told, on_failure=told),
        notification_settings=TaskNotificationSettings(alert_on_last_attempt=True),
    )
    good = Task("good", condition_task=WORKS, webhook_notifications=WebhookNotifications(on_success=told))
    name = f"nightly {uuid.uuid4().hex[:6]}"
    job = w.jobs.create(
        name=name,
        tasks=[fails, good],
        webhook_notifications=WebhookNotifications(on_start=told, on_success=told, on_failure=told),
    ).job_id
    run = w.jobs.run_now_and_wait(job)
    expected = ["jobs.on_failure", "jobs.on_failure bad", "jobs.on_start", "jobs.on_start bad", "jobs.on_success good"]
    wait_until(lambda: sorted(set(events(receiver))) == expected, what="all messages")
    wait_until(lambda: all(each["state"] == "delivered" for each in log(any_server, run.run_id)), what="the log")
    assert len(receiver.got) == len(expected) + 1
    headers, raw = receiver.got[-1]
    body = json.loads(raw)
    assert headers["Authorization"] == "Basic bWlsbDpwb25k"
    assert (body["job"], body["run"]["run_id"]) == ({"job_id": job, "name": name}, run.run_id)
    assert body["workspace_id"] == w.get_workspace_id()
    assert sorted(each["attempts"] for each in log(any_server, run.run_id)) == [1, 1, 1, 1, 2]
    slacked = w.jobs.create(name="to slack", tasks=[Task("good", condition_task=WORKS)],
                            webhook_notifications=WebhookNotifications(on_success=slack)).job_id  # fmt: skip
    receiver.got.clear()
    w.jobs.run_now_and_wait(slacked)
    wait_until(lambda: receiver.got, what="the message to Slack")
    assert json.loads(receiver.got[0][1])["text"].startswith("Job to slack succeeded (run ")
    reader = f"reader-{uuid.uuid4().hex[:6]}@n.org"
    token = any_server.new_user(reader)
    assert log(any_server, run.run_id, token)[0]["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    w.permissions.update(
        "jobs",
        str(job),
        access_control_list=[AccessControlRequest(user_name=reader, permission_level=PermissionLevel.CAN_VIEW)],
    )
    assert len(log(any_server, run.run_id, token)) == 5


def test_a_run_that_takes_too_long_or_is_skipped_or_cancelled_is_told_of_as_the_job_wants(
    w: WorkspaceClient, receiver: Receiver
) -> None:
    hook = Config(generic_webhook=GenericWebhookConfig(url=receiver.url))
    told = [Webhook(w.notification_destinations.create(display_name="hook", config=hook).id)]
    slow = JobsHealthRules([JobsHealthRule(JobsHealthMetric.RUN_DURATION_SECONDS, JobsHealthOperator.GREATER_THAN, 1)])
    waits = Task("waits", condition_task=FAILS, max_retries=-1, min_retry_interval_millis=600_000)
    job = w.jobs.create(
        name="slow",
        tasks=[waits],
        health=slow,
        webhook_notifications=WebhookNotifications(on_duration_warning_threshold_exceeded=told, on_failure=told),
        notification_settings=JobNotificationSettings(no_alert_for_canceled_runs=True),
    ).job_id
    run = w.jobs.run_now(job).run_id
    w.jobs.run_now_and_wait(job)  # skipped
    wait_until(lambda: len(receiver.got) == 2, what="the warning and the skipped run")
    assert events(receiver) == ["jobs.on_duration_warning_threshold_exceeded", "jobs.on_failure"]
    w.jobs.cancel_run_and_wait(run)
    schema = f"slow_{uuid.uuid4().hex[:8]}"
    w.schemas.create(schema, "main")
    w.volumes.create("main", schema, "v", VolumeType.MANAGED)
    w.files.upload(path := f"/Volumes/main/{schema}/v/s.py", io.BytesIO(b"import time\ntime.sleep(600)"))
    warned = WebhookNotifications(on_duration_warning_threshold_exceeded=told)
    sleeps = SubmitTask("sleeps", spark_python_task=SparkPythonTask(path), health=slow, webhook_notifications=warned)
    sleeping = w.jobs.submit(run_name="sleepy", tasks=[sleeps]).run_id
    wait_until(lambda: len(receiver.got) == 3, what="the warning of a task")
    assert json.loads(receiver.got[2][1])["task"]["task_key"] == "sleeps"
    w.jobs.cancel_run_and_wait(sleeping)
    works = w.jobs.create(name="after", tasks=[Task("good", condition_task=WORKS)],
                          webhook_notifications=WebhookNotifications(on_success=told)).job_id  # fmt: skip
    w.jobs.run_now_and_wait(works)
    wait_until(lambda: "jobs.on_success" in events(receiver), what="the message after")
    assert len(receiver.got) == 4, "nobody is told of the cancelled run, and of the slow one once"


def test_a_job_cannot_tell_what_does_not_exist(w: WorkspaceClient) -> None:
    task = Task("good", condition_task=WORKS)
    with pytest.raises(InvalidParameterValue, match="does not exist"):
        w.jobs.create(tasks=[task], webhook_notifications=WebhookNotifications(on_start=[Webhook("nobody")]))
    with pytest.raises(BadRequest, match=r"smtp\.host"):
        w.jobs.create(tasks=[task], email_notifications=JobEmailNotifications(on_start=["a@b.org"]))
