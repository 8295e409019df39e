"""Why somebody may do something to an object, or what is missing."""

import json
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import click

from millpond.cli.connect import connection_of
from millpond.cli.server import data_dir_option
from millpond.identity.wire.sentences import sentences
from millpond.kernel.errors import InvalidArgument, NotFound, Unavailable

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
@data_dir_option
def explain(user: str, privilege: str, object_name: str, kind: str | None, as_json: bool, data_dir: Path) -> None:
    """Say whether USER has PRIVILEGE on OBJECT, and by what, or what is missing; exit code 2 for a no."""
    told = _ask(data_dir, user, privilege, object_name, kind)
    click.echo(json.dumps(told, indent=2) if as_json else "\n".join(sentences(told)))
    if not told["allowed"]:
        raise SystemExit(2)


def _ask(data_dir: Path, user: str, privilege: str, name: str, kind: str | None) -> dict[str, Any]:
    kinds = (kind,) if kind else _KINDS.get(len(name.split(".")), ("table",))
    for each in kinds:
        query = {"principal": user, "privilege": privilege, "securable_type": each, "name": name}
        try:
            return _get(data_dir, "/api/millpond/access/explain?" + urllib.parse.urlencode(query))
        except NotFound:
            if each == kinds[-1]:
                raise
    raise AssertionError("unreachable: there is a last kind")


def _get(data_dir: Path, path: str) -> dict[str, Any]:
    state, credentials = connection_of(data_dir)
    request = urllib.request.Request(state.url + path, headers={"Authorization": f"Bearer {credentials.token}"})  # noqa: S310 - our own address
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - our own address
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        message = json.load(error).get("message", str(error))
        raise (NotFound if error.code == 404 else InvalidArgument)(message) from error
    except urllib.error.URLError as error:
        raise Unavailable(f"The server at {state.url} does not answer: {error.reason}.") from error
