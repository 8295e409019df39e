"""How long a warm notebook task takes from `run_now` to its first cell. No peer yet: it prints milliseconds."""

import io
import tempfile
import time
from pathlib import Path

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import NotebookTask, RunLifeCycleState, Task
from tests.servers import Server, running_server, wait_until

RUNS = 30


def measure(server: Server) -> list[float]:
    """Milliseconds of the first run, then of RUNS warm ones."""
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
    w.workspace.upload("/Shared/start.py", io.BytesIO(b"import time\ndbutils.notebook.exit(time.time())"))
    job = w.jobs.create(name="start", tasks=[Task("a", notebook_task=NotebookTask("/Shared/start.py"))]).job_id

    def one() -> float:
        began = time.time()
        run_id = w.jobs.run_now(job).run_id
        ended = RunLifeCycleState.TERMINATED
        wait_until(lambda: w.jobs.get_run(run_id).state.life_cycle_state is ended)
        return 1000 * (float(w.jobs.get_run_output(run_id).notebook_output.result) - began)

    return [one() for _ in range(RUNS + 1)]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, running_server(Path(directory) / "data") as running:
        first, *warm = measure(running)
    warm.sort()
    print(f"first {first:.0f} ms, warm median {warm[RUNS // 2]:.0f} ms, p95 {warm[int(RUNS * 0.95)]:.0f} ms")
