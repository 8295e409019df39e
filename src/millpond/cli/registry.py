"""`millpond registry`: what was live when and why, rollback, and the policies that guard models."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from millpond.cli.api import Api, api_command
from millpond.kernel.clock import from_epoch_ms
from millpond.kernel.errors import InvalidArgument

_PATH = "/api/millpond/registry"
_KINDS = {1: "catalog", 2: "schema", 3: "model"}


@click.group()
def registry() -> None:
    """Look into the record of models, move versions back, and guard them by policies."""


def _target_options(command: Any) -> Any:
    command = click.option("--stage", help="Staging, Production, ...")(command)
    return click.option("--alias", help="The alias that is meant; or give --stage.")(command)


@registry.command()
@click.argument("model")
@click.option("--at", metavar="TIME", help="What was live then (UTC unless it says otherwise): 2026-01-31T12:00.")
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer as it is.")
@api_command
def history(api: Api, model: str, at: str | None, as_json: bool) -> None:
    """Say what of MODEL is live, or was at a time, who approved it and who served it; then its moves."""
    told = api.get(f"{_PATH}/history", name=model, **({"at": _moment(at)} if at else {}))
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(f"live{f' at {at}' if at else ''}:")
    for each in told["live"] or ():
        click.echo("  " + _live_line(each))
    if not told["live"]:
        click.echo("  nothing")
    if not at:
        click.echo("moves, newest first:")
        for move in told["moves"]:
            click.echo("  " + _move_line(move))


@registry.command()
@click.argument("model")
@_target_options
@click.option("--reason", default="", help="Why; it stays in the history.")
@api_command
def rollback(api: Api, model: str, alias: str | None, stage: str | None, reason: str) -> None:
    """Move the version of MODEL back to an alias or stage that was there before the present one."""
    body = {"name": model, "reason": reason, **_target(alias, stage)}
    moved = api.post(f"{_PATH}/rollback", body)["activity"]
    click.echo(f"Version {moved['version']} of {model} is {alias or stage} again.")


@registry.command()
@click.argument("model")
@click.argument("version")
@_target_options
@click.option("--reason", default="", help="Why; it stays in the history. An override needs one.")
@click.option("--override", is_flag=True, help="Past the gates, as an administrator.")
@api_command
def move(api: Api, model: str, version: str, alias: str | None, stage: str | None, reason: str, override: bool) -> None:
    """Move VERSION of MODEL to an alias or a stage."""
    body = {"name": model, "version": version, "reason": reason, "override": override, **_target(alias, stage)}
    api.post(f"{_PATH}/moves", body)
    click.echo(f"Version {version} of {model} is {alias or stage}.")


@registry.command()
@click.argument("name")
@click.option("--set", "path", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="A YAML file.")
@click.option("--remove", is_flag=True, help="Take the policy away.")
@click.option("--comment", default="", help="Why it changes.")
@click.option("--type", "kind", help="model, schema or catalog; by default by the number of the name's parts.")
@api_command
def policy(api: Api, name: str, path: Path | None, remove: bool, comment: str, kind: str | None) -> None:
    """Show the policy of NAME, a model, schema or catalog, or set it."""
    scope = {"securable_type": kind or _KINDS.get(len(name.split(".")), "model"), "name": name}
    if path is not None or remove:
        body = {**scope, "policy": path.read_text() if path else "", "comment": comment}
        made = api.post(f"{_PATH}/policies", body)["policy"]
        click.echo(f"Version {made['version']} of the policy of {name} is in force.")
        return
    found = api.get(f"{_PATH}/policies", **scope)["policies"]
    if not found or not found[0]["policy"]:
        click.echo(f"{name} has no policy.")
        return
    click.echo(f"# version {found[0]['version']}, by {found[0]['author']} on {_time(found[0]['created_at'])}")
    click.echo(found[0]["policy"])


def _target(alias: str | None, stage: str | None) -> dict[str, str]:
    if (alias is None) == (stage is None):
        raise InvalidArgument("Give either --alias or --stage.")
    return {"alias": alias} if alias is not None else {"stage": stage or ""}


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidArgument(f"'{text}' is no time; write 2026-01-31T12:00.") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def _live_line(live: Mapping[str, Any]) -> str:
    evidence = live["evidence"]
    parts = [f"{live['target']} = version {live['version']}, since {_time(live['creation_timestamp'])}"]
    parts.append(f"moved by {live['user_id']}")
    if evidence.get("approved_by"):
        parts.append(f"approved by {', '.join(evidence['approved_by'])}")
    if evidence.get("overridden"):
        parts.append("past its gates")
    elif evidence.get("gates"):
        parts.append(f"{sum(len(gate['findings']) for gate in evidence['gates'])} checks passed")
    if live["served_by"]:
        parts.append(f"served by {', '.join(each['endpoint'] for each in live['served_by'])}")
    return ", ".join(parts)


def _move_line(move: Mapping[str, Any]) -> str:
    goal = move.get("to_stage") if "to_stage" in move else f"@{move.get('alias')}"
    what = {"ALIAS_REMOVED": "removed"}.get(move["activity_type"], f"version {move['version']}")
    said = move["comment"] or move["system_comment"]
    return f"{_time(move['creation_timestamp'])} {goal or 'deleted'}: {what} by {move['user_id']}" + (
        f" ({said})" if said else ""
    )


def _time(milliseconds: int) -> str:
    return from_epoch_ms(milliseconds).strftime("%Y-%m-%d %H:%M:%S")
