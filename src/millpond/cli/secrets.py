"""`millpond secrets`: the commands of the Databricks CLI's group, and the rotation of the master key.

A value comes from standard input or a prompt, never from an argument: arguments are seen by everybody on the machine.
"""

import base64
import json
import sys
from collections.abc import Iterable

import click

from millpond.cli.api import Api, api_command

_API = "/api/2.0/secrets"
_PERMISSIONS = click.Choice(["READ", "WRITE", "MANAGE"])


@click.group()
def secrets() -> None:
    """Secret scopes, secrets and who may read them."""


@secrets.command()
@click.argument("scope")
@click.option("--initial-manage-principal", help="'users' lets everybody manage the scope.")
@api_command
def create_scope(api: Api, scope: str, initial_manage_principal: str | None) -> None:
    """Make a scope that you manage."""
    given = {"initial_manage_principal": initial_manage_principal} if initial_manage_principal else {}
    api.post(f"{_API}/scopes/create", {"scope": scope, **given})


@secrets.command()
@api_command
def list_scopes(api: Api) -> None:
    """List the scopes that you may use."""
    found = api.get(f"{_API}/scopes/list")["scopes"]
    _table(("Scope", "Backend Type"), ((item["name"], item["backend_type"]) for item in found))


@secrets.command()
@click.argument("scope")
@api_command
def delete_scope(api: Api, scope: str) -> None:
    """Delete a scope with all its secrets."""
    api.post(f"{_API}/scopes/delete", {"scope": scope})


@secrets.command()
@click.argument("scope")
@click.argument("key")
@api_command
def put_secret(api: Api, scope: str, key: str) -> None:
    """Set the secret KEY to what standard input gives, to its last byte; on a terminal, you are asked for it."""
    if sys.stdin.isatty():
        value = click.prompt("Value", hide_input=True, confirmation_prompt=True).encode()
    else:
        value = sys.stdin.buffer.read()
    api.post(f"{_API}/put", {"scope": scope, "key": key, "bytes_value": base64.b64encode(value).decode()})


@secrets.command()
@click.argument("scope")
@click.argument("key")
@api_command
def get_secret(api: Api, scope: str, key: str) -> None:
    """Print a secret as JSON, its value in base64."""
    click.echo(json.dumps(api.get(f"{_API}/get", scope=scope, key=key)))


@secrets.command()
@click.argument("scope")
@api_command
def list_secrets(api: Api, scope: str) -> None:
    """List the keys of a scope."""
    found = api.get(f"{_API}/list", scope=scope)["secrets"]
    _table(("Key", "Last Updated Timestamp"), ((item["key"], item["last_updated_timestamp"]) for item in found))


@secrets.command()
@click.argument("scope")
@click.argument("key")
@api_command
def delete_secret(api: Api, scope: str, key: str) -> None:
    """Delete a secret."""
    api.post(f"{_API}/delete", {"scope": scope, "key": key})


@secrets.command()
@click.argument("scope")
@click.argument("principal")
@click.argument("permission", type=_PERMISSIONS)
@api_command
def put_acl(api: Api, scope: str, principal: str, permission: str) -> None:
    """Give a user, group or service principal READ, WRITE or MANAGE on a scope."""
    api.post(f"{_API}/acls/put", {"scope": scope, "principal": principal, "permission": permission})


@secrets.command()
@click.argument("scope")
@click.argument("principal")
@api_command
def get_acl(api: Api, scope: str, principal: str) -> None:
    """Say what somebody may do in a scope."""
    found = api.get(f"{_API}/acls/get", scope=scope, principal=principal)
    _table(("Principal", "Permission"), [(found["principal"], found["permission"])])


@secrets.command()
@click.argument("scope")
@api_command
def list_acls(api: Api, scope: str) -> None:
    """List who may do what in a scope."""
    found = api.get(f"{_API}/acls/list", scope=scope)["items"]
    _table(("Principal", "Permission"), ((item["principal"], item["permission"]) for item in found))


@secrets.command()
@click.argument("scope")
@click.argument("principal")
@api_command
def delete_acl(api: Api, scope: str, principal: str) -> None:
    """Take somebody's permission on a scope away."""
    api.post(f"{_API}/acls/delete", {"scope": scope, "principal": principal})


@secrets.command()
@api_command
def rotate_key(api: Api) -> None:
    """Encrypt the keys of all scopes with a new master key: the configured one, or one that is made."""
    done = api.post("/api/millpond/secrets/rotate-key")
    click.echo(f"{done['scopes']} scopes are now encrypted with master key {done['key_id']}.")
    click.echo(
        f"Keep {done['previous_key_id']} as long as you keep backups of the database from before; "
        f"where it is a file, it is keys/{done['previous_key_id']}.key in the data directory."
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    lines = [head, *(tuple(map(str, row)) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
