"""Tracking calls through Millpond against `mlflow server` (4 workers) on the same kind of database, in one run.

    python bench/tracking.py [--clients N] [--seconds S] [--database postgresql://user@host/]

Prints calls per second of both and their ratio (above 1: Millpond is faster). Each client is a process with one open
connection that repeats the call; the two servers take turns, so that whatever else runs on the machine hits both. With
`--database`, two databases are made on that server and dropped afterwards.
"""

import argparse
import contextlib
import http.client
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

API = "/api/2.0/mlflow"
BIN = Path(sys.executable).parent
ROUNDS = 3
SEARCHED_RUNS = 300


class Client:
    """One HTTP connection to a tracking server."""

    def __init__(self, url: str, token: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON answer; anything but 200 fails."""
        self._connection.request(method, API + path, json.dumps(body) if body is not None else None, self._headers)
        answer = self._connection.getresponse()
        raw = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {raw[:200]!r}")
        return json.loads(raw)

    def new_experiment(self) -> str:
        """An experiment's id."""
        return str(self.call("POST", "/experiments/create", {"name": uuid.uuid4().hex})["experiment_id"])

    def new_run(self, experiment_id: str) -> str:
        """A run's id."""
        body = {"experiment_id": experiment_id, "start_time": 1}
        return str(self.call("POST", "/runs/create", body)["run"]["info"]["run_id"])


def log_metric(client: Client, _experiment: str, run: str, n: int) -> None:
    """One value."""
    client.call("POST", "/runs/log-metric", {"run_id": run, "key": "loss", "value": n / 7, "timestamp": n, "step": n})


def log_batch(client: Client, _experiment: str, run: str, n: int) -> None:
    """A hundred values of ten metrics."""
    metrics = [{"key": f"m{i % 10}", "value": i / 7, "timestamp": n, "step": n * 100 + i} for i in range(100)]
    client.call("POST", "/runs/log-batch", {"run_id": run, "metrics": metrics})


def search_runs(client: Client, experiment: str, _run: str, _n: int) -> None:
    """The first hundred runs by a metric."""
    body = {"experiment_ids": [experiment], "max_results": 100, "order_by": ["metrics.m1 DESC"]}
    client.call("POST", "/runs/search", body)


def get_run(client: Client, _experiment: str, run: str, _n: int) -> None:
    """One run with what was logged to it."""
    client.call("GET", f"/runs/get?run_id={run}")


CALLS: dict[str, Callable[[Client, str, str, int], None]] = {
    "log_metric": log_metric,
    "log_batch(100)": log_batch,
    "get_run": get_run,
    "search_runs(100)": search_runs,
}


def repeat(server: tuple[str, str], name: str, experiment: str, seconds: float, results: Any) -> None:
    """One client process: repeat a call for a time, report how often it was answered."""
    client = Client(*server)
    run = client.new_run(client.new_experiment())
    for n in range(3):
        CALLS[name](client, experiment, run, n)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        CALLS[name](client, experiment, run, 3 + done)
        done += 1
    results.put(done / (time.perf_counter() - began))


def rate(server: tuple[str, str], name: str, experiment: str, clients: int, seconds: float) -> float:
    """Calls per second that a server answers to so many clients."""
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [
        context.Process(target=repeat, args=(server, name, experiment, seconds, results)) for _ in range(clients)
    ]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=seconds * 20 + 120) for _ in workers]
    for worker in workers:
        worker.join()
    return sum(found)


def searched_experiment(server: tuple[str, str]) -> str:
    """An experiment with runs to search, each with 10 metrics, 10 params and 5 tags."""
    client = Client(*server)
    experiment = client.new_experiment()
    for number in range(SEARCHED_RUNS):
        body = {
            "run_id": client.new_run(experiment),
            "metrics": [{"key": f"m{i}", "value": i * number, "timestamp": 1, "step": 0} for i in range(10)],
            "params": [{"key": f"p{i}", "value": str(i)} for i in range(10)],
            "tags": [{"key": f"t{i}", "value": str(i)} for i in range(5)],
        }
        client.call("POST", "/runs/log-batch", body)
    return experiment


@contextlib.contextmanager
def millpond(directory: Path, database: str | None) -> Iterator[tuple[str, str]]:
    """A running Millpond: its URL and token."""
    flags = ["--data-dir", str(directory)]
    up = [str(BIN / "millpond"), "up", "--detach", "--port", "0", "--spark-port", "0", *flags]
    subprocess.run(up + (["--database-url", database] if database else []), check=True, capture_output=True)
    try:
        lines = subprocess.run(
            [str(BIN / "millpond"), "env", *flags], check=True, capture_output=True, text=True
        ).stdout.splitlines()
        values = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        yield values["MLFLOW_TRACKING_URI"].strip("'"), values["MLFLOW_TRACKING_TOKEN"].strip("'")
    finally:
        subprocess.run([str(BIN / "millpond"), "down", *flags], check=False, capture_output=True)


@contextlib.contextmanager
def mlflow_server(directory: Path, database: str | None) -> Iterator[tuple[str, str]]:
    """A running `mlflow server` with its defaults: its URL and any token."""
    directory.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = database or f"sqlite:///{directory}/mlflow.db"
    command = [str(BIN / "mlflow"), "server", "--port", str(port), "--backend-store-uri", store]
    command += ["--artifacts-destination", str(directory / "artifacts")]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, RuntimeError):
                Client(url, "").call("GET", "/experiments/get?experiment_id=0")
                break
            time.sleep(0.2)
        yield url, ""
    finally:
        os.killpg(process.pid, 15)
        process.wait()


@contextlib.contextmanager
def databases(server: str | None) -> Iterator[tuple[str | None, str | None]]:
    """Two empty databases on a PostgreSQL server; None for SQLite files."""
    if server is None:
        yield None, None
        return
    import psycopg

    names = [f"bench_{uuid.uuid4().hex[:8]}" for _ in range(2)]
    with psycopg.connect(server, autocommit=True) as admin:
        for name in names:
            admin.execute(f'CREATE DATABASE "{name}"')
        try:
            base = server.rstrip("/").replace("postgresql://", "postgresql+psycopg://")
            yield f"{server.rstrip('/')}/{names[0]}", f"{base}/{names[1]}"
        finally:
            for name in names:
                admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--database")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        databases(options.database) as (ours, theirs),
        millpond(Path(directory) / "millpond", ours) as us,
        mlflow_server(Path(directory) / "mlflow", theirs) as them,
    ):
        experiments = {server: searched_experiment(server) for server in (us, them)}
        kind = "PostgreSQL" if options.database else "SQLite"
        print(f"{kind}, calls per second, median of {ROUNDS} turns of {options.seconds:g} s")
        print(f"{'call':18} {'clients':>7} {'millpond':>9} {'mlflow':>9} {'ratio':>6}")
        for name in CALLS:
            for clients in options.clients:
                rates: dict[tuple[str, str], list[float]] = {us: [], them: []}
                for _ in range(ROUNDS):
                    for server, found in rates.items():
                        found.append(rate(server, name, experiments[server], clients, options.seconds))
                mine, other = (statistics.median(rates[server]) for server in (us, them))
                print(f"{name:18} {clients:7} {mine:9.1f} {other:9.1f} {mine / other:6.2f}", flush=True)


if __name__ == "__main__":
    main()
