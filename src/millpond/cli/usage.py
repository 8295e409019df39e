"""`millpond usage` and `millpond waste`: what was used and what it cost, and what nobody uses."""

import json
from typing import Any

import click

from millpond.cli.api import Api, api_command

_NOBODY = "Nothing that you may see is idle or unused."


@click.command()
@click.option("--since", help="From a day or time on, as 2026-11-01; else of the last 30 days.")
@click.option("--until", help="Before a day or time.")
@click.option(
    "--by", "group_by", default="product", help="product, user, object, sku or tag:KEY.", show_default=True
)  # fmt: skip
@click.option("--bucket", type=click.Choice(["hour", "day"]), help="A line for each hour or day.")
@click.option("--user", help="Of this user alone; others than yourself only administrators see.")
@click.option("--run-id", help="Of this run of a job alone.")
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer as it is.")
@api_command
def usage(api: Api, as_json: bool, group_by: str, **given: str | None) -> None:
    """Show what was used and what it cost: an administrator sees all, others what ran as them."""
    by, _, tag = group_by.partition(":")
    asked = {name: value for name, value in {**given, "group_by": by, "tag": tag}.items() if value}
    answer = api.get("/api/millpond/usage", **asked)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for each in answer["usage"]:
        click.echo(_line(each, by, answer["currency"]))
    if not answer["usage"]:
        click.echo("Nothing was used.")


@click.command()
@click.option("--days", default=7, show_default=True, help="What was not used for so many days.")
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer as it is.")
@api_command
def waste(api: Api, days: int, as_json: bool) -> None:
    """Show what runs idle, and what nobody uses."""
    answer = api.get("/api/millpond/waste", days=str(days))
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for each in answer["waste"]:
        click.echo(f"{each['kind']} {each['name'] or each['id']} ({each['owner']}): {each['why']} {each['advice']}")
    if not answer["waste"]:
        click.echo(_NOBODY)


def _line(used: dict[str, Any], by: str, currency: str) -> str:
    group = f"{used['kind']} {used['name'] or used['id']}".strip() if by == "object" else used.get(by) or ""
    start = f"{used['start_time'][:16]}  " if "start_time" in used else ""
    amount = f"{used['usage_quantity']:14,.2f} {used['usage_unit']:10}"
    return f"{start}{group:30.60}  {used['sku_name']:24} {amount}  {used['cost']:10,.2f} {currency}"
