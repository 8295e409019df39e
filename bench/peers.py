"""The servers that a benchmark compares: ours, MLflow's own, a bare engine, Apache Spark's Connect server."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tests.engine.spark_server import spark_environment

BIN = Path(sys.executable).parent


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A running server."""

    pid: int
    url: str = ""
    spark_remote: str = ""
    token: str = ""
    started_s: float = 0.0
    """`time.perf_counter()` just before the command was run."""


@contextmanager
def millpond(data_dir: Path, *flags: str) -> Iterator[Peer]:
    """Ours, as `millpond up --detach` starts it."""
    began = time.perf_counter()
    command = [str(BIN / "millpond"), "up", "--detach", "--data-dir", str(data_dir), "--port", "0", "--spark-port", "0"]
    subprocess.run([*command, *flags], check=True, stdout=subprocess.DEVNULL)
    try:
        printed = subprocess.run(
            [str(BIN / "millpond"), "env", "--data-dir", str(data_dir)], check=True, capture_output=True, text=True
        ).stdout
        values = dict(line.removeprefix("export ").replace("'", "").split("=", 1) for line in printed.splitlines())
        pid = _supervisor(data_dir)
        yield Peer(
            pid=pid,
            url=values["DATABRICKS_HOST"],
            spark_remote=values["SPARK_REMOTE"],
            token=values["DATABRICKS_TOKEN"],
            started_s=began,
        )
    finally:
        subprocess.run([str(BIN / "millpond"), "down", "--data-dir", str(data_dir)], stdout=subprocess.DEVNULL)


@contextmanager
def mlflow_server(directory: Path, database_url: str | None = None) -> Iterator[Peer]:
    """`mlflow server` with its defaults, on a database of the same kind as ours."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        str(BIN / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port),
        "--backend-store-uri", database_url or f"sqlite:///{directory}/mlflow.db",
        "--artifacts-destination", str(directory / "artifacts"),
    ]  # fmt: skip
    began = time.perf_counter()
    with process(command, directory / "mlflow.log") as started:
        wait_for(lambda: _answers(f"{url}/health"))
        yield Peer(pid=started.pid, url=url, started_s=began)


@contextmanager
def bare_sail(directory: Path) -> Iterator[Peer]:
    """The embedded engine alone, as its own command starts it."""
    port = free_port()
    command = [str(BIN / "sail"), "spark", "server", "--port", str(port)]
    began = time.perf_counter()
    with process(command, directory / "sail.log") as started:
        wait_for(lambda: _listens(port))
        yield Peer(pid=started.pid, spark_remote=f"sc://localhost:{port}", started_s=began)


@contextmanager
def spark_connect(directory: Path) -> Iterator[Peer]:
    """Apache Spark's Connect server from PyPI, local[2], in an environment of its own (made once)."""
    python = spark_environment()
    port = free_port()
    began = time.perf_counter()
    home = next((python.parent.parent / "lib").glob("python*/site-packages/pyspark"))
    command = [
        "env", f"SPARK_HOME={home}", f"PYSPARK_PYTHON={python}",
        str(home / "bin" / "spark-submit"), "--class", "org.apache.spark.sql.connect.service.SparkConnectServer",
        "--master", "local[2]", "--conf", f"spark.connect.grpc.binding.port={port}",
        "--conf", "spark.ui.enabled=false", "spark-internal",
    ]  # fmt: skip
    with process(command, directory / "spark.log") as started:
        wait_for(lambda: _listens(port), timeout_s=180)
        yield Peer(pid=started.pid, spark_remote=f"sc://localhost:{port}", started_s=began)


def memory_mb(pid: int) -> float:
    """Proportional set size of a process and all its descendants, in megabytes (10^6 bytes)."""
    return sum(_pss_kb(each) for each in _family(pid)) * 1024 / 1e6


@contextmanager
def apart(pid: int) -> Iterator[None]:
    """A process and its descendants have one half of the cores while the block runs, and this process the other."""
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    if not half:
        raise OSError("a server and its clients are not apart on one core")
    _keep_to(pid, cores[:half])
    os.sched_setaffinity(0, cores[half:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        _keep_to(pid, cores)


def _keep_to(pid: int, cores: Sequence[int]) -> None:
    threads = [each for one in _family(pid) for each in Path(f"/proc/{one}/task").glob("*")]
    for thread in threads:
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and its living descendants have used."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0
    for each in _family(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / ticks


def wait_for(condition: Callable[[], bool], *, timeout_s: float = 120) -> None:
    """Return when the condition holds; ask again every 10 ms."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the server did not become ready")
        time.sleep(0.01)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def process(
    command: list[str], log_path: Path, more: Mapping[str, str] = MappingProxyType({}), cwd: Path | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of its own, with some variables more, until the block ends."""
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "SPARK_", "DATABRICKS_"))
    }
    with log_path.open("wb") as log:
        started = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=env | more, cwd=cwd)
    try:
        yield started
    finally:
        os.killpg(started.pid, 15)
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, 9)
            started.wait()


def _supervisor(data_dir: Path) -> int:
    import json

    return int(json.loads((data_dir / "run" / "server.json").read_text())["pid"])


def _family(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry))
    found, waiting = [], [pid]
    while waiting:
        each = waiting.pop()
        found.append(each)
        waiting += children.get(each, [])
    return found


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
