"""`millpond export`: a registered model as a directory that runs without this platform."""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from millpond.cli.api import Api, api_command
from millpond.kernel.errors import FailedPrecondition


@click.command()
@click.argument("model", metavar="MODEL_URI")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--onnx", is_flag=True, help="Convert it to ONNX too, where that can be done.")
@click.option("--no-check", is_flag=True, help="Do not run it and compare its answers with the platform's.")
@api_command
def export(api: Api, model: str, directory: Path, onnx: bool, no_check: bool) -> None:
    """Write a container's build context for MODEL_URI (models:/NAME/VERSION or models:/NAME@ALIAS) into DIRECTORY.

    It has a Dockerfile, locked packages, the model and an entry point that answers /ping and /invocations. What is
    written is run in an environment of its own, and its answers are compared with the platform's: the exit code is 1
    where they differ, or where ONNX was asked for and cannot be had.
    """
    from millpond.sdk.exporting import ExportError, export_model

    os.environ |= {"MLFLOW_TRACKING_URI": api.url, "MLFLOW_REGISTRY_URI": api.url, "MLFLOW_TRACKING_TOKEN": api.token,
                   "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}  # fmt: skip
    try:
        found = export_model(
            model, directory, lambda body: _asked(api, model, body), check=not no_check, onnx=onnx, say=click.echo
        )
    except ExportError as error:
        raise FailedPrecondition(str(error)) from error
    if found.parity is not None:
        state = "the same" if found.parity.same else "NOT the same"
        click.echo(f"answers are {state} as the platform's: {found.parity.requests} requests, {found.parity.rows} rows")
        for line in found.parity.different:
            click.echo(f"  {line}")
    refused = found.onnx.get("refused")
    if onnx:
        click.echo(f"no ONNX: {refused}" if refused else f"ONNX: {json.dumps(dict(found.onnx))}")
    click.echo(f"written to {directory}")
    if refused or (found.parity is not None and not found.parity.same):
        sys.exit(1)


def _asked(api: Api, model: str, body: bytes) -> tuple[int, Any]:
    """What the platform answers."""
    url = f"{api.url}/api/millpond/scoring/invocations?model={quote(model, safe='')}"
    headers = {"Authorization": f"Bearer {api.token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - the server's own address
    try:
        with urllib.request.urlopen(request, timeout=180) as answer:  # noqa: S310
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read()[:500].decode(errors="replace")
