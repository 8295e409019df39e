"""`millpond predictions`: where a prediction of an endpoint came from."""

import json
from typing import Any
from urllib.parse import quote

import click

from millpond.cli.api import Api, api_command


@click.group()
def predictions() -> None:
    """Account for predictions that are in an inference table."""


@predictions.command()
@click.argument("endpoint")
@click.argument("request_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer as it is.")
@api_command
def explain(api: Api, endpoint: str, request_id: str, as_json: bool) -> None:
    """Say which version of which model made a prediction, in which run and of what data.

    ID is that of the request: the header X-Request-Id of its answer, the column databricks_request_id of its row.
    """
    path = f"/api/millpond/serving-endpoints/{quote(endpoint, safe='')}/predictions/{quote(request_id, safe='')}"
    answer = api.get(path)
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for line in _lines(answer):
        click.echo(line)


def _lines(answer: dict[str, Any]) -> list[str]:
    found = answer["prediction"]
    model = " version ".join(filter(None, (found["model_name"], found["model_version"])))
    told = [
        f"status {found['status_code']} in {found['total_ms']:g} ms, for {found['requester']}",
        f"model {model}, as served entity {found['served_entity_name']}",
        *(f"{kind} {each['name']}" for each in answer["upstream"] if (kind := each["kind"]) != "model_version"),
        *(f"read {each['table']} at version {each['version']}" for each in answer["data"]),
    ]
    rows = zip(found["inputs"] or (), found["predictions"] or (), strict=False)
    return told + [f"{given} -> {predicted}" for given, predicted in rows]
