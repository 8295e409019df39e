"""Starting, stopping and watching the server."""

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from millpond.home import Home, ServerState, load_state
from millpond.kernel.errors import InvalidArgument, Unavailable
from millpond.kernel.settings import DEFAULT_DATA_DIR, Settings, load_settings

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="MILLPOND_DATA_DIR",
    default=DEFAULT_DATA_DIR,
    show_default=True,
    help="Directory that holds all state.",
)


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Directory that holds all state.")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port of the API and the UI; 0 takes a free one.  [default: 8484]")
@click.option("--spark-port", type=int, help="Port of Spark Connect; 0 takes a free one.  [default: 15002]")
@click.option("--database-url", help="postgresql://USER@HOST/NAME instead of SQLite in the data directory.")
@click.option("--storage-root", help="Root of managed tables: a path or s3://BUCKET/PREFIX.")
@click.option("--ssl-certfile", type=click.Path(path_type=Path, dir_okay=False), help="Certificate (PEM): TLS.")
@click.option("--ssl-keyfile", type=click.Path(path_type=Path, dir_okay=False), help="Its private key (PEM).")
@click.option("--detach", is_flag=True, help="Return when the server is ready and leave it running.")
def up(detach: bool, **flags: Any) -> None:
    """Start the server."""
    settings = load_settings(**flags)
    _check_certificate(settings)
    home = Home(settings.data_dir)
    home.prepare()
    env = os.environ | _variables(settings, flags)
    argv = [sys.executable, "-P", "-m", "millpond.supervisor"]
    if detach:
        _start_detached(home, argv, env)
    else:
        os.execve(sys.executable, argv, env)  # noqa: S606 - our own interpreter


@click.command()
@data_dir_option
@click.option("--timeout", default=60.0, show_default=True, help="Seconds to wait for it to end.")
def down(data_dir: Path, timeout: float) -> None:
    """Stop the server: it finishes what runs, then ends."""
    home = Home(data_dir.expanduser().resolve())
    state = running_state(home)
    if state is None:
        click.echo(f"No Millpond serves {home.root}.")
        return
    os.kill(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while running_state(home) is not None:
        if time.monotonic() > deadline:
            raise Unavailable(f"Process {state.pid} did not end within {timeout:g} s; see 'millpond logs'.")
        time.sleep(0.05)
    click.echo("Stopped.")


@click.command()
@data_dir_option
def status(data_dir: Path) -> None:
    """Say whether the server runs, and how to reach it; exit code 3 when it does not."""
    home = Home(data_dir.expanduser().resolve())
    state = running_state(home)
    if state is None:
        click.echo(f"No Millpond serves {home.root}. Start one: millpond up --data-dir {home.root}")
        sys.exit(3)
    click.echo(f"Millpond {state.version}, process {state.pid}, serves {home.root}")
    click.echo(f"  UI and API     {state.url}")
    click.echo(f"  Spark Connect  {state.spark_url}")
    for name, detail in _health(state).items():
        click.echo(f"  {name:<14} {detail}")


@click.command()
@data_dir_option
@click.option("-f", "--follow", is_flag=True, help="Go on as lines are written.")
@click.option("-n", "--lines", default=200, show_default=True, help="How many of the last lines.")
@click.option(
    "--process",
    type=click.Choice(["server", "gateway", "supervisor", "publisher"]),
    default="server",
    show_default=True,
)
def logs(data_dir: Path, follow: bool, lines: int, process: str) -> None:
    """Print the end of a process's log."""
    path = Home(data_dir.expanduser().resolve()).logs / f"{process}.log"
    if not path.exists():
        raise Unavailable(f"There is no log at {path}; was a server started on this data directory?")
    tail = ["tail", "-n", str(lines), *(["-F"] if follow else []), str(path)]
    with contextlib.suppress(KeyboardInterrupt):
        subprocess.run(tail, check=False)


def running_state(home: Home) -> ServerState | None:
    """How to reach the server of a data directory; None when none runs."""
    state = load_state(home)
    if state is None:
        return None
    try:
        os.kill(state.pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return state


def _variables(settings: Settings, flags: Mapping[str, Any]) -> dict[str, str]:
    """The flags as variables, for the supervisor and its children to read."""
    given = {f"MILLPOND_{name.upper()}": str(value) for name, value in flags.items() if value is not None}
    fixed = {
        "MILLPOND_DATA_DIR": str(settings.data_dir),
        "MILLPOND_HOST": settings.host,
        "MILLPOND_PORT": str(settings.port),
        "MILLPOND_SPARK_PORT": str(settings.spark_port),
    }
    optional = {
        "MILLPOND_PUBLIC_URL": settings.public_url,
        "MILLPOND_SSL_CERTFILE": settings.ssl_certfile and settings.ssl_certfile.expanduser().resolve(),
        "MILLPOND_SSL_KEYFILE": settings.ssl_keyfile and settings.ssl_keyfile.expanduser().resolve(),
    }
    return given | fixed | {name: str(value) for name, value in optional.items() if value is not None}


def _check_certificate(settings: Settings) -> None:
    if settings.certificate is None:
        return
    certificate, key = (path.expanduser() for path in settings.certificate)
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        reason = getattr(error, "reason", None) or error.strerror or error
        raise InvalidArgument(f"The certificate {certificate} cannot be used with the key {key}: {reason}.") from error


def _start_detached(home: Home, argv: list[str], env: Mapping[str, str]) -> None:
    ready_read, ready_write = os.pipe()
    with (home.logs / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            argv,
            env={**env, "MILLPOND_READY_FD": str(ready_write)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(ready_write,),
            start_new_session=True,
        )
    os.close(ready_write)
    with os.fdopen(ready_read) as stream:
        line = stream.readline()
    if not line:
        raise Unavailable(f"The server ended with code {process.wait()}; see {home.logs}.")
    message = json.loads(line)
    if "error" in message:
        raise Unavailable(message["error"])
    from millpond.supervisor import banner

    state = load_state(home)
    if state:
        click.echo(banner(home, state))


def trusting(certificate: str | None) -> ssl.SSLContext | None:
    """Trust for the very certificate of a server on this machine, whatever names it is for; None for the usual."""
    if certificate is None:
        return None
    context = ssl.create_default_context(cafile=certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return context


def _health(state: ServerState) -> dict[str, str]:
    url, context = f"{state.url}/health/ready", trusting(state.certificate)
    try:
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:  # noqa: S310 - our own address
            checks: dict[str, str] = json.load(answer)["checks"]
    except urllib.error.HTTPError as error:
        checks = json.load(error).get("checks", {})
    except OSError as error:
        return {"health": f"does not answer: {error}"}
    return checks
