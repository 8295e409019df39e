"""Webhooks through MLflow's client and the Databricks SDK, delivered to a receiver on this machine."""

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import DatabricksError, NotFound, PermissionDenied
from databricks.sdk.service import jobs, ml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tests.clients.mlflow_session import signed_in
from tests.receivers import Receiver, receiving
from tests.servers import Server, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' warnings are not ours

LISTED = "/api/2.0/mlflow/registry-webhooks/list"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as state:
        yield state


@pytest.fixture
def client(any_server: Server) -> Iterator[MlflowClient]:
    with signed_in(any_server) as client:
        yield client


@pytest.fixture
def w(any_server: Server) -> WorkspaceClient:
    return WorkspaceClient(host=any_server.url, token=any_server.token, auth_type="pat")


def deliveries(server: Server, webhook_id: str) -> list[dict[str, Any]]:
    found = server.call("GET", f"/api/millpond/registry/webhooks/{webhook_id}/deliveries")[1]
    return list(found["deliveries"])


def test_mlflow_webhooks_are_signed_and_sent_until_they_are_taken(
    any_server: Server, client: MlflowClient, receiver: Receiver
) -> None:
    name = f"hooked-{uuid.uuid4().hex[:10]}"
    events = ["registered_model.created", "model_version.created", "model_version_alias.created",
              "model_version_tag.set"]  # fmt: skip
    hook = client.create_webhook("w", receiver.url, events, secret="a-secret", description="tells")
    assert client.get_webhook(hook.webhook_id).url == receiver.url
    assert client.test_webhook(hook.webhook_id).success
    receiver.got.clear()
    receiver.answers = [500, 503]  # the first message fails twice
    client.create_registered_model(name, description="of trees")
    ours = lambda body: body["data"]["name"] == name  # noqa: E731 - as short as that
    wait_until(lambda: len(receiver.about(ours)) == 3, what="the message, sent three times")
    run = client.create_run("0").info.run_id
    client.create_model_version(name, f"runs:/{run}/model", run, tags={"a": "b"})
    client.set_registered_model_alias(name, "champion", "1")
    client.set_model_version_tag(name, "1", "team", "churn")
    told = {"registered_model.created", *events[1:]}
    wait_until(lambda: {f"{b['entity']}.{b['action']}" for _, b in receiver.about(ours)} == told, what="all messages")
    for headers, raw in receiver.got:
        signed = f"{headers['X-MLflow-Delivery-Id']}.{headers['X-MLflow-Timestamp']}.".encode() + raw
        digest = base64.b64encode(hmac.new(b"a-secret", signed, hashlib.sha256).digest()).decode()
        assert headers["X-MLflow-Signature"] == f"v1,{digest}"
    made = receiver.about(lambda body: ours(body) and body["entity"] == "model_version")[0][1]["data"]
    assert (made["version"], made["run_id"], made["tags"]) == ("1", run, {"a": "b"})
    wait_until(lambda: all(d["state"] == "delivered" for d in deliveries(any_server, hook.webhook_id)), what="the log")
    assert [d["attempts"] for d in deliveries(any_server, hook.webhook_id) if d["event"] == events[0]] == [3]
    client.update_webhook(hook.webhook_id, status="DISABLED", secret="another")
    assert client.get_webhook(hook.webhook_id).status == "DISABLED"
    client.delete_webhook(hook.webhook_id)
    assert hook.webhook_id not in [each.webhook_id for each in client.list_webhooks()]
    with pytest.raises(MlflowException, match="does not exist"):
        client.get_webhook(hook.webhook_id)


def test_databricks_webhooks_tell_a_models_manager_of_moves_requests_and_comments(
    any_server: Server, client: MlflowClient, w: WorkspaceClient, receiver: Receiver
) -> None:
    name = f"hooked-{uuid.uuid4().hex[:10]}"
    client.create_registered_model(name)
    run = client.create_run("0").info.run_id
    client.create_model_version(name, f"runs:/{run}/model", run)
    events = [
        ml.RegistryWebhookEvent.MODEL_VERSION_TRANSITIONED_TO_PRODUCTION,
        ml.RegistryWebhookEvent.TRANSITION_REQUEST_CREATED,
        ml.RegistryWebhookEvent.COMMENT_CREATED,
    ]
    spec = ml.HttpUrlSpec(url=receiver.url, secret="s3", authorization="Bearer abc")
    hook = w.model_registry.create_webhook(events, model_name=name, http_url_spec=spec).webhook
    assert (hook.model_name, hook.http_url_spec.url, hook.status) == (
        name,
        receiver.url,
        ml.RegistryWebhookStatus.ACTIVE,
    )
    answer = w.model_registry.test_registry_webhook(hook.id)
    assert (answer.status_code, answer.body) == (200, "seen")
    receiver.got.clear()
    w.model_registry.create_comment(name, "1", "hello")
    w.model_registry.create_transition_request(name, "1", "Production")
    w.model_registry.transition_stage(name, "1", "Staging", False)
    w.model_registry.transition_stage(name, "1", "Production", False)
    told = {"COMMENT_CREATED", "TRANSITION_REQUEST_CREATED", "MODEL_VERSION_TRANSITIONED_TO_PRODUCTION"}
    wait_until(lambda: {json.loads(raw)["event"] for _, raw in receiver.got} == told, what="three messages")
    for headers, raw in receiver.got:
        assert headers["X-Databricks-Signature"] == hmac.new(b"s3", raw, hashlib.sha256).hexdigest()
        assert headers["Authorization"] == "Bearer abc"
    assert [each.id for each in w.model_registry.list_webhooks(model_name=name)] == [hook.id]
    receiver.got.clear()
    moved = ml.HttpUrlSpec(url=f"{receiver.url}/moved")
    w.model_registry.update_webhook(hook.id, http_url_spec=moved, status=ml.RegistryWebhookStatus.TEST_MODE)
    w.model_registry.test_registry_webhook(hook.id)
    assert "Authorization" not in receiver.got[0][0], "it was for the address before"
    w.model_registry.delete_webhook(hook.id)
    assert list(w.model_registry.list_webhooks(model_name=name)) == []


