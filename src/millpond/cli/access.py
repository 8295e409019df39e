"""Why somebody may do something to an object, or what is missing."""

import json
from typing import Any

import click

from millpond.cli.api import Api, api_command
from millpond.identity.wire.sentences import sentences
from millpond.kernel.errors import NotFound

_KINDS = {1: ("catalog",), 2: ("schema",), 3: ("table", "volume", "function", "model")}


@click.group()
def access() -> None:
    """Look into who may do what."""


@access.command()
@click.argument("user")
@click.argument("privilege")
@click.argument("object_name", metavar="OBJECT")
@click.option("--type", "kind", help="table, volume, experiments, ...; by default by the number of the name's parts.")
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer as it is.")
@api_command
def explain(api: Api, user: str, privilege: str, object_name: str, kind: str | None, as_json: bool) -> None:
    """Say whether USER has PRIVILEGE on OBJECT, and by what, or what is missing; exit code 2 for a no."""
    told = _ask(api, user, privilege, object_name, kind)
    click.echo(json.dumps(told, indent=2) if as_json else "\n".join(sentences(told)))
    if not told["allowed"]:
        raise SystemExit(2)


def _ask(api: Api, user: str, privilege: str, name: str, kind: str | None) -> dict[str, Any]:
    kinds = (kind,) if kind else _KINDS.get(len(name.split(".")), ("table",))
    for each in kinds:
        try:
            return api.get(
                "/api/millpond/access/explain", principal=user, privilege=privilege, securable_type=each, name=name
            )
        except NotFound:
            if each == kinds[-1]:
                raise
    raise AssertionError("unreachable: there is a last kind")
