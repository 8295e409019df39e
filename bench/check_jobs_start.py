"""How long a warm Python task takes from `run_now` to its script's first line. No peer yet: it prints milliseconds."""

import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.catalog import VolumeType
from databricks.sdk.service.jobs import RunLifeCycleState, RunOutput, SparkPythonTask, Task
from tests.servers import Server, running_server, wait_until

RUNS = 30
SCRIPT = "/Volumes/main/default/v/s.py"


def measure(server: Server) -> list[float]:
    """Milliseconds of the first run, then of RUNS warm ones."""
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
    w.volumes.create("main", "default", "v", VolumeType.MANAGED)
    w.files.upload(SCRIPT, io.BytesIO(b"import time\nprint(time.time())"))
    job = w.jobs.create(name="start", tasks=[Task("a", spark_python_task=SparkPythonTask(SCRIPT))]).job_id

    return starts(w, job, lambda output: output.logs)


def starts(w: WorkspaceClient, job: int, told: Callable[[RunOutput], str]) -> list[float]:
    """Milliseconds of a job's runs until the moment that they tell."""

    def one() -> float:
        began = time.time()
        run_id = w.jobs.run_now(job).run_id
        ended = RunLifeCycleState.TERMINATED
        wait_until(lambda: w.jobs.get_run(run_id).state.life_cycle_state is ended)
        return 1000 * (float(told(w.jobs.get_run_output(run_id))) - began)

    return [one() for _ in range(RUNS + 1)]


def show(measured: Callable[[Server], list[float]]) -> None:
    """Measure on a server of its own, and print."""
    with tempfile.TemporaryDirectory() as directory, running_server(Path(directory) / "data") as running:
        first, *warm = measured(running)
    warm.sort()
    print(f"first {first:.0f} ms, warm median {warm[RUNS // 2]:.0f} ms, p95 {warm[int(RUNS * 0.95)]:.0f} ms")


if __name__ == "__main__":
    show(measure)
