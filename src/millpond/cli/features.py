"""`millpond features`: is a model given in serving what it was given in training?"""

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import click

from millpond.cli.api import Api, api_command
from millpond.kernel.errors import InvalidArgument

_PATH = "/api/millpond/parity-checks"
_POLL_S = 0.5
_EXIT = {"passed": 0, "failed": 1, "error": 2}


@click.group()
def features() -> None:
    """Look after features."""


@features.command()
@click.argument("subject", metavar="MODEL_URI|SPEC")
@click.option("--keys", metavar="TABLE", help="A table of requests; else keys of the feature tables are sampled.")
@click.option("--sample", type=int, default=200, show_default=True, help="How many rows are replayed at most.")
@click.option("--tolerance", "tolerances", multiple=True, metavar="X|FEATURE=X",
              help="How far fractions may be apart, absolutely or as a part of the greater one.")  # fmt: skip
@click.option("--max-mismatches", type=int, default=0, show_default=True, help="How many values may differ.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as it is.")
@api_command
def parity(
    api: Api, subject: str, keys: str | None, sample: int, tolerances: tuple[str, ...], max_mismatches: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Replay keys through the path of training and that of serving, and compare value by value.

    MODEL_URI is models:/NAME/VERSION or models:/NAME@ALIAS. The exit code is 0 where all is the same, 1 where it is
    not, 2 where it could not be carried out.
    """
    body = {"subject": subject, "keys": keys, "sample": sample, "max_mismatches": max_mismatches}
    check = api.post(_PATH, {**body, **_tolerances(tolerances)})["check"]
    while check["state"] in ("queued", "running"):
        time.sleep(_POLL_S)
        check = api.get(f"{_PATH}/{check['id']}")["check"]
    click.echo(json.dumps(check, indent=2) if as_json else "\n".join(_lines(check)))
    sys.exit(_EXIT[check["state"]])


def _tolerances(given: tuple[str, ...]) -> dict[str, Any]:
    try:
        named = {name: float(value) for name, _, value in (each.rpartition("=") for each in given)}
    except ValueError as error:
        raise InvalidArgument(f"--tolerance is a number, or FEATURE=NUMBER: {error}.") from error
    return {"tolerance": named.pop("", 0.0), "tolerances": named}


def _lines(check: Mapping[str, Any]) -> list[str]:
    lines = [f"{check['state']}: {check['message']}"]
    if check["state"] == "error":
        return [*lines, *filter(None, [(check["report"] or {}).get("problem")])]
    report = check["report"]
    for source in report["sources"]:
        lines.append(
            f"{source['table']}@{source['version']} against {source['online_table']} in {source['store']}; "
            f"{source['versions_behind']} versions ({source['lag_s']:g} s) behind"
        )
    for feature in report["features"]:
        lines.append(f"{feature['name']}: {feature['equal']} of {feature['compared']} the same")
        lines += [
            f"  {json.dumps(each['key'])}: {json.dumps(each['offline'])} offline, {json.dumps(each['online'])} online"
            for each in feature["mismatches"]
        ]
    return lines
