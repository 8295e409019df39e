"""How clients reach the server: variables for a shell, a profile for the SDK."""

import json
import shlex
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import click

from millpond.cli.server import data_dir_option, running_state, trusting
from millpond.home import Credentials, Home, ServerState, load_credentials, write_private
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, Unauthenticated, Unavailable

PROFILE_FILE = "~/.databrickscfg"


@click.command()
@data_dir_option
def env(data_dir: Path) -> None:
    """Print the variables that mlflow, databricks-sdk and PySpark read: eval "$(millpond env)"."""
    state, credentials = connection_of(data_dir)
    for name, value in client_variables(state, credentials.token).items():
        click.echo(f"export {name}={shlex.quote(value)}")


@click.command()
@click.option("--host", help="Address of a Millpond server, as http://HOST:PORT.")
@click.option("--token", help="An access token; asked for when absent.")
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Or: the server's data directory.")
@click.option("--profile", default="millpond", show_default=True, help="Name of the profile.")
@click.option("--file", "path", type=click.Path(path_type=Path), default=PROFILE_FILE, show_default=True)
def login(host: str | None, token: str | None, data_dir: Path | None, profile: str, path: Path) -> None:
    """Check an access token and keep it as a profile that mlflow and databricks-sdk read (mode 0600)."""
    certificate = None
    if data_dir is not None:
        state, credentials = connection_of(data_dir)
        host, token, certificate = state.url, credentials.token, state.certificate
    if not host:
        raise InvalidArgument("Give --host http://HOST:PORT, or --data-dir of a server on this machine.")
    token = token or click.prompt("Access token", hide_input=True)
    user = _who_am_i(host.rstrip("/"), token, trusting(certificate))
    _write_profile(path.expanduser(), profile, host.rstrip("/"), token)
    click.echo(f"Signed in as {user}; profile '{profile}' written to {path}.")


def connection_of(data_dir: Path) -> tuple[ServerState, Credentials]:
    """How to reach the running server of a data directory, and as whom.

    Raises FailedPrecondition when it does not run or keeps no credentials here.
    """
    home = Home(data_dir.expanduser().resolve())
    state = running_state(home)
    if state is None:
        raise FailedPrecondition(f"No Millpond serves {home.root}. Start one: millpond up --data-dir {home.root}")
    credentials = load_credentials(home)
    if credentials is None:
        raise FailedPrecondition(
            f"{home.credentials_file} does not exist: the first administrator was made elsewhere. "
            "Use 'millpond login --host URL' with a token of yours."
        )
    return state, credentials


def client_variables(state: ServerState, token: str) -> dict[str, str]:
    """The variables by which the official clients find us."""
    return {
        "DATABRICKS_HOST": state.url,
        "DATABRICKS_TOKEN": token,
        "MLFLOW_TRACKING_URI": state.url,
        "MLFLOW_TRACKING_TOKEN": token,
        "SPARK_REMOTE": state.spark_remote(token),
    }


def _who_am_i(host: str, token: str, context: ssl.SSLContext | None) -> str:
    request = urllib.request.Request(  # noqa: S310 - the address that the user gave
        f"{host}/api/2.0/preview/scim/v2/Me", headers={"Authorization": f"Bearer {token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:  # noqa: S310
            return str(json.load(answer)["userName"])
    except urllib.error.HTTPError as error:
        if error.code in {401, 403}:
            raise Unauthenticated(f"{host} refused the token; make a new one there.") from error
        raise Unavailable(f"{host} answered {error.code}; is it a Millpond server?") from error
    except (OSError, ValueError, KeyError) as error:
        raise Unavailable(f"{host} does not answer as a Millpond server: {error}.") from error


def _write_profile(path: Path, profile: str, host: str, token: str) -> None:
    """Replace one section of the file, or add it; everything else, comments included, stays as it is."""
    kept: list[str] = []
    inside = False
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.lstrip().startswith("["):
            inside = line.strip() == f"[{profile}]"
        if not inside:
            kept.append(line)
    path.parent.mkdir(parents=True, exist_ok=True)
    section = [f"[{profile}]", f"host = {host}", f"token = {token}"]
    write_private(path, "\n".join([*kept, *([""] if kept and kept[-1].strip() else []), *section]) + "\n")
