"""From `millpond up` to the first query and the first MLflow call, and idle memory, against each server alone."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.peers import Peer, memory_mb, millpond, mlflow_server, spark_connect
from bench.report import heading, line, median, row

RUNS = 3
QUERY = "from pyspark.sql import SparkSession; print(SparkSession.builder.getOrCreate().sql('SELECT 1').collect())"
CALL = "import mlflow; mlflow.set_experiment('first'); print(mlflow.start_run().info.run_id)"


def main() -> None:
    """Start each server RUNS times on an empty directory and use it with the real client."""
    heading(f"Start and idle memory (medians of {RUNS} starts; times include the client's own import)")
    ours = [_ours() for _ in range(RUNS)]
    theirs = [_mlflow() for _ in range(RUNS)]
    spark = [_spark() for _ in range(RUNS)]
    ready, our_query, our_call, our_memory = (median(values) for values in zip(*ours, strict=True))
    line("millpond up --detach until ready", ready, "s", goal="goal < 5 s")
    row("first MLflow call, against mlflow server", our_call, median([run[0] for run in theirs]), "s")
    row("first query, against Spark Connect", our_query, median([run[0] for run in spark]), "s")
    line("idle memory, whole tree (PSS)", our_memory, "MB", goal="goal < 500 MB")
    row("idle memory, against mlflow server", our_memory, median([run[1] for run in theirs]), "MB")
    row("idle memory, against Spark Connect", our_memory, median([run[1] for run in spark]), "MB")


def _ours() -> tuple[float, float, float, float]:
    with tempfile.TemporaryDirectory() as directory, millpond(Path(directory) / "data") as peer:
        ready = time.perf_counter() - peer.started_s
        idle = memory_mb(peer.pid)
        call = ready + _timed(CALL, peer)
        query = ready + _timed(QUERY, peer)
    return ready, query, call, idle


def _mlflow() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as directory, mlflow_server(Path(directory)) as peer:
        idle = memory_mb(peer.pid)
        _timed(CALL, peer)
        return time.perf_counter() - peer.started_s, idle


def _spark() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as directory, spark_connect(Path(directory)) as peer:
        idle = memory_mb(peer.pid)
        _timed(QUERY, peer)
        return time.perf_counter() - peer.started_s, idle


def _timed(code: str, peer: Peer) -> float:
    """Seconds of a client's script, from a file: PySpark takes `python -c` for its own doctests."""
    env = os.environ | {
        "SPARK_REMOTE": peer.spark_remote,
        "MLFLOW_TRACKING_URI": peer.url,
        "MLFLOW_TRACKING_TOKEN": peer.token,
    }
    env = {name: value for name, value in env.items() if value}
    script = Path(tempfile.mkdtemp()) / "client.py"
    script.write_text(code)
    began = time.perf_counter()
    subprocess.run([sys.executable, str(script)], env=env, check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
