"""`millpond demo`: the churn story from a raw file to a served prediction, on a server that stays up to look at."""

import os
import subprocess
import sys
import time
import webbrowser
from collections.abc import Mapping
from pathlib import Path

import click

from millpond.cli.connect import client_variables, connection_of
from millpond.cli.server import running_state
from millpond.home import Home
from millpond.kernel.errors import FailedPrecondition

DEMO_DATA_DIR = Path("millpond-demo")


@click.command()
@click.option(
    "--data-dir", type=click.Path(path_type=Path, file_okay=False), default=DEMO_DATA_DIR, show_default=True,
    help="Directory of the demo's server; one that runs there is used.",
)  # fmt: skip
@click.option("--port", type=int, help="Port of the API and the UI.")
@click.option("--spark-port", type=int, help="Port of Spark Connect.")
@click.option("--open/--no-open", "open_page", default=True, help="Open the page in a browser at the end.")
def demo(data_dir: Path, port: int | None, spark_port: int | None, open_page: bool) -> None:
    """Run the churn story with plain pyspark, mlflow and databricks-sdk, and leave the server up to look at."""
    began = time.perf_counter()
    home = Home(data_dir.expanduser().resolve())
    if running_state(home) is None:
        _start(home, port, spark_port)
    state, credentials = connection_of(home.root)
    env = _without_other_platforms(os.environ) | client_variables(state, credentials.token)
    story = subprocess.run([sys.executable, "-P", "-m", "millpond.examples.churn.run"], env=env, check=False)
    if story.returncode:
        raise FailedPrecondition(
            f"The story stopped with code {story.returncode}; its output is above. "
            "It needs the clients' libraries: pip install 'millpond[ml]'. "
            f"The server still runs; see 'millpond logs --data-dir {home.root}'."
        )
    click.echo(_what_next(home, state.url, credentials.user, credentials.password, time.perf_counter() - began))
    if open_page:
        webbrowser.open(state.url)


def _without_other_platforms(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment less what leads clients elsewhere: a registry's address or a profile outranks our variables.

    A `uv.lock` where the demo is started says nothing about its models either, yet MLflow would take their
    requirements from there.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if not name.removeprefix("_").startswith(("MLFLOW_", "DATABRICKS_", "SPARK_"))
    }
    return kept | {"MLFLOW_UV_AUTO_DETECT": "false"}


def _start(home: Home, port: int | None, spark_port: int | None) -> None:
    flags = [f"--port={port}"] if port is not None else []
    flags += [f"--spark-port={spark_port}"] if spark_port is not None else []
    command = [sys.executable, "-P", "-m", "millpond.cli.main", "up", "--detach", "--data-dir", str(home.root), *flags]
    if subprocess.run(command, check=False).returncode:
        raise FailedPrecondition("The demo's server did not start; the reason is above.")


def _what_next(home: Home, url: str, user: str, password: str, seconds: float) -> str:
    return f"""
  The story ran in {seconds:.0f} s. Have a look:

  {url}
    sign in as     {user}
    password       {password}

    Catalog        {url}/catalog/prod_catalog/silver/tables/customer_features
    Experiments    {url}/experiments
    Model          {url}/models/prod_catalog.ml_models.churn_predictor
    Endpoint       {url}/serving/churn-predictor

  Your own code:   eval "$(millpond env --data-dir {home.root})"
  Stop it:         millpond down --data-dir {home.root}
"""
