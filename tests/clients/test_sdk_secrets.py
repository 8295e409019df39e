"""The official databricks-sdk keeps secrets, shares them and reads them; what it kept is nowhere to be found."""

import base64
import os
import sqlite3
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import (
    BadRequest,
    DatabricksError,
    InvalidParameterValue,
    NotImplemented,
    PermissionDenied,
    ResourceAlreadyExists,
    ResourceDoesNotExist,
)
from databricks.sdk.service.workspace import (
    AclPermission,
    AzureKeyVaultSecretScopeMetadata,
    ScopeBackendType,
)

from tests.servers import MILLPOND, Server, run_cli


@dataclass(frozen=True, kw_only=True)
class People:
    """A scope's manager and somebody without rights, each with the unmodified SDK."""

    server: Server
    scope: str
    ann: WorkspaceClient
    eve: WorkspaceClient
    eve_name: str
    ann_token: str


def client(server: Server, token: str) -> WorkspaceClient:
    return WorkspaceClient(host=server.url, token=token, auth_type="pat", config_file="/nowhere")


@pytest.fixture
def people(any_server: Server) -> People:
    mark = uuid.uuid4().hex[:8]
    tokens = [any_server.new_user(f"{name}-{mark}@example.com") for name in ("ann", "eve")]
    ann, eve = (client(any_server, token) for token in tokens)
    ann.secrets.create_scope(f"app-{mark}")
    return People(
        server=any_server,
        scope=f"app-{mark}",
        ann=ann,
        eve=eve,
        eve_name=f"eve-{mark}@example.com",
        ann_token=tokens[0],
    )


def test_secrets_are_kept_shared_and_read(people: People) -> None:
    """Through `w.secrets` and `w.dbutils.secrets`, text and bytes, until they are deleted."""
    ann, eve, scope = people.ann, people.eve, people.scope
    ann.secrets.put_secret(scope, "text", string_value="größe \U0001f600\n")
    ann.secrets.put_secret(scope, "raw", bytes_value=base64.b64encode(b"\x00\xff").decode())
    assert [secret.key for secret in ann.secrets.list_secrets(scope)] == ["raw", "text"]
    assert all((secret.last_updated_timestamp or 0) > 1_700_000_000_000 for secret in ann.secrets.list_secrets(scope))
    assert ann.dbutils.secrets.get(scope, "text") == "größe \U0001f600\n"
    assert ann.dbutils.secrets.getBytes(scope, "raw") == b"\x00\xff"
    found = ann.secrets.get_secret(scope, "raw")
    assert (found.key, found.value) == ("raw", "AP8=")
    assert [meta.key for meta in ann.dbutils.secrets.list(scope)] == ["raw", "text"]
    assert scope in [each.name for each in ann.dbutils.secrets.listScopes()]
    (mine,) = [each for each in ann.secrets.list_scopes() if each.name == scope]
    assert mine.backend_type is ScopeBackendType.DATABRICKS

    ann.secrets.put_acl(scope, people.eve_name, AclPermission.READ)
    assert eve.dbutils.secrets.get(scope, "text") == "größe \U0001f600\n"
    assert ann.secrets.get_acl(scope, people.eve_name).permission is AclPermission.READ
    assert {acl.permission for acl in ann.secrets.list_acls(scope)} == {AclPermission.READ, AclPermission.MANAGE}
    ann.secrets.delete_acl(scope, people.eve_name)
    ann.secrets.delete_secret(scope, "text")
    ann.secrets.delete_scope(scope)
    assert scope not in [each.name for each in ann.secrets.list_scopes()]


def test_errors_are_those_of_the_api(people: People) -> None:
    """Each in the class that the SDK makes of its code."""
    ann, eve, scope = people.ann, people.eve, people.scope
    with pytest.raises(ResourceAlreadyExists):
        eve.secrets.create_scope(scope)
    for attempt in (
        lambda: eve.secrets.list_secrets(scope),
        lambda: eve.dbutils.secrets.get(scope, "x"),
        lambda: ann.secrets.get_secret(scope, "no-such-key"),
        lambda: ann.secrets.delete_secret(scope, "no-such-key"),
        lambda: ann.secrets.delete_acl(scope, "nobody@example.com"),
        lambda: ann.secrets.get_acl(scope, "users"),
    ):
        with pytest.raises(ResourceDoesNotExist):
            attempt()
    for attempt in (
        lambda: ann.secrets.create_scope("a/b"),
        lambda: ann.secrets.create_scope("x", initial_manage_principal="admins"),
        lambda: ann.secrets.put_secret(scope, "k", bytes_value="not base64!"),
        lambda: ann.secrets.put_secret(scope, "k", string_value="x" * ((128 << 10) + 1)),
        lambda: ann.secrets.put_acl(scope, "nobody@example.com", AclPermission.READ),
    ):
        with pytest.raises(InvalidParameterValue):
            attempt()
    with pytest.raises(BadRequest, match="exactly one"):
        ann.secrets.put_secret(scope, "k", string_value="a", bytes_value="YQ==")
    ann.secrets.put_acl(scope, people.eve_name, AclPermission.READ)
    with pytest.raises(PermissionDenied, match="WRITE permission"):
        eve.secrets.put_secret(scope, "k", string_value="x")
    vault = AzureKeyVaultSecretScopeMetadata(resource_id="/x", dns_name="https://x.vault.azure.net/")
    with pytest.raises(NotImplemented, match="Azure Key Vault"):
        ann.secrets.create_scope(
            "vaulted", scope_backend_type=ScopeBackendType.AZURE_KEYVAULT, backend_azure_keyvault=vault
        )


