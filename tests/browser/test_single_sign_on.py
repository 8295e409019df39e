"""A server with TLS on both ports, whose people sign in at a real identity provider, in a real browser."""

import datetime
import ipaddress
import json
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from databricks.sdk import WorkspaceClient
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Tab, new_tab
from tests.robustness.test_tree import _child
from tests.servers import Server, run_cli, running_server, wait_until

pytestmark = pytest.mark.browser
ANN = {"sub": "ann", "email": "ann@example.com", "email_verified": True, "name": "Ann", "groups": ["it"]}
SPARK = """
import sys
from pyspark.sql import SparkSession
spark = SparkSession.builder.remote(sys.argv[1]).getOrCreate()
spark.sql("CREATE OR REPLACE TABLE main.default.sealed AS SELECT 'over TLS' AS how")
print(spark.table("main.default.sealed").first()["how"])
spark.stop()
"""


@dataclass(frozen=True, kw_only=True)
class Secure:
    """The server, its certificate, and the address of the provider."""

    server: Server
    certificate: Path
    issuer: str


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    directory = tmp_path_factory.mktemp("secure")
    certificate, key = make_certificate(directory)
    for issuer in provider():
        env = {
            "MILLPOND_OIDC__ISSUER": issuer,
            "MILLPOND_OIDC__CLIENT_ID": "millpond",
            "MILLPOND_OIDC__CLIENT_SECRET": "of no use to others",
            "MILLPOND_OIDC__LABEL": "Sign in with Acme",
            "MILLPOND_OIDC__CREATE_USERS": "true",
            "MILLPOND_OIDC__GROUPS_CLAIM": "groups",
            "MILLPOND_OIDC__GROUP_MAPPING": '{"it": "operators"}',
        }
        flags = ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key))
        with running_server(directory / "data", *flags, env=env) as server, pytest.MonkeyPatch.context() as patch:
            patch.setenv("REQUESTS_CA_BUNDLE", str(certificate))  # of what the SDK sends
            yield Secure(server=server, certificate=certificate, issuer=issuer)


def sdk(server: Server) -> WorkspaceClient:
    """The unmodified SDK as the administrator."""
    return WorkspaceClient(host=server.url, token=server.token, auth_type="pat", config_file="/nowhere")


def provider() -> Iterator[str]:
    """A provider process, until the generator ends; its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), "--user-claims", json.dumps(ANN)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/.well-known/openid-configuration"), what="the provider")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:
            return answer.status == 200
    except OSError:
        return False


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate of its own authority for this machine, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "millpond")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def spark(secure: Secure, remote: str) -> subprocess.CompletedProcess[str]:
    env = secure.server.client_env() | {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(secure.certificate)}
    program = secure.certificate.with_name("through_spark.py")
    program.write_text(SPARK)
    command = [sys.executable, str(program), remote]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def test_clients_come_over_tls_and_only_so(secure: Secure) -> None:
    """SDK, PySpark and our own commands, with the certificate; plain text gets no answer on either port."""
    server = secure.server
    assert server.url.startswith("https://127.0.0.1:")
    assert "/;use_ssl=true;token=" in server.spark_remote
    assert "ready" in json.loads(urllib.request.urlopen(f"{server.url}/health", context=trust(secure)).read())["status"]
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"{server.url}/health")
    with pytest.raises(OSError):  # noqa: PT011 - however the connection ends
        urllib.request.urlopen(server.url.replace("https", "http") + "/health", timeout=10)

    assert sdk(server).current_user.me().user_name == server.user
    done = spark(secure, server.spark_remote)
    assert done.stdout == "over TLS\n", done.stderr
    port = server.state["spark_port"]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.FutureTimeoutError):
        grpc.channel_ready_future(channel).result(timeout=2)

    status = run_cli("status", "--data-dir", str(server.data_dir)).stdout
    assert status.count(" ok") >= 3
    run_cli("secrets", "create-scope", "sealed", "--data-dir", str(server.data_dir))
    assert "sealed  DATABRICKS" in run_cli("secrets", "list-scopes", "--data-dir", str(server.data_dir)).stdout


def test_an_idle_client_does_not_keep_the_server_from_stopping(secure: Secure) -> None:
    """It keeps its connection, and says no goodbye over it, for which TLS would wait half a minute."""
    server = secure.server
    process = psutil.Process(_child(server.state["pid"], "millpond.server_process"))
    idle = HTTPSConnection("127.0.0.1", urlsplit(server.url).port or 443, context=trust(secure))
    with closing(idle):
        idle.request("GET", "/health")
        idle.getresponse().read()
        process.terminate()
        process.wait(timeout=10)
        assert idle.sock is not None
    wait_until(lambda: answers(f"{server.url}/health", trust(secure)), timeout_s=60, what="another server process")


def trust(secure: Secure) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=secure.certificate)


def test_ann_signs_in_at_the_provider_and_works(browser: Browser, secure: Secure) -> None:
    """From the page that she wanted to the provider and back to it, with her groups; its rows come from the gateway."""
    server = secure.server
    assert spark(secure, server.spark_remote).returncode == 0
    sdk(server).groups.create(display_name="operators")
    sdk(server).tables.update("main.default.sealed", owner="operators")
    context = browser.new_context(ignore_https_errors=True)
    tab: Tab = new_tab(context, server)
    tab.page.goto(f"{server.url}/catalog/main/default/tables/sealed?tab=sample")
    tab.page.get_by_role("link", name="Sign in with Acme").click()
    tab.page.get_by_role("button", name="ann", exact=True).click()
    expect(tab.page).to_have_url(f"{server.url}/catalog/main/default/tables/sealed?tab=sample")
    expect(tab.page.get_by_role("gridcell", name="over TLS")).to_be_visible()
    session = next(each for each in context.cookies() if each["name"] == "millpond_session")
    assert (session["secure"], session["httpOnly"], session["sameSite"]) == (True, True, "Lax")
    assert [each["name"] for each in context.cookies()] == ["millpond_session"]
    answer = context.request.get(f"{server.url}/api/2.0/preview/scim/v2/Me")
    assert answer.json()["userName"] == "ann@example.com"
    assert [group["display"] for group in answer.json()["groups"]] == ["operators", "users"]
    assert not [text for text in tab.problems if server.url in text]  # the provider's page has some of its own
    context.close()


def test_a_refusal_at_the_provider_opens_nothing(browser: Browser, secure: Secure) -> None:
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.goto(f"{secure.server.url}/sign-in")
    page.get_by_role("link", name="Sign in with Acme").click()
    page.get_by_role("button", name="Deny").click()
    # this provider leaves the state out of its refusal, so that the answer could be anybody's
    expect(page.get_by_role("alert")).to_contain_text("start again")
    assert context.cookies() == []
    context.close()


def test_a_certificate_that_does_not_fit_is_named(tmp_path: Path, secure: Secure) -> None:
    """Before anything starts: another's key, and half of the pair."""
    (tmp_path / "other").mkdir()
    _, other_key = make_certificate(tmp_path / "other")
    data_dir = str(tmp_path / "data")
    done = run_cli(
        "up", "--detach", "--data-dir", data_dir, "--ssl-certfile", str(secure.certificate), "--ssl-keyfile",
        str(other_key), check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot be used with the key" in done.stderr
    done = run_cli("up", "--detach", "--data-dir", data_dir, "--ssl-certfile", str(secure.certificate), check=False)
    assert "ssl_certfile and ssl_keyfile belong together" in done.stderr
