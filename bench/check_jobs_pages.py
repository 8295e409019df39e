"""How long the pages of jobs take in a browser, from the click until they are drawn: 1,000 jobs, a matrix of 100 runs
by 100 tasks, a run of 1,000 tasks. The goal of issue 7 is one second for the matrix. It prints milliseconds."""

import shutil
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright
from tests.servers import Server, running_server

from millpond.jobs import store
from millpond.jobs.domain import Job, Result, State
from millpond.jobs.settings import checked, specs_of
from millpond.jobs.starting import attempt, start
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database

TIMES = 7
SCRIPT = {"python_file": "/Volumes/main/default/v/s.py", "parameters": []}


def wide(count: int) -> Mapping[str, Any]:
    """Settings of a job whose first task has all but one after it, and those the last."""
    inner = [f"task_{number:04d}" for number in range(count - 2)]
    tasks = [{"task_key": "first", "spark_python_task": SCRIPT}]
    tasks += [{"task_key": key, "depends_on": [{"task_key": "first"}], "spark_python_task": SCRIPT} for key in inner]
    last = {"task_key": "last", "depends_on": [{"task_key": key} for key in inner], "spark_python_task": SCRIPT}
    return checked({"name": f"wide {count}", "tasks": [*tasks, last]})


def fill(database: Database, owner: str) -> tuple[int, int]:
    """Put rows as runs leave them; the ids of the job with 100 runs and of the run with 1,000 tasks."""
    with database.write() as connection:
        for number in range(1000):
            _add_job(connection, owner, checked({"name": f"job {number}", "tags": {"team": "a"}}))
        job = _add_job(connection, owner, wide(100))
        for _ in range(100):
            _add_ended(connection, job)
        return job.id, _add_ended(connection, _add_job(connection, owner, wide(1000)))


def _add_job(connection: Any, owner: str, settings: Mapping[str, Any]) -> Job:
    job = Job(id=store.new_number(), name=settings["name"], creator=owner, run_as=owner, settings=settings,
              created_at=utc_now())  # fmt: skip
    store.add_job(connection, job)
    return job


def _add_ended(connection: Any, job: Job) -> int:
    now = utc_now()
    run_id = start(connection, replace(job, settings={**job.settings, "tasks": []}), creator=job.creator,
                   trigger="ONE_TIME", now=now)  # fmt: skip
    ended = {"state": State.ENDED, "started_at": now, "ended_at": now + timedelta(seconds=40)}
    store.change_run(connection, run_id, result=Result.FAILED, settings=job.settings, **ended)
    results = (Result.SUCCESS, Result.SUCCESS, Result.FAILED, Result.EXCLUDED, Result.UPSTREAM_FAILED)
    specs = specs_of(job.settings)
    made = [attempt(run_id, spec, result=results[n % 5], began_at=now, **ended) for n, spec in enumerate(specs)]
    store.add_tasks(connection, made)
    return run_id


def measure(server: Server, page: Page, path: str, drawn: str) -> str:
    """Median and worst of several openings, and how many elements the page has."""
    took = []
    for _ in range(TIMES):
        page.goto("about:blank")
        page.goto(server.url + path, wait_until="commit")
        page.wait_for_selector(drawn)
        took.append(float(page.evaluate("performance.now()")))
    count = page.evaluate("document.querySelectorAll('*').length")
    return f"{path}: median {statistics.median(took):.0f} ms, worst {max(took):.0f} ms, {count:,} elements"


def main() -> None:
    """Fill, open, print."""
    with tempfile.TemporaryDirectory() as directory, running_server(Path(directory) / "data") as server:
        job_id, run_id = fill(Database(f"sqlite:///{server.data_dir}/millpond.db"), server.user)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            form, origin = {"token": server.token}, {"Origin": server.url}
            context.request.post(f"{server.url}/sign-in", form=form, headers=origin, max_redirects=0)
            page = context.new_page()
            print(measure(server, page, "/jobs", ".mp-squares"))
            print(measure(server, page, "/jobs?q=job%20999", "text=job 999"))
            print(measure(server, page, f"/jobs/{job_id}", ".mp-matrix path"))
            print(measure(server, page, f"/jobs/runs/{run_id}", ".mp-graph rect"))
            print(measure(server, page, f"/jobs/runs/{run_id}?tab=timeline", ".mp-timeline i"))
            browser.close()


if __name__ == "__main__":
    main()
