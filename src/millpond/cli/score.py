"""`millpond score`: what is new in a table, given to a model."""

import json
import os
from dataclasses import asdict

import click

from millpond.cli.api import Api, api_command
from millpond.kernel.errors import InvalidArgument


@click.command()
@click.argument("source")
@click.argument("target")
@click.argument("model", metavar="MODEL_URI|ENDPOINT")
@click.option("--keys", default="", metavar="A,B", help="What tells rows apart; by default the source's primary key.")
@click.option("--columns", default="", metavar="A,B", help="Other columns of the source that the target gets.")
@click.option("--return-type", metavar="SQL", help="Of a prediction, where the model's signature does not say.")
@click.option("--on-new-version", type=click.Choice(["continue", "rescore"]), default="continue", show_default=True,
              help="Whether another version of the model scores all rows.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
@api_command
def score(
    api: Api, source: str, target: str, model: str, keys: str, columns: str, return_type: str | None,
    on_new_version: str, as_json: bool,
) -> None:  # fmt: skip
    """Score the rows of the table SOURCE that are new or changed since the last time, into the table TARGET.

    Run it again whenever you like: each row is scored once by a version of the model.
    """
    from millpond.sdk.scoring import score_table

    os.environ |= {"DATABRICKS_HOST": api.url, "DATABRICKS_TOKEN": api.token, "MLFLOW_TRACKING_URI": api.url,
                   "MLFLOW_TRACKING_TOKEN": api.token, "SPARK_REMOTE": api.spark_remote or os.environ.get(
                       "SPARK_REMOTE", "")}  # fmt: skip
    try:
        found = score_table(
            source, target, model, keys=_names(keys), columns=_names(columns), returns=return_type,
            on_new_version=on_new_version,
        )  # fmt: skip
    except ValueError as error:
        raise InvalidArgument(str(error)) from error
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    since = "all rows" if found.since_version is None else f"since version {found.since_version}"
    click.echo(f"{found.rows} rows scored by {found.model_name} version {found.model_version}: {source} up to version "
               f"{found.source_version}, {since}.")  # fmt: skip


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
