"""Events by e-mail, through a real SMTP server on this machine that wants TLS and a password."""

import ssl
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from email import message_from_bytes
from email.message import Message
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, PermissionDenied, ResourceAlreadyExists
from databricks.sdk.service import jobs, ml, pipelines, serving
from mlflow.exceptions import MlflowException

from millpond.kernel.clock import utc_now
from tests.clients.gated import OURS
from tests.clients.mlflow_session import signed_in
from tests.servers import Server, running_server, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' warnings are not ours


@dataclass
class Mailbox:
    """What came, and how many messages are refused before one is taken."""

    port: int = 0
    refusals: int = 0
    tried: int = 0
    got: list[Message] = field(default_factory=list)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        self.tried += 1
        if self.refusals:
            self.refusals -= 1
            return "451 try again later"
        self.got.append(message_from_bytes(envelope.content or b""))
        return "250 taken"

    def about(self, text: str) -> list[Message]:
        """The messages with a text in their subject."""
        return [message for message in self.got if text in " ".join(str(message["Subject"]).split())]


class AnyPort(Controller):
    """A server on a port that the system chooses."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


def certificate(directory: Path) -> Path:
    """One for 127.0.0.1, signed by itself, with its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), utc_now()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = directory / "mail.pem"
    path.write_bytes(made.public_bytes(pem) + private)
    return path


@pytest.fixture(scope="module")
def mail_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Mailbox]]:
    """A server that sends through a mailbox, whose password is a secret there."""
    directory, mailbox = tmp_path_factory.mktemp("mail"), Mailbox()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    pem = certificate(directory)
    context.load_cert_chain(pem)

    def authenticated(_server: Any, _session: Any, _envelope: Any, _mechanism: str, said: Any) -> AuthResult:
        right = isinstance(said, LoginPassword) and (said.login, said.password) == (b"mill", b"pond")
        return AuthResult(success=right, handled=right)

    controller = AnyPort(
        mailbox, hostname="127.0.0.1", port=0, tls_context=context, require_starttls=True,
        authenticator=authenticated, auth_required=True,
    )  # fmt: skip
    controller.start()
    mailbox.port = controller.port
    env = {
        "SSL_CERT_FILE": str(pem), "MILLPOND_SMTP__HOST": "127.0.0.1", "MILLPOND_SMTP__PORT": str(mailbox.port),
        "MILLPOND_SMTP__USER": "mill", "MILLPOND_SMTP__PASSWORD": "{{secrets/mail/password}}",
        "MILLPOND_SMTP__SENDER": "millpond@example.org", "MILLPOND_SMTP__RECIPIENT_DOMAINS": '["example.org"]',
    }  # fmt: skip
    try:
        with running_server(directory / "data", env=env) as server:
            yield server, mailbox
    finally:
        controller.stop()


def deliveries(server: Server, webhook_id: str) -> list[dict[str, Any]]:
    return server.call("GET", f"{OURS}/webhooks/{webhook_id}/deliveries")[1]["deliveries"]


def put_password(server: Server, password: str) -> None:
    """What the server's settings refer to."""
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
    with suppress(ResourceAlreadyExists):
        w.secrets.create_scope("mail")
    w.secrets.put_secret("mail", "password", string_value=password)