@pytest.mark.parametrize(
    "url",
    ["http://169.254.169.254/latest", "http://10.0.0.7/", "http://[::1]:1/", "http://0.0.0.0/", "file:///etc/passwd"],
)
def test_a_webhook_reaches_nothing_private(client: MlflowClient, w: WorkspaceClient, url: str) -> None:
    with pytest.raises(MlflowException):
        client.create_webhook("w", url, ["registered_model.created"])
    with pytest.raises(DatabricksError):
        w.model_registry.create_webhook(
            [ml.RegistryWebhookEvent.COMMENT_CREATED], http_url_spec=ml.HttpUrlSpec(url=url)
        )


def test_webhooks_are_for_who_manages_what_they_tell_of(any_server: Server, receiver: Receiver) -> None:
    name = f"mine-{uuid.uuid4().hex[:10]}"
    owner, other = (any_server.new_user(f"{who}-{uuid.uuid4().hex[:8]}@hooks.org") for who in ("owner", "other"))
    events, spec = [ml.RegistryWebhookEvent.COMMENT_CREATED], ml.HttpUrlSpec(url=receiver.url)
    theirs = WorkspaceClient(host=any_server.url, token=owner, auth_type="pat").model_registry
    others = WorkspaceClient(host=any_server.url, token=other, auth_type="pat").model_registry
    theirs.create_model(name)
    hook = theirs.create_webhook(events, model_name=name, http_url_spec=spec).webhook
    with pytest.raises(PermissionDenied):
        theirs.create_webhook(events, http_url_spec=spec)
    with pytest.raises(NotFound):
        others.create_webhook(events, model_name=name, http_url_spec=spec)
    with pytest.raises(NotFound):
        others.test_registry_webhook(hook.id)
    assert list(others.list_webhooks()) == []
    assert [each.id for each in theirs.list_webhooks()] == [hook.id]


def test_a_webhook_starts_a_job_with_the_rights_of_its_access_token(
    any_server: Server, client: MlflowClient, w: WorkspaceClient
) -> None:
    name = f"hooked-{uuid.uuid4().hex[:10]}"
    client.create_registered_model(name)
    says = jobs.ConditionTask(op=jobs.ConditionTaskOp.NOT_EQUAL, left="{{job.parameters.event_message}}", right="")
    job = w.jobs.create(
        name="validate",
        parameters=[jobs.JobParameterDefinition(name="event_message", default="")],
        tasks=[jobs.Task("says", condition_task=says)],
    ).job_id
    other = any_server.new_user(f"other-{uuid.uuid4().hex[:8]}@hooks.org")
    created = [ml.RegistryWebhookEvent.MODEL_VERSION_CREATED]

    def make(token: str, job_id: str = str(job), **more: str) -> ml.RegistryWebhook:
        spec = ml.JobSpec(job_id=job_id, access_token=token, **more)
        return w.model_registry.create_webhook(created, model_name=name, job_spec=spec).webhook

    for wrong in (lambda: make(other), lambda: make(any_server.token, "17")):
        with pytest.raises(NotFound):
            wrong()
    for bad in (lambda: make("nonsense"), lambda: make(any_server.token, workspace_url="https://other.example.org")):
        with pytest.raises(DatabricksError):
            bad()
    hook = make(any_server.token)
    assert (hook.job_spec.job_id, hook.http_url_spec) == (str(job), None)
    run = client.create_run("0").info.run_id
    client.create_model_version(name, f"runs:/{run}/model", run)
    started = wait_until(lambda: list(w.jobs.list_runs(job_id=job, completed_only=True)), what="the job's run")
    assert len(started) == 1
    message = json.loads(w.jobs.get_run(started[0].run_id).tasks[0].condition_task.left)
    assert (message["event"], message["model_name"], message["version"]) == ("MODEL_VERSION_CREATED", name, "1")
    wait_until(lambda: deliveries(any_server, hook.id)[0]["state"] == "delivered", what="the log")
    assert any_server.token not in json.dumps(any_server.call("GET", f"{LISTED}?model_name={name}")[1])
    w.model_registry.update_webhook(hook.id, status=ml.RegistryWebhookStatus.DISABLED)
    another = str(w.jobs.create(name="other", tasks=[jobs.Task("says", condition_task=says)]).job_id)
    for spec in ({"job_id": another}, {"job_id": another, "access_token": ""}, {"access_token": ""}):
        body = {"id": hook.id, "job_spec": spec}
        status, answer = any_server.call("PATCH", "/api/2.0/mlflow/registry-webhooks/update", body)
        assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), spec
        assert "access_token" in answer["message"], "a job runs with the token that was given for it"
    w.model_registry.update_webhook(hook.id, job_spec=ml.JobSpec(another, any_server.token))
