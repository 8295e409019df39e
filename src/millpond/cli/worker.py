"""`millpond worker`: run tasks of a server's jobs on this machine."""

import os
import signal
import socket
from pathlib import Path

import click

from millpond.kernel.errors import InvalidArgument
from millpond.kernel.logs import configure_logs
from millpond.kernel.settings import load_settings

_TOKEN = "MILLPOND_TOKEN"  # noqa: S105 - the name of a variable


@click.command()
@click.option("--url", required=True, help="The server, as http://HOST:PORT or https://HOST.")
@click.option("--name", default=socket.gethostname, show_default="this machine's", help="How others call it.")
@click.option(
    "--slots", default=os.cpu_count, type=click.IntRange(1, 1000), show_default="cores", help="Tasks at once."
)
@click.option(
    "--data-dir", type=click.Path(path_type=Path, file_okay=False), default="millpond-worker", show_default=True,
    help="Where it works; of its own.",
)  # fmt: skip
@click.option("--token-file", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="File with its token.")
@click.option("--ca-file", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="Certificate to trust.")
def worker(url: str, name: str, slots: int, data_dir: Path, token_file: Path | None, ca_file: Path | None) -> None:
    """Run tasks of a server's jobs on this machine. Its token is that of `millpond workers add`, in MILLPOND_TOKEN or a
    file, or asked for. SIGTERM lets it finish what runs; a second one ends that too."""
    from millpond.jobs.workers.client import ServerClient
    from millpond.jobs.workers.process import Worker, WorkerOptions

    given = os.environ.pop(_TOKEN, None)
    token = token_file.read_text().strip() if token_file else given or click.prompt("Token", hide_input=True)
    if not token:
        raise InvalidArgument(f"The token of this worker is empty; set {_TOKEN}, or give --token-file.")
    settings = load_settings(data_dir=data_dir)
    configure_logs(settings.log_level, process="worker")
    options = WorkerOptions(
        data_dir=settings.data_dir, name=name, slots=slots, environments=settings.environments
    )  # fmt: skip
    process = Worker(ServerClient(url, token, ca_file), options)

    def told_to_end(*_: object) -> None:
        process.end() if process.is_draining else process.drain()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told_to_end)
    process.run(lambda: click.echo(f"Worker {name} takes tasks of {url}, {slots} at once."))