def test_events_come_by_mail_and_are_tried_again(mail_server: tuple[Server, Mailbox]) -> None:
    server, mailbox = mail_server
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
    name = f"mailed-{uuid.uuid4().hex[:8]}"
    w.model_registry.create_model(name)
    put_password(server, "wrong")
    made = w.model_registry.create_webhook(
        [ml.RegistryWebhookEvent.MODEL_VERSION_CREATED, ml.RegistryWebhookEvent.COMMENT_CREATED],
        http_url_spec=ml.HttpUrlSpec(url="mailto:ada@example.org"), model_name=name,
    ).webhook  # fmt: skip
    with signed_in(server) as client:
        run = client.create_run("0").info.run_id
        client.create_model_version(name, f"runs:/{run}/model", run)
    (waiting,) = wait_until(lambda: [each for each in deliveries(server, made.id) if each["error"]])
    assert "Authentication" in waiting["error"]
    mailbox.tried, mailbox.refusals = 0, 1
    put_password(server, "pond")
    (message,) = wait_until(lambda: mailbox.about(f"created version 1 of registered model {name}"), timeout_s=60)
    assert (message["To"], message["From"]) == ("ada@example.org", "millpond@example.org")
    assert f"/models/{name}" in message.get_payload()
    assert mailbox.tried == 2
    (done,) = wait_until(lambda: [each for each in deliveries(server, made.id) if each["state"] == "delivered"])
    assert (done["status_code"], message["Message-ID"]) == (250, f"<{done['id']}@millpond>")
    w.model_registry.create_comment(name, "1", "looks good\r\nBcc: eve@example.org")
    (comment,) = wait_until(lambda: mailbox.about("commented on version 1"))
    assert comment["Bcc"] is None


def test_a_jobs_notifications_come_by_mail(mail_server: tuple[Server, Mailbox]) -> None:
    server, mailbox = mail_server
    put_password(server, "pond")
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
    name = f"nightly-{uuid.uuid4().hex[:8]}"
    fails = jobs.ConditionTask(op=jobs.ConditionTaskOp.LESS_THAN, left="a", right="1")
    job = w.jobs.create(
        name=name,
        tasks=[jobs.Task("check", condition_task=fails)],
        email_notifications=jobs.JobEmailNotifications(
            on_start=["ada@example.org"], on_success=["nobody@example.org"], on_failure=["ada@example.org"]
        ),
    )
    run = w.jobs.run_now_and_wait(job.job_id)
    (began,) = wait_until(lambda: mailbox.about(f"Job {name} started"))
    (failed,) = wait_until(lambda: mailbox.about(f"Job {name} failed (run {run.run_id})"))
    assert (began["To"], failed["To"]) == ("ada@example.org", "ada@example.org")
    assert f"runs/get?run_id={run.run_id}" in failed.get_payload()
    user = f"user-{uuid.uuid4().hex[:8]}@people.net"
    them = WorkspaceClient(host=server.url, token=server.new_user(user), auth_type="pat")
    strangers = jobs.JobEmailNotifications(on_start=["stranger@elsewhere.net"])
    with pytest.raises(PermissionDenied, match="no user here"):
        them.jobs.create(tasks=[jobs.Task("check", condition_task=fails)], email_notifications=strangers)


def test_a_pipelines_notifications_come_by_mail(mail_server: tuple[Server, Mailbox]) -> None:
    server, mailbox = mail_server
    put_password(server, "pond")
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
    given: dict[str, Any] = {
        "name": f"pipe-{uuid.uuid4().hex[:8]}", "catalog": "main", "schema": "default",
        "libraries": [pipelines.PipelineLibrary(file=pipelines.FileLibrary(path="/Users/nobody/none.sql"))],
    }  # fmt: skip

    def telling(address: str) -> list[pipelines.Notifications]:
        good, bad = ["on-update-success", "on-flow-failure"], ["on-update-failure", "on-update-fatal-failure"]
        return [
            pipelines.Notifications(alerts=good, email_recipients=["nobody@example.org"]),
            pipelines.Notifications(alerts=bad, email_recipients=[address]),
        ]

    made = str(w.pipelines.create(notifications=telling("ada@example.org"), **given).pipeline_id)
    w.pipelines.start_update(made)
    (failed,) = wait_until(lambda: mailbox.about(f"Pipeline {given['name']}: an update failed"))
    assert failed["To"] == "ada@example.org"
    assert "none.sql" in failed.get_payload()
    status, told = server.call("GET", f"/api/millpond/pipelines/{made}/notifications")
    assert (status, [each["target"] for each in told["notifications"]]) == (200, ["ada@example.org"])
    user = f"user-{uuid.uuid4().hex[:8]}@people.net"
    them = WorkspaceClient(host=server.url, token=server.new_user(user), auth_type="pat")
    with pytest.raises(PermissionDenied, match="no user here"):
        them.pipelines.create(notifications=telling("stranger@elsewhere.net"), **given)


