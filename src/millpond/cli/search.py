"""Find objects on a server."""

import json
from typing import Any

import click

from millpond.cli.api import Api, api_command


@click.command()
@click.argument("words", nargs=-1)
@click.option("--type", "kind", default="", help="Only these, comma-separated: table, schema, model, experiment, ...")
@click.option("--tag", default="", help="Only what has this tag: a key, or key=value.")
@click.option("--owner", default="", help="Only what somebody owns.")
@click.option("--certified", is_flag=True, help="Only what is marked as certified.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 100))
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer as it is.")
@api_command
def search(
    api: Api, words: tuple[str, ...], kind: str, tag: str, owner: str, certified: bool, limit: int, as_json: bool
) -> None:
    """Find what you may see whose name, comment, tags, columns or owner hold all of the WORDS."""
    query = {"q": " ".join(words), "type": kind, "tag": tag, "owner": owner, "limit": str(limit)}
    found = api.get("/api/millpond/search", **query, certified="certified" if certified else "")
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for result in found["results"]:
        click.echo(_line(result))
    if not found["results"]:
        click.echo("Nothing found.", err=True)


def _line(result: dict[str, Any]) -> str:
    status = result.get("certification_status")
    name = result["name"] + (f" [{status}]" if status else "")
    comment = " ".join(result.get("comment", "").split())
    return f"{result['type']:<12} {name}" + (f"  {comment[:80]}" if comment else "")
