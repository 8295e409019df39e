"""What a model's process spends on a request for which the server has looked features up, past MLflow's parsing or not.

    check_feature_columns.py [REQUESTS]      by default 2000

The same model twice, asked by the server's own side of a worker: with a feature spec beside it, so that it looks for
the way, and without one. CPU of the model's process for each request; the look-up itself is the server's.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.report import heading, row
from millpond.features.spec import FILE
from millpond.serving import columns
from millpond.serving.frames import Kind
from millpond.serving.worker_process import Question, WorkerProcess, WorkerSpec, start_worker

MODELS = {
    "lightgbm": {},
    "pipeline": {"tenure": "BIGINT", "contract": "STRING", "payment": "STRING", "internet": "STRING"},
}
COUNTS = (1, 10)
AT_ONCE = (1, 16)


def main() -> None:
    """Each model, each number of rows, one request at a time and many."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as directory:
        models = Path(directory) / "models"
        script = Path(__file__).with_name("serving_models.py")
        subprocess.run([sys.executable, "-W", "ignore", str(script), str(models)], check=True)
        heading("Columns with features: CPU of the model's process for a request; the peer is MLflow's parsing")
        for name in MODELS:
            asyncio.run(_measure(name, models / name, Path(directory) / f"run-{name}", requests))


async def _measure(name: str, place: Path, directory: Path, requests: int) -> None:
    given = json.loads((place / "rows.json").read_text())
    with ThreadPoolExecutor(2) as executor:
        peer = await _started(place / "mlflow", directory / "peer", executor)
        (place / "mlflow" / FILE).write_text("format: 1\n")
        ours = await _started(place / "mlflow", directory / "ours", executor)
        assert "columns of" in ours.build_log, ours.build_log
        for count in COUNTS:
            made = dict(zip(given["columns"], zip(*given["data"][:count], strict=True), strict=True))
            types = {column: MODELS[name].get(column, "DOUBLE") for column in made}
            body = columns.encode(made, types=types, params=None)
            for at_once in AT_ONCE:
                figures = [await _cpu_ms(worker, body, requests, at_once) for worker in (ours, peer)]
                row(f"{name}, {count} rows, {at_once} at a time", figures[0], figures[1], "ms")
        await asyncio.gather(ours.stop(), peer.stop())


async def _started(model_dir: Path, directory: Path, executor: ThreadPoolExecutor) -> WorkerProcess:
    directory.mkdir(parents=True)
    spec = WorkerSpec(
        model_dir=model_dir, scratch_dir=directory / "scratch", log_path=directory / "log", environment={}, secrets=(),
        threads=4, memory_bytes=4 << 30, start_timeout_s=120,
    )  # fmt: skip
    return await start_worker(spec, executor)


async def _cpu_ms(worker: WorkerProcess, body: bytes, requests: int, at_once: int) -> float:
    """Of the worker's process for each of so many requests."""

    async def client(number: int) -> None:
        for _ in range(number):
            worker.take()
            answer = await worker.ask(Question(kind=Kind.PREDICT, body=body))
            assert answer.status == 200, answer.body

    await client(20)
    before = _cpu_s(worker.pid)
    await asyncio.gather(*(client(requests // at_once) for _ in range(at_once)))
    return (_cpu_s(worker.pid) - before) * 1000 / (requests // at_once * at_once)


def _cpu_s(pid: int) -> float:
    told = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