def test_a_planted_secret_is_nowhere_to_be_found(people: People) -> None:
    """Not in the data directory, its logs, a dump of the database, nor any process's arguments and environment."""
    secret = f"planted-{uuid.uuid4().hex}-größe"
    people.ann.secrets.put_secret(people.scope, "planted", string_value=secret)
    assert people.ann.dbutils.secrets.get(people.scope, "planted") == secret
    for broken in (
        {"string_value": [secret]},
        {"string_value": secret, "bytes_value": secret},
        {"bytes_value": secret},
    ):
        body = {"scope": people.scope, "key": "planted", **broken}
        status, answer = people.server.call("POST", "/api/2.0/secrets/put", body, token=people.ann_token)
        assert (status, secret in str(answer)) == (400, False)
    with pytest.raises(DatabricksError) as caught:
        people.ann.secrets.put_secret(people.scope, f"/{people.scope}", string_value=secret)
    assert secret not in str(caught.value)

    forms = [secret.encode(), base64.b64encode(secret.encode())[:40], secret.encode().hex().encode()]
    places = {**dict(files(people.server.data_dir)), **dict(processes()), "dump": dump(people.server)}
    assert len(places) > 20
    assert [name for name, data in places.items() if any(form in data for form in forms)] == []


def files(directory: Path) -> Iterator[tuple[str, bytes]]:
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder) / name
            if path.is_file():
                yield str(path), path.read_bytes()


def processes() -> Iterator[tuple[str, bytes]]:
    me = str(os.getpid())
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for what in ("cmdline", "environ"):
            try:
                if pid != me:
                    yield f"{pid} {what}", Path(f"/proc/{pid}/{what}").read_bytes()
            except OSError:  # it has ended, or is not ours
                continue


def dump(server: Server) -> bytes:
    """Every row of every table."""
    path = server.data_dir / "millpond.db"
    if path.exists():
        with sqlite3.connect(path) as connection:
            return "\n".join(connection.iterdump()).encode()
    url = next(
        text.removeprefix(b"MILLPOND_DATABASE_URL=").decode()
        for text in Path(f"/proc/{server.state['pid']}/environ").read_bytes().split(b"\0")
        if text.startswith(b"MILLPOND_DATABASE_URL=")
    )
    with psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://")) as connection:
        names = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        rows = [connection.execute(f'SELECT * FROM "{name}"').fetchall() for (name,) in names]
    return repr(rows).encode()


def test_the_commands_keep_share_and_rotate(people: People, tmp_path: Path) -> None:
    """`millpond secrets`, with a profile: a value goes in by standard input, to its last byte."""
    server, scope = people.server, people.scope
    profile = tmp_path / "databrickscfg"
    run_cli("login", "--host", server.url, "--token", people.ann_token, "--file", str(profile))
    env = {"DATABRICKS_CONFIG_FILE": str(profile), "PATH": os.environ["PATH"]}

    def secrets(*arguments: str, value: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([MILLPOND, "secrets", *arguments], input=value, capture_output=True, env=env, timeout=60)

    assert secrets("put-secret", scope, "key", value=b"\x00 two\nlines\n").returncode == 0
    assert people.ann.dbutils.secrets.getBytes(scope, "key") == b"\x00 two\nlines\n"
    assert secrets("get-secret", scope, "key").stdout == b'{"key": "key", "value": "ACB0d28KbGluZXMK"}\n'
    assert secrets("list-secrets", scope).stdout.startswith(b"Key  Last Updated Timestamp\nkey  1")
    assert secrets("put-acl", scope, people.eve_name, "READ").returncode == 0
    assert f"{people.eve_name}  READ".encode() in secrets("list-acls", scope).stdout
    refused = secrets("rotate-key")
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"Only an administrator may rotate" in refused.stderr
    rotated = run_cli("secrets", "rotate-key", "--data-dir", str(server.data_dir))
    assert "scopes are now encrypted with master key" in rotated.stdout
    assert people.ann.dbutils.secrets.getBytes(scope, "key") == b"\x00 two\nlines\n"
    assert secrets("delete-scope", scope).returncode == 0
    assert secrets("list-scopes", value=b"").stdout == b"Scope  Backend Type\n"
    gone = secrets("list-secrets", scope)
    assert gone.stderr == f"millpond: Secret scope '{scope}' does not exist.\n".encode()
