"""`log_metric`, `log_batch`, `get_run` and `search_runs` through us against `mlflow server`, same kind of database."""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from tests.postgres import fresh_database, postgres_server

from bench.peers import Peer, millpond, mlflow_server
from bench.report import heading, median, row

CALLS = 60
RUNS = 1000
CLIENTS = 8


def main() -> None:
    """Every measurement on both servers in turn, on SQLite and on PostgreSQL."""
    with tempfile.TemporaryDirectory() as directory:
        _against("SQLite", Path(directory), None, None)
    with (
        postgres_server() as server,
        fresh_database(server) as our_url,
        fresh_database(server) as their_url,
        tempfile.TemporaryDirectory() as directory,
    ):
        _against("PostgreSQL", Path(directory), our_url, their_url)


def _against(kind: str, directory: Path, our_url: str | None, their_url: str | None) -> None:
    flags = ["--database-url", our_url] if our_url else []
    with millpond(directory / "data", *flags) as ours, mlflow_server(directory, their_url) as theirs:
        heading(f"Tracking on {kind} against `mlflow server` with its defaults (median ms of {CALLS} calls in turn)")
        sides = [_Side(ours), _Side(theirs)]
        for side in sides:
            side.fill()
        for name, act in _CASES.items():
            times: list[list[float]] = [[], []]
            for number in range(CALLS + 5):
                for side, kept in zip(sides, times, strict=True):
                    elapsed = side.timed(act, number)
                    if number >= 5:
                        kept.append(elapsed * 1000)
            row(name, median(times[0]), median(times[1]), "ms", goal="goal <= 1")
        for name, act in (("log_metric", _log_metric), ("search_runs, first 100", _search)):
            rates = [_together(side, act) for side in sides]
            row(f"{name}, {CLIENTS} clients, time for {CALLS} each", *rates, "s", goal="goal <= 1")


class _Side:
    def __init__(self, peer: Peer) -> None:
        if peer.token:
            os.environ["MLFLOW_TRACKING_TOKEN"] = peer.token
        self.client = MlflowClient(peer.url)
        self.run_id = ""
        self.experiment_id = ""

    def fill(self) -> None:
        self.experiment_id = self.client.create_experiment("bench")
        for number in range(RUNS):
            run = self.client.create_run(self.experiment_id)
            self.client.log_batch(
                run.info.run_id,
                metrics=[Metric(f"m{index}", number * index, 0, 0) for index in range(5)],
                params=[Param(f"p{index}", str(number)) for index in range(5)],
            )
            self.run_id = run.info.run_id

    def timed(self, act: Callable[["_Side", int], Any], number: int) -> float:
        began = time.perf_counter()
        act(self, number)
        return time.perf_counter() - began


def _log_metric(side: _Side, number: int) -> None:
    side.client.log_metric(side.run_id, "loss", 1.0 / (number + 1), step=number)


def _log_batch(side: _Side, number: int) -> None:
    metrics = [Metric(f"b{index % 50}", float(index), number, number * 1000 + index) for index in range(1000)]
    side.client.log_batch(side.run_id, metrics=metrics)


def _get_run(side: _Side, _number: int) -> None:
    side.client.get_run(side.run_id)


def _search(side: _Side, _number: int) -> None:
    side.client.search_runs([side.experiment_id], "metrics.m1 > 10", order_by=["metrics.m2 DESC"], max_results=100)


_CASES = {
    "log_metric": _log_metric,
    "log_batch of 1,000 metrics": _log_batch,
    "get_run": _get_run,
    "search_runs, first 100 of 1,000, filtered, ordered": _search,
}


def _together(side: _Side, act: Callable[[_Side, int], None]) -> float:
    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda number: act(side, number), range(CLIENTS * CALLS)))
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
