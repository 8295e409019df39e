"""`millpond lineage`: what data was made of, and what breaks without it."""

import json
from typing import Any

import click

from millpond.cli.api import Api, api_command
from millpond.kernel.errors import InvalidArgument

_TRACKING = "/api/2.0/lineage-tracking"
_WORDS = {
    "value": "is computed from it",
    "rows": "has its rows chosen by it",
    "table": "is made of it",
    "possible": "is perhaps made of it",
}


@click.group()
def lineage() -> None:
    """See what tables were made of, and what breaks without them."""


@lineage.command()
@click.argument("name", metavar="CATALOG.SCHEMA.TABLE[.COLUMN]")
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer as it is.")
@api_command
def impact(api: Api, name: str, as_json: bool) -> None:
    """Say what breaks if a table goes, or a column of it."""
    answer = api.get("/api/millpond/lineage/impact", **_named(name))
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for each in answer["affected"]:
        click.echo(_line(each))
    if not answer["affected"]:
        click.echo(f"Nothing that you may see was made of {name}.")


@lineage.command()
@click.argument("name", metavar="CATALOG.SCHEMA.TABLE[.COLUMN]")
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer as it is.")
@api_command
def show(api: Api, name: str, as_json: bool) -> None:
    """Show what a table, or a column of it, was made of and what was made of it."""
    named = _named(name)
    answer = api.get(f"{_TRACKING}/{'column' if 'column_name' in named else 'table'}-lineage", **named)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for key, found in answer.items():
        for each in found:
            click.echo(f"{'from' if key.startswith('up') else 'to  '}  {_name(each)}")


def _named(name: str) -> dict[str, str]:
    parts = name.split(".", 3)
    if len(parts) < 3:
        raise InvalidArgument(f"'{name}' is not CATALOG.SCHEMA.TABLE or CATALOG.SCHEMA.TABLE.COLUMN.")
    table = {"table_name": ".".join(parts[:3])}
    return {**table, "column_name": parts[3]} if len(parts) > 3 else table


def _line(each: dict[str, Any]) -> str:
    what = each["name"] if each["kind"] == "table" else f"{each['kind'].replace('_', ' ')} {each['name']}"
    column = f".{each['column']}" if each["column"] else ""
    through = f", through {each['through']}" if each["steps"] > 1 else ""
    return f"{what}{column} {_WORDS[each['cause']]}{through}"


def _name(each: dict[str, Any]) -> str:
    if "table_name" in each:
        return f"{each['catalog_name']}.{each['schema_name']}.{each['table_name']}.{each['name']}"
    if "path" in each:
        return f"{each['path']} {each['name']}"
    ((kind, info),) = ((key, value) for key, value in each.items() if key.endswith("Info"))
    if kind == "tableInfo":
        return f"{info['catalog_name']}.{info['schema_name']}.{info['name']}"
    return str(info.get("path") or info.get("name") or f"{info.get('model_name')}/{info.get('version')}")
