"""Apache Spark's own Connect server from PyPI, in its own environment (it cannot share one with pyspark-client)."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = "4.2.0"
_START_TIMEOUT_S = 180


@contextmanager
def spark_connect_server(scratch: Path) -> Iterator[str]:
    """A running server's `sc://` address. Needs Java 17; the environment is made once and kept in the user's cache."""
    python = spark_environment()
    home = next((python.parent.parent / "lib").glob("python*/site-packages/pyspark"))
    port = _free_port()
    command = [
        str(home / "bin" / "spark-submit"), "--class", "org.apache.spark.sql.connect.service.SparkConnectServer",
        "--master", "local[1]", "--driver-memory", "1g",
        "--conf", f"spark.connect.grpc.binding.port={port}", "--conf", "spark.ui.enabled=false",
        "--conf", "spark.sql.shuffle.partitions=1", "--conf", f"spark.sql.warehouse.dir={scratch / 'warehouse'}",
        "spark-internal",
    ]  # fmt: skip
    variables = {**os.environ, "SPARK_HOME": str(home), "PYSPARK_PYTHON": str(python)}
    with (scratch / "spark.log").open("wb") as log:
        process = subprocess.Popen(command, env=variables, cwd=scratch, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(port, process, scratch / "spark.log")
        yield f"sc://localhost:{port}"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def spark_environment() -> Path:
    """The interpreter of an environment with Apache Spark, made the first time."""
    if shutil.which("java") is None:
        raise RuntimeError("Apache Spark needs Java 17 on the PATH (Debian: apt-get install openjdk-17-jre-headless).")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "millpond" / f"spark-{VERSION}"
    python = cache / "bin" / "python"
    if not (cache / "bin" / "spark-submit").exists():  # the last thing that pip writes
        subprocess.run([sys.executable, "-m", "venv", str(cache)], check=True)
        wanted = [f"pyspark[connect]=={VERSION}", "pandas<3"]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True)
    return python


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise RuntimeError(f"Apache Spark did not start:\n{log.read_text()[-3000:]}")
