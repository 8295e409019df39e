"""How long a warm notebook task takes from `run_now` to its first cell. No peer yet: it prints milliseconds."""

import io

from databricks.sdk import WorkspaceClient
from databricks.sdk.service.jobs import NotebookTask, Task
from tests.servers import Server

from bench.check_jobs_start import show, starts


def measure(server: Server) -> list[float]:
    """Milliseconds of the first run, then of RUNS warm ones."""
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
    w.workspace.upload("/Shared/start.py", io.BytesIO(b"import time\ndbutils.notebook.exit(time.time())"))
    job = w.jobs.create(name="start", tasks=[Task("a", notebook_task=NotebookTask("/Shared/start.py"))]).job_id

    return starts(w, job, lambda output: output.notebook_output.result)


if __name__ == "__main__":
    show(measure)
