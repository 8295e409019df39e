"""`millpond workers`: the workers of a server, for administrators."""

import time

import click

from millpond.cli.api import Api, api_command
from millpond.identity.domain import WORKER

_WORKERS = "/api/millpond/workers"


@click.group()
def workers() -> None:
    """Workers, which run tasks of jobs on other machines."""


@workers.command()
@click.argument("name")
@api_command
def add(api: Api, name: str) -> None:
    """Make an account for workers, and print its token, which is good for nothing else and not shown again."""
    made = api.post(
        "/api/2.0/preview/scim/v2/ServicePrincipals", {"displayName": name, "entitlements": [{"value": WORKER}]}
    )
    issued = api.post(
        "/api/2.0/token-management/on-behalf-of/tokens", {"application_id": made["applicationId"], "comment": name}
    )
    click.echo(issued["token_value"])


@workers.command(name="list")
@api_command
def list_all(api: Api) -> None:
    """List workers."""
    for each in api.get(_WORKERS)["workers"]:
        state = "draining" if each["draining"] else "ready" if each["is_heard_of"] else "not heard of"
        seen_s = max(0, time.time() - each["seen_at"] / 1000)
        busy = f"{each['running']}/{each['slots']}"
        click.echo(f"{each['id']}  {each['name']:<24} {busy:>7}  {state:<13} {seen_s:.0f} s ago  {each['address']}")


@workers.command()
@click.argument("worker_id")
@api_command
def drain(api: Api, worker_id: str) -> None:
    """Have a worker finish what it runs, and end."""
    api.post(f"{_WORKERS}/{worker_id}/drain")


@workers.command()
@click.argument("worker_id")
@api_command
def remove(api: Api, worker_id: str) -> None:
    """Take its tasks from a worker at once; those whose code has begun have failed. Its token stays."""
    api.call("DELETE", f"{_WORKERS}/{worker_id}")