def test_a_test_call_says_whether_the_mail_server_takes_it(mail_server: tuple[Server, Mailbox]) -> None:
    server, _ = mail_server
    put_password(server, "pond")
    with signed_in(server) as client:
        hook = client.create_webhook("mail", "mailto:ada@example.org", ["model_version.created"], status="DISABLED")
        found = client.test_webhook(hook.webhook_id)
        assert (found.success, found.response_status) == (True, 250)
        with pytest.raises(MlflowException, match="not signed"):
            client.create_webhook("mail", "mailto:ada@example.org", ["model_version.created"], secret="s")


@pytest.mark.parametrize(
    "url",
    ["mailto:", "mailto:ada", "mailto:a@b.org,c@d.org", "mailto:a@b.org%0d%0aBcc:c@d.org", "mailto:a@b.org?cc=c@d.org"],
)
def test_one_plain_address_is_wanted(mail_server: tuple[Server, Mailbox], url: str) -> None:
    w = WorkspaceClient(host=mail_server[0].url, token=mail_server[0].token, auth_type="pat")
    with pytest.raises(BadRequest, match="one address"):
        w.model_registry.create_webhook(
            [ml.RegistryWebhookEvent.MODEL_VERSION_CREATED], http_url_spec=ml.HttpUrlSpec(url=url)
        )


def test_nobody_mails_strangers_in_the_servers_name(mail_server: tuple[Server, Mailbox]) -> None:
    server, _ = mail_server
    user = f"user-{uuid.uuid4().hex[:8]}@people.net"
    w = WorkspaceClient(host=server.url, token=server.new_user(user), auth_type="pat")
    name = f"mailed-{uuid.uuid4().hex[:8]}"
    w.model_registry.create_model(name)

    def tell(address: str) -> None:
        w.model_registry.create_webhook(
            [ml.RegistryWebhookEvent.MODEL_VERSION_CREATED], model_name=name,
            http_url_spec=ml.HttpUrlSpec(url=f"mailto:{address}"),
        )  # fmt: skip

    with pytest.raises(PermissionDenied, match="no user here"):
        tell("stranger@elsewhere.net")
    for known in (user, "anybody@example.org"):
        tell(known)


def test_how_an_update_of_an_endpoint_ends_comes_by_mail(mail_server: tuple[Server, Mailbox]) -> None:
    server, mailbox = mail_server
    put_password(server, "pond")
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
    name = f"mailed-{uuid.uuid4().hex[:8]}"
    with signed_in(server) as client:
        run = client.create_run("0").info.run_id
        client.create_registered_model(name)
        client.create_model_version(name, f"runs:/{run}/model", run)  # without files
    entity = serving.ServedEntityInput(entity_name=name, entity_version="1")
    told = serving.EmailNotifications(on_update_failure=["ada@example.org"], on_update_success=["bob@example.org"])
    w.serving_endpoints.create(
        name, config=serving.EndpointCoreConfigInput(name=name, served_entities=[entity]), email_notifications=told
    )
    (message,) = wait_until(lambda: mailbox.about(f"Endpoint {name} could not be updated"), timeout_s=60)
    text = message.get_payload()
    assert message["To"] == "ada@example.org"
    assert "The model's files could not be fetched" in text
    assert f"/serving/{name}" in text
    assert w.serving_endpoints.get(name).email_notifications == told
    assert w.serving_endpoints.update_notifications(name).name == name
    assert w.serving_endpoints.get(name).email_notifications is None
    w.serving_endpoints.delete(name)


def test_without_a_mail_server_there_is_no_mail(server: Server) -> None:
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
    with pytest.raises(BadRequest, match=r"smtp\.host"):
        w.model_registry.create_webhook(
            [ml.RegistryWebhookEvent.MODEL_VERSION_CREATED], http_url_spec=ml.HttpUrlSpec(url="mailto:a@b.org")
        )
