"""`millpond reproduce` and `millpond pins`."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from millpond.cli.api import Api, api_command
from millpond.kernel.clock import from_epoch_ms

_PATH = "/api/millpond/reproductions"
_POLL_S = 1.0
_LOG_BYTES = 8000
_CACHE = "~/.cache/millpond/environments"
_CLEAN = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
_BAD = {"different": 1, "failed": 1, "not reproducible": 2}


@click.command()
@click.argument("run_id")
@click.option("--here", is_flag=True, help="On this machine, not beside the server: files that the run read are looked "
              "for where they were.")  # fmt: skip
@click.option("--python", "own_python", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="With --here: use this interpreter's packages, instead of building those of the run.")  # fmt: skip
@click.option("--tolerance", type=float, default=1e-6, show_default=True, help="With --here: relative.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as it is.")
@api_command
def reproduce(api: Api, run_id: str, here: bool, own_python: Path | None, tolerance: float, as_json: bool) -> None:
    """Make RUN_ID again as a new run, and say what is the same.

    The exit code is 0 where it is bit-identical or within the tolerance, 1 where it differs, 2 where it cannot be done.
    """
    here = here or own_python is not None
    found = _here(api, run_id, own_python, tolerance) if here else _beside_server(api, run_id)
    verdict = found["verdict"]
    if as_json:
        click.echo(json.dumps(verdict, indent=2))
    else:
        for line in verdict_lines(run_id, verdict):
            click.echo(line)
    sys.exit(_BAD.get(verdict["outcome"], 0))


def _beside_server(api: Api, run_id: str) -> Mapping[str, Any]:
    made: Mapping[str, Any] = api.post(_PATH, {"run_id": run_id})["reproduction"]
    click.echo(f"Reproduction {made['id']}: the server builds the environment and runs the code.", err=True)
    while made["state"] != "done":
        time.sleep(_POLL_S)
        made = api.get(f"{_PATH}/{made['id']}")["reproduction"]
    return made


def _here(api: Api, run_id: str, own_python: Path | None, tolerance: float) -> Mapping[str, Any]:
    import httpx

    from millpond.cli.server import trusting
    from millpond.kernel.environments import Environments
    from millpond.reproduction.engine import Ended, Reproducer, Task, keep_verdict, verdict_json
    from millpond.reproduction.server import Server

    made = api.post(_PATH, {"run_id": run_id, "place": "client"})
    variables = _variables(api, made["token"])

    def launch(task: Task) -> Ended:
        clean = {name: os.environ[name] for name in _CLEAN if name in os.environ}
        command = [str(task.interpreter.python), str(task.script), str(task.order)]
        done = subprocess.run(
            command, env={**clean, **variables, **task.variables}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        log = done.stdout[-_LOG_BYTES:].decode(errors="replace")
        return Ended(ok=done.returncode == 0, log=log.replace(made["token"], "***"))

    trust = trusting(api.certificate)
    headers = {"Authorization": f"Bearer {api.token}"}
    with (
        tempfile.TemporaryDirectory(prefix="millpond-reproduce-") as directory,
        httpx.Client(
            base_url=api.url, headers=headers, timeout=120, verify=trust if trust is not None else True
        ) as client,
    ):
        server = Server(client)
        reproducer = Reproducer(
            server, launch, Environments(Path(_CACHE).expanduser()), own_python=own_python, may_look=True,
            tolerance=tolerance, say=lambda text: click.echo(text, err=True),
        )  # fmt: skip
        verdict = reproducer.reproduce(run_id, made["reproduction"]["id"], Path(directory))
        keep_verdict(server, verdict)
        body = json.loads(json.dumps(verdict_json(verdict)))
        found: Mapping[str, Any] = server.post(f"{_PATH}/{made['reproduction']['id']}/verdict", body)["reproduction"]
        return found


def _variables(api: Api, token: str) -> dict[str, str]:
    """What tells the clients of the code where the server is: the narrow credential of the reproduction."""
    found = {
        "MLFLOW_TRACKING_URI": api.url,
        "MLFLOW_TRACKING_TOKEN": token,
        "DATABRICKS_HOST": api.url,
        "DATABRICKS_TOKEN": token,
    }
    if api.certificate:
        found["MLFLOW_TRACKING_SERVER_CERT_PATH"] = api.certificate
    remote = os.environ.get("SPARK_REMOTE") or api.spark_remote
    return {**found, "SPARK_REMOTE": remote.replace(api.token, token)} if remote else found


@click.command()
@click.argument("table", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the server's answer as it is.")
@api_command
def pins(api: Api, table: str | None, as_json: bool) -> None:
    """List the versions of tables, or of TABLE, that VACUUM keeps because a registered model was trained on them."""
    answer = api.get("/api/millpond/pins", **({"table": table} if table else {}))
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for pin in answer["pins"]:
        since = from_epoch_ms(pin["since"]).strftime("%Y-%m-%d %H:%M:%S")
        version = f" version {pin['model_version']}" if pin["model_version"] else ""
        run = f" (run {pin['run_id']})" if pin["run_id"] else ""
        click.echo(f"{pin['table']}@{pin['table_version']}  {pin['model']}{version}{run} since {since}")
    if not answer["pins"]:
        click.echo("No version of a table is kept for a model.")


def verdict_lines(run_id: str, verdict: Mapping[str, Any]) -> list[str]:
    """A verdict for people."""
    again = f" as {verdict['new_run_id']}" if verdict.get("new_run_id") else ""
    lines = [f"{verdict['outcome']}: run {run_id}{again}"]
    for title in ("metrics", "params", "artifacts", "inputs"):
        found = verdict.get(title) or ()
        same = [each for each in found if each["outcome"] == "bit-identical"]
        if found:
            lines.append(f"{title}: {len(same)} of {len(found)} bit-identical")
        lines += [f"  {each['name']}: {each['outcome']}, {each['message']}" for each in found if each not in same]
    for title, key in (("not captured or not restored", "missing"), ("otherwise than it was", "notes")):
        if verdict.get(key):
            lines += [f"{title}:", *(f"  {each}" for each in verdict[key])]
    if verdict.get("log"):
        lines += ["what the code printed last:", *(f"  {line}" for line in verdict["log"].splitlines()[-20:])]
    return lines
