"""Runs of a bundle's jobs, followed until they end."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millpond.bundles.deploying import Deployment, Storage
from millpond.bundles.resources import PIPELINES
from millpond.kernel.errors import Unavailable

_JOBS = "/api/2.2/jobs"
_LOOK_S = 1.0
_PATIENCE_S = 120.0
"""For a server that does not answer, as while it restarts: its run goes on."""
_ENDED = ("TERMINATED", "SKIPPED")


@dataclass(frozen=True, kw_only=True)
class StartedRun:
    """A run that goes on."""

    id: int
    page: str
    server: Storage

    def follow(self, tell: Callable[[str], None]) -> str:
        """Tell how each task stands whenever that changes; the run's result."""
        known: dict[int, str] = {}
        while True:
            run = self._look()
            for task in run.get("tasks", ()):
                state = task["state"].get("result_state") or task["state"]["life_cycle_state"]
                if known.get(task["run_id"]) != state:
                    known[task["run_id"]] = state
                    message = task["state"].get("state_message", "")
                    tell(f"  {task['task_key']}: {state}{': ' + message if message else ''}")
            if run["state"]["life_cycle_state"] in _ENDED:
                return str(run["state"].get("result_state") or run["state"]["life_cycle_state"])
            time.sleep(_LOOK_S)

    def _look(self) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self.server.call("GET", f"{_JOBS}/runs/get?run_id={self.id}")
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_LOOK_S)


def start_run(deployment: Deployment, job: str, parameters: Mapping[str, str], only: Sequence[str]) -> StartedRun:
    """Start a run of a job, or an update of a pipeline, that was deployed; of a pipeline `only` are tables.

    Raises NotFound, InvalidArgument.
    """
    kind, resource_id = deployment.runnable(job)
    if kind is PIPELINES:
        run_id = _start_update(deployment, resource_id, parameters, only)
    else:
        body: dict[str, Any] = {"job_id": int(resource_id)}
        body |= {"job_parameters": dict(parameters)} if parameters else {}
        body |= {"only": list(only)} if only else {}
        run_id = deployment.server.call("POST", f"{_JOBS}/run-now", body)["run_id"]
    page = deployment.server.call("GET", f"{_JOBS}/runs/get?run_id={run_id}")["run_page_url"]
    return StartedRun(id=run_id, page=page, server=deployment.server)


def _start_update(deployment: Deployment, pipeline_id: str, parameters: Mapping[str, str], only: Sequence[str]) -> int:
    body: dict[str, Any] = {"parameters": dict(parameters)} if parameters else {}
    body |= {"refresh_selection": list(only)} if only else {}
    place = f"/api/2.0/pipelines/{pipeline_id}/updates"
    update_id = deployment.server.call("POST", place, body)["update_id"]
    return int(deployment.server.call("GET", f"{place}/{update_id}")["update"]["job_run_id"])
